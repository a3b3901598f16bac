//! Images from archives of files.

use skep_engine::model::image::ImportImage;

use crate::make::{File, layer};
use crate::world::{World, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_become_an_image() {
    let files = layer(&[File::Dir("etc/"), File::Plain("etc/hello", b"world")]);
    let world = World::new();
    let options = ImportImage {
        reference: Some("mine:1".parse().expect("a reference")),
        changes: vec!["CMD [\"/bin/true\"]".to_owned(), "ENV A=b".to_owned()],
        ..ImportImage::default()
    };
    let id = world.images.import(files.as_slice(), options.clone()).await.expect("import");
    assert_eq!(world.file(&id, "etc/hello"), Some(b"world".to_vec()));
    let details = world.images.inspect("mine:1", None).expect("details");
    assert_eq!((details.id, details.comment.as_str()), (id, "Imported from -"));
    assert_eq!(details.config.cmd, Some(vec!["/bin/true".to_owned()]));
    assert_eq!(details.config.env, ["A=b"]);
    assert_eq!(details.diff_ids, [skep_registry::digest_of(&files)]);
    assert_eq!(world.images.history("mine:1", None).expect("history")[0].comment, "Imported from -");
    assert_eq!(world.events(), [format!("import {id} {id}")]);

    let saved = world.save(&["mine:1"]).await;
    let other = World::new();
    assert_eq!(other.load(&saved).await.0.expect("load")[0].id, id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_change_nothing() {
    let world = World::new();
    let bad_change = ImportImage { changes: vec!["RUN true".to_owned()], ..ImportImage::default() };
    let files = layer(&[File::Plain("x", b"x")]);
    assert_eq!(text(world.images.import(files.as_slice(), bad_change).await), "RUN is not a valid change command");
    let cut = &files[..700];
    assert!(!text(world.images.import(cut, ImportImage::default()).await).is_empty());
    let pinned = format!("x@{}", skep_registry::digest_of(b"x"));
    let pinned = ImportImage { reference: pinned.parse().ok(), ..ImportImage::default() };
    assert_eq!(text(world.images.import(files.as_slice(), pinned).await), "cannot import digest reference");
    world.assert_empty().await;
}
