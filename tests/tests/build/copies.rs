//! `COPY`, `ADD`, `WORKDIR`.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use skep_build::graph::*;
use skep_build::worker::{Layer, Tree};
use skep_build::{BuildError, Worker};

use crate::world::{Client, World, copy, files, shell, write};

async fn context(world: &World, fill: impl FnOnce(&Path)) -> Tree {
    let dir = world.dir.path().join("context");
    std::fs::create_dir_all(&dir).unwrap();
    fill(&dir);
    let source = LocalSource {
        name: "context".to_owned(),
        part: skep_build::graph::LocalPart::Files,
        include: Vec::new(),
        exclude: Vec::new(),
        follow: Vec::new(),
    };
    let client = Client { files: dir, ..Client::default() };
    world.machine.local(&source, &world.context(client)).await.unwrap()
}

async fn apply(world: &World, actions: Vec<FileAction>, input: &Tree) -> Result<Layer, BuildError> {
    let inputs: Vec<Tree> =
        actions.iter().filter(|action| matches!(action, FileAction::Copy(_))).map(|_| input.clone()).collect();
    world.machine.files(&files(actions), world.base, &inputs, &world.context(Client::default())).await
}

fn fill(dir: &Path) {
    for path in ["d/sub", "d/empty", "e"] {
        std::fs::create_dir_all(dir.join(path)).unwrap();
    }
    for (path, text) in
        [("a.txt", "a"), ("b.txt", "b"), ("d/f", "f"), ("d/sub/g", "g"), ("d/x.log", "log"), ("e/h", "h")]
    {
        std::fs::write(dir.join(path), text).unwrap();
    }
    std::fs::set_permissions(dir.join("d/sub"), std::fs::Permissions::from_mode(0o2750)).unwrap();
    std::fs::hard_link(dir.join("d/f"), dir.join("d/hard")).unwrap();
    symlink("../../../etc/passwd", dir.join("d/out")).unwrap();
    symlink("d", dir.join("link")).unwrap();
    let file = std::fs::File::options().write(true).open(dir.join("a.txt")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_directories_go_where_docker_puts_them() {
    let world = World::new().await;
    let input = context(&world, fill).await;
    for (sources, dest, names) in [
        (&["/a.txt"][..], "/new/", &["new", "new/a.txt"][..]),
        (&["/a.txt"], "/new", &["new"]),
        (&["/a.txt", "/b.txt"], "/new/", &["new", "new/a.txt", "new/b.txt"]),
        (&["/*.txt"], "/tmp/", &["tmp", "tmp/a.txt", "tmp/b.txt"]),
        (&["/e"], "/new", &["new", "new/h"]),
        (&["/e/"], "/tmp/", &["tmp", "tmp/h"]),
        (&["/link"], "/n", &["n", "n/empty", "n/f", "n/hard", "n/out", "n/sub", "n/sub/g", "n/x.log"]),
        (&["/*.none"], "/n", &[]),
        (&["/?"], "/n", &["n", "n/empty", "n/f", "n/h", "n/hard", "n/out", "n/sub", "n/sub/g", "n/x.log"]),
    ] {
        let layer = apply(&world, vec![FileAction::Copy(copy(sources, dest))], &input).await.unwrap();
        assert_eq!(world.changed(&layer), names, "{sources:?} {dest}");
    }
    let error = apply(&world, vec![FileAction::Copy(copy(&["/none"], "/"))], &input).await.unwrap_err();
    assert_eq!(error.message, "\"/none\": not found");
    let error = apply(&world, vec![write("/t", ""), FileAction::Copy(copy(&["/e"], "/t"))], &input).await.unwrap_err();
    assert_eq!(error.message, "cannot copy to non-directory: /t");
    drop(input);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_describes_a_file_comes_along() {
    let world = World::new().await;
    let input = context(&world, fill).await;
    let layer = apply(&world, vec![FileAction::Copy(copy(&["/"], "/all"))], &input).await.unwrap();
    let top = world.layer(&layer).join("all");
    let stat = |path: &str| std::fs::symlink_metadata(top.join(path)).unwrap();
    assert_eq!(stat("d/sub").mode() & 0o7777, 0o2750);
    assert_eq!(stat("d/f").ino(), stat("d/hard").ino());
    assert_eq!(stat("a.txt").mtime(), 1_000_000_000);
    assert_eq!(std::fs::read_link(top.join("d/out")).unwrap(), Path::new("../../../etc/passwd"));
    assert_eq!((stat("d/f").uid(), stat("d/f").gid()), (0, 0));
    let owned = Copy { owner: Owner::Named("12:34".to_owned()), mode: Mode::Octal(0o640), ..copy(&["/d"], "/o/p") };
    let layer = apply(&world, vec![FileAction::Copy(owned)], &input).await.unwrap();
    let fs = world.layer(&layer);
    for (path, mode) in [("o", 0o755), ("o/p", 0o755), ("o/p/sub", 0o640), ("o/p/f", 0o640)] {
        let stat = std::fs::symlink_metadata(fs.join(path)).unwrap();
        assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (12, 34, mode), "{path}");
    }
    drop(input);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parents_and_exceptions() {
    let world = World::new().await;
    let input = context(&world, fill).await;
    for (sources, exclude, names) in [
        (&["/d/sub/g", "/e/h"][..], &[][..], &["p", "p/d", "p/d/sub", "p/d/sub/g", "p/e", "p/e/h"][..]),
        (&["/d/./sub/g"], &[], &["p", "p/sub", "p/sub/g"]),
        (&["/**/g"], &[], &["p", "p/d", "p/d/sub", "p/d/sub/g"]),
        (&["/d"], &["d/*", "!d/f"], &["p", "p/d", "p/d/f"]),
    ] {
        let exclude = exclude.iter().map(|text: &&str| (*text).to_owned()).collect();
        let copy = Copy { parents: true, exclude, ..copy(sources, "/p/") };
        let layer = apply(&world, vec![FileAction::Copy(copy)], &input).await.unwrap();
        assert_eq!(world.changed(&layer), names, "{sources:?}");
        if names.contains(&"p/d/sub") {
            let stat = std::fs::metadata(world.layer(&layer).join("p/d/sub")).unwrap();
            assert_eq!(stat.mode() & 0o7777, 0o2750);
        }
    }
    let partly = Copy { exclude: vec!["*.log".to_owned(), "sub".to_owned()], ..copy(&["/d"], "/n") };
    let layer = apply(&world, vec![FileAction::Copy(partly)], &input).await.unwrap();
    assert_eq!(world.changed(&layer), ["n", "n/empty", "n/f", "n/hard", "n/out"]);
    drop(input);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_in_the_base_are_followed_inside_it() {
    let world = World::new().await;
    let input = context(&world, fill).await;
    let base = world
        .run(shell("mkdir /real; ln -s /real /alias; ln -s /nowhere/x /dangling; mkdir /mode; chmod 700 /mode"), &[]);
    let base = base.await.unwrap();
    let actions = vec![
        FileAction::Copy(copy(&["/a.txt"], "/alias/")),
        FileAction::Copy(copy(&["/b.txt"], "/dangling")),
        FileAction::Copy(copy(&["/e"], "/mode")),
        FileAction::MakeDir { path: "/w/x".into(), parents: true, mode: 0o755, owner: Owner::Named("5".to_owned()) },
    ];
    let inputs = [input.clone(), input.clone(), input.clone()];
    let (all, client) = (files(actions), world.context(Client::default()));
    let layer = world.machine.files(&all, Some(base.stack), &inputs, &client).await.unwrap();
    drop(client);
    let names = ["mode", "mode/h", "nowhere", "nowhere/x", "real", "real/a.txt", "w", "w/x"];
    assert_eq!(world.changed(&layer), names);
    let stat = |path: &str| std::fs::metadata(world.layer(&layer).join(path)).unwrap();
    assert_eq!(stat("mode").mode() & 0o777, 0o700, "what is there stays as it is");
    assert_eq!((stat("w").uid(), stat("w/x").gid()), (5, 5));
    drop((input, inputs));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_are_unpacked_by_add_only() {
    let world = World::new().await;
    let input = context(&world, |dir| {
        let tree = dir.join("tree");
        std::fs::create_dir_all(tree.join("in")).unwrap();
        std::fs::write(tree.join("in/file"), "data").unwrap();
        for (name, flag) in [("a.tar", ""), ("b", "--gzip"), ("c", "--bzip2"), ("d", "--xz"), ("e", "--zstd")] {
            let mut tar = std::process::Command::new("tar");
            tar.arg("-C").arg(&tree).arg("-cf").arg(dir.join(name));
            if !flag.is_empty() {
                tar.arg(flag);
            }
            assert!(tar.arg("in").status().unwrap().success(), "{name}");
        }
        std::fs::write(dir.join("no.tar.gz"), "not an archive").unwrap();
    })
    .await;
    for name in ["a.tar", "b", "c", "d", "e"] {
        let add = Copy { unpack: Unpack::Archives, ..copy(&[name], "/n/") };
        let layer = apply(&world, vec![FileAction::Copy(add)], &input).await.unwrap();
        assert_eq!(world.changed(&layer), ["n", "n/in", "n/in/file"], "{name}");
    }
    let add = Copy { unpack: Unpack::Archives, ..copy(&["no.tar.gz"], "/n/") };
    let layer = apply(&world, vec![FileAction::Copy(add)], &input).await.unwrap();
    assert_eq!(world.changed(&layer), ["n", "n/no.tar.gz"]);
    let layer = apply(&world, vec![FileAction::Copy(copy(&["b"], "/n/"))], &input).await.unwrap();
    assert_eq!(world.changed(&layer), ["n", "n/b"]);
    drop(input);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_put_on_others_and_made_one() {
    let world = World::new().await;
    let context = world.context(Client::default());
    let alone = world.machine.files(&files(vec![write("/linked/file", "x")]), None, &[], &context).await.unwrap();
    let first =
        world.run(shell("mkdir -p /d/e; echo 1 > /d/one; echo 2 > /d/two; rm /bin/sh.none; true"), &[]).await.unwrap();
    let rebased = world.machine.rebase(&alone, Some(first.stack)).await.unwrap();
    assert_eq!(rebased.diff_id, alone.diff_id);
    assert_eq!(world.read(rebased.stack, "/linked/file").await.as_deref(), Some("x"));
    assert_eq!(world.read(rebased.stack, "/d/one").await.as_deref(), Some("1\n"));
    let step = shell("rm -r /d/one /linked; mkdir /linked; echo 3 > /d/two");
    let second = world.machine.run(&step, Some(rebased.stack), &[], &context).await.unwrap();
    let squashed = world.machine.squash(Some(second.stack), world.base).await.unwrap();
    assert_eq!(world.changed(&squashed), ["d", "d/e", "d/two", "linked"]);
    assert_eq!(world.read(squashed.stack, "/d/two").await.as_deref(), Some("3\n"));
    world.machine.flush().await.unwrap();
    drop(context);
    world.end().await;
}
