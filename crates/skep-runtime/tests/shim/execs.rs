//! Further processes.

use std::io::Write;

use serde_json::json;
use skep_runtime::protocol::{Attach, FailureKind, Reply};

use crate::harness::{ALL, OUTPUT, command, demultiplex, end_input, process, read_all, stdout_of, until};

fn idle() -> crate::harness::Container {
    command(&["/bin/sleep", "1000"]).start()
}

#[test]
fn an_exec_has_its_own_streams_and_exit_code() {
    let container = idle();
    let exec = process(&["/bin/sh", "-c", "cat; echo err >&2; exit 5"]);
    let (mut link, reply, mut stdio) = container.exec(&exec, ALL);
    assert!(matches!(reply, Reply::ExecStarted { .. }), "{reply:?}");
    stdio.write_all(b"hello").unwrap();
    end_input(&stdio);
    assert_eq!(demultiplex(&read_all(&stdio)), (b"hello".to_vec(), b"err\n".to_vec()));
    assert_eq!(link.exit().code, 5);
    assert_eq!(container.log(), "");
}

#[test]
fn the_exit_is_told_before_the_stream_ends_and_to_subscribers_too() {
    let mut container = idle();
    for code in 0..20 {
        let (mut link, reply, stdio) = container.exec(&process(&["/bin/sh", "-c", &format!("exit {code}")]), OUTPUT);
        assert!(matches!(reply, Reply::ExecStarted { .. }), "{reply:?}");
        read_all(&stdio);
        assert_eq!(link.exit().code, code);
        assert_eq!(container.control.exit().code, code);
    }
}

#[test]
fn an_exec_that_is_no_program_says_what_is_wrong() {
    let container = idle();
    for (path, kind) in [("/no/such", FailureKind::CommandNotFound), ("/etc", FailureKind::NotExecutable)] {
        let (_, reply, stdio) = container.exec(&process(&[path]), ALL);
        let Reply::Failed(failure) = reply else { panic!("{reply:?}") };
        assert_eq!(failure.kind, kind, "{failure}");
        assert!(read_all(&stdio).is_empty());
    }
}

#[test]
fn many_execs_leave_nothing_behind() {
    let container = idle();
    let before = std::fs::read_dir(format!("/proc/{}/fd", container.shim.id())).unwrap().count();
    let running: Vec<_> = (0..20).map(|_| container.exec(&process(&["/bin/true"]), OUTPUT)).collect();
    for (mut link, reply, stdio) in running {
        assert!(matches!(reply, Reply::ExecStarted { .. }), "{reply:?}");
        assert_eq!(link.exit().code, 0);
        read_all(&stdio);
    }
    let shim = container.shim.id();
    until("descriptors are closed", || std::fs::read_dir(format!("/proc/{shim}/fd")).unwrap().count() <= before);
    let children = std::fs::read_to_string(format!("/proc/{shim}/task/{shim}/children")).unwrap();
    assert_eq!(children.split_whitespace().count(), 1, "{children}");
}

#[test]
fn execs_end_with_the_container() {
    let mut container = idle();
    let (mut link, reply, stdio) = container.exec(&process(&["/bin/sleep", "1000"]), ALL);
    assert!(matches!(reply, Reply::ExecStarted { .. }), "{reply:?}");
    container.kill();
    assert_eq!(link.exit().code, 137);
    assert!(read_all(&stdio).is_empty());
    assert_eq!(container.wait().code, 137);
}

#[test]
fn output_held_open_by_a_grandchild_is_not_waited_for_for_ever() {
    let container = command(&["/bin/sleep", "1000"]).with_config(|c| c.grace.output_ms = 50).start();
    let (mut link, reply, stdio) = container.exec(&process(&["/bin/sh", "-c", "sleep 1000 & echo started"]), OUTPUT);
    assert!(matches!(reply, Reply::ExecStarted { .. }), "{reply:?}");
    assert_eq!(link.exit().code, 0);
    assert_eq!(stdout_of(&stdio), "started\n");
}

#[test]
fn one_stream_can_be_left_out() {
    let container = idle();
    let exec = process(&["/bin/sh", "-c", "echo out; echo err >&2"]);
    let (_link, _, stdio) = container.exec(&exec, Attach { stdin: false, stdout: false, stderr: true });
    assert_eq!(demultiplex(&read_all(&stdio)), (Vec::new(), b"err\n".to_vec()));
}

#[test]
fn a_large_environment_passes() {
    let container = idle();
    let mut exec = process(&["/bin/sh", "-c", "echo ${#A0} ${#A15}"]);
    let env: Vec<String> = (0..16).map(|i| format!("A{i}={}", "x".repeat(100_000))).collect();
    exec["env"] = json!(env);
    let (_link, reply, stdio) = container.exec(&exec, OUTPUT);
    assert!(matches!(reply, Reply::ExecStarted { .. }), "{reply:?}");
    assert_eq!(stdout_of(&stdio), "100000 100000\n");
}
