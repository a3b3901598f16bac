//! Exit codes.

use std::io::{BufRead, BufReader};

use super::{engine, sleeper};

#[test]
fn of_the_command() {
    engine().run(["run", "--rm", "busybox", "sh", "-c", "exit 42"]).code_is(42);
}

#[test]
fn of_a_signal() {
    let engine = engine();
    engine.run(["run", "--name", "one", "busybox", "sh", "-c", "kill -9 $$; exit 3"]).code_is(3); // the first process is immune
    engine.run(["run", "--init", "--name", "other", "busybox", "sh", "-c", "kill -9 $$"]).code_is(137);
    assert_eq!(engine.inspect("other")["State"]["ExitCode"], 137);
}

/// The kernel drops signals for a first process that has not said yet what it does with them.
#[test]
fn an_init_that_has_just_started_is_stopped_at_once() {
    let engine = engine();
    for round in 0..10 {
        let name = format!("one{round}");
        engine.run(["run", "-d", "--init", "--name", &name, "busybox", "sleep", "1000"]).success();
        engine.run(["stop", "-t", "20", &name]).success();
        assert_eq!(engine.inspect(&name)["State"]["ExitCode"], 143, "round {round}");
    }
}

#[test]
fn command_not_found_is_127() {
    let engine = engine();
    engine
        .run(["run", "--name", "one", "busybox", "no-such-command"])
        .code_is(127)
        .stderr_has("executable file not found in $PATH");
    assert_eq!(engine.inspect("one")["State"]["ExitCode"], 127);
    engine.run(["run", "--rm", "busybox", "/no/such/file"]).code_is(127).stderr_has("no such file or directory");
}

#[test]
fn command_not_executable_is_126() {
    let engine = engine();
    engine.run(["run", "--rm", "busybox", "/etc/passwd"]).code_is(126).stderr_has("permission denied");
    engine.run(["run", "--rm", "busybox", "/etc"]).code_is(126);
}

#[test]
fn what_the_engine_refuses_is_125() {
    let engine = engine();
    engine.run(["run", "--rm", "--no-such-flag", "busybox"]).code_is(125).stderr_has("unknown flag: --no-such-flag");
    sleeper(&engine, "taken");
    engine.run(["run", "--name", "taken", "busybox", "true"]).code_is(125).stderr_has("is already in use by container");
}

#[test]
fn exec_has_the_same_codes() {
    let engine = engine();
    sleeper(&engine, "one");
    engine.run(["exec", "one", "no-such-command"]).code_is(127);
    engine.run(["exec", "one", "/etc/passwd"]).code_is(126);
    engine.run(["exec", "one", "sh", "-c", "kill -TERM $$"]).code_is(143);
    assert_eq!(engine.inspect("one")["State"]["Running"], true);
}

#[test]
fn a_container_that_does_not_listen_is_killed() {
    let engine = engine();
    engine
        .run(["run", "-d", "--name", "deaf", "busybox", "sh", "-c", "trap '' TERM; while :; do sleep 1; done"])
        .success();
    engine.run(["stop", "-t", "1", "deaf"]).success();
    assert_eq!(engine.inspect("deaf")["State"]["ExitCode"], 137);
}

#[test]
fn restart_policies() {
    let engine = engine();
    let script = "echo x >> /tmp/starts; test $(wc -l < /tmp/starts) -ge 3 || exit 1";
    engine
        .run(["run", "-d", "--name", "stubborn", "--restart", "on-failure:5", "busybox", "sh", "-c", script])
        .success();
    skep_testkit::until("it has succeeded", || engine.inspect("stubborn")["State"]["Status"] == "exited");
    let container = engine.inspect("stubborn");
    assert_eq!((container["RestartCount"].as_i64(), container["State"]["ExitCode"].as_i64()), (Some(2), Some(0)));
}

/// Compose waits for `die` and then asks how it ended.
#[test]
fn who_hears_of_an_end_finds_the_container_ended() {
    let engine = engine();
    let arguments = ["events", "--since", "1h", "--filter", "event=die", "--format", "{{.Actor.ID}}"];
    let mut events = engine.command(arguments).spawn();
    let mut told = BufReader::new(events.stdout.take().unwrap()).lines().map(Result::unwrap);
    for code in 1..=9 {
        let name = format!("c{code}");
        engine.run(["run", "-d", "--name", &name, "busybox", "sh", "-c", &format!("sleep 0.2; exit {code}")]).success();
        let id = told.next().expect("an event");
        let state = &engine.inspect(&id)["State"];
        assert_eq!((state["Status"].as_str(), state["ExitCode"].as_i64()), (Some("exited"), Some(code)), "{state}");
    }
    events.kill().unwrap();
    events.wait().unwrap();
}
