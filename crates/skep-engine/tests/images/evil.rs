//! Archives that want something else than to be loaded.

use serde_json::json;
use skep_registry::{digest_of, media_type};

use crate::make::{Made, archive};
use crate::world::{World, text};

async fn refused(archive: &[u8]) -> String {
    let world = World::new();
    let error = text(world.load(archive).await.0);
    world.assert_empty().await;
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_archive() {
    for (bytes, expected) in [
        (&b""[..], "invalid archive: does not contain a manifest.json or an index.json"),
        (b"no archive at all", "invalid archive"),
        (b"BZh91AY&SY", ""),
        (b"\xfd7zXZ\0\0\x04garbage", ""),
        (b"\x1f\x8b\x08\x00garbage", ""),
    ] {
        let error = refused(bytes).await;
        assert!(error.contains(expected), "{error}");
    }
    let unrelated = archive(&[("hello", b"world")]);
    assert!(refused(&unrelated).await.contains("does not contain a manifest.json"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_point_outside() {
    let made = Made::busybox("outside");
    let manifest =
        |config: &str, layer: &str| json!([{"Config": config, "RepoTags": [], "Layers": [layer]}]).to_string();
    for name in ["../escape", "/tmp/escape", "a/../../escape"] {
        let error = refused(&archive(&[("manifest.json", b"[]"), (name, b"x")])).await;
        assert!(error.contains("is outside the archive"), "{error}");
    }
    for (config, layer) in [("../../../../etc/passwd", "0"), ("/etc/passwd", "0"), ("config.json", "/etc/passwd")] {
        let text = manifest(config, layer);
        let files: [(&str, &[u8]); 3] =
            [("manifest.json", text.as_bytes()), ("config.json", &made.config), ("0", &made.layers[0])];
        let error = refused(&archive(&files)).await;
        assert!(error.contains("is missing"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn layers_that_are_links_to_the_host() {
    let made = Made::busybox("links");
    let manifest = json!([{"Config": "config.json", "RepoTags": [], "Layers": ["l0", "l1"]}]).to_string();
    for target in ["/etc/passwd", "../../etc/passwd", "l0"] {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in [("manifest.json", manifest.as_bytes()), ("config.json", made.config.as_slice())] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, name, content).expect("append");
        }
        for name in ["l0", "l1"] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, name, target).expect("append");
        }
        let error = refused(&builder.into_inner().expect("an archive")).await;
        assert!(error.contains("is missing"), "{target}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn manifests_that_lie() {
    let made = Made::busybox("lies");
    let whole = made.archive(&["x:1"]);
    assert!(!refused(&whole[..whole.len() / 2]).await.is_empty());
    for tag in ["UPPER:1", "a b", "x@sha256:7777777777777777777777777777777777777777777777777777777777777777"] {
        assert!(refused(&made.archive(&[tag])).await.starts_with("invalid tag"));
    }
    let few = Made { config: made.config.clone(), layers: made.layers[..1].to_vec() };
    assert!(refused(&few.archive(&[])).await.contains("layers do not match"));
    let swapped = Made { config: made.config.clone(), layers: made.layers.iter().rev().cloned().collect() };
    assert!(refused(&swapped.archive(&[])).await.contains("diff id"));
}

/// An OCI layout whose blobs are under these names.
fn layout(index: &serde_json::Value, blobs: &[(String, &[u8])]) -> Vec<u8> {
    let index = index.to_string();
    let mut files: Vec<(&str, &[u8])> =
        vec![("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#), ("index.json", index.as_bytes())];
    files.extend(blobs.iter().map(|(name, bytes)| (name.as_str(), *bytes)));
    archive(&files)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn layouts_that_lie() {
    let made = Made::busybox("layout");
    let path = |bytes: &[u8]| format!("blobs/sha256/{}", digest_of(bytes).hex());
    let describe = |media_type: &str, bytes: &[u8]| json!({"mediaType": media_type, "digest": digest_of(bytes), "size": bytes.len()});
    let layers: Vec<_> = made.layers.iter().map(|layer| describe(media_type::OCI_LAYER, layer)).collect();
    let config = describe(media_type::OCI_CONFIG, &made.config);
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers}).to_string();
    let index = |entry: serde_json::Value| json!({"schemaVersion": 2, "manifests": [entry]});
    let good = index(describe(media_type::OCI_MANIFEST, manifest.as_bytes()));
    let blobs = |manifest: &[u8], config: &[u8]| {
        let mut all = vec![(path(manifest), manifest.to_vec()), (path(&made.config), config.to_vec())];
        all.extend(made.layers.iter().map(|layer| (path(layer), layer.clone())));
        all
    };
    let build = |index: &serde_json::Value, blobs: Vec<(String, Vec<u8>)>| {
        layout(index, &blobs.iter().map(|(name, bytes)| (name.clone(), bytes.as_slice())).collect::<Vec<_>>())
    };
    let world = World::new();
    let loaded = world.load(&build(&good, blobs(manifest.as_bytes(), &made.config))).await.0.expect("a good layout");
    assert_eq!(loaded[0].id, made.id());

    let mut other = made.config.clone();
    let end = other.len() - 1;
    other[end] = b' ';
    let error = refused(&build(&good, blobs(manifest.as_bytes(), &other))).await;
    assert!(error.contains("its content has another digest"), "{error}");

    let ambiguous = manifest.replacen("\"config\"", "\"manifests\":[],\"config\"", 1);
    let entry = index(describe(media_type::OCI_MANIFEST, ambiguous.as_bytes()));
    let error = refused(&build(&entry, blobs(ambiguous.as_bytes(), &made.config))).await;
    assert!(error.contains("ambiguous manifest"), "{error}");

    let evil =
        index(json!({"mediaType": media_type::OCI_MANIFEST, "digest": "sha256:../../../../etc/passwd", "size": 9}));
    let error = refused(&build(&evil, Vec::new())).await;
    assert!(error.contains("invalid checksum digest"), "{error}");

    let missing = refused(&build(&good, vec![(path(manifest.as_bytes()), manifest.into_bytes())])).await;
    assert!(missing.contains("is missing"), "{missing}");
}

/// One archive after the other into the same data root: what is refused leaves nothing, what is let in can be removed, and the files of
/// the host beside it are as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_corpus() {
    let world = World::new();
    let host = tempfile::tempdir().expect("a directory");
    let canary = skep_evil::canary::Canary::new(&host.path().join("host"));
    for skep_evil::archives::Archive { name, bytes, fate } in skep_evil::archives::all(canary.dir()) {
        let result = world.load(&bytes).await.0;
        fate.check(&name, &result);
        canary.check(&name);
        for image in result.unwrap_or_default() {
            world.images.inspect(&image.id.to_string(), None).unwrap_or_else(|e| panic!("{name}: {e}"));
            let force = skep_engine::model::image::RemoveImage { force: true, ..Default::default() };
            world.images.remove(&image.id.to_string(), force, &|_| Vec::new()).await.expect(&name);
        }
        world.assert_empty().await;
    }
}
