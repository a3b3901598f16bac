//! The `--init` process.

use std::fs;

use serde_json::json;
use skep_runtime::protocol::{Reply, Request, Scope, StdinMode, Target};

use crate::harness::{ALL, Container, Setup, command, read_all, until};

/// A container whose first process is the init, as the engine sets it up.
fn with_init(script: &str) -> Setup {
    command(&["/sbin/docker-init", "--", "sh", "-c", script]).with_spec(|s| {
        let mounts = s["mounts"].as_array_mut().unwrap();
        mounts.push(json!({
            "destination": "/sbin/docker-init",
            "type": "bind",
            "source": env!("CARGO_BIN_EXE_skep-runtime"),
            "options": ["bind", "ro"],
        }));
    })
}

fn signal(container: &Container, name: &str) {
    let request = Request::Signal { target: Target::Container, signal: name.parse().unwrap(), scope: Scope::Process };
    assert_eq!(container.connect().ask(&request), Reply::Done);
}

#[test]
fn it_ends_as_its_program_ends() {
    let mut container = with_init("exit 5").start();
    assert_eq!(container.wait().code, 5);
    let mut container = with_init("kill -TERM $$").start();
    let exit = container.wait();
    assert_eq!((exit.code, exit.signal), (143, None));
}

#[test]
fn it_passes_signals_on() {
    let mut container = with_init("trap 'echo got; exit 3' TERM; echo ready; while :; do sleep 0.01; done").start();
    until("ready", || container.log() == "ready\n");
    signal(&container, "TERM");
    assert_eq!(container.wait().code, 3);
    assert_eq!(container.log(), "ready\ngot\n");
}

#[test]
fn it_reaps_orphans() {
    let mut container = with_init("for i in 1 2 3; do (sleep 0.01 & ); done; echo ready; sleep 1000").start();
    until("ready", || container.log() == "ready\n");
    let children = format!("/proc/{0}/task/{0}/children", container.pid);
    until("only the program is left", || {
        let text = fs::read_to_string(&children).unwrap();
        text.split_whitespace().count() == 1
    });
    container.kill();
    container.wait();
}

#[test]
fn a_program_that_does_not_exist_is_127() {
    let mut container =
        with_init("").with_spec(|s| s["process"]["args"] = json!(["/sbin/docker-init", "--", "nope"])).start();
    assert_eq!(container.wait().code, 127);
    assert!(container.log().contains("exec nope failed"), "{}", container.log());
}

#[test]
fn with_a_terminal_its_program_is_in_the_foreground() {
    let mut container = with_init("read line; echo got $line; sleep 1000").terminal().stdin(StdinMode::Once).start();
    let mut client = container.attach(ALL);
    std::io::Write::write_all(&mut client, b"x\n").unwrap();
    until("the line", || container.log().contains("got x\r\n"));
    // Ctrl-C comes from the terminal, once.
    std::io::Write::write_all(&mut client, b"\x03").unwrap();
    read_all(&client);
    assert_eq!(container.wait().code, 130);
}
