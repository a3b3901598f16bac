//! Pulls that are cut short, shared, and served by mirrors.

use std::path::PathBuf;

use skep_testkit::{Engine, EngineKind, Flow, Image, ImageBuilder, Registry, Relay, until};

const MIB: u64 = 1 << 20;

/// An image whose upper layer is of 12 MiB and can't be compressed.
fn large(name: &str) -> Image {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut bytes = vec![0; 12 << 20];
    for word in bytes.chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes());
    }
    ImageBuilder::new(name).layer(&[("large", 0o644, &bytes)]).build()
}

/// The bytes that are kept of blobs whose download was cut short.
fn kept(engine: &Engine) -> u64 {
    let files = std::fs::read_dir(engine.data_root().join("partial")).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// An engine that collects nothing by itself, however full the machine's disk is.
fn unhurried() -> Engine {
    match Engine::kind_under_test() {
        EngineKind::Skep => Engine::builder().argument("--gc=false").start(),
        EngineKind::Docker => Engine::start(),
    }
}

/// A registry with the large image, behind a relay, and the image's name there.
fn behind_relay() -> (Registry, Relay, String) {
    let registry = Registry::start();
    registry.push("large:1", &large("large:1"));
    let relay = Relay::start(registry.address());
    let name = relay.name("large:1");
    (registry, relay, name)
}

/// Where the requests for parts of blobs began.
fn starts(relay: &Relay) -> Vec<u64> {
    let ranges = relay.take_asked().into_iter().filter_map(|request| request.range);
    ranges.map(|range| range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap()).collect()
}

#[test]
fn a_killed_daemons_pull_goes_on_where_it_was() {
    let mut engine = unhurried();
    if engine.kind() == EngineKind::Docker {
        return; // it begins again
    }
    let (_registry, relay, name) = behind_relay();
    relay.flow(Flow::HoldAfter(8 * MIB));
    let mut client = engine.command(["pull", &name]).spawn();
    until("most of the layer has come", || kept(&engine) > 7 * MIB);
    engine.kill();
    let _ = client.wait();
    relay.flow(Flow::Pass);
    relay.take_asked();
    engine.launch();
    engine.run(["pull", &name]).success().stdout_has("Downloaded newer image");
    let starts = starts(&relay);
    assert!(starts.len() == 1 && starts[0] > 7 * MIB, "only the rest is asked for: {starts:?}");
    assert_eq!(kept(&engine), 0, "nothing is kept of a blob that is here");
    engine.run(["run", "--rm", &name, "stat", "-c", "%s", "/large"]).success().stdout_is("12582912\n");
}

#[test]
fn a_pull_whose_client_went_away_goes_on_where_it_was() {
    let engine = unhurried();
    if engine.kind() == EngineKind::Docker {
        return;
    }
    let (_registry, relay, name) = behind_relay();
    relay.flow(Flow::HoldAfter(8 * MIB));
    let mut client = engine.command(["pull", &name]).spawn();
    until("most of the layer has come", || kept(&engine) > 7 * MIB);
    client.kill().unwrap();
    client.wait().unwrap();
    relay.flow(Flow::Pass);
    relay.take_asked();
    engine.run(["pull", &name]).success();
    assert!(starts(&relay).iter().any(|start| *start > 7 * MIB));
    assert_eq!(kept(&engine), 0);
}

#[test]
fn a_server_that_cuts_is_asked_for_the_rest() {
    let engine = unhurried();
    let (_registry, relay, name) = behind_relay();
    relay.flow(Flow::CutAfter(5 * MIB));
    engine.run(["pull", &name]).success();
    assert_eq!(starts(&relay).len(), 2, "12 MiB, 5 at a time");
}

#[test]
fn what_was_kept_and_damaged_is_fetched_again() {
    let engine = unhurried();
    if engine.kind() == EngineKind::Docker {
        return;
    }
    let (_registry, relay, name) = behind_relay();
    relay.flow(Flow::HoldAfter(8 * MIB));
    let mut client = engine.command(["pull", &name]).spawn();
    until("most of the layer has come", || kept(&engine) > 7 * MIB);
    client.kill().unwrap();
    client.wait().unwrap();
    relay.flow(Flow::Pass);
    let file: PathBuf = std::fs::read_dir(engine.data_root().join("partial")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[5_000_000] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    engine.run(["pull", &name]).success();
    assert_eq!(kept(&engine), 0);
    engine.run(["run", "--rm", &name, "stat", "-c", "%s", "/large"]).success();
}

#[test]
fn two_clients_download_once_and_one_may_leave() {
    let engine = unhurried();
    let (_registry, relay, name) = behind_relay();
    relay.flow(Flow::HoldAfter(8 * MIB));
    let mut first = engine.command(["pull", &name]).spawn();
    if engine.kind() == EngineKind::Skep {
        until("most of the layer has come", || kept(&engine) > 7 * MIB);
    }
    let before = relay.take_asked().len();
    assert_eq!(before, 3, "the configuration and two layers");
    let second = engine.command(["pull", &name]).spawn();
    let mut later = Vec::new();
    until("the second one has begun", || {
        later.extend(relay.take_asked());
        !later.is_empty()
    });
    first.kill().unwrap();
    first.wait().unwrap();
    relay.flow(Flow::Pass);
    let output = second.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    later.extend(relay.take_asked());
    let rest = later.iter().find(|request| request.range.is_some());
    if let Some(rest) = rest {
        let whole = later.iter().filter(|request| request.path == rest.path && request.range.is_none()).count();
        assert_eq!(whole, 0, "the layer does not come from its start again: {later:?}");
    } else {
        assert_eq!(
            engine.kind(),
            EngineKind::Docker,
            "the second one goes on with the first one's download: {later:?}"
        );
    }
    engine.run(["run", "--rm", &name, "stat", "-c", "%s", "/large"]).success();
}

#[test]
fn mirrors_serve_docker_hub() {
    let registry = Registry::start();
    registry.push("library/mine:1", Image::busybox());
    let mirror = format!("http://{}", registry.address());
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).unwrap();
    let engine = Engine::builder()
        .argument(format!("--registry-mirror=http://{nobody}"))
        .argument(format!("--registry-mirror={mirror}"))
        .start();
    engine.run(["pull", "mine:1"]).success().stdout_has("docker.io/library/mine:1");
    engine.run(["info"]).success().stdout_has(&format!("Registry Mirrors:\n  http://{nobody}/\n  {mirror}/"));
}

#[test]
fn any_registry_may_have_mirrors() {
    let registry = Registry::start();
    registry.push("mine:1", Image::busybox());
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("reg.invalid:5000")).unwrap();
    let hosts = format!("[host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n", registry.address());
    std::fs::write(folder.path().join("reg.invalid:5000/hosts.toml"), hosts).unwrap();
    if Engine::kind_under_test() == EngineKind::Docker {
        return; // it has no such thing
    }
    let engine = Engine::builder().argument(format!("--certs-dir={}", folder.path().display())).start();
    engine.run(["pull", "reg.invalid:5000/mine:1"]).success();
    engine.run(["run", "--rm", "reg.invalid:5000/mine:1", "true"]).success();
    engine.run(["pull", "other.invalid/mine:1"]).code_is(1).stderr_has("no such host");
}

#[test]
fn all_tags_of_a_repository() {
    let (engine, registry) = (Engine::start(), Registry::start());
    registry.push("many:1", Image::busybox());
    registry.push("many:two", &ImageBuilder::new("many:two").layer(&[("two", 0o644, b"2")]).build());
    let name = registry.name("many");
    let outcome = engine.run(["pull", "-a", &name]).success();
    let outcome = outcome.stdout_has("1: Pulling from many").stdout_has("two: Pulling from many");
    outcome.stdout_has(&format!("Status: Downloaded newer image for {name}\n"));
    let tags = engine.run(["images", "--format", "{{.Tag}}", &name]).success();
    tags.stdout_has("1\n").stdout_has("two\n");
    engine.run(["pull", "-a", &name]).success().stdout_has(&format!("Status: Image is up to date for {name}\n"));
    engine.run(["pull", "-a", &format!("{name}:1")]).code_is(1).stderr_has("tag can't be used with --all-tags/-a");
}
