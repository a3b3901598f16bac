//! The real `docker` client, the newest of Debian and that of this machine, as it comes.

use std::path::{Path, PathBuf};

use skep_testkit::{Command, Engine};

use super::{engine, peers};

#[test]
fn newest_docker_client() {
    match peers::fetched("docker") {
        Some(client) => everyday_commands(&client),
        None => println!("SKIPPED Debian's newest docker client: `cargo xtask peers` has not fetched it"),
    }
}

#[test]
fn docker_client_of_this_machine() {
    match peers::installed("docker") {
        Some(client) => everyday_commands(&client),
        None => println!("SKIPPED this machine's docker client: none is installed"),
    }
}

/// A client and the engine that it talks to.
struct Client<'a> {
    program: &'a Path,
    engine: &'a Engine,
}

impl Client<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let home: PathBuf = self.engine.scratch();
        let host = format!("unix://{}", self.engine.socket().display());
        Command::new(self.program, arguments)
            .env("DOCKER_HOST", host)
            .env("DOCKER_CONFIG", home.join(".docker"))
            .env("HOME", home)
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> skep_testkit::Outcome {
        self.command(arguments).run()
    }
}

fn everyday_commands(program: &Path) {
    let engine = engine();
    let docker = Client { program, engine: &engine };
    versions(&docker);
    processes(&docker);
    a_life(&docker);
    others(&docker);
}

fn versions(docker: &Client<'_>) {
    let version = docker.run(&["version", "--format", "{{json .}}"]).success().json();
    let (client, server) = (&version["Client"], &version["Server"]);
    assert_eq!(server["Os"], "linux", "{version}");
    let minor = |value: &serde_json::Value| -> u32 {
        let text = value.as_str().unwrap_or_default();
        text.strip_prefix("1.").and_then(|minor| minor.parse().ok()).unwrap_or_else(|| panic!("{version}"))
    };
    // The client goes down to the server's version, and no further.
    let (spoken, newest) = (minor(&client["ApiVersion"]), minor(&client["DefaultAPIVersion"]));
    assert_eq!(spoken, newest.min(minor(&server["ApiVersion"])), "{version}");
    docker.run(&["version"]).success().stdout_has("Server:");
    docker.run(&["info"]).success().stdout_has("Images: 1");
    docker.run(&["images", "-q", "busybox"]).success();
}

fn processes(docker: &Client<'_>) {
    let both = "echo out; echo err >&2; exit 3";
    let outcome = docker.run(&["run", "--rm", "busybox", "sh", "-c", both]).code_is(3);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
    docker
        .command(&["run", "--rm", "-i", "busybox", "tr", "a-z", "A-Z"])
        .stdin("text\n")
        .run()
        .success()
        .stdout_is("TEXT\n");
    docker.run(&["run", "--rm", "busybox", "no-such-program"]).code_is(127).stderr_has("executable file not found");
    docker.run(&["run", "--rm", "--pull", "never", "not-here"]).code_is(125).stderr_has("No such image");
}

fn a_life(docker: &Client<'_>) {
    let script = "echo started; echo warned >&2; exec sleep 1000";
    let id = docker
        .run(&["run", "-d", "--init", "--name", "one", "-p", "80", "busybox", "sh", "-c", script])
        .success()
        .word();
    docker.run(&["ps", "-q", "--no-trunc"]).success().stdout_is(&format!("{id}\n"));
    let line = "{{.Names}} {{.Image}} {{.State}}";
    docker.run(&["ps", "--format", line]).success().stdout_is("one busybox running\n");
    docker.run(&["port", "one", "80"]).success().stdout_has(":");
    docker
        .run(&["exec", "-e", "A=b", "-w", "/tmp", "one", "sh", "-c", "echo $A; pwd"])
        .success()
        .stdout_is("b\n/tmp\n");
    docker.command(&["exec", "-i", "one", "cat"]).stdin("in").run().success().stdout_is("in");
    docker.run(&["exec", "one", "sh", "-c", "exit 5"]).code_is(5);
    docker.run(&["exec", "one", "no-such-program"]).code_is(127);
    skep_testkit::until("the log has both lines", || {
        let logs = docker.run(&["logs", "one"]).success();
        logs.stdout == "started\n" && logs.stderr == "warned\n"
    });
    docker.run(&["top", "one"]).success().stdout_has("sleep 1000");
    docker.run(&["stats", "--no-stream", "--format", "{{.Name}}", "one"]).success().stdout_is("one\n");
    docker.run(&["pause", "one"]).success();
    docker.run(&["inspect", "-f", "{{.State.Status}}", "one"]).success().stdout_is("paused\n");
    docker.run(&["unpause", "one"]).success();
    docker.run(&["rename", "one", "other"]).success();
    let inspected = docker.run(&["inspect", "other"]).success().json();
    assert_eq!((&inspected[0]["Id"], &inspected[0]["Name"]), (&id.into(), &"/other".into()));
    docker.run(&["stop", "other"]).success().stdout_is("other\n");
    docker.run(&["wait", "other"]).success().stdout_is("143\n");
    docker.run(&["rm", "other"]).success().stdout_is("other\n");
    docker.run(&["rm", "other"]).code_is(1).stderr_has("No such container: other");
    docker.run(&["ps", "-aq"]).success().stdout_is("");
}

fn others(docker: &Client<'_>) {
    let folder = docker.engine.scratch();
    std::fs::write(folder.join("file"), "copied\n").unwrap();
    let file = folder.join("file").display().to_string();
    docker.run(&["create", "--name", "two", "-v", "kept:/data", "busybox", "cat", "/tmp/file"]).success();
    docker.run(&["cp", &file, "two:/tmp/file"]).success();
    docker.run(&["start", "-a", "two"]).success().stdout_is("copied\n");
    docker.run(&["volume", "ls", "-q"]).success().stdout_is("kept\n");
    docker.run(&["network", "ls", "--format", "{{.Name}}"]).success().stdout_is("bridge\nhost\nnone\n");
    docker.run(&["rm", "-v", "two"]).success();
    docker.run(&["volume", "rm", "kept"]).success().stdout_is("kept\n");
    docker.run(&["tag", "busybox", "other:name"]).success();
    docker.run(&["rmi", "other:name"]).success().stdout_has("Untagged: other:name");
    docker.run(&["system", "df"]).success().stdout_has("Images");
}
