//! `commit`: images from containers.

use super::{engine, sleeper};

#[test]
fn what_a_container_changed_is_in_the_image() {
    let engine = engine();
    let script = "echo new > /new; rm -r /bin/wc /etc/gone; mkdir -p /dir/below; ln /new /hard; ln -s new /soft; \
                  mkfifo /pipe; chmod 4711 /dir/below; chown -h 7:8 /soft";
    engine.run(["run", "--name", "base", "busybox", "sh", "-c", "mkdir -p /etc/gone; echo x > /etc/gone/x"]).success();
    engine.run(["commit", "base", "base:1"]).success();
    engine.run(["run", "--name", "one", "base:1", "sh", "-c", script]).success();
    let id = engine.run(["commit", "-a", "me", "-m", "because", "one", "made/here:1"]).success().word();
    assert!(id.starts_with("sha256:"), "{id}");
    let check = "cat /new /hard /soft; stat -c %h /hard; stat -c '%a %F' /dir/below /pipe; stat -c %u:%g /soft; \
                 ls -d /bin/wc /etc/gone 2>/dev/null | wc -l; ls -d /bin/sh";
    // wc is gone as a name, the program has it still.
    let check = check.replace("| wc -l", "| busybox wc -l");
    engine
        .run(["run", "--rm", "made/here:1", "sh", "-c", &check])
        .success()
        .stdout_is("new\nnew\nnew\n2\n4711 directory\n644 fifo\n7:8\n0\n/bin/sh\n");
    // The engine's own mount points are no part of it.
    engine.run(["create", "--name", "two", "made/here:1"]).success();
    engine.run(["diff", "two"]).success().stdout_is("");
    let shown =
        engine.run(["image", "inspect", "-f", "{{.Author}} {{.Comment}} {{len .RootFS.Layers}}", "made/here:1"]);
    shown.success().stdout_is("me because 3\n");
    let steps =
        engine.run(["history", "--no-trunc", "--format", "{{.Comment}}|{{.CreatedBy}}", "made/here:1"]).success();
    steps.stdout_has(&format!("because|sh -c {script}"));
}

#[test]
fn settings_come_from_the_container_and_the_instructions() {
    let engine = engine();
    engine.run(["create", "--name", "one", "-e", "A=1", "-l", "x=y", "-w", "/tmp", "busybox", "echo", "hi"]).success();
    engine.run(["commit", "-c", "ENV B=2 C=$A", "-c", "LABEL z=1", "--change", "EXPOSE 80", "one", "set:1"]).success();
    let config = engine.run(["image", "inspect", "-f", "{{json .Config}}", "set:1"]).success().json();
    let env: Vec<&str> = config["Env"].as_array().unwrap().iter().filter_map(|entry| entry.as_str()).collect();
    assert_eq!(env.iter().filter(|entry| !entry.starts_with("PATH=")).collect::<Vec<_>>(), [&"A=1", &"B=2", &"C=1"]);
    assert_eq!(config["Labels"], serde_json::json!({"x": "y", "z": "1"}));
    assert_eq!((&config["WorkingDir"], &config["Cmd"]), (&"/tmp".into(), &serde_json::json!(["echo", "hi"])));
    assert_eq!(config["ExposedPorts"], serde_json::json!({"80/tcp": {}}));
    engine.run(["run", "--rm", "set:1"]).success().stdout_is("hi\n");
    // Nothing was changed: a step of the history, and no layer.
    let layers = |name: &str| engine.run(["image", "inspect", "-f", "{{len .RootFS.Layers}}", name]).success().word();
    assert_eq!(layers("set:1"), layers("busybox"));
}

#[test]
fn a_running_container_is_frozen_meanwhile_and_goes_on() {
    let engine = engine();
    sleeper(&engine, "one");
    let since = now(&engine);
    engine.run(["exec", "one", "sh", "-c", "echo kept > /kept"]).success();
    engine.run(["commit", "one", "live:1"]).success();
    engine.until_status("one", "running");
    engine.run(["commit", "--pause=false", "one"]).success();
    engine.run(["run", "--rm", "live:1", "cat", "/kept"]).success().stdout_is("kept\n");
    let until = now(&engine);
    let format = "{{.Type}} {{.Action}}";
    let events = engine.run(["events", "--since", &since, "--until", &until, "--format", format]).success();
    let told: Vec<&str> = events
        .stdout
        .lines()
        .filter(|line| ["pause", "commit", "tag"].iter().any(|word| line.contains(word)))
        .collect();
    let want = ["container pause", "image tag", "container commit", "container unpause", "container commit"];
    assert_eq!(told, want);
}

/// The engine's time as `--since` takes it.
fn now(engine: &skep_testkit::Engine) -> String {
    engine.run(["system", "info", "-f", "{{.SystemTime}}"]).success().word()
}

#[test]
fn the_image_of_the_container_may_be_gone() {
    let engine = engine();
    engine.run(["run", "--name", "one", "busybox", "sh", "-c", "echo here > /here"]).success();
    engine.run(["rmi", "-f", "busybox"]).success();
    engine.run(["commit", "one", "orphan:1"]).success();
    engine.run(["rm", "one"]).success();
    engine.run(["run", "--rm", "orphan:1", "cat", "/here"]).success().stdout_is("here\n");
    engine.run(["rmi", "orphan:1"]).success();
    engine.run(["images", "-aq"]).success().stdout_is("");
}

#[test]
fn mistakes_change_nothing() {
    let engine = engine();
    engine.run(["create", "--name", "one", "busybox"]).success();
    let digest = format!("x@sha256:{}", "0".repeat(64));
    for (arguments, text) in [
        (&["nope"][..], "Error response from daemon: No such container: nope"),
        (&["-c", "RUN x", "one"], "Error response from daemon: RUN is not a valid change command"),
        (&["-c", "WORKDIR", "one"], "Error response from daemon: WORKDIR requires exactly one argument"),
        (&["one", "BAD"], "invalid reference format: repository name (library/BAD) must be lowercase"),
        (&["one", &digest], "refusing to create a tag with a digest reference"),
    ] {
        engine.run([&["commit"], arguments].concat()).code_is(1).stderr_has(text);
    }
    engine.run(["images", "-aq"]).success().stdout_is(&format!("{}\n", engine.run(["images", "-q"]).word()));
}
