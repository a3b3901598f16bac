//! Signature policy: what may come in, and what is refused before a layer is asked for.

use std::path::PathBuf;

use serde_json::{Value, json};
use skep_testkit::{Engine, EngineKind, Image, Outcome, Registry, Signer};

/// An engine with a policy file of its own, whose contents each scenario writes.
struct Guarded {
    engine: Engine,
    registry: Registry,
    dir: tempfile::TempDir,
}

const REJECT: &str = r#"[{"type": "reject"}]"#;

impl Guarded {
    /// None if the engine under test has no such policy.
    fn start() -> Option<Guarded> {
        let dir = tempfile::tempdir().unwrap();
        if std::env::var("SKEP_TEST_ENGINE").is_ok_and(|engine| engine == "docker") {
            return None;
        }
        let engine = Engine::builder()
            .argument(format!("--signature-policy={}", dir.path().join("policy.json").display()))
            .start();
        assert_eq!(engine.kind(), EngineKind::Skep);
        Some(Guarded { engine, registry: Registry::start(), dir })
    }

    fn policy_file(&self) -> PathBuf {
        self.dir.path().join("policy.json")
    }

    fn policy(&self, document: &Value) {
        std::fs::write(self.policy_file(), document.to_string()).unwrap();
    }

    /// Images of the registry have to be signed with this key, for their own repository.
    fn require(&self, signer: &Signer) {
        let key = self.dir.path().join("key.pem");
        std::fs::write(&key, signer.public_key()).unwrap();
        let requirement =
            json!([{"type": "sigstoreSigned", "keyPath": key, "signedIdentity": {"type": "matchRepository"}}]);
        let reject: Value = serde_json::from_str(REJECT).unwrap();
        let docker = json!({ self.registry.address(): requirement });
        self.policy(&json!({"default": reject, "transports": {"docker": docker}}));
    }

    fn push(&self, name: &str) -> String {
        self.registry.push(name, Image::busybox())
    }

    /// Pulls, and asserts that nothing but manifests and signatures was asked for when that failed.
    fn refused(&self, outcome: Outcome, words: &str) {
        assert_ne!(outcome.code, 0, "{outcome}");
        outcome.stderr_has(&format!("Source image rejected: {words}"));
        let log = self.registry.log();
        for digest in [Image::busybox().id(), Image::busybox().layer_digest(0)] {
            let fetched =
                log.lines().find(|line| line.contains("\"GET ") && line.contains(&format!("/blobs/{digest}")));
            assert_eq!(fetched, None, "asked for before it was refused");
        }
        self.engine.run(["images", "-aq"]).success().stdout_is("");
    }
}

/// What podman says to the same image, with the same policy.
fn podman(guarded: &Guarded, name: &str) -> std::process::Output {
    let home = guarded.dir.path().join("home");
    std::fs::create_dir_all(&home).unwrap();
    let storage = |name: &str| guarded.dir.path().join(name).display().to_string();
    std::process::Command::new("podman")
        .env("HOME", &home)
        .args(["--root", &storage("podman"), "--runroot", &storage("podman-run"), "--storage-driver", "vfs"])
        .args(["pull", "--quiet", "--tls-verify=false", "--signature-policy"])
        .arg(guarded.policy_file())
        .arg(name)
        .output()
        .expect("podman (cargo xtask deps)")
}

#[test]
fn what_is_signed_comes_in() {
    let Some(guarded) = Guarded::start() else { return };
    let signer = Signer::default();
    guarded.require(&signer);
    let (digest, name) = (guarded.push("team/app:1"), guarded.registry.name("team/app:1"));
    let repository = guarded.registry.name("team/app");
    signer.sign(&guarded.registry, "team/app", &digest, &repository, &digest);
    guarded.engine.run(["pull", "--quiet", &name]).success();
    guarded.engine.run(["run", "--rm", &name, "echo", "signed"]).success().stdout_is("signed\n");
    guarded.engine.run(["rmi", "-f", &name]).success();
    guarded.engine.run(["pull", "--quiet", &format!("{repository}@{digest}")]).success();
}

#[test]
fn what_is_not_signed_as_it_has_to_be_is_refused() {
    let Some(guarded) = Guarded::start() else { return };
    let (signer, other) = (Signer::default(), Signer::default());
    guarded.require(&signer);
    let own = |repository: &str| guarded.registry.name(repository);
    let elsewhere = format!("sha256:{}", "7".repeat(64));
    let registry = &guarded.registry;
    let digests: Vec<String> =
        ["unsigned:1", "key:1", "identity:1", "replayed:1"].iter().map(|name| guarded.push(name)).collect();
    other.sign(registry, "key", &digests[1], &own("key"), &digests[1]);
    signer.sign(registry, "identity", &digests[2], &own("other"), &digests[2]);
    signer.sign(registry, "replayed", &elsewhere, &own("replayed"), &digests[3]);
    for (name, words) in [
        ("unsigned:1", "A signature was required, but no signature exists"),
        ("key:1", "cryptographic signature verification failed"),
        ("identity:1", "Signature for identity"),
        ("replayed:1", "Signature for digest sha256:7777"),
    ] {
        let name = registry.name(name);
        guarded.refused(guarded.engine.run(["pull", &name]), words);
        let outcome = guarded.engine.run(["run", "--rm", &name, "true"]).code_is(125);
        guarded.refused(outcome, words);
    }
    guarded.policy(&json!({"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/nowhere"}]}));
    let outcome = guarded.engine.run(["pull", &registry.name("unsigned:1")]);
    guarded.refused(outcome, "the policy requires signedBy (GPG), which is not supported");
}

/// Debian's podman has no sigstore, so what can be compared is which requirements are for an image, and what is said then.
#[test]
fn podman_finds_the_same_requirements() {
    let Some(guarded) = Guarded::start() else { return };
    guarded.push("team/app:1");
    let (address, name) = (guarded.registry.address(), guarded.registry.name("team/app:1"));
    let accept = json!([{"type": "insecureAcceptAnything"}]);
    let reject: Value = serde_json::from_str(REJECT).unwrap();
    for (scope, rejected) in [
        (format!("{address}/team/app:1"), true),
        (format!("{address}/team/app"), true),
        (format!("{address}/team"), true),
        (address.to_owned(), true),
        ("*.0.0.1".to_owned(), true),
        (String::new(), true),
        (format!("{address}/team/app:2"), false),
        (format!("{address}/tea"), false),
        ("127.0.0.1".to_owned(), false),
        ("*.0.1.1".to_owned(), false),
    ] {
        let docker = json!({ scope.as_str(): reject });
        guarded.policy(&json!({"default": accept, "transports": {"docker": docker}}));
        let (ours, theirs) = (guarded.engine.run(["pull", "--quiet", &name]), podman(&guarded, &name));
        let said = String::from_utf8_lossy(&theirs.stderr).into_owned();
        assert_eq!(theirs.status.success(), !rejected, "podman with {scope:?}: {said}");
        if rejected {
            let words = format!("Source image rejected: Running image docker://{name} is rejected by policy.");
            assert!(said.contains(&words), "{said}");
            assert_ne!(ours.code, 0, "{scope:?}: {ours}");
            ours.stderr_has(&words);
        } else {
            ours.success();
            guarded.engine.run(["rmi", &name]).success();
        }
    }
}

#[test]
fn an_unreadable_policy_lets_nothing_in() {
    let Some(guarded) = Guarded::start() else { return };
    guarded.push("any:1");
    let name = guarded.registry.name("any:1");
    let refused = |words: &str| guarded.refused(guarded.engine.run(["pull", &name]), words);
    refused("signature policy");
    std::fs::write(guarded.policy_file(), r#"{"default": [], "default": []}"#).unwrap();
    refused("signature policy");
    std::fs::remove_file(guarded.policy_file()).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        guarded.policy_file(),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    refused("signature policy");
    std::fs::remove_file(guarded.policy_file()).unwrap();
    guarded.policy(&json!({"default": [{"type": "insecureAcceptAnything"}]}));
    guarded.engine.run(["pull", "--quiet", &name]).success();
}

#[test]
fn archives_have_transports_of_their_own() {
    let Some(guarded) = Guarded::start() else { return };
    let file = |name: &str| guarded.engine.scratch().join(name).display().to_string();
    let (archive, files) = (file("image.tar"), file("files.tar"));
    std::fs::write(&archive, Image::busybox().archive()).unwrap();
    std::fs::write(&files, &Image::busybox().layers[0]).unwrap();
    let accept = json!({"": [{"type": "insecureAcceptAnything"}]});
    let reject: Value = serde_json::from_str(REJECT).unwrap();
    guarded.policy(&json!({"default": reject, "transports": {"tarball": accept}}));
    let words = "Source image rejected: Running image docker-archive: is rejected by policy.";
    let outcome = guarded.engine.run(["load", "-i", &archive]);
    assert_ne!(outcome.code, 0, "{outcome}");
    outcome.stderr_has(words);
    guarded.engine.run(["import", &files, "imported:1"]).success();
    guarded.policy(&json!({"default": reject, "transports": {"docker-archive": accept}}));
    guarded.engine.run(["load", "-i", &archive]).success();
    // What is saved is an archive of both kinds: either will do, neither will not.
    let both = file("both.tar");
    guarded.engine.run(["save", "-o", &both, "busybox"]).success();
    guarded.engine.run(["load", "-i", &both]).success();
    guarded.policy(&json!({"default": reject, "transports": {"oci-archive": accept}}));
    guarded.engine.run(["load", "-i", &both]).success();
    guarded.policy(&json!({"default": reject}));
    assert_ne!(guarded.engine.run(["load", "-i", &both]).code, 0);
    guarded.policy(&json!({"default": reject, "transports": {"docker-archive": accept}}));
    let outcome = guarded.engine.run(["import", &files, "imported:2"]);
    assert_ne!(outcome.code, 0, "{outcome}");
    outcome.stderr_has("Source image rejected: Running image tarball: is rejected by policy.");
}

/// What a client gives as a layout has no name that a signature could be for: it comes in if the transport's requirements let it.
#[test]
fn a_layout_that_is_a_context_is_held_to_the_policy() {
    let Some(guarded) = Guarded::start() else { return };
    let engine = &guarded.engine;
    let accept = json!([{"type": "insecureAcceptAnything"}]);
    let reject: Value = serde_json::from_str(REJECT).unwrap();
    guarded.policy(&json!({"default": accept}));
    engine.load(Image::busybox());
    let project = engine.scratch().join("project");
    std::fs::create_dir_all(&project).unwrap();
    let layout = engine.scratch().join("layout");
    let build = |text: &str, more: &[&str]| {
        std::fs::write(project.join("Dockerfile"), text).unwrap();
        let folder = project.display().to_string();
        engine.run([&["build"], more, &[folder.as_str()]].concat())
    };
    let output = format!("type=oci,tar=false,dest={}", layout.display());
    build("FROM busybox\nLABEL a=b\n", &["--output", &output]).success();
    let context = format!("made=oci-layout://{}", layout.display());
    for (transport, code) in [("docker", 0), ("oci", 1)] {
        let transports = json!({ transport: {"": reject} });
        guarded.policy(&json!({"default": accept, "transports": transports}));
        let outcome = build("FROM made\n", &["--no-cache", "--build-context", &context]).code_is(code);
        if code != 0 {
            outcome.stderr_has("Source image rejected: Running image oci: is rejected by policy.");
        }
    }
}
