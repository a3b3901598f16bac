//! Copies of images from one engine to another, by ssh.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;

use skep_testkit::{Command, Engine, EngineKind, Image, ImageBuilder, Sshd};

use super::engine;

fn copy(from: &Engine, ssh: &Sshd, to: &Engine, names: &[&str]) -> Command {
    let target = ssh.address(&to.socket());
    let words: Vec<&str> =
        ["image", "copy"].into_iter().chain(names.iter().copied()).chain([target.as_str()]).collect();
    from.command(words).env("PATH", ssh.path())
}

/// An image of two layers, the lower one that of busybox.
fn child(name: &str) -> Image {
    ImageBuilder::new(name).layer(&[("one", 0o644, b"1")]).layer(&[("two", 0o755, &vec![7; 300_000])]).build()
}

#[test]
fn only_what_is_lacking_is_sent() {
    let (one, two, ssh) = (engine(), Engine::start(), Sshd::start());
    if one.kind() == EngineKind::Docker {
        return; // it has no such command
    }
    let first = copy(&one, &ssh, &two, &["busybox"]).run().success();
    assert!(first.stdout.contains(": Copied\n") && first.stdout.contains("Copied busybox to ssh://"), "{first}");
    two.run(["images", "-q", "--no-trunc"]).success().stdout_is(&format!("{}\n", Image::busybox().id()));
    two.run(["run", "--rm", "busybox", "echo", "copied"]).success().stdout_is("copied\n");
    one.load(&child("child:1"));
    one.run(["tag", "child:1", "child:2"]).success();
    let second = copy(&one, &ssh, &two, &["child:1", "child:2"]).run().success();
    let lines = |text: &str| second.stdout.lines().filter(|line| line.ends_with(text)).count();
    assert_eq!((lines(": Already exists"), lines(": Copied")), (1, 2), "{second}");
    let third = copy(&one, &ssh, &two, &["child:1"]).run().success();
    assert!(!third.stdout.contains(": Copied\n"), "{third}");
    for name in ["child:1", "child:2"] {
        two.run(["run", "--rm", name, "sh", "-c", "cat /one; wc -c < /two"]).success().stdout_is("1300000\n");
    }
    let ids = |engine: &Engine| engine.run(["images", "-q", "--no-trunc"]).success().stdout;
    assert_eq!(ids(&one), ids(&two));
}

#[test]
fn what_arrived_of_a_copy_that_broke_off_stays() {
    let (one, two, ssh) = (Engine::start(), Engine::start(), Sshd::start());
    if one.kind() == EngineKind::Docker {
        return;
    }
    one.load(&child("child:1"));
    // The upper layer can't be made again: its file has changed.
    let broken = find(&one.data_root().join("layers"), "two");
    let good = std::fs::read(&broken).unwrap();
    std::fs::write(&broken, vec![8; good.len()]).unwrap();
    let failed = copy(&one, &ssh, &two, &["child:1"]).run().code_is(1);
    assert_eq!(failed.stdout.lines().filter(|line| line.ends_with(": Copied")).count(), 2, "{failed}");
    two.run(["images", "-q"]).success().stdout_is("");
    std::fs::write(&broken, good).unwrap();
    let again = copy(&one, &ssh, &two, &["child:1"]).run().success();
    let lines = |text: &str| again.stdout.lines().filter(|line| line.ends_with(text)).count();
    assert_eq!((lines(": Already exists"), lines(": Copied")), (2, 1), "{again}");
    two.run(["run", "--rm", "child:1", "cat", "/one"]).success().stdout_is("1");
}

fn find(dir: &std::path::Path, name: &str) -> std::path::PathBuf {
    let found = Command::new("find", [dir.to_str().unwrap(), "-name", name, "-path", "*/fs/*"]).run().success();
    std::path::PathBuf::from(found.word())
}

#[test]
fn wrong_targets() {
    let engine = engine();
    if engine.kind() == EngineKind::Docker {
        return;
    }
    engine.run(["image", "copy", "busybox", "tcp://127.0.0.1:1"]).code_is(1).stderr_has("must be ssh://");
    engine.run(["image", "copy", "busybox", "ssh://-oProxyCommand=x"]).code_is(1).stderr_has("must be ssh://");
    engine.run(["image", "copy", "nope", "unix:///nowhere"]).code_is(1).stderr_has("No such image: nope:latest");
    engine
        .run(["image", "copy", "busybox", "unix:///nowhere"])
        .code_is(1)
        .stderr_has("Cannot connect to the Docker daemon");
}

/// What dockerd would answer: it knows nothing of layers, and takes archives.
fn plain_engine(listener: UnixListener) -> usize {
    let mut loaded = 0;
    for stream in listener.incoming() {
        let stream = stream.unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        loop {
            let mut head = String::new();
            while reader.read_line(&mut head).unwrap_or(0) > 2 {}
            let Some(line) = head.lines().next().map(str::to_owned) else { break };
            let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
            let length = head.to_lowercase().lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok());
            if chunked {
                loop {
                    let mut size = String::new();
                    reader.read_line(&mut size).unwrap();
                    let size = usize::from_str_radix(size.trim(), 16).unwrap();
                    reader.read_exact(&mut vec![0; size + 2]).unwrap();
                    loaded += size;
                    if size == 0 {
                        break;
                    }
                }
            } else {
                reader.read_exact(&mut vec![0; length.unwrap_or(0)]).unwrap();
            }
            let (status, body) = match &line {
                line if line.contains("/images/load") => ("200 OK", "{\"stream\":\"Loaded image: busybox:latest\\n\"}"),
                line if line.contains("/_ping") => ("200 OK", ""),
                _ => ("404 Not Found", "{\"message\":\"page not found\"}"),
            };
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status}\r\nApi-Version: 1.47\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).unwrap();
            if !line.starts_with("HEAD") {
                stream.write_all(body.as_bytes()).unwrap();
            }
            if line.contains("/images/load") {
                return loaded;
            }
        }
    }
    loaded
}

#[test]
fn an_engine_that_is_no_skep_gets_an_archive() {
    let engine = engine();
    if engine.kind() == EngineKind::Docker {
        return;
    }
    let socket = engine.scratch().join("plain.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let server = std::thread::spawn(move || plain_engine(listener));
    let target = format!("unix://{}", socket.display());
    engine
        .run(["image", "copy", "busybox", &target])
        .success()
        .stderr_has("is no skep engine and can't tell what it has: sending whole images")
        .stdout_has("Loaded image: busybox:latest");
    assert!(server.join().unwrap() > Image::busybox().layers[0].len());
}
