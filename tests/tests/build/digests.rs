//! What stands for the files that a step reads.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use skep_build::Worker;
use skep_build::worker::{Dir, Selection, Tree};

use crate::world::World;

fn tree(path: &Path) -> Tree {
    Tree::Dir(Arc::new(Dir { path: path.to_owned(), identity: None, guard: Box::new(()) }))
}

fn selection(paths: &[&str], exclude: &[&str]) -> Selection {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Selection { paths: owned(paths), exclude: owned(exclude), follow: true, wildcards: true }
}

#[tokio::test(flavor = "multi_thread")]
async fn times_do_not_count_and_everything_else_does() {
    let world = World::new().await;
    let dir = world.dir.path().join("t");
    std::fs::create_dir_all(dir.join("d")).unwrap();
    std::fs::write(dir.join("d/file"), "one").unwrap();
    std::fs::write(dir.join("other"), "x").unwrap();
    let digest = async || world.machine.digest(&tree(&dir), &selection(&["/d"], &[])).await.unwrap();
    let first = digest().await;
    let file = std::fs::File::options().write(true).open(dir.join("d/file")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    std::fs::write(dir.join("other"), "y").unwrap();
    assert_eq!(digest().await, first, "times, and what is not selected");
    std::fs::write(dir.join("d/file"), "two").unwrap();
    let second = digest().await;
    assert_ne!(second, first);
    std::fs::write(dir.join("d/file"), "one").unwrap();
    assert_eq!(digest().await, first);
    std::fs::set_permissions(dir.join("d/file"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let third = digest().await;
    assert_ne!(third, first);
    std::fs::rename(dir.join("d/file"), dir.join("d/file2")).unwrap();
    assert_ne!(digest().await, third);
    std::os::unix::fs::symlink("a", dir.join("d/link")).unwrap();
    let linked = digest().await;
    std::fs::remove_file(dir.join("d/link")).unwrap();
    std::os::unix::fs::symlink("b", dir.join("d/link")).unwrap();
    assert_ne!(digest().await, linked);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns_select() {
    let world = World::new().await;
    let dir = world.dir.path().join("t");
    std::fs::create_dir_all(dir.join("d")).unwrap();
    for name in ["a.txt", "b.txt", "c.log", "d/e.log"] {
        std::fs::write(dir.join(name), name).unwrap();
    }
    let digest =
        async |paths: &[&str], exclude: &[&str]| world.machine.digest(&tree(&dir), &selection(paths, exclude)).await;
    let text = digest(&["/*.txt"], &[]).await.unwrap();
    let all = digest(&["/"], &["**/*.log"]).await.unwrap();
    std::fs::write(dir.join("c.log"), "changed").unwrap();
    std::fs::write(dir.join("d/e.log"), "changed").unwrap();
    assert_eq!(digest(&["/*.txt"], &[]).await.unwrap(), text);
    assert_eq!(digest(&["/"], &["**/*.log"]).await.unwrap(), all);
    std::fs::rename(dir.join("b.txt"), dir.join("z.txt")).unwrap();
    assert_ne!(digest(&["/*.txt"], &[]).await.unwrap(), text);
    let error = digest(&["/none"], &[]).await.unwrap_err();
    assert_eq!(error.message, "\"/none\": not found");
    digest(&["/*.none"], &[]).await.unwrap();
    world.end().await;
}
