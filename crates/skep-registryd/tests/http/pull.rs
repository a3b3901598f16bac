//! Pulling: manifests by tag and digest, blobs whole and in parts.

use serde_json::json;

use crate::client::{OCI_MANIFEST, Server, sha256};

#[test]
fn the_base_says_what_this_is() {
    let server = Server::start();
    for path in ["/v2/", "/v2"] {
        let reply = server.get(path).expect(200);
        assert_eq!(reply.header("docker-distribution-api-version"), Some("registry/2.0"));
        assert_eq!(reply.json(), json!({}));
    }
    server.get("/healthz").expect(200);
    server.get("/x").expect(404);
    server.get("/v1/").expect(404);
    let reply = server.send("DELETE", "/v2/", &[], b"").refused(405, "UNSUPPORTED");
    assert_eq!(reply.header("allow"), Some("GET, HEAD"));
}

#[test]
fn a_manifest_is_found_by_tag_and_by_digest() {
    let server = Server::start();
    let digest = server.image("team/app", "v1", "layer");
    for reference in ["v1", &digest] {
        let path = format!("/v2/team/app/manifests/{reference}");
        let got = server.send("GET", &path, &[("Accept", OCI_MANIFEST)], b"").expect(200);
        assert_eq!(got.header("docker-content-digest"), Some(digest.as_str()));
        assert_eq!(got.header("content-type"), Some(OCI_MANIFEST));
        assert_eq!(sha256(&got.body), digest);
        let head = server.send("HEAD", &path, &[], b"").expect(200);
        assert_eq!(head.header("docker-content-digest"), Some(digest.as_str()));
        assert_eq!(head.header("content-length"), Some(got.body.len().to_string().as_str()));
        assert!(head.body.is_empty());
        let etag = got.header("etag").expect("an ETag").to_owned();
        let same = server.send("GET", &path, &[("If-None-Match", &etag)], b"").expect(304);
        assert!(same.body.is_empty());
    }
}

#[test]
fn what_is_not_there_is_not_found() {
    let server = Server::start();
    server.image("a", "1", "x");
    let digest = sha256(b"never");
    server.get("/v2/a/manifests/2").refused(404, "MANIFEST_UNKNOWN");
    server.get("/v2/a/manifests/.INVALID_MANIFEST_NAME").refused(404, "MANIFEST_UNKNOWN");
    server.get(&format!("/v2/a/manifests/{digest}")).refused(404, "MANIFEST_UNKNOWN");
    server.get(&format!("/v2/a/blobs/{digest}")).refused(404, "BLOB_UNKNOWN");
    server.send("HEAD", &format!("/v2/a/blobs/{digest}"), &[], b"").expect(404);
    server.send("HEAD", "/v2/a/manifests/2", &[], b"").expect(404);
    server.get("/v2/b/tags/list").refused(404, "NAME_UNKNOWN");
    // A manifest is no blob, a blob no manifest, and one repository's are not another's.
    let layer = sha256(b"x");
    server.get(&format!("/v2/a/manifests/{layer}")).refused(404, "MANIFEST_UNKNOWN");
    server.get(&format!("/v2/b/blobs/{layer}")).refused(404, "BLOB_UNKNOWN");
}

#[test]
fn names_that_cannot_be_are_refused() {
    let server = Server::start();
    let digest = sha256(b"x");
    server.get("/v2/UPPER/tags/list").refused(400, "NAME_INVALID");
    server.get("/v2/a..b/tags/list").refused(400, "NAME_INVALID");
    server.get("/v2/%2e%2e/%2e%2e/etc/tags/list").refused(400, "NAME_INVALID");
    server.get(&format!("/v2/a%00b/blobs/{digest}")).refused(400, "NAME_INVALID");
    server.get(&format!("/v2/{}/tags/list", "a".repeat(256))).refused(400, "NAME_INVALID");
    server.get("/v2/a/blobs/sha256:..%2f..%2fetc%2fpasswd").expect(404);
    server.get("/v2/a/blobs/sha256:xyz").refused(400, "DIGEST_INVALID");
    server.get("/v2/a/blobs/md5:d41d8cd98f00b204e9800998ecf8427e").refused(400, "DIGEST_INVALID");
    server.get("/v2/a/referrers/nothing").refused(400, "DIGEST_INVALID");
    server.get("/v2/a%zz/tags/list").refused(400, "NAME_INVALID");
}

#[test]
fn a_blob_comes_whole_or_in_parts() {
    let server = Server::start();
    let digest = server.blob("a", b"0123456789");
    let path = format!("/v2/a/blobs/{digest}");
    let whole = server.get(&path).expect(200);
    assert_eq!(whole.body, b"0123456789");
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    assert_eq!(whole.header("docker-content-digest"), Some(digest.as_str()));
    let head = server.send("HEAD", &path, &[], b"").expect(200);
    assert_eq!(head.header("content-length"), Some("10"));
    for (range, body, content_range) in [
        ("bytes=0-3", "0123", "bytes 0-3/10"),
        ("bytes=4-", "456789", "bytes 4-9/10"),
        ("bytes=-2", "89", "bytes 8-9/10"),
        ("bytes=8-100", "89", "bytes 8-9/10"),
    ] {
        let part = server.send("GET", &path, &[("Range", range)], b"").expect(206);
        assert_eq!((part.body.as_slice(), part.header("content-range")), (body.as_bytes(), Some(content_range)));
    }
    let beyond = server.send("GET", &path, &[("Range", "bytes=10-")], b"").expect(416);
    assert_eq!(beyond.header("content-range"), Some("bytes */10"));
    server.send("GET", &path, &[("Range", "bytes=0-1,4-5")], b"").expect(200);
    server.send("GET", &path, &[("Range", "nonsense")], b"").expect(200);
    let part = ("Range", "bytes=0-3");
    let own = format!("\"{digest}\"");
    server.send("GET", &path, &[part, ("If-Range", &own)], b"").expect(206);
    server.send("GET", &path, &[part, ("If-Range", "\"another\"")], b"").expect(200);
    server.send("GET", &path, &[("If-None-Match", &own)], b"").expect(304);
    server.send("GET", &path, &[("If-None-Match", "\"another\"")], b"").expect(200);
    let empty = server.blob("a", b"");
    assert!(server.get(&format!("/v2/a/blobs/{empty}")).expect(200).body.is_empty());
}
