//! Docker's own clients build: `docker build`, `docker buildx bake` and `docker compose`, the one of this machine and the newest of
//! Debian, with its newest plugins.

use std::path::{Path, PathBuf};

use skep_testkit::{Command, Engine, EngineKind, Outcome};

use super::project::{Project, cat, inspect};
use super::{engine, peers};

/// A client with the plugins, and the engine that it talks to.
pub(crate) struct Docker {
    program: PathBuf,
    config: PathBuf,
    host: String,
}

impl Docker {
    /// None if the program or the plugins are not here.
    pub(crate) fn new(engine: &Engine, program: Option<PathBuf>) -> Option<Docker> {
        let plugins = peers::fetched("docker")?.parent()?.parent()?.join("libexec/docker/cli-plugins");
        let config = engine.scratch().join("docker");
        std::fs::create_dir_all(&config).unwrap();
        let link = config.join("cli-plugins");
        if !link.exists() {
            std::os::unix::fs::symlink(plugins, link).unwrap();
        }
        Some(Docker { program: program?, config, host: format!("unix://{}", engine.socket().display()) })
    }

    /// Without BuildKit, which needs no plugin.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        Command::new(&self.program, words)
            .env("DOCKER_HOST", &self.host)
            .env("DOCKER_CONFIG", &self.config)
            .env("HOME", &self.config)
            .env("BUILDX_CONFIG", self.config.join("buildx"))
    }

    #[track_caller]
    pub(crate) fn run(&self, folder: &Path, words: &[&str]) -> Outcome {
        self.command(words).current_dir(folder).run()
    }
}

/// Why a scenario is skipped.
const NO_CLIENT: &str = "SKIPPED Debian's newest docker client: `cargo xtask peers` has not fetched it";

fn newest(engine: &Engine) -> Option<Docker> {
    Docker::new(engine, peers::fetched("docker"))
}

/// skep's frontend is its own; Docker would fetch this one.
const SYNTAX: &str = "# syntax=docker/dockerfile:1\n";

const TEXT: &str = "FROM busybox AS base\nARG WHO=nobody\nRUN echo $WHO > /who\n\
    FROM base\nCOPY file /file\nRUN --mount=type=secret,id=s test $(wc -c < /run/secrets/s) = 4\n";

fn builds(engine: &Engine, docker: &Docker, words: &[&str], tag: &str) {
    let syntax = if engine.kind() == EngineKind::Skep { SYNTAX } else { "" };
    let project = Project::new(engine, tag, &[syntax, TEXT].concat()).file("file", "data\n").file("secret", "hush");
    let more = ["-t", tag, "--build-arg", "WHO=me", "--secret", "id=s,src=secret", "--progress", "plain", "."];
    let shown = docker.run(project.path(), &[words, &more].concat()).success().stderr;
    for line in ["load build definition from Dockerfile", "RUN echo me > /who"] {
        assert!(shown.contains(line), "{line:?} in {shown}");
    }
    assert_eq!(cat(engine, tag, "/who") + &cat(engine, tag, "/file"), "me\ndata\n");
    let again = docker.run(project.path(), &[words, &more].concat()).success().stderr;
    assert!(again.contains("CACHED"), "{again}");
}

#[test]
fn docker_build_of_this_machine() {
    let engine = engine();
    match Docker::new(&engine, peers::installed("docker")) {
        Some(docker) => builds(&engine, &docker, &["build"], "one"),
        None => println!("SKIPPED this machine's docker client: it or the plugins are missing"),
    }
}

#[test]
fn newest_docker_build() {
    let engine = engine();
    let Some(docker) = newest(&engine) else { return println!("{NO_CLIENT}") };
    builds(&engine, &docker, &["build"], "one");
    builds(&engine, &docker, &["buildx", "build"], "two");
}

const BAKE: &str = r#"
variable "TAG" { default = "1" }
group "default" { targets = ["app", "lib"] }
target "lib" { context = "lib" }
target "app" {
  context = "app"
  contexts = { lib = "target:lib" }
  tags = ["baked/app:${TAG}"]
}
target "many" {
  inherits = ["app"]
  name = "many-${version}"
  matrix = { version = ["a", "b"] }
  args = { VERSION = version }
  tags = ["baked/many:${version}"]
}
"#;

fn bakery(engine: &Engine) -> Project {
    Project::empty(engine, "bakery")
        .file("docker-bake.hcl", BAKE)
        .file("lib/Dockerfile", "FROM busybox\nRUN echo library > /lib.txt\n")
        .file(
            "app/Dockerfile",
            "FROM busybox\nARG VERSION=none\nRUN echo $VERSION > /version\nCOPY --from=lib /lib.txt /\n",
        )
}

#[test]
fn bake_with_targets_that_need_each_other() {
    let engine = engine();
    let Some(docker) = newest(&engine) else { return println!("{NO_CLIENT}") };
    let project = bakery(&engine);
    let plan = docker.run(project.path(), &["buildx", "bake", "--print"]).success().json();
    assert_eq!(plan["target"]["app"]["contexts"]["lib"], "target:lib");
    docker.command(&["buildx", "bake"]).env("TAG", "7").current_dir(project.path()).run().success();
    assert_eq!(cat(&engine, "baked/app:7", "/lib.txt"), "library\n");
}

#[test]
fn bake_with_a_matrix() {
    let engine = engine();
    let Some(docker) = newest(&engine) else { return println!("{NO_CLIENT}") };
    let project = bakery(&engine);
    docker.run(project.path(), &["buildx", "bake", "many"]).success();
    for version in ["a", "b"] {
        assert_eq!(cat(&engine, &format!("baked/many:{version}"), "/version"), format!("{version}\n"));
    }
}

#[test]
fn bake_from_json() {
    let engine = engine();
    let Some(docker) = newest(&engine) else { return println!("{NO_CLIENT}") };
    let text = r#"{"target": {
        "default": {"context": ".", "dockerfile-inline": "FROM busybox\nRUN echo inline > /x", "tags": ["baked/json"],
                    "labels": {"a": "b"}}}}"#;
    let project = Project::empty(&engine, "json").file("bake.json", text);
    docker.run(project.path(), &["buildx", "bake", "-f", "bake.json", "--metadata-file", "told.json"]).success();
    assert_eq!(cat(&engine, "baked/json", "/x"), "inline\n");
    let image = inspect(&engine, "baked/json");
    assert_eq!(image["Config"]["Labels"]["a"], "b");
    let told: serde_json::Value =
        serde_json::from_slice(&std::fs::read(project.path().join("told.json")).unwrap()).unwrap();
    assert_eq!(told["default"]["containerimage.config.digest"], image["Id"], "{told}");
}

const COMPOSE: &str = "
services:
  web:
    image: composed/web
    build:
      context: web
      target: final
      args: {WHO: me}
      additional_contexts: {shared: ./shared}
      secrets: [token]
      labels: {a: b}
      cache_from: [composed/web]
      platforms: [linux/amd64]
    command: cat /who
    network_mode: none
  other:
    build:
      context: .
      dockerfile_inline: |
        FROM busybox
        RUN echo other > /other
    image: composed/other
    command: cat /other
    network_mode: none
secrets:
  token: {file: ./token}
";

fn composition(engine: &Engine) -> Project {
    let text = "FROM busybox AS final\nARG WHO\nRUN echo $WHO > /who\nCOPY --from=shared file /file\n\
        RUN --mount=type=secret,id=token test $(wc -c < /run/secrets/token) = 4\nFROM scratch AS unused\n";
    Project::empty(engine, "composition")
        .file("compose.yaml", COMPOSE)
        .file("web/Dockerfile", text)
        .file("shared/file", "shared\n")
        .file("token", "hush")
}

#[test]
fn compose_builds_several_services() {
    let engine = engine();
    let Some(docker) = newest(&engine) else { return println!("{NO_CLIENT}") };
    let project = composition(&engine);
    docker.run(project.path(), &["compose", "build"]).success();
    assert_eq!(cat(&engine, "composed/web", "/who") + &cat(&engine, "composed/web", "/file"), "me\nshared\n");
    assert_eq!(cat(&engine, "composed/other", "/other"), "other\n");
    assert_eq!(inspect(&engine, "composed/web")["Config"]["Labels"]["a"], "b");
}

#[test]
fn compose_builds_what_it_starts() {
    let engine = engine();
    let Some(docker) = newest(&engine) else { return println!("{NO_CLIENT}") };
    let project = composition(&engine);
    docker.run(project.path(), &["compose", "up", "--build", "--detach", "web"]).success();
    engine.until_status("composition-web-1", "exited");
    docker.run(project.path(), &["logs", "composition-web-1"]).success().stdout_is("me\n");
    docker.run(project.path(), &["compose", "down"]).success();
}

#[test]
fn a_build_that_fails_shows_the_line() {
    let engine = engine();
    let Some(docker) = newest(&engine) else { return println!("{NO_CLIENT}") };
    let project = Project::new(&engine, "fails", "FROM busybox\nRUN echo before && exit 7\n");
    let outcome = docker.run(project.path(), &["build", "."]).code_is(1);
    let wanted = "   2 | >>> RUN echo before && exit 7\n";
    let last = "process \"/bin/sh -c echo before && exit 7\" did not complete successfully: exit code: 7";
    outcome.stderr_has(wanted).stderr_has(last);
}

#[test]
fn buildx_knows_the_builder() {
    let engine = engine();
    let Some(docker) = newest(&engine) else { return println!("{NO_CLIENT}") };
    let folder = engine.scratch();
    docker.run(&folder, &["buildx", "ls"]).success().stdout_has("running");
    docker.run(&folder, &["buildx", "inspect"]).success().stdout_has("linux/amd64");
    let project = Project::new(&engine, "used", "FROM busybox\nRUN echo used > /x\n");
    docker.run(project.path(), &["build", "."]).success();
    docker.run(&folder, &["buildx", "du", "--verbose"]).success().stdout_has("echo used > /x");
    docker.run(&folder, &["buildx", "prune", "--all", "--force"]).success().stdout_has("Total:");
    docker.run(&folder, &["buildx", "du"]).success().stdout_has("Total:\t\t0B");
}
