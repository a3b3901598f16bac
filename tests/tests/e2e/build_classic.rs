//! The classic builder's protocol: `DOCKER_BUILDKIT=0 docker build`, which speaks `POST /build`.

use skep_testkit::{Command, Engine, EngineKind, Outcome};

use super::build_clients::Docker;
use super::project::{Project, cat, inspect, repository};
use super::serve::Server;
use super::{engine, peers};

/// Why a scenario is skipped.
const NO_CLIENT: &str = "SKIPPED the classic builder: no docker client is here";

/// The client, without BuildKit.
struct Classic(Docker);

impl Classic {
    fn new(engine: &Engine) -> Option<Classic> {
        let found = Docker::new(engine, peers::fetched("docker").or_else(|| peers::installed("docker")));
        found.map(Classic)
    }

    fn command(&self, words: &[&str]) -> Command {
        self.0.command(&[&["build"], words].concat()).env("DOCKER_BUILDKIT", "0")
    }

    #[track_caller]
    fn run(&self, project: &Project, words: &[&str]) -> Outcome {
        self.command(words).current_dir(project.path()).run()
    }
}

const TEXT: &str = "FROM busybox AS base\nCOPY file /file\nRUN echo made > /made\nFROM base\nCMD cat /made\n";

fn project(engine: &Engine) -> Project {
    Project::new(engine, "classic", TEXT).file("file", "data\n")
}

/// Ids in a text, in their order.
fn ids(text: &str) -> Vec<String> {
    let arrow = text.lines().filter_map(|line| line.strip_prefix(" ---> "));
    arrow.filter(|id| id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).map(str::to_owned).collect()
}

#[test]
fn steps_are_numbered_and_their_images_run() {
    let engine = engine();
    let Some(docker) = Classic::new(&engine) else { return println!("{NO_CLIENT}") };
    let project = project(&engine);
    let shown = docker.run(&project, &["-t", "one", "-t", "two:2", "."]).success().stdout;
    for line in [
        "Step 1/5 : FROM busybox AS base\n",
        "Step 3/5 : RUN echo made > /made\n",
        " ---> Running in ",
        " ---> Removed intermediate container ",
        "Successfully built ",
        "Successfully tagged one:latest\n",
        "Successfully tagged two:2\n",
    ] {
        assert!(shown.contains(line), "{line:?} in {shown}");
    }
    let ids = ids(&shown);
    assert_eq!(ids.len(), 5, "{shown}");
    assert_eq!(cat(&engine, &ids[1], "/file"), "data\n");
    engine.run(["run", "--rm", &ids[1], "test", "-e", "/made"]).code_is(1);
    assert_eq!(cat(&engine, &ids[2], "/made"), "made\n");
    engine.run(["run", "--rm", "one"]).success().stdout_is("made\n");
}

#[test]
fn what_is_known_is_used() {
    let engine = engine();
    let Some(docker) = Classic::new(&engine) else { return println!("{NO_CLIENT}") };
    let project = project(&engine);
    let first = docker.run(&project, &["."]).success().stdout;
    let again = docker.run(&project, &["."]).success().stdout;
    assert_eq!(again.matches(" ---> Using cache\n").count(), 3, "{again}");
    assert_eq!(ids(&first), ids(&again));
    let fresh = docker.run(&project, &["--no-cache", "."]).success().stdout;
    assert!(!fresh.contains("Using cache"), "{fresh}");
    let project = project.file("file", "other\n");
    let changed = docker.run(&project, &["."]).success().stdout;
    assert!(!changed.contains("Using cache"), "{changed}");
}

#[test]
fn a_step_that_fails() {
    let engine = engine();
    let Some(docker) = Classic::new(&engine) else { return println!("{NO_CLIENT}") };
    let project = Project::new(&engine, "fails", "FROM busybox\nRUN echo before; exit 9\n");
    let outcome = docker.run(&project, &["."]).code_is(9);
    let outcome = outcome.stdout_has("before\n");
    let outcome = outcome.stderr_has("The command '/bin/sh -c echo before; exit 9' returned a non-zero code: 9");
    assert!(!outcome.stdout.contains("Removed intermediate"), "{outcome}");
    docker.run(&project, &["--force-rm", "."]).code_is(9).stdout_has(" ---> Removed intermediate container ");
    docker.run(&project, &["-q", "."]).code_is(9).stderr_has("before\n");
    if engine.kind() == EngineKind::Skep {
        // Docker keeps the containers of failed steps, for `commit`; skep's steps are none.
        engine.run(["ps", "-aq"]).success().stdout_is("");
    }
}

#[test]
fn arguments_that_nobody_declares() {
    let engine = engine();
    let Some(docker) = Classic::new(&engine) else { return println!("{NO_CLIENT}") };
    let project = Project::new(&engine, "args", "ARG TAG=latest\nFROM busybox:$TAG\nARG WHO\nRUN echo $WHO > /who\n");
    let words = ["-t", "one", "--build-arg", "WHO=me", "--build-arg", "B=1", "--build-arg", "A=2"];
    let more = ["--build-arg", "TAG=latest", "--build-arg", "HTTP_PROXY=http://p", "."];
    let outcome = docker.run(&project, &[words.as_slice(), &more].concat()).success();
    outcome.stdout_has("[Warning] One or more build-args [A B] were not consumed\n");
    assert_eq!(cat(&engine, "one", "/who"), "me\n");
}

#[test]
fn contexts_from_stdin() {
    let engine = engine();
    let Some(docker) = Classic::new(&engine) else { return println!("{NO_CLIENT}") };
    let project = Project::empty(&engine, "files").file("file", "data\n");
    // The client ends its archive without the blocks that say so.
    let text = "FROM busybox\nCOPY file /file\n";
    docker.command(&["-t", "one", "-f", "-", "."]).current_dir(project.path()).stdin(text).run().success();
    assert_eq!(cat(&engine, "one", "/file"), "data\n");
    docker.command(&["-t", "two", "-"]).stdin("FROM busybox\nRUN echo alone > /x\n").run().success();
    assert_eq!(cat(&engine, "two", "/x"), "alone\n");
    let project = project.file("sub/My", text);
    for (tag, compress) in [("three", false), ("four", true)] {
        let archive = project.archive(compress);
        docker.command(&["-t", tag, "-f", "sub/My", "-"]).stdin(archive).run().success();
        assert_eq!(cat(&engine, tag, "/file"), "data\n");
    }
}

/// An archive says nothing of where it is from: its files are never taken for those of another one.
#[test]
fn contexts_with_files_of_the_same_name_size_and_time() {
    let engine = engine();
    let Some(docker) = Classic::new(&engine) else { return println!("{NO_CLIENT}") };
    for (name, text) in [("one", "first\n"), ("two", "other\n")] {
        let project = Project::new(&engine, name, "FROM busybox\nCOPY file /file\n").file("file", text);
        Command::new("touch", ["-d", "@1700000000", "file", "Dockerfile"]).current_dir(project.path()).run().success();
        docker.run(&project, &["-t", name, "."]).success();
        assert_eq!(cat(&engine, name, "/file"), text);
    }
    let kept = || std::fs::read_dir(engine.data_root().join("build/context")).map_or(0, Iterator::count);
    skep_testkit::until("the contexts are gone", || kept() == 0);
}

#[test]
fn contexts_from_elsewhere() {
    let engine = engine();
    let Some(docker) = Classic::new(&engine) else { return println!("{NO_CLIENT}") };
    let project = Project::new(&engine, "kept", "FROM busybox\nCOPY file /file\n").file("file", "data\n");
    let name = repository(&project);
    let server = Server::start(engine.scratch());
    docker.command(&["-t", "git", &format!("http://{}/{name}#main", server.address())]).run().success();
    assert_eq!(cat(&engine, "git", "/file"), "data\n");
    let web = Project::empty(&engine, "web").file("kept.tar.gz", project.archive(true));
    let address = format!("http://{}/web/kept.tar.gz", server.address());
    docker.command(&["-t", "web", &address]).current_dir(web.path()).run().success();
    assert_eq!(cat(&engine, "web", "/file"), "data\n");
}

#[test]
fn what_is_told_of_the_image() {
    let engine = engine();
    let Some(docker) = Classic::new(&engine) else { return println!("{NO_CLIENT}") };
    let project = project(&engine);
    let quiet = docker.run(&project, &["-q", "-t", "one", "--iidfile", "id", "--label", "a=b", "."]).success();
    let image = inspect(&engine, "one");
    assert_eq!(quiet.stdout.trim(), image["Id"].as_str().unwrap());
    assert_eq!(std::fs::read_to_string(project.path().join("id")).unwrap().trim(), image["Id"].as_str().unwrap());
    assert_eq!(image["Config"]["Labels"]["a"], "b");
    let base = docker.run(&project, &["--target", "base", "."]).success().stdout;
    assert!(base.contains("Step 3/3 : RUN"), "{base}");
}

#[test]
fn limits_hold_in_steps() {
    let engine = engine();
    let Some(docker) = Classic::new(&engine) else { return println!("{NO_CLIENT}") };
    let project = Project::new(&engine, "limits", "FROM busybox\nRUN ulimit -n > /files; cat /etc/hosts > /names\n");
    let words =
        ["-t", "one", "--ulimit", "nofile=111:222", "--add-host", "db:10.1.2.3", "--add-host", "me:host-gateway", "."];
    docker.run(&project, &words).success();
    assert_eq!(cat(&engine, "one", "/files"), "111\n");
    let names = cat(&engine, "one", "/names");
    assert!(names.contains("10.1.2.3\tdb") && names.contains("\tme"), "{names}");
}

#[test]
fn mistakes() {
    let engine = engine();
    let Some(docker) = Classic::new(&engine) else { return println!("{NO_CLIENT}") };
    let fails = |text: &str, says: &str| {
        let project = Project::new(&engine, "wrong", text);
        docker.run(&project, &["."]).code_is(1).stderr_has(says);
    };
    fails("FROM busybox\nNOPE x\n", "dockerfile parse error on line 2: unknown instruction: NOPE");
    fails(
        "FROM busybox\nCOPY missing /\n",
        "COPY failed: file not found in build context or excluded by .dockerignore: stat missing: file does not exist",
    );
    fails("FROM busybox AS a\nCOPY --from=127.0.0.1:1/nobody /x /\n", "127.0.0.1:1");
    let project = project(&engine);
    docker
        .run(&project, &["--target", "nothing", "."])
        .code_is(1)
        .stderr_has("target stage \"nothing\" could not be found");
    docker.run(&project, &["-f", "none", "."]).code_is(1);
}
