//! Lists and their pages; referrers.

use serde_json::{Value, json};

use crate::client::{OCI_INDEX, OCI_MANIFEST, Reply, Server, descriptor, sha256};

/// The path of the next page.
fn next(reply: &Reply) -> Option<String> {
    let link = reply.header("link")?;
    let (path, rest) = link.strip_prefix('<')?.split_once('>')?;
    assert_eq!(rest, "; rel=\"next\"");
    Some(path.to_owned())
}

/// All entries of a list, and the sizes of its pages.
#[track_caller]
fn pages(server: &Server, path: &str, key: &str) -> (Vec<Value>, Vec<usize>) {
    let (mut entries, mut sizes, mut path) = (Vec::new(), Vec::new(), Some(path.to_owned()));
    while let Some(at) = path {
        let reply = server.get(&at).expect(200);
        let page = reply.json()[key].as_array().expect("a list").clone();
        sizes.push(page.len());
        entries.extend(page);
        path = next(&reply);
    }
    (entries, sizes)
}

#[test]
fn tags_are_listed_page_by_page() {
    let server = Server::start();
    let manifest = server.image_manifest("a/b", "x");
    for tag in ["v2", "V1", "latest", "v10", "v1", "0"] {
        server.manifest("a/b", tag, OCI_MANIFEST, &manifest);
    }
    let all = server.get("/v2/a/b/tags/list").expect(200).json();
    assert_eq!(all, json!({"name": "a/b", "tags": ["0", "latest", "V1", "v1", "v10", "v2"]}));
    let (tags, sizes) = pages(&server, "/v2/a/b/tags/list?n=4", "tags");
    assert_eq!((json!(tags), sizes), (all["tags"].clone(), vec![4, 2]));
    let (tags, sizes) = pages(&server, "/v2/a/b/tags/list?n=3", "tags");
    assert_eq!((tags.len(), sizes), (6, vec![3, 3]));
    assert_eq!(server.get("/v2/a/b/tags/list?last=V1").json()["tags"], json!(["v1", "v10", "v2"]));
    assert_eq!(server.get("/v2/a/b/tags/list?last=m&n=1").json()["tags"], json!(["V1"]));
    assert_eq!(server.get("/v2/a/b/tags/list?last=zzz").json()["tags"], json!([]));
    assert_eq!(server.get("/v2/a/b/tags/list?n=0").expect(200).json()["tags"], json!([]));
    for bad in ["-1", "x", "", "1.5", "%20"] {
        server.get(&format!("/v2/a/b/tags/list?n={bad}")).refused(400, "PAGINATION_NUMBER_INVALID");
    }
}

#[test]
fn the_catalogue_has_pages_of_bounded_size() {
    let server = Server::start();
    for name in ["b", "a/c", "a/b", "a", "d"] {
        server.blob(name, b"x");
    }
    let expected = json!({"repositories": ["a", "a/b", "a/c", "b", "d"]});
    assert_eq!(server.get("/v2/_catalog").expect(200).json(), expected);
    let (names, sizes) = pages(&server, "/v2/_catalog?n=2", "repositories");
    assert_eq!((json!(names), sizes), (expected["repositories"].clone(), vec![2, 2, 1]));
    assert_eq!(server.get("/v2/_catalog?last=a/b").json()["repositories"], json!(["a/c", "b", "d"]));
    // CVE-2023-2253: whatever number is asked for, nothing of that size is made.
    for n in ["1000000000", "18446744073709551615", "99999999999999999999999999"] {
        assert_eq!(server.get(&format!("/v2/_catalog?n={n}")).expect(200).json(), expected);
    }
    server.get("/v2/_catalog?n=-5").refused(400, "PAGINATION_NUMBER_INVALID");
}

#[test]
fn a_page_has_at_most_a_thousand_entries() {
    let server = Server::start();
    let manifest = server.image_manifest("a", "x");
    for number in 0..1003 {
        server.manifest("a", &format!("t{number:04}"), OCI_MANIFEST, &manifest);
    }
    let (tags, sizes) = pages(&server, "/v2/a/tags/list?n=1000000000", "tags");
    assert_eq!((tags.len(), sizes), (1003, vec![1000, 3]));
}

fn artifact(server: &Server, subject: &Value, artifact_type: &str) -> Value {
    server.blob("a", b"{}");
    json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [descriptor("application/vnd.oci.empty.v1+json", b"{}")],
        "subject": subject,
        "annotations": {"about": artifact_type},
    })
}

#[test]
fn referrers_are_listed_filtered_and_forgotten() {
    let server = Server::start();
    let image = server.image_manifest("a", "x");
    let subject = descriptor(OCI_MANIFEST, image.to_string().as_bytes());
    let digest = subject["digest"].as_str().expect("a digest").to_owned();
    let path = format!("/v2/a/referrers/{digest}");
    let empty = server.get(&path).expect(200);
    assert_eq!(empty.header("content-type"), Some(OCI_INDEX));
    assert_eq!(empty.json(), json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}));
    // The first comes before its subject, which is fine.
    let signature = artifact(&server, &subject, "test/signature").to_string();
    let pushed = server
        .send(
            "PUT",
            &format!("/v2/a/manifests/{}", sha256(signature.as_bytes())),
            &[("Content-Type", OCI_MANIFEST)],
            signature.as_bytes(),
        )
        .expect(201);
    assert_eq!(pushed.header("oci-subject"), Some(digest.as_str()));
    server.manifest("a", "v1", OCI_MANIFEST, &image);
    let sbom = server.manifest("a", "sbom", OCI_MANIFEST, &artifact(&server, &subject, "test/sbom"));
    // Without a type of its own an image has its configuration's.
    let mut plain = artifact(&server, &subject, "test/plain");
    plain.as_object_mut().expect("a map").remove("artifactType");
    server.manifest("a", "plain", OCI_MANIFEST, &plain);
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "artifactType": "test/index", "subject": subject});
    server.manifest("a", "index", OCI_INDEX, &index);

    let all = server.get(&path).expect(200);
    assert!(all.header("oci-filters-applied").is_none());
    let mut types: Vec<String> = all.json()["manifests"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| entry["artifactType"].as_str().unwrap_or_default().to_owned())
        .collect();
    types.sort_unstable();
    assert_eq!(types, ["application/vnd.oci.empty.v1+json", "test/index", "test/sbom", "test/signature"]);
    let filtered = server.get(&format!("{path}?artifactType=test/sbom")).expect(200);
    assert_eq!(filtered.header("oci-filters-applied"), Some("artifactType"));
    let entry = &filtered.json()["manifests"][0];
    assert_eq!(
        (entry["digest"].as_str(), &entry["annotations"]),
        (Some(sbom.as_str()), &json!({"about": "test/sbom"}))
    );
    assert_eq!(filtered.json()["manifests"].as_array().map(Vec::len), Some(1));
    let (entries, sizes) = pages(&server, &format!("{path}?n=3"), "manifests");
    assert_eq!((entries.len(), sizes), (4, vec![3, 1]));

    server.send("DELETE", &format!("/v2/a/manifests/{sbom}"), &[], b"").expect(202);
    assert_eq!(server.get(&format!("{path}?artifactType=test/sbom")).json()["manifests"], json!([]));
    assert_eq!(server.get(&path).json()["manifests"].as_array().map(Vec::len), Some(3));
    // The subject's end is not the referrers'.
    server.send("DELETE", &format!("/v2/a/manifests/{digest}"), &[], b"").expect(202);
    assert_eq!(server.get(&path).json()["manifests"].as_array().map(Vec::len), Some(3));
}

#[test]
fn referrers_that_a_client_listed_itself_are_listed_too() {
    let server = Server::start();
    let image = server.image_manifest("a", "x");
    let digest = server.manifest("a", "v1", OCI_MANIFEST, &image);
    let other = server.image("a", "other", "y");
    let size = server.get("/v2/a/manifests/other").body.len();
    let entry = json!({"mediaType": OCI_MANIFEST, "digest": other, "size": size, "artifactType": "old/kind"});
    let list = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]});
    server.manifest("a", &digest.replace(':', "-"), OCI_INDEX, &list);
    let listed = server.get(&format!("/v2/a/referrers/{digest}")).expect(200).json();
    assert_eq!(listed["manifests"], json!([entry]));
}
