//! From the gate to the exit record.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use skep_runtime::protocol::{
    self, FailureKind, OverlayOwners, OverlaySync, Phase, Reply, Request, Rootfs, Scope, Target,
};
use skep_types::Signal;

use crate::harness::{OUTPUT, command, read_all, shell, until};

#[test]
fn a_container_waits_runs_and_leaves_its_record() {
    let mut container = shell("exit 7").create();
    assert!(fs::exists(format!("/proc/{}", container.pid)).unwrap());
    let Reply::State(state) = container.connect().ask(&Request::State) else { panic!() };
    assert_eq!((state.phase, state.pid), (Phase::Created, container.pid));
    assert_eq!(container.control.ask(&Request::Start), Reply::Started);
    let exit = container.wait();
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (7, None, false));
    let record = container.record();
    assert_eq!((record.exit, record.pid, record.failure.clone()), (exit, container.pid, None));
    assert!(record.started_at.unwrap() <= exit.finished_at);
    assert_eq!(fs::read_to_string(container.bundle.join("pid")).unwrap(), container.pid.to_string());
    container.wait_for_shim();
    assert_eq!(container.control.next(), None);
}

#[test]
fn a_signal_is_told_as_such() {
    let mut container = command(&["/bin/sleep", "1000"]).start();
    container.kill();
    let exit = container.wait();
    assert_eq!((exit.code, exit.signal), (137, Some(Signal::KILL)));
}

#[test]
fn a_signal_reaches_the_first_process_or_all() {
    let mut container = shell("trap 'exit 3' USR1; echo ready; while :; do sleep 0.01; done").start();
    until("ready", || container.log() == "ready\n");
    let signal = "USR1".parse().unwrap();
    let request = Request::Signal { target: Target::Container, signal, scope: Scope::Process };
    assert_eq!(container.connect().ask(&request), Reply::Done);
    assert_eq!(container.wait().code, 3);

    let mut container = shell("sleep 1000 & wait $!; echo $?; exit 4").start();
    until("two processes", || {
        fs::read_to_string(format!("/proc/{0}/task/{0}/children", container.pid)).is_ok_and(|t| !t.is_empty())
    });
    let request = Request::Signal { target: Target::Container, signal: Signal::TERM, scope: Scope::All };
    assert_eq!(container.connect().ask(&request), Reply::Done);
    assert_eq!(container.wait().code, 4);
    assert!(container.log().ends_with("143\n"), "{}", container.log());
}

#[test]
fn a_missing_command_is_127_and_one_that_is_no_program_126() {
    for (path, kind, code) in
        [("/no/such", FailureKind::CommandNotFound, 127), ("/etc", FailureKind::NotExecutable, 126)]
    {
        let (mut first, mut container) = command(&[path]).try_create();
        if let Reply::Created { .. } = first {
            first = container.control.ask(&Request::Start);
            assert_eq!(container.wait().code, code, "{path}");
            assert_eq!(container.record().failure.unwrap().kind, kind);
        }
        let Reply::Failed(failure) = first else { panic!("{first:?}") };
        assert_eq!(failure.kind, kind, "{failure}");
        container.wait_for_shim();
    }
}

#[test]
fn a_second_start_is_refused() {
    let mut container = command(&["/bin/sleep", "1000"]).start();
    let Reply::Failed(failure) = container.control.ask(&Request::Start) else { panic!() };
    assert_eq!(failure.kind, FailureKind::WrongPhase);
}

#[test]
fn nobody_there_before_the_start_undoes_the_container() {
    let mut container = command(&["/bin/sleep", "1000"]).create();
    let (closed, _) = std::os::unix::net::UnixStream::pair().unwrap();
    drop(std::mem::replace(&mut container.control, crate::harness::Link::new(closed)));
    container.wait_for_shim();
    assert_eq!(container.record().started_at, None);
    assert!(!fs::exists(format!("/proc/{}", container.pid)).unwrap());
}

#[test]
fn what_cannot_be_started_says_why_and_leaves_nothing() {
    let setup = command(&["/bin/true"]).with_spec(|s| s["root"]["path"] = json!("nowhere"));
    let (Reply::Failed(failure), mut container) = setup.try_create() else { panic!() };
    assert_eq!(failure.kind, FailureKind::Other);
    assert!(!failure.message.is_empty());
    container.wait_for_shim();

    let setup = command(&["/bin/true"]).with_config(|c| c.version = 99);
    let (Reply::Failed(failure), mut container) = setup.try_create() else { panic!() };
    assert!(failure.message.contains("version 99"), "{failure}");
    container.wait_for_shim();
}

#[test]
fn an_overlay_is_seen_by_the_container_only() {
    let setup = shell("echo changed > /etc/file; cat /etc/file");
    let directory = setup.directory().to_owned();
    for name in ["upper", "work"] {
        fs::create_dir(directory.join(name)).unwrap();
    }
    let mut container = setup
        .with_config(|c| {
            c.rootfs = Rootfs::Overlay {
                lower: vec![directory.join("bundle/rootfs")],
                upper: directory.join("upper"),
                work: directory.join("work"),
                sync: OverlaySync::Omitted,
                owners: OverlayOwners::Stored,
            };
        })
        .start();
    assert_eq!(container.wait().code, 0);
    assert_eq!(container.log(), "changed\n");
    assert_eq!(fs::read_to_string(directory.join("upper/etc/file")).unwrap(), "changed\n");
    assert!(!directory.join("bundle/rootfs/etc/file").exists());
}

#[test]
fn with_the_hosts_pids_what_is_left_behind_is_killed() {
    let setup = shell("sleep 1000 & echo $!").with_spec(|s| {
        s["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}]);
    });
    let mut container = setup.create();
    let client = container.attach(OUTPUT);
    assert_eq!(container.control.ask(&Request::Start), Reply::Started);
    assert_eq!(container.wait().code, 0);
    read_all(&client);
    let pid = container.log();
    until("the orphan is gone", || !fs::exists(format!("/proc/{}", pid.trim())).unwrap());
    container.wait_for_shim();
}

#[test]
fn the_socket_is_for_its_owner() {
    let container = command(&["/bin/sleep", "1000"]).start();
    let mode = fs::metadata(container.bundle.join(protocol::SHIM_SOCKET)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn the_program_inherits_neither_descriptors_nor_signal_settings() {
    let mut container = command(&["/bin/cat", "/proc/self/status"]).start();
    container.wait();
    let log = container.log();
    let field = |name: &str| log.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!(field("SigIgn:"), "0000000000000000");
    assert_eq!(field("SigBlk:"), "0000000000000000");

    let mut container = shell("echo /proc/self/fd/*").start();
    container.wait();
    // The shell's own glob holds one descriptor open.
    let log = container.log();
    assert!(log.split(' ').count() <= 4, "{log}");
}

#[test]
fn a_user_without_rights_can_open_its_own_output_again() {
    let setup = shell("echo again > /dev/stdout; echo error > /dev/stderr").with_spec(|s| {
        s["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    });
    let mut container = setup.start();
    assert_eq!(container.wait().code, 0, "{}", container.log());
    assert_eq!(container.log(), "again\nerror\n");
}
