//! Pushing manifests: what is taken, and what is refused.

use serde_json::{Value, json};

use crate::client::{OCI_INDEX, OCI_MANIFEST, Server, descriptor, sha256, sha512};

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

fn put(server: &Server, reference: &str, content_type: &str, body: &[u8]) -> crate::client::Reply {
    server.send("PUT", &format!("/v2/a/manifests/{reference}"), &[("Content-Type", content_type)], body)
}

#[test]
fn a_push_answers_with_place_and_digest() {
    let server = Server::start();
    let manifest = server.image_manifest("a", "x").to_string();
    let digest = sha256(manifest.as_bytes());
    let reply = put(&server, "v1", OCI_MANIFEST, manifest.as_bytes()).expect(201);
    assert_eq!(reply.header("location"), Some(format!("/v2/a/manifests/{digest}").as_str()));
    assert_eq!(reply.header("docker-content-digest"), Some(digest.as_str()));
    put(&server, &digest, OCI_MANIFEST, manifest.as_bytes()).expect(201);
    put(&server, &sha256(b"another"), OCI_MANIFEST, manifest.as_bytes()).refused(400, "DIGEST_INVALID");
    let long = sha512(manifest.as_bytes());
    put(&server, &long, OCI_MANIFEST, manifest.as_bytes()).expect(201);
    assert_eq!(server.get(&format!("/v2/a/manifests/{long}")).expect(200).body, manifest.as_bytes());
}

#[test]
fn every_kind_of_manifest_is_kept_as_it_was_sent() {
    let server = Server::start();
    let image = server.image_manifest("a", "x");
    let oci = server.manifest("a", "oci", OCI_MANIFEST, &image);
    let mut docker = image.clone();
    docker["mediaType"] = json!(DOCKER_MANIFEST);
    let docker = server.manifest("a", "docker", DOCKER_MANIFEST, &docker);
    let size = |digest: &str| server.get(&format!("/v2/a/manifests/{digest}")).expect(200).body.len();
    let child =
        |digest: &str, media_type: &str| json!({"mediaType": media_type, "digest": digest, "size": size(digest)});
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child(&oci, OCI_MANIFEST)]});
    server.manifest("a", "index", OCI_INDEX, &index);
    let list = json!({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": [child(&docker, DOCKER_MANIFEST)]});
    server.manifest("a", "list", DOCKER_LIST, &list);
    let artifact_type = "application/vnd.oci.artifact.manifest.v1+json";
    let artifact = json!({"mediaType": artifact_type, "artifactType": "x/y", "blobs": [descriptor("m/t", b"x")]});
    server.manifest("a", "artifact", artifact_type, &artifact);
    for (tag, media_type) in
        [("oci", OCI_MANIFEST), ("docker", DOCKER_MANIFEST), ("index", OCI_INDEX), ("list", DOCKER_LIST)]
    {
        let got = server.get(&format!("/v2/a/manifests/{tag}")).expect(200);
        assert_eq!(got.header("content-type"), Some(media_type));
    }
    assert_eq!(server.get("/v2/a/manifests/index").body, index.to_string().as_bytes());
    // The client need not say what it is.
    server.send("PUT", "/v2/a/manifests/untyped", &[], image.to_string().as_bytes()).expect(201);
    assert_eq!(server.get("/v2/a/manifests/untyped").header("content-type"), Some(OCI_MANIFEST));
}

#[test]
fn a_manifest_needs_its_parts() {
    let server = Server::start();
    server.image("a", "1", "x");
    let image = |layer: Value| {
        let mut image = server.image_manifest("a", "x");
        image["layers"] = json!([layer]);
        image.to_string()
    };
    let missing = image(descriptor("m/t", b"missing"));
    let refused = put(&server, "2", OCI_MANIFEST, missing.as_bytes()).refused(404, "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(refused.json()["errors"][0]["detail"]["digest"], sha256(b"missing"));
    server.get("/v2/a/manifests/2").refused(404, "MANIFEST_UNKNOWN");
    // What another repository has doesn't count, and a wrong size neither.
    server.blob("b", b"elsewhere");
    put(&server, "2", OCI_MANIFEST, image(descriptor("m/t", b"elsewhere")).as_bytes())
        .refused(404, "MANIFEST_BLOB_UNKNOWN");
    let mut wrong = descriptor("m/t", b"x");
    wrong["size"] = json!(77);
    put(&server, "2", OCI_MANIFEST, image(wrong).as_bytes()).refused(400, "MANIFEST_INVALID");
    let index = json!({"schemaVersion": 2, "manifests": [descriptor(OCI_MANIFEST, b"missing")]}).to_string();
    put(&server, "2", OCI_INDEX, index.as_bytes()).refused(404, "MANIFEST_BLOB_UNKNOWN");
    // A layer that says where else it is need not be here.
    let mut foreign = descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", b"missing");
    foreign["urls"] = json!(["https://example.com/layer"]);
    put(&server, "2", OCI_MANIFEST, image(foreign).as_bytes()).expect(201);
}

#[test]
fn what_is_no_manifest_is_refused() {
    let server = Server::start();
    let image = server.image_manifest("a", "x");
    let with = |key: &str, value: Value| {
        let mut image = image.clone();
        image[key] = value;
        image.to_string()
    };
    for body in [
        "".to_owned(),
        "<html></html>".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        with("schemaVersion", json!(1)),
        with("mediaType", json!(OCI_INDEX)),
        with("manifests", json!([])),
        with("Layers", json!([])),
        with("layers", json!([{"mediaType": "x", "digest": "sha256:..", "size": 1}])),
        with("layers", json!([{"mediaType": "x", "digest": sha256(b"x"), "size": -1}])),
        format!("{}]", "[".repeat(100_000)),
    ] {
        put(&server, "bad", OCI_MANIFEST, body.as_bytes()).refused(400, "MANIFEST_INVALID");
    }
    let signed = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let old = put(&server, "bad", signed, br#"{"schemaVersion":1,"fsLayers":[],"history":[]}"#);
    let old = old.refused(400, "MANIFEST_INVALID").json();
    assert!(old["errors"][0]["message"].as_str().is_some_and(|text| text.contains("schema version 1")), "{old}");
    put(&server, "bad", "text/html", image.to_string().as_bytes()).refused(400, "MANIFEST_INVALID");
    put(&server, ".bad", OCI_MANIFEST, image.to_string().as_bytes()).refused(400, "TAG_INVALID");
    server.get("/v2/a/manifests/bad").refused(404, "MANIFEST_UNKNOWN");
}

#[test]
fn a_manifest_has_at_most_four_mebibytes() {
    let server = Server::start();
    let mut image = server.image_manifest("a", "x");
    image["annotations"] = json!({"big": "x".repeat(4 << 20)});
    put(&server, "big", OCI_MANIFEST, image.to_string().as_bytes()).refused(400, "SIZE_INVALID");
    image["annotations"] = json!({"big": "x".repeat((4 << 20) - 2000)});
    put(&server, "big", OCI_MANIFEST, image.to_string().as_bytes()).expect(201);
    assert_eq!(server.get("/v2/a/manifests/big").expect(200).body, image.to_string().as_bytes());
}
