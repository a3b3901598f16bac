//! Manifests: found, missing, lied about.

use skep_registry::{MAX_MANIFEST_SIZE, Manifest, media_type};
use skep_types::Selector;

use crate::server::Reply;
use crate::{connect, digest_of, registry, text};

const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn manifest() -> String {
    let config = media_type::OCI_CONFIG;
    format!(r#"{{"schemaVersion":2,"config":{{"mediaType":"{config}","size":0,"digest":"{EMPTY}"}},"layers":[]}}"#)
}

fn tag() -> Selector {
    Selector::Tag("1".to_owned())
}

fn served(body: impl AsRef<[u8]>) -> Reply {
    Reply::new("200 OK", &[("Content-Type", media_type::OCI_MANIFEST)], body)
}

#[tokio::test]
async fn by_tag_and_by_digest() {
    let server = registry(|_| served(manifest())).await;
    let repository = connect(&server).await;
    let fetched = repository.manifest(&tag()).await.expect("a manifest");
    assert_eq!(fetched.raw, manifest().as_bytes());
    assert_eq!(fetched.digest, digest_of(manifest().as_bytes()));
    assert!(matches!(fetched.manifest, Manifest::Image(_)));
    repository.manifest(&Selector::Digest(fetched.digest)).await.expect("a manifest");
    let accept: Vec<_> = server.requests()[1].headers.iter().filter(|(n, _)| n == "accept").cloned().collect();
    assert_eq!(accept.len(), 4, "each type in its own header: {accept:?}");
}

#[tokio::test]
async fn a_manifest_that_is_another_is_refused() {
    let server = registry(|_| served(manifest())).await;
    let wished = digest_of(b"something else");
    let error = text(connect(&server).await.manifest(&Selector::Digest(wished)).await);
    assert_eq!(error, format!("manifest verification failed for digest {wished}"));

    let server = registry(|_| Reply::new("200 OK", &[("Docker-Content-Digest", EMPTY)], manifest())).await;
    let error = text(connect(&server).await.manifest(&tag()).await);
    assert_eq!(error, format!("manifest verification failed for digest {EMPTY}"));
}

#[tokio::test]
async fn a_missing_tag_has_dockers_words() {
    let body = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"1"}}]}"#;
    let server = registry(move |_| Reply::new("404 Not Found", &[], body)).await;
    let error = text(connect(&server).await.manifest(&tag()).await);
    let name = format!("{}/some/app:1", server.address);
    assert_eq!(error, format!("manifest for {name} not found: manifest unknown: manifest unknown"));
}

#[tokio::test]
async fn a_web_server_that_is_no_registry() {
    let server = registry(|_| Reply::new("404 Not Found", &[], "<html>")).await;
    let error = text(connect(&server).await.manifest(&tag()).await);
    assert!(error.starts_with("error parsing HTTP 404 response body: invalid character '<'"), "{error}");
}

#[tokio::test]
async fn too_large_a_manifest_is_not_read() {
    let length = (MAX_MANIFEST_SIZE + 1).to_string();
    let server = registry(move |_| Reply::new("200 OK", &[("Content-Length", &length)], "{").hanging()).await;
    let error = text(connect(&server).await.manifest(&tag()).await);
    assert_eq!(error, format!("manifest is larger than {MAX_MANIFEST_SIZE} bytes"));
}

#[tokio::test]
async fn a_server_error_is_tried_again() {
    let server = registry(|request| match request.repeat {
        0 => Reply::new("502 Bad Gateway", &[], ""),
        _ => served(manifest()),
    })
    .await;
    connect(&server).await.manifest(&tag()).await.expect("a manifest");
    let server = registry(|_| Reply::new("500 Internal Server Error", &[], "")).await;
    let error = text(connect(&server).await.manifest(&tag()).await);
    assert_eq!(error, "received unexpected HTTP status: 500 Internal Server Error");
    assert_eq!(server.count("/v2/some/app/manifests/"), 3);
}

#[tokio::test]
async fn redirects_are_followed_without_credentials_and_not_for_ever() {
    let server = registry(|request| {
        let next = format!("/v2/some/app/manifests/{}x", request.path.rsplit('/').next().unwrap_or_default());
        Reply::new("307 Temporary Redirect", &[("Location", &next)], "")
    })
    .await;
    let error = text(connect(&server).await.manifest(&tag()).await);
    assert!(error.ends_with("stopped after 10 redirects"), "{error}");
}

#[tokio::test]
async fn tags_come_in_pages() {
    let server = registry(|request| match request.path.as_str() {
        "/v2/some/app/tags/list" => Reply::new(
            "200 OK",
            &[("Link", "</v2/some/app/tags/list?last=b>; rel=\"next\"")],
            r#"{"name":"some/app","tags":["a","b"]}"#,
        ),
        // Names itself: without an end for whoever follows blindly.
        "/v2/some/app/tags/list?last=b" => {
            Reply::new("200 OK", &[("Link", "</v2/some/app/tags/list?last=c>; rel=\"next\"")], r#"{"tags":["c"]}"#)
        }
        _ => Reply::new("200 OK", &[("Link", "</v2/some/app/tags/list?last=c>; rel=\"next\"")], r#"{"tags":null}"#),
    })
    .await;
    assert_eq!(connect(&server).await.tags().await.expect("tags"), ["a", "b", "c"]);
    assert_eq!(server.count("/v2/some/app/tags"), 3);
}
