//! `skep registry serve` with the clients of others, killed at a bad moment, and tidied up.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;
use skep_testkit::{Api, Command, DEADLINE, Image, Registry, program, until};

use crate::peers::installed;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An index over two images, as `name:multi`.
fn multi(registry: &Registry, name: &str) -> String {
    let entries: Vec<_> = [("amd64", "one"), ("arm64", "two")]
        .map(|(architecture, tag)| {
            let digest = registry.push(&format!("{name}:{tag}"), Image::busybox());
            let size = registry.api().request("GET", &format!("/v2/{name}/manifests/{tag}"), None).unwrap().body.len();
            let platform = json!({"os": "linux", "architecture": architecture});
            json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": size, "platform": platform})
        })
        .into();
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries});
    registry.put_manifest(name, "multi", OCI_INDEX, index.to_string().as_bytes())
}

fn skopeo<const N: usize>(arguments: [&str; N]) {
    Command::new("skopeo", arguments).run().success();
}

#[test]
fn skopeo_copies_every_form() {
    let registry = Registry::start_own();
    multi(&registry, "from/app");
    let from = format!("docker://{}", registry.name("from/app:multi"));
    for (format, expected) in [("oci", OCI_MANIFEST), ("v2s2", "application/vnd.docker.distribution.manifest.v2+json")]
    {
        let to = format!("docker://{}", registry.name(&format!("to/{format}:1")));
        let tls = ["--src-tls-verify=false", "--dest-tls-verify=false"];
        skopeo(["--insecure-policy", "copy", "--format", format, tls[0], tls[1], &from, &to]);
        let path = format!("/v2/to/{format}/manifests/1");
        let got = registry.api().send("GET", &path, &[("Accept", expected)], &[]).unwrap();
        assert_eq!((got.status, got.header("content-type")), (200, Some(expected)));
        let all = format!("docker://{}", registry.name(&format!("all/{format}:1")));
        skopeo(["--insecure-policy", "copy", "--all", "--format", format, tls[0], tls[1], &from, &all]);
        let index = registry.api().call("GET", &format!("/v2/all/{format}/manifests/1"), None);
        assert_eq!(index["manifests"].as_array().map(Vec::len), Some(2));
    }
    let to = format!("docker://{}", registry.name("to/oci:1"));
    skopeo(["inspect", "--tls-verify=false", &to]);
    skopeo(["delete", "--tls-verify=false", &to]);
    assert_eq!(registry.api().request("GET", "/v2/to/oci/manifests/1", None).unwrap().status, 404);
}

/// A program of the podman family, with a store of its own that goes with the test.
fn with_own_store(program: &str, root: &std::path::Path, arguments: &[&str]) {
    let (store, run) = (root.join("store").display().to_string(), root.join("run").display().to_string());
    let mut words = vec!["--root", &store, "--runroot", &run, "--storage-driver", "vfs"];
    words.extend(arguments);
    Command::new(program, words).run().success();
}

#[test]
fn podman_and_buildah_push_and_pull() {
    for program in ["podman", "buildah"] {
        if installed(program).is_none() {
            println!("SKIPPED {program} with the registry: it is not installed");
            continue;
        }
        let (registry, dir) = (Registry::start_own(), tempfile::tempdir().unwrap());
        registry.push("app:1", Image::busybox());
        let (from, to) = (registry.name("app:1"), registry.name("copy:2"));
        with_own_store(program, dir.path(), &["pull", "--tls-verify=false", &from]);
        with_own_store(program, dir.path(), &["push", "--tls-verify=false", &from, &to]);
        with_own_store(program, dir.path(), &["rmi", "--all", "--force"]);
        with_own_store(program, dir.path(), &["pull", "--tls-verify=false", &to]);
        let manifest = registry.api().call("GET", "/v2/copy/manifests/2", None);
        assert_eq!(manifest["config"]["digest"], Image::busybox().id());
    }
}

/// Sends the head of a request, and a part of its body.
fn begin(registry: &Registry, method: &str, path: &str, length: usize, sent: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(registry.address()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n").unwrap();
    stream.write_all(sent).unwrap();
    stream
}

#[test]
fn an_upload_goes_on_after_the_registry_was_killed() {
    let mut registry = Registry::start_own();
    let start = registry.api().request("POST", "/v2/app/blobs/uploads/", None).unwrap();
    let upload = start.header("location").unwrap().to_owned();
    let upload = upload.split_once(registry.address()).map_or(upload.as_str(), |(_, path)| path).to_owned();
    let bytes: Vec<u8> = (0..5_000_000_u32).map(|number| number.to_le_bytes()[1]).collect();
    let stream = begin(&registry, "PATCH", &upload, bytes.len(), &bytes[..3_000_000]);
    let data = registry.root().join("uploads").join(upload.rsplit('/').next().unwrap()).join("data");
    until("a part is in the file", || std::fs::metadata(&data).is_ok_and(|found| found.len() >= 1 << 20));
    registry.kill();
    drop(stream);
    registry.launch();
    let status = registry.api().request("GET", &upload, None).unwrap();
    let have: usize = status.header("range").unwrap().strip_prefix("0-").unwrap().parse::<usize>().unwrap() + 1;
    assert!((1 << 20..=3_000_000).contains(&have), "{have}");
    let range = format!("{have}-{}", bytes.len() - 1);
    let rest = registry.api().send("PATCH", &upload, &[("Content-Range", &range)], &bytes[have..]).unwrap();
    assert_eq!(rest.status, 202, "{}", rest.text());
    let digest = registry.upload("other", &bytes);
    let put = registry.api().send("PUT", &format!("{upload}?digest={digest}"), &[], &[]).unwrap();
    assert_eq!(put.status, 201, "{}", put.text());
    let got = registry.api().request("GET", &format!("/v2/app/blobs/{digest}"), None).unwrap();
    assert!(got.body == bytes);
}

#[test]
fn garbage_is_collected_by_command() {
    let mut registry = Registry::start_own();
    registry.push("app:1", Image::busybox());
    let root = registry.root().display().to_string();
    let gc = |more: &[&str]| {
        let mut words = vec!["registry", "gc", "--grace", "0", "--root", &root];
        words.extend(more);
        Command::new(program("skep"), words).run()
    };
    assert_eq!(registry.api().request("DELETE", "/v2/app/manifests/1", None).unwrap().status, 202);
    let dry = gc(&["--dry-run"]).success();
    assert!(dry.stdout.contains("manifest app@sha256:") && dry.stdout.contains("Would be reclaimed: "), "{dry}");
    let done = gc(&[]).success();
    assert!(done.stdout.contains("Total reclaimed space: ") && !done.stdout.contains(" 0B"), "{done}");
    assert_eq!(gc(&[]).success().stdout, "Total reclaimed space: 0B\n");
    // Without a registry that runs, the command does it itself.
    registry.push("app:2", Image::busybox());
    registry.api().request("DELETE", "/v2/app/manifests/2", None).unwrap();
    registry.kill();
    assert!(gc(&[]).success().stdout.contains("manifest app@sha256:"));
    registry.launch();
    assert_eq!(registry.api().call("GET", "/v2/_catalog", None), json!({"repositories": []}));
}

/// A registry of the test's own, and where it listens.
fn serve(root: &str, more: &[&str]) -> (std::process::Child, String) {
    let words = ["registry", "serve", "--listen", "127.0.0.1:0", "--root", root];
    let mut server = Command::new(program("skep"), [&words[..], more].concat()).spawn();
    let mut line = String::new();
    let mut byte = [0];
    let out = server.stdout.as_mut().unwrap();
    while !line.ends_with('\n') && out.read(&mut byte).unwrap() == 1 {
        line.push(char::from(byte[0]));
    }
    let address = line.trim_end().strip_prefix("listening on http://").unwrap_or_else(|| panic!("{line}")).to_owned();
    (server, address)
}

fn signal(server: &std::process::Child, name: &str) {
    Command::new("kill", [name, &server.id().to_string()]).run().success();
}

#[test]
fn a_hangup_makes_it_read_its_files_again() {
    let dir = tempfile::tempdir().unwrap();
    let (root, rules) = (dir.path().join("root").display().to_string(), dir.path().join("rules.json"));
    let write = |text: &str| std::fs::write(&rules, text).unwrap();
    write(r#"{"rules": []}"#);
    let (mut server, address) = serve(&root, &["--retention", &rules.display().to_string()]);
    let api = Api::Tcp(address);
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).to_string();
    let put = api.send("PUT", "/v2/app/manifests/old", &[("Content-Type", OCI_INDEX)], index.as_bytes()).unwrap();
    assert_eq!(put.status, 201, "{}", put.text());
    let drops = || {
        let words = ["registry", "gc", "--dry-run", "--root", &root];
        Command::new(program("skep"), words).run().success().stdout.contains("tag app:old")
    };
    assert!(!drops());
    write(r#"{"rules": [{"repositories": "**", "keepLast": 0}]}"#);
    signal(&server, "-HUP");
    until("the new rules count", drops);
    // What can't be read changes nothing, and ends nothing.
    write("{");
    signal(&server, "-HUP");
    assert!(drops());
    assert_eq!(api.request("GET", "/v2/app/manifests/old", None).unwrap().status, 200);
    signal(&server, "-TERM");
    assert!(server.wait().unwrap().success());
}

#[test]
fn a_stop_answers_what_was_asked() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root").display().to_string();
    let (mut server, _) = serve(&root, &[]);
    let second = Command::new(program("skep"), ["registry", "serve", "--listen", "127.0.0.1:0", "--root", &root]).run();
    assert_eq!(second.code, 1, "{second}");
    second.stderr_has("is in use by another registry");
    signal(&server, "-TERM");
    assert!(server.wait().unwrap().success());
}
