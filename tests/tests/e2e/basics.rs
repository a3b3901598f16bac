//! The life of a container, told once from start to end.

use skep_testkit::until;

use super::{engine, sleeper};

#[test]
fn run_prints_what_the_container_prints() {
    let engine = engine();
    let outcome = engine.run(["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2"]).success();
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
    engine.run(["ps", "-aq"]).success().stdout_is("");
}

#[test]
fn input_reaches_the_container() {
    let engine = engine();
    let outcome = engine.command(["run", "--rm", "-i", "busybox", "tr", "a-z", "A-Z"]).stdin("some text\n").run();
    outcome.success().stdout_is("SOME TEXT\n");
}

#[test]
fn large_output_is_complete() {
    let engine = engine();
    let outcome = engine.run(["run", "--rm", "busybox", "seq", "1", "200000"]).success();
    assert_eq!(outcome.stdout.lines().count(), 200_000);
    assert!(outcome.stdout.ends_with("\n200000\n"));
}

#[test]
fn from_run_to_rm() {
    let engine = engine();
    let id = sleeper(&engine, "one");
    assert_eq!(id.len(), 64, "{id}");
    assert_eq!(engine.inspect("one")["State"]["Status"], "running");
    engine.run(["ps", "-q", "--no-trunc"]).success().stdout_is(&format!("{id}\n"));
    engine.run(["ps", "--format", "{{.Names}} {{.Image}} {{.State}}"]).success().stdout_is("one busybox running\n");

    engine.run(["stop", "one"]).success().stdout_is("one\n");
    let state = engine.inspect("one")["State"].clone();
    assert_eq!((state["Status"].as_str(), state["ExitCode"].as_i64()), (Some("exited"), Some(143)));
    engine.run(["ps", "-q"]).success().stdout_is("");
    engine.run(["ps", "-aq", "--filter", "name=one"]).success().stdout_is(&format!("{}\n", &id[..12]));

    engine.run(["start", "one"]).success().stdout_is("one\n");
    assert_eq!(engine.inspect("one")["State"]["Running"], true);
    engine.run(["rm", "-f", "one"]).success().stdout_is("one\n");
    engine.run(["ps", "-aq"]).success().stdout_is("");
}

#[test]
fn logs_keep_both_streams() {
    let engine = engine();
    let script = "for i in 1 2 3; do echo out $i; echo err $i >&2; done";
    engine.run(["run", "--name", "talker", "busybox", "sh", "-c", script]).success();
    let logs = engine.run(["logs", "talker"]).success();
    assert_eq!(logs.stdout, "out 1\nout 2\nout 3\n");
    assert_eq!(logs.stderr, "err 1\nerr 2\nerr 3\n");
    let tail = engine.run(["logs", "--tail", "1", "--timestamps", "talker"]).success();
    let all = tail.stdout + &tail.stderr;
    assert_eq!(all.lines().count(), 1, "{all}");
    assert!(all.starts_with("20") && all.trim_end().ends_with(" 3"), "{all}");
}

#[test]
fn logs_can_be_followed_to_the_end() {
    let engine = engine();
    engine
        .run(["run", "-d", "--name", "counter", "busybox", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.2; done"])
        .success();
    engine.run(["logs", "-f", "counter"]).success().stdout_is("1\n2\n3\n");
    engine.until_status("counter", "exited");
}

#[test]
fn exec_runs_beside_the_first_process() {
    let engine = engine();
    sleeper(&engine, "host");
    let command =
        ["exec", "-e", "WHO=me", "-w", "/tmp", "host", "sh", "-c", "echo $WHO in $(pwd); ps | grep -c '[s]leep'"];
    engine.run(command).success().stdout_is("me in /tmp\n2\n"); // the init's command line names it too
    engine.run(["exec", "host", "sh", "-c", "exit 5"]).code_is(5);
    engine.command(["exec", "-i", "host", "cat"]).stdin("in").run().success().stdout_is("in");
    engine.run(["exec", "-u", "user", "host", "id", "-un"]).success().stdout_is("user\n");
    engine.run(["exec", "-d", "host", "touch", "/tmp/made"]).success().stdout_is("");
    until("the detached exec has run", || engine.run(["exec", "host", "test", "-e", "/tmp/made"]).code == 0);
}

#[test]
fn wait_kill_pause_and_rename() {
    let engine = engine();
    sleeper(&engine, "one");
    engine.run(["pause", "one"]).success();
    assert_eq!(engine.inspect("one")["State"]["Status"], "paused");
    engine.run(["unpause", "one"]).success();
    assert_eq!(engine.inspect("one")["State"]["Status"], "running");
    engine.run(["rename", "one", "other"]).success();
    engine.run(["kill", "--signal", "KILL", "other"]).success().stdout_is("other\n");
    engine.run(["wait", "other"]).success().stdout_is("137\n");
    assert_eq!(engine.inspect("other")["Name"], "/other");
}

#[test]
fn create_start_attach() {
    let engine = engine();
    let id = engine.run(["create", "-i", "--name", "prepared", "busybox", "cat"]).success().word();
    assert_eq!(engine.inspect(&id)["State"]["Status"], "created");
    engine.command(["start", "-ai", "prepared"]).stdin("through\n").run().success().stdout_is("through\n");
}

#[test]
fn top_stats_and_port() {
    let engine = engine();
    engine.run(["run", "-d", "--name", "one", "-p", "127.0.0.1::80", "busybox", "sleep", "1000"]).success();
    engine.run(["top", "one"]).success().stdout_has("sleep 1000");
    let stats = engine.run(["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", "one"]).success();
    assert_eq!(stats.word(), "one 1");
    let port = engine.run(["port", "one", "80"]).success().word();
    assert!(port.starts_with("127.0.0.1:"), "{port}");
}

#[test]
fn several_engines_do_not_see_each_other() {
    let (one, other) = (engine(), engine());
    sleeper(&one, "same-name");
    sleeper(&other, "same-name");
    one.run(["rm", "-f", "same-name"]).success();
    assert_eq!(other.inspect("same-name")["State"]["Running"], true);
}
