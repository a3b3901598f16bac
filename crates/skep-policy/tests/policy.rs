//! Policies against images and signatures, case by case.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use proptest::prelude::*;
use serde_json::{Value, json};
use skep_policy::payload::{MEDIA_TYPE, SIGNATURE_ANNOTATION};
use skep_policy::{Candidate, Policy, Signature, Source, evaluate};
use skep_types::{Digest, Reference};

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// A key pair, as its public half in PEM and the power to sign.
struct Signer {
    pem: String,
    sign: Sign,
}

fn pem(der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}

fn ecdsa(algorithm: &'static aws_lc_rs::signature::EcdsaSigningAlgorithm) -> Signer {
    let pair = EcdsaKeyPair::generate(algorithm).unwrap();
    let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let pem = pem(der.as_ref());
    Signer { pem, sign: Box::new(move |data| pair.sign(&SystemRandom::new(), data).unwrap().as_ref().to_vec()) }
}

fn p256() -> Signer {
    ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING)
}

fn ed25519() -> Signer {
    let pair = Ed25519KeyPair::generate().unwrap();
    let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let pem = pem(der.as_ref());
    Signer { pem, sign: Box::new(move |data| pair.sign(data).as_ref().to_vec()) }
}

fn rsa() -> Signer {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let pem = pem(der.as_ref());
    let sign = move |data: &[u8]| {
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), data, &mut signature).unwrap();
        signature
    };
    Signer { pem, sign: Box::new(sign) }
}

fn digest(byte: u8) -> Digest {
    Digest::from_bytes([byte; 32])
}

fn payload(digest: &Digest, reference: &str) -> Value {
    json!({"critical": {"type": "cosign container image signature", "image": {"docker-manifest-digest": digest},
        "identity": {"docker-reference": reference}}, "optional": null})
}

fn signed(signer: &Signer, payload: &Value) -> Signature {
    let payload = payload.to_string().into_bytes();
    let text = BASE64_STANDARD.encode((signer.sign)(&payload));
    let annotations = BTreeMap::from([(SIGNATURE_ANNOTATION.to_owned(), text)]);
    Signature { media_type: MEDIA_TYPE.to_owned(), annotations, payload }
}

fn no_files(path: &Path) -> io::Result<Vec<u8>> {
    panic!("{} was read", path.display())
}

fn policy(document: &Value) -> Policy {
    Policy::parse(document.to_string().as_bytes()).unwrap_or_else(|e| panic!("{document}: {e}"))
}

fn key_data(signer: &Signer) -> String {
    BASE64_STANDARD.encode(&signer.pem)
}

/// Pulls `name`, whose manifest has the digest `digest(1)`.
fn pull(document: &Value, name: &str, signatures: &[Signature]) -> Result<(), String> {
    let reference: Reference = name.parse().unwrap();
    let digests = [digest(1)];
    let image = Candidate { source: Source::Docker(&reference), digests: &digests, signatures };
    evaluate(&policy(document), &image, &no_files).map_err(|rejection| rejection.to_string())
}

#[test]
fn the_narrowest_scope_decides() {
    let scopes = [
        "registry.example:5000/team/app:v1",
        "registry.example:5000/team/app",
        "registry.example:5000/team",
        "registry.example:5000",
        "*.example",
        "docker.io/library/busybox:latest",
        "docker.io/library",
        "*.cloud.test",
    ];
    for (name, wanted) in [
        ("registry.example:5000/team/app:v1", Some(scopes[0])),
        ("registry.example:5000/team/app:v2", Some(scopes[1])),
        ("registry.example:5000/team/app/deep:v1", Some(scopes[1])),
        ("registry.example:5000/team/application:v1", Some(scopes[2])),
        ("registry.example:5000/other:v1", Some(scopes[3])),
        // The port isn't part of what a wildcard is compared with.
        ("registry.example:5001/x:v1", Some(scopes[4])),
        ("a.b.example/x:v1", Some(scopes[4])),
        ("example.test/x:v1", None),
        ("busybox:latest", Some(scopes[5])),
        ("busybox:1", Some(scopes[6])),
        ("user/busybox:latest", None),
        ("eu.cloud.test/x:v1", Some(scopes[7])),
        ("cloud.test/x:v1", None),
    ] {
        for rejected in scopes {
            let accept = json!([{"type": "insecureAcceptAnything"}]);
            let mut docker: serde_json::Map<String, Value> =
                scopes.iter().map(|scope| ((*scope).to_owned(), accept.clone())).collect();
            docker.insert(rejected.to_owned(), json!([{"type": "reject"}]));
            let result = pull(&json!({"default": accept, "transports": {"docker": docker}}), name, &[]);
            assert_eq!(result.is_err(), wanted == Some(rejected), "{name} with {rejected} rejected");
        }
    }
}

#[test]
fn transports_have_defaults_of_their_own() {
    let document = json!({"default": [{"type": "reject"}], "transports": {
        "docker": {"": [{"type": "insecureAcceptAnything"}]},
        "docker-archive": {"": [{"type": "insecureAcceptAnything"}]},
        "containers-storage": {"anything": [{"type": "reject"}]},
    }});
    let decide = |source| {
        let image = Candidate { source, digests: &[], signatures: &[] };
        evaluate(&policy(&document), &image, &no_files).map_err(|rejection| rejection.to_string())
    };
    let reference: Reference = "busybox:1".parse().unwrap();
    assert_eq!(decide(Source::Docker(&reference)), Ok(()));
    assert_eq!(decide(Source::DockerArchive), Ok(()));
    let words = |transport| Err(format!("Source image rejected: Running image {transport}: is rejected by policy."));
    assert_eq!(decide(Source::OciArchive), words("oci-archive"));
    assert_eq!(decide(Source::Tarball), words("tarball"));
    let rejected = pull(&json!({"default": [{"type": "reject"}]}), "busybox:1", &[]);
    assert_eq!(rejected.unwrap_err(), "Source image rejected: Running image docker://busybox:1 is rejected by policy.");
}

#[test]
fn paths_of_archives_that_come_as_streams_refuse() {
    let document = json!({"default": [{"type": "insecureAcceptAnything"}],
        "transports": {"oci-archive": {"/srv": [{"type": "reject"}]}}});
    let image = Candidate { source: Source::OciArchive, digests: &[], signatures: &[] };
    assert!(evaluate(&policy(&document), &image, &no_files).is_err());
    let image = Candidate { source: Source::OciLayout, ..image };
    assert!(evaluate(&policy(&document), &image, &no_files).is_ok());
    let image = Candidate { source: Source::DockerArchive, ..image };
    assert!(evaluate(&policy(&document), &image, &no_files).is_ok());
}

#[test]
fn every_kind_of_key_verifies_its_own_signatures_only() {
    let signers = [p256(), ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING), rsa(), ed25519()];
    let said = payload(&digest(1), "busybox:1");
    for (at, trusted) in signers.iter().enumerate() {
        let document = json!({"default": [{"type": "sigstoreSigned", "keyData": key_data(trusted)}]});
        for (by, signer) in signers.iter().enumerate() {
            let result = pull(&document, "busybox:1", &[signed(signer, &said)]);
            assert_eq!(result.is_ok(), at == by, "key {at}, signature of {by}: {result:?}");
        }
        let mut tampered = signed(trusted, &said);
        tampered.payload = payload(&digest(1), "busybox:2").to_string().into_bytes();
        assert_eq!(
            pull(&document, "busybox:1", &[tampered]).unwrap_err(),
            "Source image rejected: cryptographic signature verification failed: invalid signature"
        );
    }
}

#[test]
fn a_curve_of_384_bits_with_sha_256_verifies() {
    // Made by openssl: `dgst -sha256 -sign`. This is how cosign signs with such a key.
    let pem = "-----BEGIN PUBLIC KEY-----\n\
        MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEHaMhCrxVX/2JZKUrPxL6ydet4z8IFohy\n\
        v9iLov6BkmonjsFwWr34XJIokaPtUL/35946eERgBOSW7uMRGtRSw06D1EQGtKIS\n\
        GrRmKtsENFNRTgYgYW/4opWwEWk4jq7H\n\
        -----END PUBLIC KEY-----\n";
    let signature = BASE64_STANDARD.decode("MGUCMQCDZykhs7qniABQnmhw8L/gGeomq1on6mdJve+8YqCCqarZeLDSGnGO8BDEMUo3z/ACMEiZw2sKTwNJVKNcEIRDFscLzdysz15YMUFRLN4UKucl12hEzaB0VTQHvtRBv5PGRA==").unwrap();
    let key = skep_policy::key::PublicKey::from_pem(pem.as_bytes()).unwrap();
    assert!(key.verifies(b"cosign signs with SHA-256", &signature));
    assert!(!key.verifies(b"cosign signs with SHA-255", &signature));
}

#[test]
fn identities_are_compared_as_the_policy_says() {
    let signer = p256();
    let by_digest = format!("reg.test/a/b@{}", digest(1));
    let exactly = |name: &str| json!({"type": "exactReference", "dockerReference": name});
    let remap = json!({"type": "remapIdentity", "prefix": "reg.test/a", "signedPrefix": "vendor.test/z"});
    for (identity, wanted, signed_as, accepted) in [
        (Value::Null, "reg.test/a/b:1", "reg.test/a/b:1", true),
        (Value::Null, "reg.test/a/b:1", "reg.test/a/b:2", false),
        // cosign's own signatures name the repository only: matchRepository is for them.
        (Value::Null, "reg.test/a/b:1", "reg.test/a/b", false),
        (Value::Null, &by_digest, "reg.test/a/b", true),
        (Value::Null, &by_digest, "reg.test/a/b:9", true),
        (Value::Null, &by_digest, "reg.test/a/c", false),
        (json!({"type": "matchExact"}), "reg.test/a/b:1", "reg.test/a/b:1", true),
        (json!({"type": "matchExact"}), &by_digest, "reg.test/a/b", false),
        (json!({"type": "matchExact"}), &by_digest, &by_digest, true),
        (json!({"type": "matchRepository"}), "reg.test/a/b:1", "reg.test/a/b", true),
        (json!({"type": "matchRepository"}), "reg.test/a/b:1", "reg.test/a/b:7", true),
        (json!({"type": "matchRepository"}), "busybox:1", "docker.io/library/busybox", true),
        (json!({"type": "matchRepository"}), "reg.test/a/b:1", "other.test/a/b", false),
        (json!({"type": "matchRepository"}), "reg.test/a/b:1", "Not A Name", false),
        (exactly("vendor.test/b:1"), "reg.test/a/b:1", "vendor.test/b:1", true),
        (exactly("vendor.test/b:1"), "reg.test/a/b:1", "reg.test/a/b:1", false),
        (json!({"type": "exactRepository", "dockerRepository": "v.test/b"}), "reg.test/a/b:1", "v.test/b:5", true),
        (json!({"type": "exactRepository", "dockerRepository": "v.test/b"}), "reg.test/a/b:1", "v.test/c:5", false),
        (remap.clone(), "reg.test/a/b:1", "vendor.test/z/b:1", true),
        (remap.clone(), "reg.test/a/b:1", "reg.test/a/b:1", false),
        (remap.clone(), "reg.test/ab/b:1", "reg.test/ab/b:1", true),
        (remap, "reg.test/a:1", "vendor.test/z:1", true),
    ] {
        let mut requirement = json!({"type": "sigstoreSigned", "keyData": key_data(&signer)});
        if !identity.is_null() {
            requirement["signedIdentity"] = identity.clone();
        }
        let signature = signed(&signer, &payload(&digest(1), signed_as));
        let result = pull(&json!({"default": [requirement]}), wanted, &[signature]);
        assert_eq!(result.is_ok(), accepted, "{identity}: {wanted} signed as {signed_as}: {result:?}");
        if let Err(text) = result {
            let words = format!("Source image rejected: Signature for identity {signed_as:?} is not accepted");
            assert_eq!(text, words);
        }
    }
}

#[test]
fn a_signature_of_something_else_doesnt_count() {
    let (signer, other) = (p256(), ed25519());
    let document = json!({"default": [{"type": "sigstoreSigned", "keyData": key_data(&signer)}]});
    let good = payload(&digest(1), "busybox:1");
    let replayed = signed(&signer, &payload(&digest(2), "busybox:1"));
    let refused = |signatures: &[Signature]| pull(&document, "busybox:1", signatures).unwrap_err();
    assert_eq!(
        refused(std::slice::from_ref(&replayed)),
        format!("Source image rejected: Signature for digest {} does not match", digest(2))
    );
    assert_eq!(refused(&[]), "Source image rejected: A signature was required, but no signature exists");
    let both = refused(&[replayed.clone(), signed(&other, &good)]);
    assert!(both.starts_with("Source image rejected: None of the signatures were accepted, reasons: "), "{both}");
    assert!(pull(&document, "busybox:1", &[replayed, signed(&signer, &good)]).is_ok());

    let bundle =
        Signature { media_type: "application/vnd.dev.sigstore.bundle.v0.3+json".into(), ..signed(&signer, &good) };
    assert!(refused(&[bundle]).contains("1 sigstore non-signature attachments"));
    let bare = Signature { annotations: BTreeMap::new(), ..signed(&signer, &good) };
    assert!(refused(&[bare]).contains("missing dev.cosignproject.cosign/signature annotation"));
}

#[test]
fn signed_nonsense_is_nonsense() {
    let signer = p256();
    let document = json!({"default": [{"type": "sigstoreSigned", "keyData": key_data(&signer)}]});
    let good = payload(&digest(1), "busybox:1");
    let with = |pointer: &str, value: Value| {
        let mut changed = good.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        changed
    };
    let mut more = good.clone();
    more["critical"]["more"] = json!(1);
    for bad in [
        with("/critical/type", json!("atomic container signature")),
        with("/critical/image", json!({"docker-manifest-digest": "sha256:12"})),
        with("/critical/image", json!({})),
        with("/critical/identity", Value::Null),
        with("/optional", json!([])),
        more,
        json!([]),
        json!(null),
    ] {
        assert!(pull(&document, "busybox:1", &[signed(&signer, &bad)]).is_err(), "{bad}");
    }
    // The same key twice: which one was signed?
    let text = format!(r#"{{"critical":{0},"critical":{0},"optional":null}}"#, good["critical"]);
    let annotation = BASE64_STANDARD.encode((signer.sign)(text.as_bytes()));
    let twice = Signature {
        annotations: BTreeMap::from([(SIGNATURE_ANNOTATION.to_owned(), annotation)]),
        payload: text.into_bytes(),
        media_type: MEDIA_TYPE.to_owned(),
    };
    assert!(pull(&document, "busybox:1", &[twice]).unwrap_err().contains("duplicate field"));
}

#[test]
fn all_requirements_of_a_scope_have_to_be_met() {
    let (one, two) = (p256(), ed25519());
    let need = |signer: &Signer| json!({"type": "sigstoreSigned", "keyData": key_data(signer)});
    let said = payload(&digest(1), "busybox:1");
    let (by_one, by_two) = (signed(&one, &said), signed(&two, &said));
    let both = json!({"default": [need(&one), need(&two)]});
    assert!(pull(&both, "busybox:1", &[by_one.clone(), by_two.clone()]).is_ok());
    assert!(pull(&both, "busybox:1", std::slice::from_ref(&by_one)).is_err());
    let barred = json!({"default": [{"type": "insecureAcceptAnything"}, need(&one), {"type": "reject"}]});
    assert!(pull(&barred, "busybox:1", std::slice::from_ref(&by_one)).is_err());
    let either = json!({"default": [{"type": "sigstoreSigned", "keyDatas": [key_data(&one), key_data(&two)]}]});
    assert!(pull(&either, "busybox:1", &[by_two]).is_ok());
}

#[test]
fn an_index_that_is_signed_vouches_for_its_images() {
    let signer = p256();
    let document = policy(&json!({"default": [{"type": "sigstoreSigned", "keyData": key_data(&signer)}]}));
    let reference: Reference = "busybox:1".parse().unwrap();
    let signatures = [signed(&signer, &payload(&digest(7), "busybox:1"))];
    let decide = |digests: &[Digest]| {
        let image = Candidate { source: Source::Docker(&reference), digests, signatures: &signatures };
        evaluate(&document, &image, &no_files)
    };
    assert!(decide(&[digest(7), digest(1)]).is_ok());
    assert!(decide(&[digest(1)]).is_err());
}

#[test]
fn what_is_not_supported_refuses_by_name() {
    let key = key_data(&p256());
    for (requirement, named) in [
        (json!({"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"}), "signedBy (GPG)"),
        (json!({"type": "signedBaseLayer", "baseLayerIdentity": {}}), "signedBaseLayer"),
        (json!({"type": "sigstoreSigned", "fulcio": {"caPath": "/ca"}, "rekorPublicKeyPath": "/r"}), "fulcio"),
        (json!({"type": "sigstoreSigned", "pki": {}}), "pki"),
        (json!({"type": "sigstoreSigned", "keyData": key, "rekorPublicKeyPath": "/r"}), "Rekor"),
    ] {
        let text = pull(&json!({"default": [requirement]}), "busybox:1", &[]).unwrap_err();
        assert!(text.starts_with("Source image rejected: ") && text.contains(named), "{text}");
        assert!(text.ends_with("is not supported"), "{text}");
        // Other scopes of the same policy work.
        let beside = json!({"default": [{"type": "insecureAcceptAnything"}], "transports": {"docker": {"x.test": [requirement]}}});
        assert!(pull(&beside, "busybox:1", &[]).is_ok());
    }
}

#[test]
fn keys_that_cant_be_used_refuse() {
    let signer = p256();
    let signature = signed(&signer, &payload(&digest(1), "busybox:1"));
    let reference: Reference = "busybox:1".parse().unwrap();
    let digests = [digest(1)];
    let signatures = [signature];
    let image = Candidate { source: Source::Docker(&reference), digests: &digests, signatures: &signatures };
    let files = policy(&json!({"default": [{"type": "sigstoreSigned", "keyPaths": ["/good", "/other"]}]}));
    let good = signer.pem.clone();
    let read = |other: Option<&str>| {
        let (good, other) = (good.clone(), other.map(str::to_owned));
        move |path: &Path| match path.to_str() {
            Some("/good") => Ok(good.clone().into_bytes()),
            _ => other.clone().map(String::into_bytes).ok_or_else(|| io::ErrorKind::NotFound.into()),
        }
    };
    assert!(evaluate(&files, &image, &read(Some(&ed25519().pem))).is_ok());
    for bad in [None, Some(""), Some("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")] {
        assert!(evaluate(&files, &image, &read(bad)).is_err(), "{bad:?}");
    }
    let two = format!("{}{}", signer.pem, ed25519().pem);
    assert!(evaluate(&files, &image, &read(Some(&two))).unwrap_err().0.contains("more than one key"));
}

#[test]
fn invalid_policies_are_not_policies() {
    let key = key_data(&p256());
    let accept = r#"[{"type": "insecureAcceptAnything"}]"#;
    let scoped = |transport: &str, scope: &str| {
        format!(r#"{{"default": {accept}, "transports": {{"{transport}": {{"{scope}": {accept}}}}}}}"#)
    };
    let signed = |rest: &str| format!(r#"{{"default": [{{"type": "sigstoreSigned", {rest}}}]}}"#);
    let identity = |text: &str| signed(&format!(r#""keyPath": "/k", "signedIdentity": {text}"#));
    for bad in [
        "".to_owned(),
        "{}".to_owned(),
        "[]".to_owned(),
        r#"{"default": []}"#.to_owned(),
        r#"{"default": null}"#.to_owned(),
        r#"{"default": [{"type": "accept"}]}"#.to_owned(),
        r#"{"default": [{"Type": "reject"}]}"#.to_owned(),
        r#"{"default": [{"type": "reject", "more": 1}]}"#.to_owned(),
        format!(r#"{{"default": {accept}, "other": 1}}"#),
        format!(r#"{{"default": [{{"type": "reject"}}], "default": {accept}}}"#),
        format!(r#"{{"default": {accept}, "transports": {{"docker": {{"a.b/c": {accept}, "a.b/c": {accept}}}}}}}"#),
        format!(r#"{{"default": {accept}, "transports": {{"docker": {{}}, "docker": {{}}}}}}"#),
        format!(r#"{{"default": {accept}, "transports": {{"docker": {{"a.b/c": []}}}}}}"#),
        scoped("docker", "a.*.b"),
        scoped("docker", "*.b/c"),
        scoped("docker-archive", "/x"),
        scoped("oci-archive", "x"),
        signed(r#""keyPath": "/a", "keyPaths": ["/b"]"#),
        signed(r#""signedIdentity": {"type": "matchExact"}"#),
        signed(r#""keyPaths": []"#),
        signed(r#""keyData": "%""#),
        signed(&format!(r#""keyData": "{key}", "fulcio": {{}}"#)),
        signed(r#""keyPath": "/k", "keyTypo": 1"#),
        identity(r#"{"type": "matchWhatever"}"#),
        identity(r#"{"type": "matchExact", "more": 1}"#),
        identity(r#"{"type": "exactReference", "dockerReference": "busybox"}"#),
        identity(r#"{"type": "exactRepository", "dockerRepository": "busybox:1"}"#),
        identity(r#"{"type": "remapIdentity", "prefix": "a b", "signedPrefix": "x.test"}"#),
        identity(r#"{"type": "remapIdentity", "prefix": "x.test:1/", "signedPrefix": "x.test"}"#),
    ] {
        assert!(Policy::parse(bad.as_bytes()).is_err(), "{bad}");
    }
    for good in [
        scoped("docker", "*.example"),
        scoped("unknown-transport", "what ever"),
        scoped("oci-archive", "/srv/images"),
        identity(r#"{"type": "remapIdentity", "prefix": "localhost:5000", "signedPrefix": "x.test"}"#),
    ] {
        assert!(Policy::parse(good.as_bytes()).is_ok(), "{good}: {:?}", Policy::parse(good.as_bytes()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Nothing that is unsigned, or signed by someone else, comes in, whatever it says.
    #[test]
    fn no_payload_gets_past_without_the_key(payload in prop::collection::vec(any::<u8>(), 0..400), text in ".{0,80}") {
        let document = json!({"default": [{"type": "sigstoreSigned", "keyData": key_data(&p256()), "signedIdentity": {"type": "matchRepository"}}]});
        let annotations = BTreeMap::from([(SIGNATURE_ANNOTATION.to_owned(), text)]);
        let signature = Signature { media_type: MEDIA_TYPE.to_owned(), annotations, payload };
        prop_assert!(pull(&document, "busybox:1", &[signature]).is_err());
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Policy::parse(&bytes);
    }
}
