//! Who may do what: passwords, tokens of the registry's own, tokens of others.

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa;
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proptest::prelude::*;
use rcgen::{KeyPair, PublicKeyData as _};
use serde_json::{Value, json};
use skep_registryd::Settings;
use skep_registryd::auth::{Authority, Htpasswd, Issuer, Rules, Scheme, TokenSource, Verifier};

use crate::client::{Reply, Server};

fn users(root: &Path) -> Htpasswd {
    let path = root.join("htpasswd");
    let hash = |password: &str| bcrypt::hash(password, 4).expect("a hash");
    std::fs::write(&path, format!("ana:{}\nbob:{}\n", hash("secret"), hash("other"))).expect("written");
    Htpasswd::open(&path).expect("users")
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn source(realm: Option<&str>) -> TokenSource {
    TokenSource {
        realm: realm.map(str::to_owned),
        service: "registry.test".to_owned(),
        issuer: "issuer.test".to_owned(),
    }
}

#[track_caller]
fn challenged(reply: Reply, start: &str) {
    let reply = reply.refused(401, "UNAUTHORIZED");
    let challenge = reply.header("www-authenticate").expect("a challenge");
    assert!(challenge.starts_with(start), "{challenge}");
}

#[test]
fn passwords_open_the_registry() {
    let server = Server::with(|settings| {
        settings.authority =
            Arc::new(Authority { scheme: Scheme::Basic(users(&settings.root)), ..Authority::default() });
    });
    let (ana, wrong) = (basic("ana", "secret"), basic("ana", "wrong"));
    let send = |method: &str, path: &str, authorization: &str| {
        server.send(method, path, &[("Authorization", authorization)], b"")
    };
    for path in ["/v2/", "/v2/_catalog", "/v2/a/tags/list", "/metrics"] {
        challenged(server.get(path), "Basic realm=");
        challenged(send("GET", path, &wrong), "Basic realm=");
    }
    for odd in ["Basic", "Basic !!!", "Basic YW5h", "Bearer x", "Negotiate abc", "", " ", &basic("carl", "secret")] {
        challenged(send("GET", "/v2/", odd), "Basic realm=");
    }
    challenged(server.send("POST", "/v2/a/blobs/uploads/", &[], b""), "Basic realm=");
    send("GET", "/v2/", &ana).expect(200);
    send("GET", "/metrics", &ana).expect(200);
    send("POST", "/v2/a/blobs/uploads/", &ana).expect(202);
    server.get("/healthz").expect(200);
}

#[test]
fn rules_say_what_users_may() {
    let server = Server::with(|settings| {
        let path = settings.root.join("rules.json");
        let rules = json!({"rules": [
            {"users": ["ana"], "repositories": ["**"], "actions": ["pull", "push", "delete"]},
            {"users": ["*"], "repositories": ["public/*"], "actions": ["pull"]},
        ]});
        std::fs::write(&path, rules.to_string()).expect("written");
        settings.authority = Arc::new(Authority {
            scheme: Scheme::Basic(users(&settings.root)),
            rules: Some(Rules::open(&path).expect("rules")),
            anonymous_pull: false,
        });
    });
    let (ana, bob) = (basic("ana", "secret"), basic("bob", "other"));
    let as_ana = |method: &str, path: &str, body: &[u8]| server.send(method, path, &[("Authorization", &ana)], body);
    let as_bob = |method: &str, path: &str, body: &[u8]| server.send(method, path, &[("Authorization", &bob)], body);
    let digest = crate::client::sha256(b"x");
    for name in ["public/a", "private/a"] {
        as_ana("POST", &format!("/v2/{name}/blobs/uploads/?digest={digest}"), b"x").expect(201);
    }
    as_bob("GET", &format!("/v2/public/a/blobs/{digest}"), b"").expect(200);
    as_bob("GET", &format!("/v2/private/a/blobs/{digest}"), b"").refused(403, "DENIED");
    as_bob("POST", "/v2/public/a/blobs/uploads/", b"").refused(403, "DENIED");
    as_bob("DELETE", &format!("/v2/public/a/blobs/{digest}"), b"").refused(403, "DENIED");
    assert_eq!(as_bob("GET", "/v2/_catalog", b"").expect(200).json(), json!({"repositories": ["public/a"]}));
    assert_eq!(as_ana("GET", "/v2/_catalog", b"").json(), json!({"repositories": ["private/a", "public/a"]}));
}

/// CVE-2026-41888: deleting a tag is deleting.
#[test]
fn who_may_not_delete_may_not_delete_tags() {
    let server = Server::with(|settings| {
        let path = settings.root.join("rules.json");
        let rules = json!({"rules": [{"users": ["bob"], "repositories": ["**"], "actions": ["pull", "push"]}]});
        std::fs::write(&path, rules.to_string()).expect("written");
        let rules = Some(Rules::open(&path).expect("rules"));
        settings.authority =
            Arc::new(Authority { scheme: Scheme::Basic(users(&settings.root)), rules, anonymous_pull: false });
    });
    let bob = basic("bob", "other");
    let send = |method: &str, path: &str, body: &[u8]| {
        let headers = [("Authorization", bob.as_str()), ("Content-Type", crate::client::OCI_INDEX)];
        server.send(method, path, &headers, body)
    };
    let index = json!({"schemaVersion": 2, "mediaType": crate::client::OCI_INDEX, "manifests": []}).to_string();
    let digest = crate::client::sha256(index.as_bytes());
    send("PUT", "/v2/app/manifests/v1", index.as_bytes()).expect(201);
    for path in
        ["/v2/app/manifests/v1".to_owned(), format!("/v2/app/manifests/{digest}"), "/v2/app/manifests/no".to_owned()]
    {
        send("DELETE", &path, b"").refused(403, "DENIED");
    }
    send("DELETE", &format!("/v2/app/blobs/{digest}"), b"").refused(403, "DENIED");
    send("GET", "/v2/app/manifests/v1", b"").expect(200);
}

/// What somebody may not see is refused whether it is there or not.
#[test]
fn nobody_learns_which_repositories_there_are() {
    let server = Server::with(|settings| {
        let path = settings.root.join("rules.json");
        let rules = json!({"rules": [{"users": ["ana"], "repositories": ["**"], "actions": ["pull", "push"]}]});
        std::fs::write(&path, rules.to_string()).expect("written");
        let rules = Some(Rules::open(&path).expect("rules"));
        settings.authority =
            Arc::new(Authority { scheme: Scheme::Basic(users(&settings.root)), rules, anonymous_pull: false });
    });
    let digest = crate::client::sha256(b"x");
    let ana = basic("ana", "secret");
    let path = format!("/v2/there/blobs/uploads/?digest={digest}");
    server.send("POST", &path, &[("Authorization", &ana)], b"x").expect(201);
    let bob = basic("bob", "other");
    for name in ["there", "nowhere"] {
        for rest in
            ["tags/list".to_owned(), "manifests/1".to_owned(), format!("blobs/{digest}"), format!("referrers/{digest}")]
        {
            let path = format!("/v2/{name}/{rest}");
            let reply = server.send("GET", &path, &[("Authorization", &bob)], b"").refused(403, "DENIED");
            assert!(!String::from_utf8_lossy(&reply.body).contains(name), "{path}");
            challenged(server.get(&path), "Basic realm=");
        }
    }
    let seen = server.send("GET", "/v2/_catalog?n=1", &[("Authorization", &bob)], b"").expect(200);
    assert_eq!((seen.json(), seen.header("link")), (json!({"repositories": []}), None));
    challenged(server.get("/v2/_catalog"), "Basic realm=");
}

#[test]
fn a_mount_needs_the_right_to_read_the_source() {
    let server = Server::with(|settings| {
        let path = settings.root.join("rules.json");
        let rules = json!({"rules": [
            {"users": ["ana"], "repositories": ["private"], "actions": ["push"]},
            {"users": ["bob"], "repositories": ["own"], "actions": ["pull", "push"]},
        ]});
        std::fs::write(&path, rules.to_string()).expect("written");
        let rules = Some(Rules::open(&path).expect("rules"));
        settings.authority =
            Arc::new(Authority { scheme: Scheme::Basic(users(&settings.root)), rules, anonymous_pull: false });
    });
    let digest = crate::client::sha256(b"secret");
    let (ana, bob) = (basic("ana", "secret"), basic("bob", "other"));
    let path = format!("/v2/private/blobs/uploads/?digest={digest}");
    server.send("POST", &path, &[("Authorization", &ana)], b"secret").expect(201);
    for query in [format!("mount={digest}&from=private"), format!("mount={digest}")] {
        // As if it were nowhere.
        server.send("POST", &format!("/v2/own/blobs/uploads/?{query}"), &[("Authorization", &bob)], b"").expect(202);
    }
    server.send("GET", &format!("/v2/own/blobs/{digest}"), &[("Authorization", &bob)], b"").expect(404);
}

#[test]
fn everybody_may_pull_and_users_push_with_tokens_of_the_registry() {
    let server = Server::with(|settings: &mut Settings| {
        let issuer = Issuer::open(&settings.root.join("token.key"), source(None)).expect("an issuer");
        let scheme = Scheme::Issuing(users(&settings.root), issuer);
        settings.authority = Arc::new(Authority { scheme, rules: None, anonymous_pull: true });
    });
    challenged(server.get("/v2/"), "Bearer realm=\"http://registry/token\",service=\"registry.test\"");
    let token = |scope: &str, authorization: Option<&str>| {
        let headers: Vec<_> = authorization.map(|value| ("Authorization", value)).into_iter().collect();
        let path = format!("/token?service=registry.test&scope={scope}");
        let reply = server.send("GET", &path, &headers, b"").expect(200).json();
        format!("Bearer {}", reply["token"].as_str().expect("a token"))
    };
    let post =
        |authorization: &str| server.send("POST", "/v2/a/blobs/uploads/", &[("Authorization", authorization)], b"");
    let ana = basic("ana", "secret");
    let scope = "repository:a:pull,push";
    let (nobodys, anas) = (token(scope, None), token(scope, Some(&ana)));
    challenged(post(&nobodys), "Bearer ");
    challenged(post(&token("repository:b:pull,push", Some(&ana))), "Bearer ");
    post(&anas).expect(202);
    post(&ana).expect(202);
    let digest = server
        .send(
            "POST",
            &format!("/v2/a/blobs/uploads/?digest={}", crate::client::sha256(b"x")),
            &[("Authorization", &anas)],
            b"x",
        )
        .expect(201);
    let place = digest.header("location").expect("a place").to_owned();
    server.send("GET", &place, &[("Authorization", &nobodys)], b"").expect(200);
    server.get(&place).expect(200);
    server.send("GET", "/v2/", &[("Authorization", &nobodys)], b"").expect(200);
    let catalog = token("registry:catalog:*", None);
    assert_eq!(
        server.send("GET", "/v2/_catalog", &[("Authorization", &catalog)], b"").json(),
        json!({"repositories": ["a"]})
    );
    server.send("GET", "/token", &[("Authorization", &basic("ana", "wrong"))], b"").refused(401, "UNAUTHORIZED");
    // The key outlives the server, and is nobody else's to read.
    use std::os::unix::fs::PermissionsExt;
    let key = std::fs::metadata(server.root().join("token.key")).expect("a key");
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    for scope in ["", ":", "::", "repository:..:pull", "repository:A:push", "repository:a:", "x:y:z", "%00:%00:%00"] {
        challenged(post(&token(scope, Some(&ana))), "Bearer ");
    }
}

/// A key pair of a test, and its public half in a file.
struct Keys {
    signing: EncodingKey,
    algorithm: Algorithm,
    pem: String,
}

fn keys(algorithm: Algorithm) -> Keys {
    let pem = |label: &str, der: &[u8]| {
        let text = STANDARD.encode(der);
        let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
    };
    if algorithm == Algorithm::RS256 {
        let pair = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).expect("a key");
        let private = AsDer::<Pkcs8V1Der>::as_der(&pair).expect("a key");
        let public = AsDer::<PublicKeyX509Der>::as_der(pair.public_key()).expect("a key");
        let signing = EncodingKey::from_rsa_pem(pem("PRIVATE KEY", private.as_ref()).as_bytes()).expect("a key");
        return Keys { signing, algorithm, pem: pem("PUBLIC KEY", public.as_ref()) };
    }
    let parameters = if algorithm == Algorithm::ES256 { &rcgen::PKCS_ECDSA_P256_SHA256 } else { &rcgen::PKCS_ED25519 };
    let pair = KeyPair::generate_for(parameters).expect("a key");
    let private = pair.serialize_pem();
    let signing = match algorithm {
        Algorithm::ES256 => EncodingKey::from_ec_pem(private.as_bytes()),
        _ => EncodingKey::from_ed_pem(private.as_bytes()),
    };
    let signing = signing.expect("a key");
    Keys { signing, algorithm, pem: pem("PUBLIC KEY", &pair.subject_public_key_info()) }
}

fn claims(change: impl FnOnce(&mut Value)) -> Value {
    let now = chrono::Utc::now().timestamp();
    let mut claims = json!({
        "iss": "issuer.test", "aud": "registry.test", "sub": "ana", "exp": now + 300, "nbf": now - 5, "iat": now,
        "access": [{"type": "repository", "name": "a", "actions": ["push", "pull"]}],
    });
    change(&mut claims);
    claims
}

impl Keys {
    fn sign(&self, claims: &Value) -> String {
        jsonwebtoken::encode(&Header::new(self.algorithm), claims, &self.signing).expect("a token")
    }
}

fn verifying(keys: &str) -> Server {
    Server::with(|settings| {
        let path = settings.root.join("keys");
        std::fs::write(&path, keys).expect("written");
        let verifier = Verifier::open(source(Some("https://auth.test/token")), &path).expect("keys");
        settings.authority = Arc::new(Authority { scheme: Scheme::Token(verifier), ..Authority::default() });
    })
}

fn post(server: &Server, token: &str) -> Reply {
    server.send("POST", "/v2/a/blobs/uploads/", &[("Authorization", &format!("Bearer {token}"))], b"")
}

#[test]
fn tokens_of_others_are_checked_with_pinned_keys() {
    let all = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA].map(keys);
    let server = verifying(&all.iter().map(|keys| keys.pem.as_str()).collect::<String>());
    let challenge = "Bearer realm=\"https://auth.test/token\",service=\"registry.test\"";
    challenged(server.get("/v2/"), challenge);
    let scoped = format!("{challenge},scope=\"repository:a:pull,push\"");
    challenged(server.send("POST", "/v2/a/blobs/uploads/", &[], b""), &scoped);
    for keys in &all {
        post(&server, &keys.sign(&claims(|_| {}))).expect(202);
        challenged(post(&server, &self::keys(keys.algorithm).sign(&claims(|_| {}))), challenge);
    }
    let now = chrono::Utc::now().timestamp();
    let wrong: [fn(&mut Value, i64); 8] = [
        |claims, now| claims["exp"] = json!(now - 100),
        |claims, now| claims["nbf"] = json!(now + 100),
        |claims, _| claims["aud"] = json!("another"),
        |claims, _| claims["iss"] = json!("another"),
        |claims, _| claims["access"] = json!([]),
        |claims, _| claims["access"] = json!("everything"),
        |claims, _| drop(claims.as_object_mut().and_then(|claims| claims.remove("exp"))),
        |claims, _| drop(claims.as_object_mut().and_then(|claims| claims.remove("aud"))),
    ];
    for change in wrong {
        challenged(post(&server, &all[2].sign(&claims(|claims| change(claims, now)))), challenge);
    }
    let other = claims(|claims| claims["access"][0]["name"] = json!("b"));
    challenged(post(&server, &all[2].sign(&other)), &scoped);
    let listed = claims(|claims| claims["aud"] = json!(["x", "registry.test"]));
    post(&server, &all[2].sign(&listed)).expect(202);
}

/// CVE-2025-24976 and its relatives: what a token says about its own key counts for nothing.
#[test]
fn a_token_does_not_bring_its_key() {
    let pinned = keys(Algorithm::ES256);
    let server = verifying(&pinned.pem);
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let payload = encode(&claims(|_| {}));
    let foreign = keys(Algorithm::ES256);
    let mut header = Header::new(Algorithm::ES256);
    header.jwk = Some(jsonwebtoken::jwk::Jwk::from_encoding_key(&foreign.signing, Algorithm::ES256).expect("a key"));
    header.jku = Some("http://127.0.0.1:1/keys".to_owned());
    let own = jsonwebtoken::encode(&header, &claims(|_| {}), &foreign.signing).expect("a token");
    challenged(post(&server, &own), "Bearer ");
    let none = format!("{}.{payload}.", encode(&json!({"alg": "none", "typ": "JWT"})));
    challenged(post(&server, &none), "Bearer ");
    let secret = EncodingKey::from_secret(pinned.pem.as_bytes());
    let confused = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(|_| {}), &secret).expect("a token");
    challenged(post(&server, &confused), "Bearer ");
    let good = pinned.sign(&claims(|_| {}));
    let (start, signature) = good.rsplit_once('.').expect("a token");
    let mut parts = start.split('.');
    let head = parts.next().expect("a head");
    let more = claims(|claims| claims["access"][0]["name"] = json!("b"));
    challenged(post(&server, &format!("{head}.{}.{signature}", encode(&more))), "Bearer ");
    challenged(post(&server, &format!("{start}.{}", "A".repeat(100_000))), "Bearer ");
    post(&server, &good).expect(202);
}

#[test]
fn key_files_that_pin_nothing_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("keys");
    let private = KeyPair::generate().expect("a key").serialize_pem();
    let secret = json!({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}).to_string();
    for bad in ["", "{}", r#"{"keys": []}"#, "nonsense", &private, &secret] {
        std::fs::write(&path, bad).expect("written");
        assert!(Verifier::open(source(None), &path).is_err(), "{bad}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_authorization_breaks_the_registry(text in "(Basic|Bearer|bearer)? ?[ -~]{0,80}") {
        use std::sync::OnceLock;
        static SERVER: OnceLock<(Server, Keys)> = OnceLock::new();
        let (server, _) = SERVER.get_or_init(|| {
            let keys = keys(Algorithm::EdDSA);
            (verifying(&keys.pem), keys)
        });
        let reply = server.send("GET", "/v2/", &[("Authorization", &text)], b"");
        prop_assert_eq!(reply.status, 401);
    }
}
