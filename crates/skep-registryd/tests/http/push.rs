//! Pushing blobs in one go, and mounting them.

use crate::client::{Server, read_only, sha256, sha512};

#[test]
fn a_blob_can_be_pushed_in_one_request() {
    let server = Server::start();
    let digest = sha256(b"content");
    let reply = server.send("POST", &format!("/v2/a/b/blobs/uploads/?digest={digest}"), &[], b"content").expect(201);
    assert_eq!(reply.header("location"), Some(format!("/v2/a/b/blobs/{digest}").as_str()));
    assert_eq!(reply.header("docker-content-digest"), Some(digest.as_str()));
    assert_eq!(server.get(&format!("/v2/a/b/blobs/{digest}")).expect(200).body, b"content");
    // Again is fine, and the way without a slash too.
    server.send("POST", &format!("/v2/a/b/blobs/uploads?digest={digest}"), &[], b"content").expect(201);
}

#[test]
fn a_blob_can_be_pushed_by_post_and_put() {
    let server = Server::start();
    let upload = server.upload("a");
    let digest = sha256(b"content");
    let octets = ("Content-Type", "application/octet-stream");
    server.send("PUT", &format!("{upload}?digest={digest}"), &[octets], b"content").expect(201);
    assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).expect(200).body, b"content");
    server.get(&upload).refused(404, "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn sha512_is_as_good() {
    let server = Server::start();
    let digest = sha512(b"content");
    server.send("POST", &format!("/v2/a/blobs/uploads/?digest={digest}"), &[], b"content").expect(201);
    assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).expect(200).body, b"content");
    // An upload that was hashed otherwise while it came.
    let (upload, other) = (server.upload("a"), sha512(b"other"));
    server.send("PATCH", &upload, &[], b"oth").expect(202);
    server.send("PUT", &format!("{upload}?digest={other}"), &[], b"er").expect(201);
    let begun = server.send("POST", "/v2/a/blobs/uploads/?digest-algorithm=sha512", &[], b"").expect(202);
    let upload = begun.header("location").expect("a location").to_owned();
    server.send("PUT", &format!("{upload}?digest={}", sha512(b"third")), &[], b"third").expect(201);
    server.send("POST", "/v2/a/blobs/uploads/?digest-algorithm=md5", &[], b"").refused(400, "DIGEST_INVALID");
}

#[test]
fn wrong_digests_are_refused_and_leave_nothing() {
    let server = Server::start();
    let wrong = sha256(b"another");
    let path = format!("/v2/a/blobs/uploads/?digest={wrong}");
    server.send("POST", &path, &[], b"content").refused(400, "DIGEST_INVALID");
    server.send("POST", "/v2/a/blobs/uploads/?digest=sha256:..", &[], b"x").refused(400, "DIGEST_INVALID");
    let upload = server.upload("a");
    server.send("PUT", &upload, &[], b"content").refused(400, "DIGEST_INVALID");
    server.send("PUT", &format!("{upload}?digest={wrong}"), &[], b"content").refused(400, "DIGEST_INVALID");
    server.get(&format!("/v2/a/blobs/{wrong}")).refused(404, "BLOB_UNKNOWN");
    server.get(&upload).refused(404, "BLOB_UPLOAD_UNKNOWN");
    let left = std::fs::read_dir(server.root().join("uploads")).expect("a directory").count();
    assert_eq!(left, 0);
}

#[test]
fn a_blob_can_be_mounted_from_elsewhere() {
    let server = Server::start();
    let digest = server.blob("from/here", b"shared");
    let mount = |query: &str| server.send("POST", &format!("/v2/to/there/blobs/uploads/?{query}"), &[], b"");
    let reply = mount(&format!("mount={digest}&from=from/here")).expect(201);
    assert_eq!(reply.header("location"), Some(format!("/v2/to/there/blobs/{digest}").as_str()));
    assert_eq!(server.get(&format!("/v2/to/there/blobs/{digest}")).expect(200).body, b"shared");
    // Without saying from where, the registry looks itself.
    server.send("POST", &format!("/v2/third/blobs/uploads/?mount={digest}"), &[], b"").expect(201);
    // What can't be mounted is uploaded.
    let missing = sha256(b"missing");
    assert!(mount(&format!("mount={missing}&from=from/here")).expect(202).header("location").is_some());
    assert!(mount(&format!("mount={digest}&from=nowhere")).expect(202).header("location").is_some());
    mount(&format!("mount={digest}&from=../..")).expect(202);
    mount("mount=sha256:x&from=from/here").refused(400, "DIGEST_INVALID");
}

#[test]
fn a_read_only_registry_takes_nothing() {
    let server = Server::start();
    let digest = server.image("a", "1", "x");
    let server = server.restart_with(read_only);
    server.get("/v2/a/manifests/1").expect(200);
    server.send("POST", "/v2/a/blobs/uploads/", &[], b"").refused(405, "UNSUPPORTED");
    server.send("DELETE", &format!("/v2/a/manifests/{digest}"), &[], b"").refused(405, "UNSUPPORTED");
}
