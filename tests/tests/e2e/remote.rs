//! What registries are asked without anything coming here: searches, manifests, what a name stands for.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use skep_testkit::{Command, Engine, Image, Registry};

use super::peers;

#[test]
fn manifests_are_shown() {
    let (engine, registry) = (Engine::start(), Registry::start());
    let digest = registry.push("app:1", Image::busybox());
    let name = registry.name("app:1");
    let shown = engine.run(["manifest", "inspect", "--insecure", &name]).success();
    assert!(shown.stdout.starts_with("{\n\t\"") && shown.stdout.ends_with("\n}\n"), "{shown}");
    assert_eq!(shown.json()["config"]["digest"], Image::busybox().id());
    let verbose = engine.run(["manifest", "inspect", "-v", "--insecure", &name]).success().json();
    assert_eq!(verbose["Descriptor"]["digest"], digest.as_str());
    assert_eq!(verbose["Descriptor"]["platform"]["os"], "linux");
    assert_eq!(verbose["OCIManifest"]["config"]["digest"], Image::busybox().id());
    let missing = registry.name("app:none");
    let outcome = engine.run(["manifest", "inspect", "--insecure", &missing]).code_is(1);
    assert_eq!(outcome.stderr, format!("no such manifest: {missing}\n"));
    // Line by line what Docker's client shows.
    let Some(docker) = peers::installed("docker") else { return };
    let docker =
        |words: &[&str]| Command::new(&docker, words).env("DOCKER_CONFIG", engine.scratch().join("docker")).run();
    assert_eq!(docker(&["manifest", "inspect", "--insecure", &name]).success().stdout, shown.stdout);
    let theirs = docker(&["manifest", "inspect", "-v", "--insecure", &name]).success().stdout;
    assert_eq!(engine.run(["manifest", "inspect", "-v", "--insecure", &name]).success().stdout, theirs);
}

#[test]
fn what_a_name_stands_for() {
    let (engine, registry) = (Engine::start(), Registry::start());
    let digest = registry.push("app:1", Image::busybox());
    let path = format!("/distribution/{}/json", registry.name("app:1"));
    let answer = engine.api().call("GET", &path, None);
    assert_eq!(answer["Descriptor"]["digest"], digest.as_str());
    assert_eq!(answer["Platforms"][0]["os"], "linux");
}

/// Answers searches as the first version of the registry's API has it.
fn index(listener: TcpListener) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { return };
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut first = String::new();
        if reader.read_line(&mut first).unwrap_or(0) == 0 || !first.starts_with("GET ") {
            continue; // a handshake that this server doesn't speak
        }
        let mut line = String::new();
        while reader.read_line(&mut line).unwrap_or(0) > 2 {
            line.clear();
        }
        let body = match first.contains("/v1/search?q=app&n=7 ") {
            true => {
                r#"{"results":[{"name":"one/app","description":"the first","star_count":9,"is_official":true},
                    {"name":"two/app","description":"","star_count":2,"is_official":false}]}"#
            }
            false => r#"{"results":[]}"#,
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
    }
}

#[test]
fn searches() {
    let engine = Engine::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let term = format!("{}/app", listener.local_addr().unwrap());
    std::thread::spawn(move || index(listener));
    let format = ["--format", "{{.Name}} {{.StarCount}} {{.IsOfficial}}"];
    let search = |more: &[&str]| {
        engine.run([&["search", "--limit", "7"], &format[..], more, &[term.as_str()]].concat()).success()
    };
    assert_eq!(search(&[]).stdout, "one/app 9 true\ntwo/app 2 false\n");
    assert_eq!(search(&["-f", "stars=3"]).stdout, "one/app 9 true\n");
    assert_eq!(search(&["-f", "is-official=false"]).stdout, "two/app 2 false\n");
    assert_eq!(search(&["-f", "is-automated=true"]).stdout, "");
    engine.run(["search", "-f", "nonsense=1", &term]).code_is(1).stderr_has("invalid filter 'nonsense'");
    engine.run(["search", "--limit", "101", &term]).code_is(1).stderr_has("limit 101 is outside the range of [1, 100]");
}
