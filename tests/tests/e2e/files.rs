//! Bind mounts, volumes, copying, differences.

use skep_testkit::EngineKind;

use super::{engine, sleeper};

#[test]
fn bind_mounts() {
    let engine = engine();
    let dir = engine.scratch().join("shared");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("in"), "from the host").unwrap();
    let volume = format!("{}:/shared", dir.display());
    engine
        .run(["run", "--rm", "-v", &volume, "busybox", "sh", "-c", "cat /shared/in; echo back > /shared/out"])
        .success()
        .stdout_is("from the host");
    assert_eq!(std::fs::read_to_string(dir.join("out")).unwrap(), "back\n");
    let read_only = format!("{volume}:ro");
    let outcome = engine.run(["run", "--rm", "-v", &read_only, "busybox", "touch", "/shared/no"]).code_is(1);
    outcome.stderr_has("Read-only file system");
}

#[test]
fn named_volumes_outlive_containers() {
    let engine = engine();
    engine.run(["run", "--rm", "-v", "data:/data", "busybox", "sh", "-c", "echo kept > /data/file"]).success();
    engine.run(["run", "--rm", "-v", "data:/data", "busybox", "cat", "/data/file"]).success().stdout_is("kept\n");
    engine.run(["volume", "ls", "-q"]).success().stdout_is("data\n");
    engine.run(["volume", "rm", "data"]).success().stdout_is("data\n");
}

#[test]
fn a_new_volume_gets_what_the_image_has_there() {
    let engine = engine();
    engine
        .run(["run", "--rm", "-v", "etc:/etc", "busybox", "grep", "-c", "nobody", "/etc/passwd"])
        .success()
        .stdout_is("1\n");
}

#[test]
fn copying_in_and_out() {
    let engine = engine();
    sleeper(&engine, "one");
    let file = engine.scratch().join("file");
    std::fs::write(&file, "content").unwrap();
    let (from, to) = (file.display().to_string(), engine.scratch().join("back").display().to_string());
    engine.run(["cp", &from, "one:/tmp/copied"]).success();
    engine.run(["exec", "one", "cat", "/tmp/copied"]).success().stdout_is("content");
    engine.run(["cp", "one:/tmp/copied", &to]).success();
    assert_eq!(std::fs::read_to_string(&to).unwrap(), "content");
    engine.run(["cp", "one:/no/such", &to]).code_is(1).stderr_has("Could not find the file /no/such in container one");
}

/// Volumes and host paths are where they are when the container runs, also in one that never ran.
#[test]
fn copying_with_volumes_of_a_stopped_container() {
    let engine = engine();
    let host = engine.scratch().join("host");
    std::fs::create_dir_all(&host).unwrap();
    std::fs::write(host.join("there"), "of the host").unwrap();
    let bind = format!("{}:/bound:ro", host.display());
    engine.run(["create", "--name", "one", "-v", "data:/data", "-v", &bind, "busybox", "cat", "/data/in"]).success();
    let file = engine.scratch().join("in");
    std::fs::write(&file, "content").unwrap();
    let (from, to) = (file.display().to_string(), engine.scratch().join("out").display().to_string());
    engine.run(["cp", "one:/bound/there", &to]).success();
    assert_eq!(std::fs::read_to_string(&to).unwrap(), "of the host");
    engine.run(["cp", &from, "one:/data/in"]).success();
    engine.run(["cp", &from, "one:/bound/in"]).code_is(1).stderr_has("read-only");
    engine.run(["start", "-a", "one"]).success().stdout_is("content");
    engine.run(["cp", "one:/data/in", &to]).success();
    assert_eq!(std::fs::read_to_string(&to).unwrap(), "content");
    engine.run(["rm", "one"]).success();
    engine.run(["run", "--rm", "-v", "data:/other", "busybox", "cat", "/other/in"]).success().stdout_is("content");
}

/// A link in a volume does not lead out of it, whoever put it there.
#[test]
fn a_subpath_stays_in_its_volume() {
    let engine = engine();
    let prepare =
        "mkdir /v/sub; echo inside > /v/sub/file; ln -s /etc /v/away; ln -s /sub /v/near; ln -s ../../.. /v/up";
    engine.run(["run", "--rm", "-v", "data:/v", "busybox", "sh", "-c", prepare]).success();
    let mount = |subpath: &str| format!("type=volume,src=data,dst=/m,volume-subpath={subpath}");
    let show = |subpath: &str| engine.run(["run", "--rm", "--mount", &mount(subpath), "busybox", "ls", "/m"]);
    show("sub").success().stdout_is("file\n");
    if engine.kind() == EngineKind::Skep {
        show("near").success().stdout_is("file\n"); // Docker refuses any link
    }
    assert_ne!(show("away").code, 0);
    assert!(!show("up").stdout.contains("data"));
    let _ = engine.run(["create", "--name", "one", "--mount", &mount("away"), "busybox"]);
    let to = engine.scratch().join("got").display().to_string();
    assert_ne!(engine.run(["cp", "one:/m/passwd", &to]).code, 0);
}

/// CVE-2018-15664 and its kin: a link in the container does not lead out of it.
#[test]
fn copying_does_not_follow_links_out() {
    let engine = engine();
    sleeper(&engine, "one");
    let outside = engine.scratch().join("outside");
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::write(outside.join("secret"), "secret").unwrap();
    let script = format!("mkdir -p /a && ln -s {} /a/link && ln -s / /a/root", outside.display());
    engine.run(["exec", "one", "sh", "-c", &script]).success();
    let to = engine.scratch().join("got").display().to_string();
    assert_ne!(engine.run(["cp", "one:/a/link/secret", &to]).code, 0);
    let file = engine.scratch().join("file");
    std::fs::write(&file, "new").unwrap();
    let _ = engine.run(["cp", &file.display().to_string(), "one:/a/link/planted"]);
    assert!(!outside.join("planted").exists());
}

#[test]
fn differences_to_the_image() {
    let engine = engine();
    engine
        .run([
            "run",
            "--name",
            "one",
            "busybox",
            "sh",
            "-c",
            "echo x > /etc/group; rm /etc/passwd; mkdir /new; touch /new/file",
        ])
        .success();
    let diff = engine.run(["diff", "one"]).success().stdout;
    let mut lines: Vec<&str> = diff.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A /new", "A /new/file", "C /etc", "C /etc/group", "D /etc/passwd"]);
}

#[test]
fn the_image_stays_as_it_is() {
    let engine = engine();
    engine.run(["run", "--rm", "busybox", "rm", "-rf", "/etc/passwd"]).success();
    engine.run(["run", "--rm", "busybox", "test", "-e", "/etc/passwd"]).success();
}

#[test]
fn anonymous_volumes_go_with_rm() {
    let engine = engine();
    engine.run(["run", "--rm", "-v", "/data", "busybox", "touch", "/data/x"]).success();
    engine.run(["volume", "ls", "-q"]).success().stdout_is("");
    engine.run(["create", "--name", "one", "-v", "/data", "busybox"]).success();
    engine.run(["rm", "-v", "one"]).success();
    engine.run(["volume", "ls", "-q"]).success().stdout_is("");
}
