//! Hostile images and archives, from outside: the daemon lives, the host's files are as before, nothing is left.

use skep_evil::canary::Canary;
use skep_evil::{Fate, archives, documents, layers};
use skep_testkit::{Engine, EngineKind, Image, Registry};

use super::{engine, sleeper};

/// Memory of the daemon in bytes.
fn memory(engine: &Engine) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", engine.pid().unwrap())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Whatever an archive says, what it says is refused or stays inside; those that come in can be looked at and removed.
#[test]
fn loaded() {
    let engine = engine();
    let canary = Canary::new(&engine.scratch().join("host"));
    for archive in archives::all(canary.dir()) {
        let headers = [("Content-Type", "application/x-tar")];
        let reply = engine.api().send("POST", "/images/load?quiet=1", &headers, &archive.bytes).unwrap();
        let refused = reply.status != 200 || reply.text().contains("errorDetail");
        assert!(archive.fate != Fate::Refused || refused, "{}: it was let in: {}", archive.name, reply.text());
        assert!(archive.fate != Fate::Harmless || !refused, "{}: it was refused: {}", archive.name, reply.text());
        canary.check(&archive.name);
    }
    engine.run(["image", "prune", "-af"]).success();
    engine.load(Image::busybox());
    engine.run(["run", "--rm", "busybox", "true"]).success();
    assert!(memory(&engine) < 300 << 20, "the daemon has grown to {} bytes", memory(&engine));
}

/// The same from a registry, which is as little to be trusted as an archive.
#[test]
fn pulled() {
    let (engine, registry) = (engine(), Registry::start());
    if engine.kind() == EngineKind::Docker {
        return; // it is more patient with what is wrong but does no harm
    }
    let canary = Canary::new(&engine.scratch().join("host"));
    let pull = |repository: &str, config: &[u8], layers: &[Vec<u8>]| {
        let descriptor = |media_type: &str, bytes: &[u8]| {
            let digest = registry.upload(repository, bytes);
            serde_json::json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
        };
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "config": descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": layers.iter().map(|l| descriptor("application/vnd.oci.image.layer.v1.tar", l)).collect::<Vec<_>>(),
        });
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        registry.put_manifest(repository, "1", media_type, manifest.to_string().as_bytes());
        engine.run(["pull", "-q", &registry.name(&format!("{repository}:1"))])
    };
    for (at, layer) in layers::all(canary.dir()).into_iter().enumerate() {
        let layers = [layer.below.clone(), vec![layer.bytes.clone()]].concat();
        let outcome = pull(&format!("layer{at}"), &archives::config(&layers), &layers);
        assert!(layer.fate != Fate::Refused || outcome.code != 0, "{}: it was let in", layer.name);
        canary.check(layer.name);
    }
    for (at, config) in documents::configs(&Image::busybox().layer_digest(0)).into_iter().enumerate() {
        let outcome = pull(&format!("config{at}"), &config.bytes, &Image::busybox().layers);
        assert!(config.fate != Fate::Refused || outcome.code != 0, "{}: it was let in", config.name);
    }
    engine.run(["image", "prune", "-af"]).success();
    engine.load(Image::busybox());
    engine.run(["run", "--rm", "busybox", "true"]).success();
    assert!(memory(&engine) < 300 << 20, "the daemon has grown to {} bytes", memory(&engine));
}

/// A list of accounts without an end: whoever is in its beginning is found, nobody else, and nobody reads all of it.
#[test]
fn endless_accounts() {
    let engine = engine();
    sleeper(&engine, "big");
    let grow = "echo me:x:7:8::/:/bin/sh >> /etc/passwd; truncate -s 1G /etc/passwd; echo last:x:9:9::/:/bin/sh >> /etc/passwd";
    engine.run(["exec", "big", "sh", "-c", &format!("{grow}; truncate -s 1G /etc/group")]).success();
    let before = memory(&engine);
    let who = ["big", "grep", "^Uid:", "/proc/self/status"];
    engine.run([&["exec", "-u", "me"][..], &who].concat()).success().stdout_is("Uid:\t7\t7\t7\t7\n");
    engine.run([&["exec", "-u", "1234"][..], &who].concat()).success().stdout_is("Uid:\t1234\t1234\t1234\t1234\n");
    assert_ne!(engine.run([&["exec", "-u", "last"][..], &who].concat()).code, 0, "it stands behind a gigabyte");
    assert!(memory(&engine) < before + (100 << 20), "the daemon has grown to {} bytes", memory(&engine));
}

/// Archives that are put into a container, running and not.
#[test]
fn copied_in() {
    let engine = engine();
    let canary = Canary::new(&engine.scratch().join("host"));
    sleeper(&engine, "up");
    engine.run(["create", "--name", "down", "busybox", "true"]).success();
    for container in ["up", "down"] {
        for (at, layer) in layers::all(canary.dir()).into_iter().enumerate() {
            let dir = format!("/tmp/{at}");
            let make = [("Content-Type", "application/x-tar")];
            let home = skep_evil::tar::Tar::new().dir(&dir).end();
            let made =
                engine.api().send("PUT", &format!("/containers/{container}/archive?path=/"), &make, &home).unwrap();
            assert_eq!(made.status, 200, "{}", made.text());
            let path = format!("/containers/{container}/archive?path={dir}");
            engine.api().send("PUT", &path, &make, &layer.bytes).unwrap();
            canary.check(layer.name);
        }
    }
    engine.run(["exec", "up", "true"]).success();
    engine.run(["rm", "-f", "up", "down"]).success();
}

/// What stands in a configuration makes a container that runs, or an error; never more rights, and never a dead daemon.
#[test]
fn run() {
    let engine = engine();
    let busybox = &Image::busybox().layers;
    for (at, config) in documents::configs(&Image::busybox().layer_digest(0)).into_iter().enumerate() {
        let name = format!("evil:{at}");
        let archive = archives::docker(&config.bytes, busybox, &name);
        let headers = [("Content-Type", "application/x-tar")];
        let reply = engine.api().send("POST", "/images/load?quiet=1", &headers, &archive).unwrap();
        if reply.status != 200 || reply.text().contains("errorDetail") {
            continue;
        }
        let script = "grep -h CapEff /proc/self/status; ls /host 2>/dev/null; id -u";
        let outcome = engine.run(["run", "--rm", "--user", "0", "--entrypoint", "sh", &name, "-c", script]);
        if outcome.code == 0 {
            outcome.stdout_is("CapEff:\t00000000a80425fb\n0\n");
        }
    }
    engine.run(["run", "--rm", "busybox", "true"]).success();
}

/// Accounts are read from the image, and an image can have anything there.
#[test]
fn accounts() {
    use skep_testkit::ImageBuilder;
    let engine = engine();
    let made: [(&str, skep_evil::tar::Tar); 4] = [
        ("fifo", skep_evil::tar::Tar::new().raw(&skep_evil::tar::header(b'6', "etc/passwd"))),
        ("link", skep_evil::tar::Tar::new().symlink("etc/passwd", "/proc/1/environ")),
        (
            "device",
            skep_evil::tar::Tar::new()
                .raw(&skep_evil::tar::Header { device: (1, 5), ..skep_evil::tar::header(b'3', "etc/passwd") }),
        ),
        ("directory", skep_evil::tar::Tar::new().dir("etc/passwd")),
    ];
    for (name, tar) in made {
        let mut image: Image = ImageBuilder::new(&format!("{name}:1")).build();
        image.layers.push(tar.end());
        image.config = archives::config(&image.layers);
        engine.load(&image);
        let image = format!("{name}:1");
        // Busybox's own `id` would read the file, and wait for a FIFO: the kernel tells who it is, too.
        let who = ["--entrypoint", "/bin/busybox", &image, "grep", "^Uid:", "/proc/self/status"];
        engine.run([&["run", "--rm"][..], &who].concat()).success().stdout_is("Uid:\t0\t0\t0\t0\n");
        let other = [&["run", "--rm", "--user", "1234"][..], &who].concat();
        engine.run(other).success().stdout_is("Uid:\t1234\t1234\t1234\t1234\n");
        let outcome = engine.run(["run", "--rm", "--user", "nobody", "--entrypoint", "/bin/busybox", &image, "true"]);
        assert_ne!(outcome.code, 0, "{name}: {outcome}");
    }
}

/// A client that asks for endless output and reads none of it costs nothing.
#[test]
fn clients_that_do_not_read() {
    use std::io::{Read, Write};
    let engine = engine();
    engine.run(["run", "-d", "--name", "yes", "--log-opt", "max-size=1m", "busybox", "yes"]).success();
    let files = || std::fs::read_dir(format!("/proc/{}/fd", engine.pid().unwrap())).unwrap().count();
    let (open, before) = (files(), memory(&engine));
    let mut clients = Vec::new();
    for _ in 0..10 {
        for path in ["containers/yes/attach?stream=1&stdout=1", "containers/yes/logs?follow=1&stdout=1"] {
            let mut socket = std::os::unix::net::UnixStream::connect(engine.socket()).unwrap();
            let method = if path.contains("attach") { "POST" } else { "GET" };
            write!(socket, "{method} /{path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
                .unwrap();
            // It has begun, and no more of it is read.
            assert_eq!(socket.read(&mut [0; 16]).unwrap(), 16);
            clients.push(socket);
        }
        // Half a request.
        let mut socket = std::os::unix::net::UnixStream::connect(engine.socket()).unwrap();
        socket.write_all(b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 999999\r\n\r\n{").unwrap();
        clients.push(socket);
    }
    let size = || {
        let reply = engine.api().call("GET", "/containers/yes/json", None);
        std::fs::metadata(reply["LogPath"].as_str().unwrap()).map_or(0, |metadata| metadata.len())
    };
    // The container goes on writing meanwhile: its log is rotated.
    let mut sizes = Vec::new();
    skep_testkit::until("the log was rotated", || {
        sizes.push(size());
        sizes.windows(2).any(|pair| pair[1] < pair[0])
    });
    let after = memory(&engine);
    assert!(after < before + (64 << 20), "the daemon has grown from {before} to {after} bytes");
    drop(clients);
    skep_testkit::until("the connections are closed", || files() <= open + 4);
    engine.run(["rm", "-f", "yes"]).success();
}
