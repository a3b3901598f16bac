//! Archives: those of other tools, and our own.

use std::process::Command;

use skep_engine::model::image::{LoadProgress, Loaded};
use skep_registry::digest_of;

use crate::make::{Made, archive, run, skopeo};
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
    other.assert_no_more_than(2, 3).await;

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
