//! Pushing images to registries, and what other programs get back from there.

use skep_testkit::{Command, Engine, EngineKind, Image, ImageBuilder, Registry, until};

use super::{engine, peers};

/// The digest that `skopeo` sees under a name.
fn remote_digest(name: &str) -> String {
    let raw = remote_manifest(name);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), raw).unwrap();
    let out = Command::new("sha256sum", [file.path()]).run().success();
    format!("sha256:{}", out.stdout.split(' ').next().unwrap_or_default())
}

fn remote_manifest(name: &str) -> String {
    let from = format!("docker://{name}");
    Command::new("skopeo", ["inspect", "--raw", "--tls-verify=false", &from]).run().success().stdout
}

/// Requests of this method for blobs of a repository that the registry has logged.
fn blob_requests(registry: &Registry, method: &str, repository: &str) -> usize {
    let wanted = format!("\"{method} /v2/{repository}/blobs/");
    registry.log().lines().filter(|line| line.contains(&wanted)).count()
}

/// An image with a layer of so many bytes that can't be compressed much.
fn noisy(name: &str, bytes: usize) -> Image {
    let mut state = 1u64;
    let content: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .take(bytes / 8)
    .flatten()
    .collect();
    ImageBuilder::new(name).layer(&[("noise", 0o644, &content)]).build()
}

#[test]
fn pushed_and_pulled_by_others() {
    let (engine, registry) = (engine(), Registry::start());
    let name = registry.name("team/app:1");
    engine.run(["tag", "busybox", &name]).success();
    let pushed = engine.run(["push", &name]).success();
    assert!(
        pushed.stdout.starts_with(&format!("The push refers to repository [{}]\n", registry.name("team/app"))),
        "{pushed}"
    );
    let digest = remote_digest(&name);
    assert!(pushed.stdout.contains(&format!("1: digest: {digest} size: ")), "{pushed}");
    let digests = engine.run(["image", "inspect", "-f", "{{json .RepoDigests}}", &name]).success();
    assert!(digests.stdout.contains(&format!("{}@{digest}", registry.name("team/app"))), "{digests}");

    let dir = engine.scratch().join("copy");
    let (from, to) = (format!("docker://{name}"), format!("dir:{}", dir.display()));
    Command::new("skopeo", ["copy", "--src-tls-verify=false", &from, &to]).run().success();
    engine.run(["rmi", "-f", "busybox", &name]).success();
    engine.run(["pull", "-q", &name]).success();
    engine.run(["images", "-q", "--no-trunc"]).success().stdout_is(&format!("{}\n", Image::busybox().id()));
    engine.run(["run", "--rm", &name, "echo", "back"]).success().stdout_is("back\n");
}

#[test]
fn what_is_there_is_not_sent_again() {
    let (engine, registry) = (engine(), Registry::start());
    let name = registry.name("app:1");
    engine.run(["tag", "busybox", &name]).success();
    let first = engine.run(["push", &name]).success();
    let (sent, digest) = (blob_requests(&registry, "PATCH", "app"), remote_digest(&name));
    // Docker sends the configuration in the same way as a layer.
    assert_eq!(sent, if engine.kind() == EngineKind::Docker { 2 } else { 1 }, "{first}");
    engine.run(["push", &name]).success().stdout_has("Layer already exists").stdout_has(&digest);
    // Nor to another repository of the same registry.
    let other = registry.name("other/app:2");
    engine.run(["tag", "busybox", &other]).success();
    let mounted = engine.run(["push", &other]).success();
    assert_eq!(blob_requests(&registry, "PATCH", "app"), sent);
    assert_eq!(remote_digest(&other), digest, "{mounted}");
    if engine.kind() == EngineKind::Skep {
        assert!(mounted.stdout.contains("Mounted from app"), "{mounted}");
        assert_eq!(blob_requests(&registry, "PATCH", "other/app"), 0, "{mounted}");
    }
}

#[test]
fn the_same_layer_is_the_same_blob_each_time() {
    let (engine, one, two) = (Engine::start(), Registry::start(), Registry::start());
    engine.load(&noisy("noise:1", 3 << 20));
    for registry in [&one, &two] {
        engine.run(["tag", "noise:1", &registry.name("noise:1")]).success();
        engine.run(["push", "-q", &registry.name("noise:1")]).success();
    }
    assert_eq!(remote_digest(&one.name("noise:1")), remote_digest(&two.name("noise:1")));
}

#[test]
fn a_pulled_image_keeps_its_digest() {
    let (engine, one, two) = (Engine::start(), Registry::start(), Registry::start());
    let digest = one.push("from:1", Image::busybox());
    engine.run(["pull", "-q", &one.name("from:1")]).success();
    for target in [one.name("to:2"), two.name("to:3")] {
        engine.run(["tag", &one.name("from:1"), &target]).success();
        engine.run(["push", "-q", &target]).success();
        if engine.kind() == EngineKind::Skep {
            assert_eq!(remote_digest(&target), digest, "{target}");
        }
    }
}

#[test]
fn compression_is_chosen_per_push() {
    let (engine, registry) = (engine(), Registry::start());
    if engine.kind() == EngineKind::Docker {
        return; // it has no such option
    }
    for (compression, ending) in [("zstd", "tar+zstd"), ("none", "diff.tar"), ("gzip", "diff.tar.gzip")] {
        let name = registry.name(&format!("app:{compression}"));
        engine.run(["tag", "busybox", &name]).success();
        engine.run(["push", "-q", "--compression", compression, &name]).success();
        let manifest: serde_json::Value = serde_json::from_str(&remote_manifest(&name)).unwrap();
        let kind = manifest["layers"][0]["mediaType"].as_str().unwrap_or_default().to_owned();
        assert!(kind.ends_with(ending), "{compression}: {manifest}");
        let (from, to) = (format!("docker://{name}"), format!("dir:{}", engine.scratch().join(compression).display()));
        Command::new("skopeo", ["copy", "--src-tls-verify=false", &from, &to]).run().success();
    }
    engine.run(["rmi", "-f", "busybox"]).success();
    engine.run(["run", "--rm", &registry.name("app:zstd"), "echo", "zstd"]).success().stdout_is("zstd\n");
    engine
        .run(["push", "--compression", "xz", &registry.name("app:zstd")])
        .code_is(1)
        .stderr_has("invalid compression");
}

#[test]
fn all_tags() {
    let (engine, registry) = (engine(), Registry::start());
    engine.load(&ImageBuilder::new("second:1").layer(&[("a", 0o644, b"a")]).build());
    for (image, tag) in [("busybox", "a"), ("busybox", "b"), ("second:1", "c")] {
        engine.run(["tag", image, &registry.name(&format!("all:{tag}"))]).success();
    }
    engine.run(["push", "-a", &registry.name("all:a")]).code_is(1).stderr_has("tag can't be used with --all-tags/-a");
    engine.run(["push", "-a", &registry.name("all")]).success().stdout_has("b: digest: ").stdout_has("c: digest: ");
    let tags = registry.api().request("GET", "/v2/all/tags/list", None).unwrap().json();
    assert_eq!(tags["tags"].as_array().map(Vec::len), Some(3), "{tags}");
}

#[test]
fn what_is_not_there() {
    let (engine, registry) = (engine(), Registry::start());
    let name = registry.name("nothing");
    engine
        .run(["push", &name])
        .code_is(1)
        .stdout_has("Using default tag: latest")
        .stderr_has(&format!("An image does not exist locally with the tag: {name}"));
    engine.run(["tag", "busybox", &registry.name("nothing:1")]).success();
    engine.run(["push", &name]).code_is(1).stderr_has(&format!("tag does not exist: {name}:latest"));
    let digest = format!("{name}@sha256:{}", "a".repeat(64));
    engine.run(["push", &digest]).code_is(1).stderr_has("cannot push a digest reference");
    engine.run(["push", "127.0.0.1:1/x"]).code_is(1);
}

#[test]
fn two_pushes_at_once() {
    let (engine, registry) = (Engine::start(), Registry::start());
    engine.load(&noisy("noise:1", 4 << 20));
    let names: Vec<String> = ["one", "two", "three"].map(|part| registry.name(&format!("{part}:1"))).into();
    for name in &names {
        engine.run(["tag", "noise:1", name]).success();
    }
    let pushes: Vec<_> = names.iter().map(|name| engine.command(["push", "-q", name]).spawn()).collect();
    for push in pushes {
        let output = push.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let digests: std::collections::BTreeSet<String> = names.iter().map(|name| remote_digest(name)).collect();
    assert_eq!(digests.len(), 1);
}

#[test]
fn a_registry_that_dies_in_the_middle() {
    let (engine, mut registry) = (Engine::start(), Registry::start());
    engine.load(&noisy("noise:1", 64 << 20));
    let name = registry.name("noise:1");
    engine.run(["tag", "noise:1", &name]).success();
    let push = engine.command(["push", &name]).spawn();
    until("an upload has begun", || blob_requests(&registry, "POST", "noise") > 0);
    registry.kill();
    registry.launch();
    let output = push.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (from, to) = (format!("docker://{name}"), format!("dir:{}", engine.scratch().join("copy").display()));
    Command::new("skopeo", ["copy", "--src-tls-verify=false", &from, &to]).run().success();
}

#[test]
fn platforms_of_an_index() {
    let (engine, registry) = (Engine::start(), Registry::start());
    let one = Image::busybox().clone();
    let two = ImageBuilder::new("two:1").architecture("s390x").layer(&[("b", 0o644, b"b")]).build();
    let manifests: Vec<serde_json::Value> = [(&one, host()), (&two, "s390x")]
        .into_iter()
        .map(|(image, architecture)| {
            let digest = registry.push(&format!("multi:{architecture}"), image);
            let size = remote_manifest(&registry.name(&format!("multi:{architecture}"))).len();
            serde_json::json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": size,
                "platform": {"os": "linux", "architecture": architecture},
            })
        })
        .collect();
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": kind, "manifests": manifests}).to_string();
    let digest = registry.put_manifest("multi", "all", kind, index.as_bytes());
    let (name, copy) = (registry.name("multi:all"), registry.name("copy:all"));
    engine.run(["pull", "-q", &name]).success();
    if engine.kind() == EngineKind::Docker {
        return; // its classic store has one platform per name
    }
    engine.run(["tag", &name, &copy]).success();
    engine.run(["push", &copy]).success().stdout_has("only the available single-platform image was pushed");
    assert_eq!(remote_digest(&copy), manifests[0]["digest"].as_str().unwrap());
    engine.run(["pull", "-q", "--platform", "linux/s390x", &name]).success();
    engine.run(["tag", &name, &copy]).success();
    engine.run(["push", &copy]).success();
    assert_eq!(remote_digest(&copy), digest);
    engine.run(["push", "--platform", "linux/s390x", &copy]).success();
    assert_eq!(remote_digest(&copy), manifests[1]["digest"].as_str().unwrap());
}

pub(crate) fn host() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

#[test]
fn by_dockers_own_client() {
    let clients: Vec<_> = [peers::fetched("docker"), peers::installed("docker")].into_iter().flatten().collect();
    if clients.is_empty() {
        println!("SKIPPED pushes by the docker client: there is none");
    }
    for client in clients {
        let (engine, registry) = (engine(), Registry::start_protected());
        let name = registry.name("app:1");
        let docker = |words: &[&str]| {
            Command::new(&client, words)
                .env("DOCKER_HOST", format!("unix://{}", engine.socket().display()))
                .env("DOCKER_CONFIG", engine.scratch().join("client"))
        };
        docker(&["tag", "busybox", &name]).run().success();
        docker(&["push", &name]).run().code_is(1).stderr_has("no basic auth credentials");
        let wrong = docker(&["login", "-u", "me", "--password-stdin", registry.address()]).stdin("wrong");
        wrong.run().code_is(1).stderr_has("failed with status: 401 Unauthorized");
        let login = docker(&["login", "-u", "me", "--password-stdin", registry.address()]).stdin("secret");
        login.run().success().stdout_has("Login Succeeded");
        docker(&["push", &name]).run().success().stdout_has(": Pushed").stdout_has("1: digest: sha256:");
        docker(&["push", &name]).run().success().stdout_has("Layer already exists");
        // The words are those of Docker's image store that keeps several platforms of an image, as skep does.
        let missing = match engine.kind() {
            EngineKind::Skep => "does not provide the specified platform",
            EngineKind::Docker => "does not match the specified platform",
        };
        docker(&["push", "--platform", "linux/s390x", &name]).run().code_is(1).stderr_has(missing);
        docker(&["logout", registry.address()]).run().success();
        docker(&["pull", &name]).run().code_is(1).stderr_has("no basic auth credentials");
    }
}
