//! Signatures beside an image: found in each of their places, bounded, and an error where they can't be fetched.

use std::collections::HashMap;

use skep_types::Digest;

use crate::server::{Reply, Server};
use crate::{connect, digest_of, registry, text};

const PAYLOAD: &[u8] = b"{\"critical\":{}}";
const COSIGN: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";

fn signed() -> Digest {
    Digest::from_bytes([7; 32])
}

/// A manifest with so many signatures.
fn manifest(count: usize) -> String {
    let layer = format!(
        r#"{{"mediaType":"application/vnd.dev.cosign.simplesigning.v1+json","digest":"{}","size":{},
            "annotations":{{"dev.cosignproject.cosign/signature":"MEUC"}}}}"#,
        digest_of(PAYLOAD),
        PAYLOAD.len()
    );
    format!(r#"{{"schemaVersion":2,"layers":[{}]}}"#, vec![layer; count].join(","))
}

/// A registry with these documents; it has no others.
async fn with(documents: &[(String, String)]) -> Server {
    let blob = (format!("blobs/{}", digest_of(PAYLOAD)), String::from_utf8_lossy(PAYLOAD).into_owned());
    let all: HashMap<String, String> = documents.iter().cloned().chain([blob]).collect();
    registry(move |request| match all.get(request.path.trim_start_matches("/v2/some/app/")) {
        Some(body) => Reply::ok(body),
        None => Reply::new("404 Not Found", &[], "404 page not found"),
    })
    .await
}

#[tokio::test]
async fn each_place_is_looked_at() {
    let (tag, digest) = (format!("manifests/sha256-{}.sig", signed().hex()), digest_of(manifest(1).as_bytes()));
    let index = format!(
        r#"{{"manifests":[{{"digest":"{digest}","artifactType":"{COSIGN}"}},
            {{"digest":"{digest}","artifactType":"application/vnd.dev.sigstore.bundle.v0.3+json"}},
            {{"digest":"{digest}","artifactType":"application/spdx+json"}}]}}"#
    );
    let (referrers, referrer) = (format!("referrers/{}", signed()), (format!("manifests/{digest}"), manifest(1)));
    let fallback = format!("manifests/sha256-{}", signed().hex());
    for (documents, expected) in [
        (vec![], vec![]),
        (vec![(tag.clone(), manifest(2))], vec!["simplesigning", "simplesigning"]),
        (vec![(referrers, index.clone()), referrer.clone()], vec!["simplesigning", "sigstore.bundle"]),
        (
            vec![(fallback, index), referrer, (tag, manifest(1))],
            vec!["simplesigning", "simplesigning", "sigstore.bundle"],
        ),
    ] {
        let server = with(&documents).await;
        let found = connect(&server).await.signatures(&signed()).await.expect("signatures");
        assert_eq!(found.len(), expected.len(), "{documents:?}");
        for (signature, kind) in found.iter().zip(expected) {
            assert!(signature.media_type.contains(kind), "{signature:?}");
            if kind == "simplesigning" {
                assert_eq!(signature.payload, PAYLOAD);
                assert_eq!(signature.annotations["dev.cosignproject.cosign/signature"], "MEUC");
            }
        }
    }
}

#[tokio::test]
async fn what_cant_be_fetched_is_an_error() {
    let tag = || format!("manifests/sha256-{}.sig", signed().hex());
    let huge = manifest(1).replace(&format!("\"size\":{}", PAYLOAD.len()), "\"size\":99999999");
    let lying = manifest(1).replace(&digest_of(PAYLOAD).to_string(), &signed().to_string());
    for (body, expected) in [
        (manifest(65), "more than 64 signatures"),
        (huge, "is larger than"),
        (lying, "404"),
        ("<html>".to_owned(), "invalid manifest"),
        ("[]".to_owned(), "invalid manifest"),
    ] {
        let server = with(&[(tag(), body.clone())]).await;
        let error = text(connect(&server).await.signatures(&signed()).await);
        assert!(error.contains(expected), "{body}: {error}");
    }
    let broken =
        registry(|_| Reply::new("403 Forbidden", &[], r#"{"errors":[{"code":"DENIED","message":"no"}]}"#)).await;
    assert!(text(connect(&broken).await.signatures(&signed()).await).contains("denied"));
}
