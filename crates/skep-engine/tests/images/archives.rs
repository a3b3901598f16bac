//! Archives: those of other tools, and our own.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::json;
use skep_engine::model::image::{ListImages, LoadProgress, Loaded, ManifestKind, RemoveImage};
use skep_registry::{digest_of, media_type};
use skep_types::{ErrorKind, Platform};

use crate::make::{File, Made, archive, busybox_layers, layer, run, skopeo};
use crate::world::{World, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archives_of_docker_and_skopeo_in_any_compression() {
    let dir = tempfile::tempdir().expect("a directory");
    let made = Made::busybox("archives");
    let plain = made.write(dir.path());
    let path = |name: &str| dir.path().join(name).display().to_string();
    let source = format!("docker-archive:{}", plain.display());
    skopeo(&["copy", &source, &format!("docker-archive:{}:made:1", path("docker.tar"))]);
    skopeo(&["copy", &source, &format!("oci-archive:{}:made:1", path("oci.tar"))]);
    for (from, to, program) in [("docker.tar", "docker.tar.gz", "gzip"), ("oci.tar", "oci.tar.zst", "zstd")] {
        let (from, to) = (path(from), path(to));
        run(Command::new("sh").arg("-c").arg(format!("{program} -c <{from} >{to}")));
    }
    let own = plain.file_name().expect("a name").to_string_lossy().into_owned();
    for name in [own.as_str(), "docker.tar", "docker.tar.gz", "oci.tar", "oci.tar.zst"] {
        let world = World::new();
        let (loaded, messages) = world.load(&std::fs::read(path(name)).expect("an archive")).await;
        // skopeo writes configurations anew when it changes the format.
        let source = format!("oci-archive:{}", path("oci.tar"));
        let id = match name.starts_with("oci") {
            true => digest_of(skopeo(&["inspect", "--config", "--raw", &source]).trim_end().as_bytes()),
            false => made.id(),
        };
        let want = Loaded { id, tag: Some("made:1".to_owned()) };
        assert_eq!(loaded.unwrap_or_else(|e| panic!("{name}: {e}")), std::slice::from_ref(&want), "{name}");
        assert_eq!(messages.last(), Some(&LoadProgress::Loaded(want)));
        assert!(matches!(messages[0], LoadProgress::Layer { .. }), "{name}: {:?}", messages[0]);
        assert_eq!(world.file(&id, "etc/salt"), Some(b"archives".to_vec()));
        assert_eq!(world.events(), [format!("load {id} {id}")]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_saved_can_be_read_by_others_and_loaded_again() {
    let (one, two) = (Made::busybox("one"), Made::busybox("two"));
    let world = World::new();
    for (made, tags) in [(&one, &["one:1", "one:2"][..]), (&two, &["reg:5000/team/two:x"])] {
        world.load(&made.archive(tags)).await.0.expect("load");
    }
    let saved = world.save(&["one", "reg:5000/team/two:x"]).await;
    assert_eq!(digest_of(&saved), digest_of(&world.save(&["one", "reg:5000/team/two:x"]).await), "reproducible");

    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("saved.tar");
    std::fs::write(&path, &saved).expect("write");
    for (source, id) in [
        (format!("docker-archive:{}:one:2", path.display()), one.id()),
        (format!("docker-archive:{}:reg:5000/team/two:x", path.display()), two.id()),
    ] {
        let raw = skopeo(&["inspect", "--config", "--raw", &source]);
        assert_eq!(digest_of(raw.trim_end().as_bytes()), id, "{source}");
    }
    run(Command::new("tar").arg("-xf").arg(&path).arg("-C").arg(dir.path()));
    let copy = dir.path().join("copy");
    skopeo(&["copy", &format!("oci:{}:1", dir.path().display()), &format!("dir:{}", copy.display())]);

    let other = World::new();
    let mut loaded: Vec<String> = Vec::new();
    for image in other.load(&saved).await.0.expect("load") {
        loaded.push(format!("{} {}", image.id.short(), image.tag.unwrap_or_default()));
    }
    let want = |made: &Made, tag: &str| format!("{} {tag}", made.id().short());
    assert_eq!(loaded, [want(&one, "one:1"), want(&one, "one:2"), want(&two, "reg:5000/team/two:x")]);
    assert_eq!(other.save(&["one", "reg:5000/team/two:x"]).await, saved, "the same bytes from another store");
    // The first layer is in both.
    other.assert_no_more_than(4, 3).await;

    let by_id = world.save(&[&one.id().short()]).await;
    let third = World::new();
    assert_eq!(third.load(&by_id).await.0.expect("load"), [Loaded { id: one.id(), tag: None }]);
    assert_eq!(third.tags(), [""; 0]);
    let names = vec!["nope".to_owned()];
    assert_eq!(text(world.images.save(&names, None).await), "No such image: nope");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_that_moves_is_told() {
    let (old, new) = (Made::busybox("old"), Made::busybox("new"));
    let world = World::new();
    world.load(&old.archive(&["app:1"])).await.0.expect("load");
    let (_, messages) = world.load(&new.archive(&["app:1"])).await;
    assert!(messages.contains(&LoadProgress::Renamed { tag: "app:1".to_owned(), old: old.id() }));
    assert_eq!(world.images.resolve("app:1").expect("the new one").id, new.id());
    assert_eq!(world.images.resolve(&old.id().hex()).expect("the old one").repo_tags, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_image_spoils_the_archive() {
    let good = Made::busybox("good");
    let manifest = serde_json::json!([
        {"Config": "config.json", "RepoTags": ["good:1"], "Layers": ["0", "1"]},
        {"Config": "config.json", "RepoTags": ["bad:1"], "Layers": ["1", "0"]},
    ])
    .to_string();
    let files: [(&str, &[u8]); 4] = [
        ("manifest.json", manifest.as_bytes()),
        ("config.json", &good.config),
        ("0", &good.layers[0]),
        ("1", &good.layers[1]),
    ];
    let world = World::new();
    // The layers of the first are there by then, so the second is taken for the same image: it is, by its configuration.
    world.load(&archive(&files)).await.0.expect("one image under two names");
    assert_eq!(world.tags(), ["bad:1", "good:1"]);

    let other = Made::busybox("other");
    let manifest = manifest.replacen("config.json", "other.json", 2).replacen("other.json", "config.json", 1);
    let files: [(&str, &[u8]); 5] = [
        ("manifest.json", manifest.as_bytes()),
        ("config.json", &good.config),
        ("other.json", &other.config),
        ("0", &good.layers[0]),
        ("1", &good.layers[1]),
    ];
    let world = World::new();
    let error = text(world.load(&archive(&files)).await.0);
    assert!(error.contains("diff id"), "{error}");
    world.assert_empty().await;
}

/// An OCI layout of one image for each platform, behind one index; `present` of them are in the archive.
fn several(platforms: &[(&str, &str)], present: usize, name: &str) -> (Vec<u8>, Vec<Made>) {
    let mut blobs: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut put = |media_type: &str, bytes: &[u8], keep: bool| {
        let digest = digest_of(bytes);
        if keep {
            blobs.insert(format!("blobs/sha256/{}", digest.hex()), bytes.to_vec());
        }
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    };
    let mut made = Vec::new();
    let mut entries = Vec::new();
    for (index, (architecture, variant)) in platforms.iter().enumerate() {
        let own = layer(&[File::Plain("arch", architecture.as_bytes())]);
        let image = Made::new(architecture, vec![busybox_layers("several")[0].clone(), own]);
        let keep = index < present;
        let layers: Vec<_> = image.layers.iter().map(|layer| put(media_type::OCI_LAYER, layer, keep)).collect();
        let config = put(media_type::OCI_CONFIG, &image.config, keep);
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers}).to_string();
        let mut entry = put(media_type::OCI_MANIFEST, manifest.as_bytes(), keep);
        entry["platform"] = json!({"os": "linux", "architecture": architecture, "variant": variant});
        entries.push(entry);
        made.push(image);
    }
    // What BuildKit puts beside the images is no image.
    let mut about = put(media_type::OCI_MANIFEST, br#"{"schemaVersion":2,"statement":true}"#, true);
    about["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    about["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    entries.push(about);
    let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries}).to_string();
    let mut top = put(media_type::OCI_INDEX, index.as_bytes(), true);
    top["annotations"] = json!({"io.containerd.image.name": name});
    let top = json!({"schemaVersion": 2, "manifests": [top]}).to_string();
    let mut files: Vec<(&str, &[u8])> =
        vec![("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#), ("index.json", top.as_bytes())];
    files.extend(blobs.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
    (archive(&files), made)
}

fn platform(text: &str) -> Platform {
    text.parse().expect("a platform")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn platforms_stay_together_through_archives() {
    let (bytes, made) =
        several(&[("s390x", ""), ("amd64", ""), ("arm64", "v8"), ("riscv64", "")], 3, "docker.io/library/m:1");
    let world = World::new();
    let loaded = world.load(&bytes).await.0.expect("load");
    assert_eq!(loaded, [Loaded { id: made[1].id(), tag: Some("m:1".to_owned()) }], "the host's platform has the name");
    let by =
        |world: &World, text: &str| world.images.resolve_for_run("m:1", Some(&platform(text))).map(|image| image.id);
    let listed = world.images.list(&ListImages { manifests: true, ..ListImages::default() }).expect("a list");
    assert_eq!(listed.len(), 1, "one line");
    let here: Vec<bool> = listed[0].manifests.iter().map(|manifest| manifest.image().is_some()).collect();
    assert_eq!(here, [true, true, true, false, false]);
    assert!(matches!(listed[0].manifests[4].kind, ManifestKind::Attestation { .. }));

    // Through our own archive, and through it again.
    let saved = world.save(&["m:1"]).await;
    let other = World::new();
    other.load(&saved).await.0.expect("load");
    for world in [&world, &other] {
        for (architecture, image) in [("s390x", &made[0]), ("amd64", &made[1]), ("arm64/v8", &made[2])] {
            let id = by(world, &format!("linux/{architecture}")).expect(architecture);
            assert_eq!(id, image.id());
            assert_eq!(world.file(&id, "arch"), Some(architecture.split('/').next().unwrap_or_default().into()));
        }
        assert!(by(world, "linux/riscv64").is_err());
    }
    assert_eq!(other.save(&["m:1"]).await, saved, "the same bytes from another store");

    // One of them alone.
    let names = vec!["m:1".to_owned()];
    let arm = world.save_for(&names, Some(&platform("linux/arm64"))).await;
    let third = World::new();
    assert_eq!(third.load(&arm).await.0.expect("load"), [Loaded { id: made[2].id(), tag: Some("m:1".to_owned()) }]);
    let error = text(world.images.save(&names, Some(&platform("linux/mips"))).await);
    assert_eq!(error, "image with reference m:1 was found but does not provide the specified platform (linux/mips)");
    let fourth = World::new();
    let (one, _) = fourth.load_for(&bytes, Some(&platform("linux/s390x"))).await;
    assert_eq!(one.expect("load"), [Loaded { id: made[0].id(), tag: Some("m:1".to_owned()) }]);
    let (none, _) = fourth.load_for(&bytes, Some(&platform("linux/riscv64"))).await;
    assert_eq!(none.map_err(|e| e.kind()), Err(ErrorKind::NotFound));
    for world in [world, other, third, fourth] {
        world.images.remove("m:1", RemoveImage::default(), &|_| Vec::new()).await.expect("remove");
        world.assert_empty().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_without_any_of_its_images_is_refused() {
    let (bytes, _) = several(&[("amd64", "")], 0, "docker.io/library/m:1");
    let world = World::new();
    let error = text(world.load(&bytes).await.0);
    assert!(error.ends_with("it leads to no image in the archive"), "{error}");
    world.assert_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_come_from_both_forms_of_an_archive() {
    let (bytes, made) = several(&[("amd64", ""), ("arm64", "v8")], 2, "docker.io/library/m:1");
    let path = |bytes: &[u8]| format!("blobs/sha256/{}", digest_of(bytes).hex());
    let layers: Vec<String> = made[0].layers.iter().map(|layer| path(layer)).collect();
    let legacy =
        json!([{"Config": path(&made[0].config), "RepoTags": ["m:1", "more:2"], "Layers": layers}]).to_string();
    let more = archive(&[("manifest.json", legacy.as_bytes())]);
    // An archive ends with two empty blocks.
    let both = [&bytes[..bytes.len() - 1024], &more].concat();
    let world = World::new();
    world.load(&both).await.0.expect("load");
    assert_eq!(world.tags(), ["m:1", "more:2"]);
    let arm = platform("linux/arm64");
    assert_eq!(world.images.resolve_for_run("m:1", Some(&arm)).expect("an image").id, made[1].id());
    assert!(world.images.resolve_for_run("more:2", Some(&arm)).is_err());
}
