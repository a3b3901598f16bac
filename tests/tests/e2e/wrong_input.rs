//! What is refused, in Docker's words, and changes nothing.

use serde_json::json;
use skep_testkit::{Engine, Image};

use super::{engine, sleeper};

#[test]
fn no_such_container() {
    let engine = Engine::start();
    for command in ["start", "stop", "kill", "rm", "logs", "pause", "wait", "top", "port"] {
        let outcome = engine.run([command, "nobody"]).code_is(1);
        outcome.stderr_has("No such container: nobody");
    }
    engine.run(["exec", "nobody", "true"]).code_is(1).stderr_has("No such container: nobody");
    engine.run(["inspect", "nobody"]).code_is(1).stderr_has("No such object: nobody").stdout_is("[]\n");
    let reply = engine.api().request("GET", "/containers/nobody/json", None).unwrap();
    assert_eq!((reply.status, reply.json()), (404, json!({"message": "No such container: nobody"})));
}

#[test]
fn no_such_image() {
    let engine = Engine::start();
    engine.run(["run", "--pull", "never", "nothing:1", "true"]).code_is(125).stderr_has("No such image: nothing:1");
    engine.run(["rmi", "nothing:1"]).code_is(1).stderr_has("No such image: nothing:1");
    engine.run(["tag", "nothing:1", "a:b"]).code_is(1).stderr_has("No such image: nothing:1");
    engine.run(["ps", "-aq"]).success().stdout_is("");
}

#[test]
fn a_name_in_use_names_the_holder() {
    let engine = engine();
    let id = sleeper(&engine, "taken");
    let outcome = engine.run(["create", "--name", "taken", "busybox"]).code_is(1);
    outcome.stderr_has(&format!("Conflict. The container name \"/taken\" is already in use by container \"{id}\""));
    assert_eq!(engine.run(["ps", "-aq"]).stdout.lines().count(), 1);
}

#[test]
fn bad_names_and_references() {
    let engine = engine();
    engine.run(["create", "--name", "a b", "busybox"]).code_is(1).stderr_has("Invalid container name (a b)");
    engine.run(["run", "--rm", "UPPER", "true"]).code_is(125).stderr_has("repository name");
    engine.run(["pull", "busybox@sha256:short"]).code_is(1).stderr_has("invalid reference format");
    engine.run(["tag", "busybox", "a:b:c"]).code_is(1).stderr_has("a:b:c");
}

#[test]
fn bad_flags() {
    let engine = engine();
    for (flag, value, says) in [
        ("-p", "99999:80", "99999"),
        ("-p", "nope:80", "nope"),
        ("-m", "lots", "lots"),
        ("--cpus", "many", "many"),
        ("-v", ":/x", ":/x"),
        ("--cap-add", "NOPE", "NOPE"),
        ("--network", "nowhere", "nowhere"),
        ("--ulimit", "nofile=2:1", "nofile"),
    ] {
        let outcome = engine.run(["run", "--rm", flag, value, "busybox", "true"]).code_is(125);
        outcome.stderr_has(says);
    }
    // Found only when it is started: "no such file" in the answer makes it 127 for Docker's client.
    let outcome = engine.run(["run", "--rm", "--device", "/dev/none", "busybox", "true"]).code_is(127);
    outcome.stderr_has(
        "error gathering device information while adding custom device \"/dev/none\": no such file or directory",
    );
    engine.run(["ps", "-aq"]).success().stdout_is("");
}

#[test]
fn a_running_container_is_not_removed() {
    let engine = engine();
    sleeper(&engine, "one");
    let outcome = engine.run(["rm", "one"]).code_is(1);
    outcome.stderr_has(
        "cannot remove container \"one\": container is running: stop the container before removing or force remove",
    );
    assert_eq!(engine.inspect("one")["State"]["Running"], true);
}

#[test]
fn wrong_states() {
    let engine = engine();
    engine.run(["create", "--name", "one", "busybox", "true"]).success();
    engine.run(["exec", "one", "true"]).code_is(1).stderr_has("is not running");
    engine.run(["pause", "one"]).code_is(1).stderr_has("is not running");
    engine.run(["kill", "one"]).code_is(1).stderr_has("is not running");
    engine.run(["stop", "one"]).success();
}

#[test]
fn nobody_listens() {
    let engine = Engine::start();
    let outcome = engine.command(["ps"]).env("DOCKER_HOST", "unix:///no/such/socket").run().code_is(1);
    outcome.stderr_has("Cannot connect to the Docker daemon at unix:///no/such/socket. Is the docker daemon running?");
}

#[test]
fn an_archive_that_leads_outside() {
    let engine = Engine::start();
    let marker = engine.scratch().join("planted");
    let mut header = tar_header();
    let name = format!("../../../../../../../../..{}", marker.display());
    header[..name.len()].copy_from_slice(name.as_bytes());
    let image = skep_testkit::ImageBuilder::new("evil:1").raw_layer(finish(header)).build();
    let headers = [("Content-Type", "application/x-tar")];
    // It may be refused, or the entry end up inside.
    engine.api().send("POST", "/images/load?quiet=1", &headers, &image.archive()).unwrap();
    assert!(!marker.exists());
}

#[test]
fn a_broken_archive() {
    let engine = Engine::start();
    let mut archive = Image::busybox().archive();
    archive.truncate(archive.len() / 2);
    let reply =
        engine.api().send("POST", "/images/load?quiet=1", &[("Content-Type", "application/x-tar")], &archive).unwrap();
    assert!(reply.status >= 400 || reply.text().contains("errorDetail"), "{} {}", reply.status, reply.text());
    engine.run(["images", "-aq"]).success().stdout_is("");
}

#[test]
fn bodies_that_are_not_what_they_should_be() {
    let engine = Engine::start();
    let send = |path: &str, body: &str| {
        let reply = engine.api().send("POST", path, &[("Content-Type", "application/json")], body.as_bytes()).unwrap();
        (reply.status, reply.json()["message"].as_str().map(str::to_owned))
    };
    assert_eq!(send("/containers/create", "{").0, 400);
    assert_eq!(send("/containers/create", "{\"Image\": 5}").0, 400);
    assert_eq!(send("/v1.51/containers/create", "{}").0, 400);
    let reply = engine.api().request("GET", "/no/such/page", None).unwrap();
    assert_eq!((reply.status, reply.json()["message"].as_str()), (404, Some("page not found")));
    let reply = engine.api().request("GET", "/v9.99/info", None).unwrap();
    assert_eq!(reply.status, 400);
}

/// A tar header for an empty regular file whose name is still to be filled in.
fn tar_header() -> [u8; 512] {
    let mut header = [0; 512];
    header[100..107].copy_from_slice(b"0000600");
    for field in [108, 116] {
        header[field..field + 7].copy_from_slice(b"0000000");
    }
    header[124..135].copy_from_slice(b"00000000000");
    header[136..147].copy_from_slice(b"00000000000");
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    header
}

/// The archive of one header with its checksum.
fn finish(mut header: [u8; 512]) -> Vec<u8> {
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = header.to_vec();
    archive.resize(512 * 3, 0);
    archive
}
