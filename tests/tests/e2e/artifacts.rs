//! What is no image, and what is said about images: both go where they are sent, byte for byte.

use serde_json::{Value, json};
use skep_testkit::{Engine, EngineKind, Image, Registry, Reply, Signer, Sshd};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CHART: &str = "application/vnd.cncf.helm.config.v1+json";
const SBOM: &str = "application/spdx+json";

/// An engine that isn't Docker's: with its classic store, that one refuses artifacts.
fn engine() -> Option<Engine> {
    let engine = Engine::start();
    (engine.kind() == EngineKind::Skep).then_some(engine)
}

fn descriptor(registry: &Registry, repository: &str, media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": registry.upload(repository, bytes), "size": bytes.len()})
}

/// Stores a manifest under a tag or its digest; returns its digest and bytes.
fn put(registry: &Registry, repository: &str, tag: Option<&str>, manifest: &Value) -> (String, String) {
    let text = manifest.to_string();
    let media_type = manifest["mediaType"].as_str().unwrap();
    let digest = skep_testkit::sha256(text.as_bytes());
    registry.put_manifest(repository, tag.unwrap_or(&digest), media_type, text.as_bytes());
    (digest, text)
}

/// A chart of some size, in many letters.
fn chart(registry: &Registry, name: &str) -> (String, String) {
    let (repository, tag) = name.split_once(':').unwrap();
    let content: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(registry, repository, CHART, br#"{"name":"web"}"#),
        "layers": [descriptor(registry, repository, "application/vnd.cncf.helm.chart.content.v1.tar+gzip", &content)],
        "annotations": {"org.opencontainers.image.created": "2024-05-01T10:00:00Z"},
    });
    put(registry, repository, Some(tag), &manifest)
}

/// A list of contents, or something else that is about `subject`; returns its digest.
fn refer(registry: &Registry, repository: &str, subject: &str, size: usize, content: &str) -> String {
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": SBOM,
        "config": descriptor(registry, repository, "application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [descriptor(registry, repository, SBOM, content.as_bytes())],
        "subject": {"mediaType": MANIFEST, "digest": subject, "size": size},
    });
    put(registry, repository, None, &manifest).0
}

fn manifest(registry: &Registry, repository: &str, name: &str) -> Reply {
    let path = format!("/v2/{repository}/manifests/{name}");
    registry.api().send("GET", &path, &[("Accept", MANIFEST), ("Accept", INDEX)], b"").unwrap()
}

fn size_of(registry: &Registry, repository: &str, digest: &str) -> usize {
    manifest(registry, repository, digest).body.len()
}

/// Digests of what refers to `digest`, in order.
fn referrers(registry: &Registry, repository: &str, digest: &str) -> Vec<String> {
    let mut reply = registry.api().request("GET", &format!("/v2/{repository}/referrers/{digest}"), None).unwrap();
    if reply.status == 404 {
        reply = manifest(registry, repository, &digest.replacen(':', "-", 1));
    }
    let list: Value = serde_json::from_slice(&reply.body).unwrap();
    let digests = list["manifests"].as_array().unwrap().iter();
    let mut digests: Vec<String> = digests.map(|entry| entry["digest"].as_str().unwrap().to_owned()).collect();
    digests.sort();
    digests
}

#[test]
fn an_artifact_goes_where_it_is_sent() {
    let Some(engine) = engine() else { return };
    let (from, to) = (Registry::start_own(), Registry::start_own());
    let (digest, text) = chart(&from, "charts/web:1");
    let name = from.name("charts/web:1");
    let pulled = engine.run(["pull", &name]).success();
    assert!(pulled.stdout.contains(&format!("Digest: {digest}\n")), "{pulled}");
    assert!(pulled.stdout.contains(": Pull complete") && pulled.stdout.contains("Downloaded newer image"), "{pulled}");
    engine.run(["pull", &name]).success().stdout_has("Image is up to date");
    engine
        .run(["images", "--no-trunc", "--format", "{{.ID}} {{.Size}}"])
        .success()
        .stdout_is(&format!("{digest} 3MB\n"));
    let inspected = engine.run(["image", "inspect", "-f", "{{.Id}} {{.Os}}{{.Descriptor.mediaType}}", &name]).success();
    inspected.stdout_is(&format!("{digest} {MANIFEST}\n"));
    let refused = engine.run(["run", "--rm", &name]);
    assert_eq!(refused.code, 125, "{refused}");
    refused.stderr_has(&format!("{name} is an artifact ({CHART}), not a container image"));

    let there = to.name("copies/web:2");
    engine.run(["tag", &name, &there]).success();
    engine.run(["push", &there]).success().stdout_has(&format!("2: digest: {digest} size: {}", text.len()));
    assert_eq!(manifest(&to, "copies/web", "2").text(), text);

    let archive = engine.scratch().join("chart.tar");
    engine.run(["save", "-o", archive.to_str().unwrap(), &there]).success();
    engine.run(["rmi", "-f", &digest]).success();
    engine.run(["images", "-aq"]).success().stdout_is("");
    engine.run(["load", "-i", archive.to_str().unwrap()]).success().stdout_is(&format!("Loaded image: {there}\n"));
    let again = to.name("copies/web:3");
    engine.run(["tag", &there, &again]).success();
    engine.run(["push", "-q", &again]).success();
    assert_eq!(manifest(&to, "copies/web", "3").text(), text);
    engine.run(["image", "prune", "-af"]).success().stdout_has("Total reclaimed space: 3MB");
}

/// An image with a signature, a list of contents, and a comment on that list. Returns the digests of the image and of the list.
fn signed(registry: &Registry) -> (String, String) {
    let image = registry.push("app:1", Image::busybox());
    Signer::default().sign(registry, "app", &image, &registry.name("app:1"), &image);
    let list = refer(registry, "app", &image, size_of(registry, "app", &image), r#"{"spdxVersion":"SPDX-2.3"}"#);
    refer(registry, "app", &list, size_of(registry, "app", &list), "a comment");
    (image, list)
}

/// Asserts that everything about the image is in a registry.
fn is_signed(registry: &Registry, repository: &str, image: &str, list: &str) {
    assert_eq!(referrers(registry, repository, image), [list]);
    assert_eq!(referrers(registry, repository, list).len(), 1, "what refers to a referrer");
    let tag = format!("{}.sig", image.replacen(':', "-", 1));
    assert_eq!(manifest(registry, repository, &tag).status, 200, "cosign's tag");
}

#[test]
fn what_refers_to_an_image_travels_with_it() {
    let Some(engine) = engine() else { return };
    let (from, own) = (Registry::start_own(), Registry::start_own());
    let (image, list) = signed(&from);
    engine.run(["pull", "-q", &from.name("app:1")]).success();
    let named = own.name("team/app:1");
    engine.run(["tag", &from.name("app:1"), &named]).success();
    engine.run(["push", "-q", &named]).success();
    assert_eq!(referrers(&own, "team/app", &image), [""; 0], "nobody asked for it");

    engine.run(["pull", "-q", "--referrers", &from.name("app:1")]).success();
    engine.run(["push", "-q", &named]).success();
    is_signed(&own, "team/app", &image, &list);
    engine.run(["rmi", "-f", &named, &from.name("app:1")]).success();

    // From there on by an archive, into another engine.
    engine.run(["pull", "-q", "--referrers", &named]).success();
    let archive = engine.scratch().join("app.tar");
    engine.run(["save", "-o", archive.to_str().unwrap(), &named]).success();
    let other = Engine::start();
    other.run(["load", "-q", "-i", archive.to_str().unwrap()]).success();
    let third = Registry::start_own();
    let loaded = third.name("loaded:1");
    other.run(["tag", &named, &loaded]).success();
    other.run(["push", "-q", &loaded]).success();
    is_signed(&third, "loaded", &image, &list);
    // By the digest of its manifest.
    other.run(["rmi", "-f", &image]).success();
    other.run(["images", "-aq"]).success().stdout_is("");
}

#[test]
fn a_registry_without_referrers_gets_a_list() {
    let Some(engine) = engine() else { return };
    let (from, to) = (Registry::start_own(), Registry::start_foreign());
    let (image, list) = signed(&from);
    engine.run(["pull", "-q", "--referrers", &from.name("app:1")]).success();
    let named = to.name("app:1");
    engine.run(["tag", &from.name("app:1"), &named]).success();
    for _ in 0..2 {
        engine.run(["push", "-q", &named]).success();
        is_signed(&to, "app", &image, &list);
    }
    engine.run(["rmi", "-f", &named, &from.name("app:1")]).success();
    engine.run(["pull", "-q", "--referrers", &named]).success();
    let back = from.name("back:1");
    engine.run(["tag", &named, &back]).success();
    engine.run(["push", "-q", &back]).success();
    is_signed(&from, "back", &image, &list);
}

#[test]
fn what_refers_to_an_image_is_copied_with_it() {
    let Some(engine) = engine() else { return };
    let (from, to) = (Registry::start_own(), Registry::start_own());
    let (image, list) = signed(&from);
    chart(&from, "chart:1");
    let (other, ssh) = (Engine::start(), Sshd::start());
    engine.run(["pull", "-q", "--referrers", &from.name("app:1")]).success();
    let copy = |name: &str| {
        engine.command(["image", "copy", name, &ssh.address(&other.socket())]).env("PATH", ssh.path()).run()
    };
    copy(&from.name("app:1")).success();
    let named = to.name("app:1");
    other.run(["tag", &from.name("app:1"), &named]).success();
    other.run(["push", "-q", &named]).success();
    is_signed(&to, "app", &image, &list);
    engine.run(["pull", "-q", &from.name("chart:1")]).success();
    copy(&from.name("chart:1")).stderr_has("is too large to be copied: save it and load it there");
}

#[test]
fn what_an_index_says_of_its_images_stays_in_it() {
    let Some(engine) = engine() else { return };
    let (from, to) = (Registry::start_own(), Registry::start_own());
    let image = from.push("app:plain", Image::busybox());
    let statement = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(&from, "app", "application/vnd.oci.image.config.v1+json",
            br#"{"architecture":"unknown","os":"unknown","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#),
        "layers": [descriptor(&from, "app", "application/vnd.in-toto+json", br#"{"_type":"statement"}"#)],
    });
    let (attestation, text) = put(&from, "app", None, &statement);
    let index = json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [
            {"mediaType": MANIFEST, "digest": image, "size": size_of(&from, "app", &image),
             "platform": {"os": "linux", "architecture": super::push::host()}},
            {"mediaType": MANIFEST, "digest": attestation, "size": text.len(),
             "platform": {"os": "unknown", "architecture": "unknown"},
             "annotations": {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image}},
        ],
    });
    let (digest, bytes) = put(&from, "app", Some("1"), &index);
    let (name, there) = (from.name("app:1"), to.name("copy:1"));
    engine.run(["pull", "-q", &name]).success();
    engine.run(["tag", &name, &there]).success();
    engine.run(["push", &there]).success().stdout_has(&format!("1: digest: {digest}"));
    assert_eq!(manifest(&to, "copy", "1").text(), bytes);
    assert_eq!(manifest(&to, "copy", &attestation).text(), text);
    engine.run(["run", "--rm", &there, "true"]).success();
}
