//! SDKs of other languages, from their package indexes, in environments of their own that are made once: Docker's for Python, and
//! dockerode for Node. The steps are in `tests/sdk`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use skep_testkit::Engine;

use super::transports::over_tcp;
use super::{engine, peers};

/// The SDK's versions that the script is written for.
const PACKAGE: &str = "docker~=7.1";
const NODE_PACKAGE: &str = "dockerode@5";

#[test]
fn python_sdk() {
    let Some(python) = environment() else {
        return println!("SKIPPED Docker's SDK for Python: no package index is reachable");
    };
    let engine = engine();
    let host = format!("unix://{}", engine.socket().display());
    println!("{}", script("lifecycle.py", &engine, &python, &host));
}

#[test]
fn python_sdk_builds() {
    let Some(python) = environment() else {
        return println!("SKIPPED builds by Docker's SDK for Python: no package index is reachable");
    };
    let engine = engine();
    let host = format!("unix://{}", engine.socket().display());
    println!("{}", script("builds.py", &engine, &python, &host));
}

#[test]
fn node_sdk_builds() {
    let Some(modules) = modules() else {
        return println!("SKIPPED builds by dockerode: node, npm or its package index is not here");
    };
    let engine = engine();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk/builds.js");
    let command = skep_testkit::Command::new("node", [&script])
        .env("NODE_PATH", modules)
        .env("DOCKER_HOST", format!("unix://{}", engine.socket().display()))
        .env("HOME", engine.scratch());
    command.run().success().stdout_is("built in four ways\n");
}

#[test]
fn python_sdk_over_tcp() {
    let Some(python) = environment() else {
        return println!("SKIPPED Docker's SDK for Python over tcp: no package index is reachable");
    };
    let (engine, address) = over_tcp();
    println!("{}", script("lifecycle.py", &engine, &python, &format!("tcp://{address}")));
}

fn script(name: &str, engine: &Engine, python: &Path, host: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk").join(name);
    let command = skep_testkit::Command::new(python, [&script])
        .env("DOCKER_HOST", host)
        .env("DOCKER_CONFIG", engine.scratch().join(".docker"))
        .env("HOME", engine.scratch());
    command.run().success().stdout
}

/// The Python of an environment that has the SDK. Tests of several processes wait for whoever makes it.
fn environment() -> Option<PathBuf> {
    let folder = peers::target().join("sdk");
    std::fs::create_dir_all(&folder).unwrap();
    let lock = std::fs::File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let (venv, done) = (folder.join("venv"), folder.join("complete"));
    let python = venv.join("bin/python");
    if std::fs::read_to_string(&done).is_ok_and(|made_for| made_for == PACKAGE) {
        return Some(python);
    }
    let made = run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv));
    assert!(made.status.success(), "python3 -m venv (`cargo xtask deps test` installs it): {}", text(&made));
    let pip = ["-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--retries", "1", "--timeout", "10"];
    let installed = run(Command::new(&python).args(pip).arg(PACKAGE));
    if !installed.status.success() {
        let text = text(&installed);
        // pip tells what it found on an index. Without one it found nothing.
        assert!(text.contains("(from versions: none)") || text.contains("Max retries exceeded"), "pip: {text}");
        return None;
    }
    std::fs::write(done, PACKAGE).unwrap();
    Some(python)
}

/// A folder with dockerode and what it needs. Tests of several processes wait for whoever makes it.
fn modules() -> Option<PathBuf> {
    peers::installed("node").and(peers::installed("npm"))?;
    let folder = peers::target().join("sdk-node");
    std::fs::create_dir_all(&folder).unwrap();
    let lock = std::fs::File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let (modules, done) = (folder.join("node_modules"), folder.join("complete"));
    if std::fs::read_to_string(&done).is_ok_and(|made_for| made_for == NODE_PACKAGE) {
        return Some(modules);
    }
    std::fs::write(folder.join("package.json"), "{\"private\": true}").unwrap();
    let words = ["install", "--no-audit", "--no-fund", "--silent", "--fetch-retries=1", NODE_PACKAGE];
    if !run(Command::new("npm").args(words).current_dir(&folder)).status.success() {
        return None;
    }
    std::fs::write(done, NODE_PACKAGE).unwrap();
    Some(modules)
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?} (`cargo xtask deps test` installs it): {error}"))
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
