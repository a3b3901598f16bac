//! The engine comes and goes; the shim stays.

use std::fs;
use std::os::unix::net::UnixStream;

use skep_runtime::protocol::{Lifetime, Phase, Reply, Request, StdinMode};

use crate::harness::{ALL, Container, Link, OUTPUT, command, process, read_all, shell, until};

/// As if the engine had been killed.
fn lose_engine(container: &mut Container) {
    let (closed, _) = UnixStream::pair().unwrap();
    container.control = Link::new(closed);
}

#[test]
fn no_line_is_missing_or_doubled_when_the_engine_is_killed() {
    let mut container = shell("i=0; while [ $i -lt 30000 ]; do echo $i; i=$((i+1)); done").create();
    let client = container.attach(OUTPUT);
    assert_eq!(container.control.ask(&Request::Start), Reply::Started);
    until("some output", || fs::metadata(container.log_path()).is_ok_and(|m| m.len() > 10_000));
    lose_engine(&mut container);
    drop(client);
    container.wait_for_shim();
    assert_eq!(container.record().exit.code, 0);
    assert!(container.log() == (0..30000).map(|i| format!("{i}\n")).collect::<String>());
}

#[test]
fn a_new_engine_finds_the_container_and_its_execs() {
    let mut container = shell("read line; exit $line").stdin(StdinMode::Open).start();
    let (_, reply, stdio) = container.exec(&process(&["/bin/sh", "-c", "exit 3"]), OUTPUT);
    assert!(matches!(reply, Reply::ExecStarted { .. }), "{reply:?}");
    read_all(&stdio);
    lose_engine(&mut container);
    let (_, reply, stdio) = container.exec(&process(&["/bin/sh", "-c", "exit 4"]), OUTPUT);
    assert!(matches!(reply, Reply::ExecStarted { .. }), "{reply:?}");
    read_all(&stdio);

    container.control = container.connect();
    let Reply::State(state) = container.control.ask(&Request::Subscribe) else { panic!() };
    assert_eq!(state.pid, container.pid);
    assert!(matches!(state.phase, Phase::Running { .. }));
    let codes: Vec<_> = state.execs.iter().filter_map(|e| Some(e.exit?.code)).collect();
    assert!(codes.is_empty() || codes == [4], "{codes:?}");
    let Reply::State(state) = container.connect().ask(&Request::Subscribe) else { panic!() };
    assert!(state.execs.is_empty());

    let mut client = container.attach(ALL);
    std::io::Write::write_all(&mut client, b"6\n").unwrap();
    assert_eq!(container.wait().code, 6);
}

#[test]
fn who_was_away_finds_the_record() {
    let mut container = shell("exit 8").create();
    container.control.send(&Request::Start, None);
    lose_engine(&mut container);
    container.wait_for_shim();
    assert_eq!(container.record().exit.code, 8);
}

#[test]
fn the_bundle_can_be_used_again_while_the_old_shim_still_serves_a_client() {
    let mut container = shell("i=0; while [ $i -lt 60000 ]; do echo line $i; i=$((i+1)); done").create();
    let client = container.attach(OUTPUT);
    assert_eq!(container.control.ask(&Request::Start), Reply::Started);
    let bytes = read_all(&client).len();
    assert!(bytes > 600_000);
    container.wait();
    assert!(!container.bundle.join("shim.sock").exists());
}

#[test]
fn a_client_that_speaks_nonsense_is_sent_away() {
    let mut container = command(&["/bin/sleep", "1000"]).start();
    let mut stream = UnixStream::connect(container.bundle.join("shim.sock")).unwrap();
    std::io::Write::write_all(&mut stream, b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(read_all(&stream).is_empty());
    let mut stream = UnixStream::connect(container.bundle.join("shim.sock")).unwrap();
    std::io::Write::write_all(&mut stream, b"\x02\0\0\0{}").unwrap();
    assert!(read_all(&stream).is_empty());
    assert!(matches!(container.connect().ask(&Request::State), Reply::State(_)));
    container.kill();
    container.wait();
}

#[test]
fn a_shim_at_rest_is_small() {
    let mut container = command(&["/bin/sleep", "1000"]).start();
    let (_link, _, stdio) = container.exec(&process(&["/bin/true"]), OUTPUT);
    read_all(&stdio);
    let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", container.shim.id())).unwrap();
    let private: u64 = rollup
        .lines()
        // Clean pages are the program's, which all shims share.
        .filter(|l| l.starts_with("Private_Dirty"))
        .map(|l| l.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap())
        .sum();
    assert!(private < 1024, "{private} KiB\n{rollup}");
    container.kill();
    container.wait();
}

#[test]
fn what_is_tied_to_the_engine_ends_with_it() {
    let mut container = shell("sleep 1000 & sleep 1000").with_config(|c| c.lifetime = Lifetime::Engine).start();
    lose_engine(&mut container);
    container.wait_for_shim();
    assert_eq!(container.record().exit.code, 137);
}
