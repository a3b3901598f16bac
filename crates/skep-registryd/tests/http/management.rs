//! Deleting.

use serde_json::json;

use crate::client::{OCI_INDEX, OCI_MANIFEST, Server, sha256};

#[test]
fn a_tag_goes_alone() {
    let server = Server::start();
    let digest = server.image("a", "v1", "x");
    server.image("a", "v2", "x");
    server.send("DELETE", "/v2/a/manifests/v1", &[], b"").expect(202);
    server.get("/v2/a/manifests/v1").refused(404, "MANIFEST_UNKNOWN");
    server.get("/v2/a/manifests/v2").expect(200);
    server.get(&format!("/v2/a/manifests/{digest}")).expect(200);
    assert_eq!(server.get("/v2/a/tags/list").json()["tags"], json!(["v2"]));
    server.send("DELETE", "/v2/a/manifests/v1", &[], b"").refused(404, "MANIFEST_UNKNOWN");
}

#[test]
fn a_manifest_goes_with_its_tags() {
    let server = Server::start();
    let digest = server.image("a", "v1", "x");
    server.image("a", "v2", "x");
    server.image("a", "other", "y");
    server.send("DELETE", &format!("/v2/a/manifests/{digest}"), &[], b"").expect(202);
    server.get(&format!("/v2/a/manifests/{digest}")).refused(404, "MANIFEST_UNKNOWN");
    assert_eq!(server.get("/v2/a/tags/list").json()["tags"], json!(["other"]));
    server.send("DELETE", &format!("/v2/a/manifests/{digest}"), &[], b"").refused(404, "MANIFEST_UNKNOWN");
    // And can come again.
    server.image("a", "v1", "x");
    server.get(&format!("/v2/a/manifests/{digest}")).expect(200);
}

#[test]
fn a_blob_goes_when_no_manifest_needs_it() {
    let server = Server::start();
    let digest = server.image("a", "v1", "x");
    let layer = sha256(b"x");
    let path = format!("/v2/a/blobs/{layer}");
    let refused = server.send("DELETE", &path, &[], b"").refused(405, "UNSUPPORTED");
    assert_eq!(refused.json()["errors"][0]["detail"]["manifest"], digest);
    server.get(&path).expect(200);
    server.blob("b", b"x");
    server.send("DELETE", &format!("/v2/a/manifests/{digest}"), &[], b"").expect(202);
    server.send("DELETE", &path, &[], b"").expect(202);
    server.get(&path).refused(404, "BLOB_UNKNOWN");
    server.send("DELETE", &path, &[], b"").refused(404, "BLOB_UNKNOWN");
    // CVE-2026-35172: what one repository has given up is not to be had there through another's.
    server.get(&format!("/v2/b/blobs/{layer}")).expect(200);
    server.send("HEAD", &path, &[], b"").expect(404);
    server.send("GET", &path, &[("Range", "bytes=0-0")], b"").expect(404);
}

#[test]
fn a_part_of_an_index_stays() {
    let server = Server::start();
    let child = server.image("a", "child", "x");
    let size = server.get("/v2/a/manifests/child").body.len();
    let entry = json!({"mediaType": OCI_MANIFEST, "digest": child, "size": size});
    let index = server.manifest("a", "index", OCI_INDEX, &json!({"schemaVersion": 2, "manifests": [entry]}));
    let path = format!("/v2/a/manifests/{child}");
    server.send("DELETE", &path, &[], b"").refused(405, "UNSUPPORTED");
    server.send("DELETE", &format!("/v2/a/manifests/{index}"), &[], b"").expect(202);
    server.send("DELETE", &path, &[], b"").expect(202);
}
