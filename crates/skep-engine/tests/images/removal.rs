//! Tags, removal, pruning: and what is left of it on disk.

use skep_engine::model::image::{ImageFilters, ImageId, ImageUser, Removal, RemoveImage};
use skep_types::ContainerId;

use crate::make::Made;
use crate::world::{World, text};

fn nobody(_: &ImageId) -> Vec<ImageUser> {
    Vec::new()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_tag_takes_the_image_and_shared_layers_stay() {
    let (one, two) = (Made::busybox("one"), Made::busybox("two"));
    let world = World::new();
    world.load(&one.archive(&["one:1"])).await.0.expect("load");
    world.load(&two.archive(&["two:1"])).await.0.expect("load");
    world.images.tag("one:1", &"again".parse().expect("a reference")).await.expect("tag");
    assert_eq!(world.tags(), ["again:latest", "one:1", "two:1"]);
    world.assert_no_more_than(2, 3).await;

    let removed = world.images.remove("one:1", RemoveImage::default(), &nobody).await.expect("remove");
    assert_eq!(removed, [Removal::Untagged("one:1".to_owned())]);
    let removed = world.images.remove("again", RemoveImage::default(), &nobody).await.expect("remove");
    assert_eq!(removed[..2], [Removal::Untagged("again:latest".to_owned()), Removal::Deleted(one.id())]);
    assert_eq!(removed.len(), 3, "one layer was its own");
    world.assert_no_more_than(1, 2).await;
    assert!(world.file(&two.id(), "bin/busybox").is_some());

    let removed = world.images.remove(&two.id().short(), RemoveImage::default(), &nobody).await.expect("remove");
    assert_eq!(removed.len(), 4);
    world.assert_empty().await;
    let error = world.images.remove("two:1", RemoveImage::default(), &nobody).await;
    assert_eq!(text(error), "No such image: two:1");
    let events: Vec<String> =
        world.events().iter().map(|e| e.split(' ').next().unwrap_or_default().to_owned()).collect();
    assert_eq!(events, ["load", "load", "tag", "untag", "untag", "delete", "untag", "delete"]);
    world.reopen().assert_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_keeps_the_layers_of_a_removed_image() {
    let made = Made::busybox("kept");
    let world = World::new();
    world.load(&made.archive(&["kept:1"])).await.0.expect("load");
    let user = ImageUser { container: ContainerId::from_bytes([7; 32]), running: false };
    let users = |id: &ImageId| if *id == made.id() { vec![user] } else { Vec::new() };
    let error = text(world.images.remove("kept:1", RemoveImage::default(), &users).await);
    assert!(error.starts_with(
        "conflict: unable to remove repository reference \"kept:1\" (must force) - container 070707070707"
    ));
    let force = RemoveImage { force: true, ..RemoveImage::default() };
    let removed = world.images.remove("kept:1", force, &users).await.expect("remove");
    assert_eq!(removed, [Removal::Untagged("kept:1".to_owned()), Removal::Deleted(made.id())]);
    assert_eq!(world.images.count().expect("a count"), 0);
    assert!(world.images.resolve(&made.id().hex()).is_err());

    let world = world.reopen();
    assert!(world.file(&made.id(), "bin/busybox").is_some(), "the container can still start");
    world.images.release(&users).await.expect("release");
    assert!(world.file(&made.id(), "bin/busybox").is_some());
    world.images.release(&nobody).await.expect("release");
    world.assert_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_being_made_keeps_them_too() {
    let made = Made::busybox("held");
    let world = World::new();
    world.load(&made.archive(&["held:1"])).await.0.expect("load");
    let image = world.images.resolve_for_run("held:1", None).expect("an image");
    world.images.remove("held:1", RemoveImage::default(), &nobody).await.expect("remove");
    assert!(world.file(&made.id(), "bin/busybox").is_some());
    drop(image);
    world.images.release(&nobody).await.expect("release");
    world.assert_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prune_takes_what_has_no_tag_or_no_container() {
    let (old, new, used) = (Made::busybox("old"), Made::busybox("new"), Made::busybox("used"));
    let world = World::new();
    world.load(&old.archive(&["app:1"])).await.0.expect("load");
    world.load(&new.archive(&["app:1"])).await.0.expect("load");
    world.load(&used.archive(&["used:1"])).await.0.expect("load");
    let user = ImageUser { container: ContainerId::from_bytes([7; 32]), running: true };
    let users = |id: &ImageId| if *id == used.id() { vec![user] } else { Vec::new() };
    let pruned = world.images.prune(&ImageFilters::default(), &users).await.expect("prune");
    assert_eq!(pruned.removed[0], Removal::Deleted(old.id()));
    assert_eq!((pruned.removed.len(), pruned.reclaimed), (2, 3), "the layer that only it had: its salt");
    assert_eq!(world.tags(), ["app:1", "used:1"]);
    let all = ImageFilters { dangling: Some(false), ..ImageFilters::default() };
    let pruned = world.images.prune(&all, &users).await.expect("prune");
    assert_eq!(pruned.removed[..2], [Removal::Untagged("app:1".to_owned()), Removal::Deleted(new.id())]);
    assert_eq!(world.tags(), ["used:1"]);
    let pruned = world.images.prune(&all, &nobody).await.expect("prune");
    assert_eq!(pruned.removed.len(), 4);
    world.assert_empty().await;
}
