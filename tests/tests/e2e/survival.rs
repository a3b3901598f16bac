//! The daemon goes; containers do not.

use skep_testkit::{Command, EngineKind, until};

use super::network::{ask, server};
use super::{engine, sleeper};

#[test]
fn containers_outlive_a_killed_daemon() {
    let mut engine = engine();
    let id = sleeper(&engine, "one");
    let pid = engine.inspect("one")["State"]["Pid"].as_i64().unwrap();
    engine.kill();
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
    engine.launch();
    let container = engine.inspect("one");
    assert_eq!((container["Id"].as_str(), container["State"]["Pid"].as_i64()), (Some(id.as_str()), Some(pid)));
    assert_eq!(container["State"]["Status"], "running");
    engine.run(["exec", "one", "echo", "alive"]).success().stdout_is("alive\n");
    engine.run(["stop", "one"]).success();
    assert_eq!(engine.inspect("one")["State"]["ExitCode"], 143);
}

#[test]
fn containers_outlive_a_stopped_daemon() {
    let mut engine = engine();
    sleeper(&engine, "one");
    engine.stop();
    engine.launch();
    assert_eq!(engine.inspect("one")["State"]["Running"], true);
}

#[test]
fn the_pid_file_goes_when_the_data_root_is_free() {
    let mut engine = engine();
    if engine.kind() == EngineKind::Docker {
        return println!("SKIPPED the_pid_file_goes_when_the_data_root_is_free: the name of skep's database");
    }
    let pidfile = engine.socket().with_file_name("pid");
    let database = engine.data_root().join("meta.redb").display().to_string();
    for _ in 0..3 {
        let pid = std::fs::read_to_string(&pidfile).unwrap();
        Command::new("kill", [pid.trim()]).run().success();
        until("the PID file is gone", || !pidfile.exists());
        Command::new("flock", ["--nonblock", &database, "true"]).run().success();
        engine.until_ended();
        engine.launch();
    }
}

#[test]
fn no_line_is_lost() {
    let mut engine = engine();
    let script = "i=0; while [ $i -lt 3000 ]; do i=$((i + 1)); echo line $i; [ $((i % 100)) -ne 0 ] || sleep 0.05; done; sleep 1000";
    engine.run(["run", "-d", "--init", "--name", "talker", "busybox", "sh", "-c", script]).success();
    until("it has begun", || engine.run(["logs", "talker"]).stdout.lines().count() > 100);
    engine.kill();
    engine.launch();
    until("it has said all", || engine.run(["logs", "--tail", "1", "talker"]).stdout == "line 3000\n");
    let logs = engine.run(["logs", "talker"]).success().stdout;
    let expected: Vec<String> = (1..=3000).map(|number| format!("line {number}")).collect();
    assert_eq!(logs.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn the_exit_code_of_what_ended_meanwhile_is_right() {
    let mut engine = engine();
    if engine.kind() == EngineKind::Docker {
        eprintln!(
            "SKIPPED the_exit_code_of_what_ended_meanwhile_is_right: dockerd says 255, as its containerd dies with it"
        );
        return;
    }
    let gate = engine.scratch();
    let volume = format!("{}:/gate", gate.display());
    let script = "until [ -e /gate/open ]; do sleep 0.05; done; exit 7";
    engine.run(["run", "-d", "--name", "one", "-v", &volume, "busybox", "sh", "-c", script]).success();
    let pid = engine.inspect("one")["State"]["Pid"].as_i64().unwrap();
    engine.kill();
    std::fs::write(gate.join("open"), "").unwrap();
    until("the container has ended", || !std::path::Path::new(&format!("/proc/{pid}")).exists());
    engine.launch();
    until("the engine knows", || engine.inspect("one")["State"]["Status"] == "exited");
    assert_eq!(engine.inspect("one")["State"]["ExitCode"], 7);
}

#[test]
fn published_ports_work_afterwards() {
    let mut engine = engine();
    server(&engine, "web", &["-p", "80"]);
    let port = engine.run(["port", "web", "80/tcp"]).success().stdout;
    engine.kill();
    engine.launch();
    engine.run(["port", "web", "80/tcp"]).success().stdout_is(&port);
    let port = port.lines().next().unwrap().rsplit(':').next().unwrap();
    until("the port answers", || ask(&format!("127.0.0.1:{port}")).as_deref() == Some("hello from inside"));
}

#[test]
fn a_removed_container_stays_removed() {
    let mut engine = engine();
    sleeper(&engine, "one");
    engine.run(["rm", "-f", "one"]).success();
    engine.kill();
    engine.launch();
    engine.run(["ps", "-aq"]).success().stdout_is("");
}

#[test]
fn restart_policies_hold_across_a_crash() {
    let mut engine = engine();
    engine.run(["run", "-d", "--name", "always", "--restart", "always", "busybox", "sleep", "1000"]).success();
    let pid = engine.inspect("always")["State"]["Pid"].as_i64().unwrap();
    engine.kill();
    assert!(pid > 1, "not a container's process");
    assert!(std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
    engine.launch();
    until("it runs again", || {
        let state = engine.inspect("always")["State"].clone();
        state["Running"] == true && state["Pid"].as_i64() != Some(pid)
    });
}
