//! Pulls.

use std::fs;
use std::time::Duration;

use serde_json::json;
use skep_engine::model::image::{LayerState, PullImage, PullProgress, RemoveImage};
use skep_registry::{ImageManifest, Manifest, digest_of, media_type};
use skep_types::{Digest, ErrorKind, Reference};
use tokio::sync::mpsc;

use crate::make::{File, Made, layer, skopeo};
use crate::registry::Registry;
use crate::world::{World, states, text};

/// The manifest that a registry has, with its digest.
fn manifest_of(name: &str) -> (Digest, Vec<u8>) {
    let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]).into_bytes();
    (digest_of(&raw), raw)
}

fn image_manifest(name: &str) -> ImageManifest {
    match Manifest::parse(&manifest_of(name).1, "").expect("a manifest") {
        Manifest::Image(manifest) => manifest,
        Manifest::Index(_) | Manifest::Artifact(_) => panic!("not an image"),
    }
}

fn layers_of(name: &str) -> Vec<Digest> {
    image_manifest(name).layers.iter().map(|layer| layer.digest).collect()
}

/// The image's id. skopeo writes configurations anew when it changes the format.
fn id_of(name: &str) -> Digest {
    image_manifest(name).config.digest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gzip_zstd_and_plain_layers() {
    let registry = Registry::start();
    for (n, options) in [
        &["--format", "v2s2"][..],
        &["--format", "oci"],
        &["--format", "oci", "--dest-compress-format", "zstd"],
        &["--format", "oci", "--dest-decompress"],
    ]
    .into_iter()
    .enumerate()
    {
        let made = Made::busybox(&format!("salt {n}"));
        let name = registry.name(&format!("team/box{n}:1"));
        made.push(registry.dir.path(), &name, options);
        let world = World::new();
        let (id, messages) = world.pull(&name).await;
        let id = id.unwrap_or_else(|e| panic!("{options:?}: {e}"));
        let (digest, _) = manifest_of(&name);
        assert_eq!(messages[0], PullProgress::Started { tag: "1".into(), repository: format!("team/box{n}") });
        let last = &messages[messages.len() - 2..];
        assert_eq!(last, [PullProgress::Digest(digest), PullProgress::Downloaded(name.clone())]);
        for layer in layers_of(&name) {
            assert_eq!(
                states(&messages, &layer.short()),
                ["pulling", "downloading", "verifying", "downloaded", "extracting", "complete"]
            );
        }
        assert_eq!(world.file(&id, "etc/salt"), Some(format!("salt {n}").into_bytes()));
        assert_eq!(world.file(&id, "bin/busybox"), fs::read("/bin/busybox").ok());

        let details = world.images.inspect(&name, None).expect("details");
        assert_eq!(details.repo_tags, std::slice::from_ref(&name));
        assert_eq!(details.repo_digests, [format!("{}@{digest}", registry.name(&format!("team/box{n}")))]);
        assert_eq!(details.diff_ids.len(), 2);
        assert!(details.graph_driver_data.contains_key("LowerDir"));
        assert!(details.last_tag_time.is_none(), "nobody tagged it here");
        assert_eq!(world.images.resolve(&details.repo_digests[0]).expect("by digest").id, id);
        let history = world.images.history(&id.short(), None).expect("history");
        assert_eq!(history.len(), 3);
        assert_eq!((history[0].size, history[0].id), (0, Some(id)));
        assert_eq!(history.iter().map(|entry| entry.size).sum::<u64>(), details.size);

        let (again, messages) = world.pull(&name).await;
        assert_eq!(again.expect("again"), id);
        assert_eq!(messages.last(), Some(&PullProgress::UpToDate(name.clone())));
        assert!(states(&messages, &layers_of(&name)[0].short()).is_empty(), "an image that is here has nothing to say");
        assert_eq!(world.events(), vec![format!("pull {name} {}", registry.name(&format!("team/box{n}"))); 2]);

        let world = world.reopen();
        assert_eq!(world.images.resolve(&name).expect("still there").id, id);
        assert_eq!(world.file(&id, "etc/salt"), Some(format!("salt {n}").into_bytes()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_gives_the_image_of_the_platform() {
    let registry = Registry::start();
    let mut entries = Vec::new();
    let mut ids = Vec::new();
    for architecture in ["arm64", "amd64"] {
        let files = layer(&[File::Plain("arch", architecture.as_bytes())]);
        let made = Made::new(architecture, vec![files]);
        let name = registry.name(&format!("multi:{architecture}"));
        made.push(registry.dir.path(), &name, &["--format", "oci"]);
        let (digest, raw) = manifest_of(&name);
        entries.push(json!({"mediaType": media_type::OCI_MANIFEST, "digest": digest, "size": raw.len(),
            "platform": {"os": "linux", "architecture": architecture}}));
        ids.push(id_of(&name));
    }
    let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries}).to_string();
    registry.put_manifest("multi", "all", media_type::OCI_INDEX, &index);
    let name = registry.name("multi:all");

    let world = World::new();
    let host = world.pull(&name).await.0.expect("for the host");
    assert_eq!(host, ids[1]);
    let details = world.images.inspect(&name, None).expect("details");
    assert_eq!(details.repo_digests, [format!("{}@{}", registry.name("multi"), digest_of(index.as_bytes()))]);
    assert_eq!(world.images.resolve_for_run(&name, None).expect("runs").platform_warning, None);
    let arm = "linux/arm64".parse().expect("a platform");
    let error = world.images.resolve_for_run(&name, Some(&arm)).expect_err("another platform");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(
        error.to_string(),
        format!("image with reference {name} was found but does not provide the specified platform (linux/arm64)")
    );

    let (wished, messages) = world.pull_for(&name, Some("linux/arm64")).await;
    assert_eq!(wished.expect("for arm"), ids[0]);
    assert_eq!(messages.last(), Some(&PullProgress::Downloaded(name.clone())));
    // Both are there under one name, also after a restart.
    let world = world.reopen();
    assert_eq!(world.images.resolve_for_run(&name, None).expect("runs").id, host);
    assert_eq!(world.images.resolve_for_run(&name, Some(&arm)).expect("runs, perhaps").id, ids[0]);
    assert_eq!(world.images.inspect(&name, Some(&arm)).expect("details").platform, arm);
    assert_eq!(world.tags(), [name.as_str()], "one line");
    let other = World::new();
    other.pull_for(&name, Some("linux/arm64")).await.0.expect("for arm");
    let warning = other.images.resolve_for_run(&name, None).expect("runs, perhaps").platform_warning;
    assert!(warning.is_some_and(|text| {
        text.starts_with("The requested image's platform (linux/arm64) does not match the detected host platform")
    }));
    other.images.remove(&name, RemoveImage::default(), &|_| Vec::new()).await.expect("remove");
    other.assert_empty().await;

    let (none, _) = world.pull_for(&name, Some("linux/s390x")).await;
    assert_eq!(text(none), "no matching manifest for linux/s390x in the manifest list entries");
    let single = registry.name("multi:amd64");
    let (other, messages) = world.pull_for(&single, Some("linux/arm64")).await;
    assert_eq!(other.expect("it is the only one"), ids[1]);
    assert!(
        messages.iter().any(|m| matches!(m, PullProgress::Notice(text) if text.starts_with("WARNING: image with")))
    );
    for name in [&name, &single] {
        world.images.remove(name, RemoveImage::default(), &|_| Vec::new()).await.expect("remove");
    }
    world.assert_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_blobs_are_refused_and_leave_nothing() {
    let registry = Registry::start();
    let made = Made::busybox("damaged");
    let name = registry.name("damaged:1");
    made.push(registry.dir.path(), &name, &["--format", "oci"]);
    let layers = layers_of(&name);
    let world = World::new();
    for layer in &layers {
        let path = registry.blob(layer);
        let good = fs::read(&path).expect("the blob");
        for position in [good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[position] ^= 0x55;
            fs::write(&path, &bad).expect("write");
            let error = text(world.pull(&name).await.0);
            // Which of the two notices first is a matter of time.
            let known = [
                format!("filesystem layer verification failed for digest {layer}"),
                "reading the layer".to_owned(),
                "failed to register layer".to_owned(),
                "diff id".to_owned(),
            ];
            assert!(known.iter().any(|text| error.contains(text)), "{error}");
            world.assert_empty().await;
        }
        fs::write(&path, &good[..good.len() - 1]).expect("write");
        let error = text(world.pull(&name).await.0);
        assert!(error.contains(&format!("has {} bytes, its manifest says {}", good.len() - 1, good.len())), "{error}");
        world.assert_empty().await;
        fs::write(&path, &good).expect("write");
    }
    fs::remove_file(registry.blob(&layers[1])).expect("remove");
    let error = text(world.pull(&name).await.0);
    assert!(error.contains("blob unknown") || error.contains("500 Internal Server Error"), "{error}");
    world.assert_empty().await;
    assert_eq!(world.events(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_that_is_not_what_the_configuration_says() {
    let registry = Registry::start();
    let (one, two) = (Made::busybox("one"), Made::busybox("two"));
    for (made, tag) in [(&one, "one"), (&two, "two")] {
        made.push(registry.dir.path(), &registry.name(&format!("mixed:{tag}")), &["--format", "oci"]);
    }
    // The second layer of one, under the configuration of the other: each blob has its right digest.
    let parse = |tag: &str| -> serde_json::Value {
        serde_json::from_slice(&manifest_of(&registry.name(&format!("mixed:{tag}"))).1).expect("JSON")
    };
    let mut manifest = parse("one");
    manifest["layers"] = parse("two")["layers"].clone();
    registry.put_manifest("mixed", "bad", media_type::OCI_MANIFEST, &manifest.to_string());
    let world = World::new();
    let error = text(world.pull(&registry.name("mixed:bad")).await.0);
    assert!(error.contains("diff id"), "{error}");
    world.assert_empty().await;

    manifest["layers"].as_array_mut().expect("layers").pop();
    registry.put_manifest("mixed", "short", media_type::OCI_MANIFEST, &manifest.to_string());
    let error = text(world.pull(&registry.name("mixed:short")).await.0);
    assert_eq!(error, "the manifest has 1 layers, the image's configuration 2");
    world.assert_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_has_dockers_words() {
    let registry = Registry::start();
    Made::busybox("words").push(registry.dir.path(), &registry.name("words:1"), &[]);
    let world = World::new();
    let name = registry.name("words:nope");
    let error = world.pull(&name).await.0.expect_err("no such tag");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.to_string(), format!("manifest for {name} not found: manifest unknown: manifest unknown"));
    let name = registry.name("no/such/repository:latest");
    let error = text(world.pull(&name).await.0);
    assert!(error.starts_with(&format!("manifest for {name} not found")), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_pulls_download_a_layer_once() {
    let registry = Registry::start();
    let mut layers = Made::busybox("shared").layers;
    layers.push(layer(&[File::Plain("noise", &noise(8 << 20))]));
    let first = Made::new("amd64", layers.clone());
    layers.push(layer(&[File::Plain("more", b"more")]));
    let second = Made::new("amd64", layers);
    let names = [registry.name("first:1"), registry.name("second:1")];
    first.push(registry.dir.path(), &names[0], &["--format", "oci"]);
    second.push(registry.dir.path(), &names[1], &["--format", "oci"]);
    let world = World::new();
    let ((a, _), (b, _), (c, _)) = tokio::join!(world.pull(&names[0]), world.pull(&names[1]), world.pull(&names[0]));
    assert_eq!(a.expect("first"), id_of(&names[0]));
    assert_eq!(b.expect("second"), id_of(&names[1]));
    assert_eq!(c.expect("first again"), id_of(&names[0]));
    let log = registry.log();
    for layer in layers_of(&names[0]) {
        let asked = log.lines().filter(|l| l.contains("\"GET ") && l.contains(&format!("/blobs/{layer}"))).count();
        assert_eq!(asked, 1, "{layer} was asked for more than once\n{log}");
    }
    world.assert_no_more_than(4, 4).await;
}

/// Bytes that don't compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(length)
    .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_that_is_dropped_leaves_nothing_or_the_image() {
    let registry = Registry::start();
    let layers = vec![layer(&[File::Plain("small", b"x")]), layer(&[File::Plain("noise", &noise(32 << 20))])];
    let made = Made::new("amd64", layers);
    let name = registry.name("big:1");
    made.push(registry.dir.path(), &name, &["--format", "oci"]);
    let world = World::new();
    let reference: Reference = name.parse().expect("a reference");
    for patience in [0u64, 1, 5, 30, 100, 200] {
        let (sender, mut receiver) = mpsc::channel(1024);
        let images = world.images.clone();
        let reference = reference.clone();
        let pull = tokio::spawn(async move { images.pull(&reference, &PullImage::default(), None, sender).await });
        while let Some(message) = receiver.recv().await {
            if matches!(message, PullProgress::Layer { state: LayerState::Downloading { .. }, .. }) {
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(patience)).await;
        pull.abort();
        let _ = pull.await;
        // When it was already about to store the image, the image is there.
        if world.settles_as(&[(0, 0, 0), (1, 2, 2)]).await.0 == 1 {
            break;
        }
    }
    assert_eq!(world.pull(&name).await.0.expect("the whole"), id_of(&name));
    world.assert_no_more_than(2, 2).await;
}

/// The image needs its layers from the moment on in which it is stored, and the pull until then, whether anybody waits for it or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_that_is_dropped_while_its_image_is_stored_does_not_take_the_layers_along() {
    let registry = Registry::start();
    let layers = vec![layer(&[File::Plain("one", b"1")]), layer(&[File::Plain("two", b"2")])];
    let made = Made::new("amd64", layers);
    let name = registry.name("small:1");
    made.push(registry.dir.path(), &name, &["--format", "oci"]);
    let world = World::new();
    let reference: Reference = name.parse().expect("a reference");
    for turns in 0..40 {
        let (sender, mut receiver) = mpsc::channel(1024);
        let images = world.images.clone();
        let reference = reference.clone();
        let pull = tokio::spawn(async move { images.pull(&reference, &PullImage::default(), None, sender).await });
        while let Some(message) = receiver.recv().await {
            if matches!(message, PullProgress::Digest(_)) {
                break;
            }
        }
        for _ in 0..turns * 50 {
            tokio::task::yield_now().await;
        }
        pull.abort();
        let _ = pull.await;
        if world.settles_as(&[(0, 0, 0), (1, 2, 2)]).await.0 == 1 {
            let force = RemoveImage { force: true, ..RemoveImage::default() };
            world.images.remove(&id_of(&name).to_string(), force, &|_| Vec::new()).await.expect("the image goes");
            world.assert_empty().await;
        }
    }
}
