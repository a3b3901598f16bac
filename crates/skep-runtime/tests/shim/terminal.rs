//! Processes with a terminal.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::json;
use skep_runtime::protocol::{Reply, Request, StdinMode, Target};
use skep_runtime::spec::ConsoleSize;

use crate::harness::{ALL, command, end_input, process, read_all, shell};

/// Reads until the text has come.
fn expect(mut stream: &UnixStream, text: &str) -> String {
    let (mut seen, mut buffer) = (String::new(), [0; 1024]);
    while !seen.contains(text) {
        let count = stream.read(&mut buffer).unwrap_or_else(|e| panic!("{e} after {seen:?}"));
        assert!(count > 0, "ended after {seen:?}");
        seen += &String::from_utf8_lossy(&buffer[..count]);
    }
    seen
}

#[test]
fn a_terminal_has_a_size_that_can_be_changed() {
    let mut container = shell("stty size; read line; stty size; read line").terminal().stdin(StdinMode::Open).create();
    let mut client = container.attach(ALL);
    assert_eq!(container.control.ask(&Request::Start), Reply::Started);
    expect(&client, "24 80\r\n");
    let size = ConsoleSize { height: 40, width: 132 };
    assert_eq!(container.connect().ask(&Request::Resize { target: Target::Container, size }), Reply::Done);
    client.write_all(b"\n").unwrap();
    expect(&client, "40 132\r\n");
    client.write_all(b"\n").unwrap();
    read_all(&client);
    container.wait();
    assert!(container.log().contains("24 80\r\n"));
}

#[test]
fn leaving_and_coming_back_does_not_disturb_it() {
    let container = command(&["/bin/cat"]).terminal().stdin(StdinMode::Once).start();
    let mut first = container.attach(ALL);
    first.write_all(b"one\n").unwrap();
    expect(&first, "one\r\n");
    drop(first);
    let mut second = container.attach(ALL);
    second.write_all(b"two\n").unwrap();
    expect(&second, "two\r\n");
    // The end of a client's input is only its own.
    end_input(&second);
    read_all(&second);
    let mut third = container.attach(ALL);
    third.write_all(b"three\n\x04").unwrap();
    expect(&third, "three\r\n");
    read_all(&third);
}

#[test]
fn an_exec_can_have_a_terminal() {
    let container = command(&["/bin/sleep", "1000"]).start();
    let mut exec = process(&["/bin/sh", "-c", "tty; stty size; read x; stty size; exit 9"]);
    exec["terminal"] = json!(true);
    exec["consoleSize"] = json!({"height": 10, "width": 20});
    let (mut link, reply, mut stdio) = container.exec(&exec, ALL);
    assert!(matches!(reply, Reply::ExecStarted { .. }), "{reply:?}");
    let seen = expect(&stdio, "10 20\r\n");
    assert!(seen.contains("/dev/pts/"), "{seen}");
    let Reply::State(state) = container.connect().ask(&Request::State) else { panic!() };
    let target = Target::Exec(state.execs[0].id);
    let size = ConsoleSize { height: 11, width: 21 };
    assert_eq!(container.connect().ask(&Request::Resize { target, size }), Reply::Done);
    stdio.write_all(b"\n").unwrap();
    expect(&stdio, "11 21\r\n");
    assert_eq!(link.exit().code, 9);
    read_all(&stdio);
}

#[test]
fn without_a_terminal_there_is_nothing_to_resize() {
    let container = command(&["/bin/sleep", "1000"]).start();
    let request = Request::Resize { target: Target::Container, size: ConsoleSize { height: 1, width: 1 } };
    assert!(matches!(container.connect().ask(&request), Reply::Failed(_)));
}

#[test]
fn much_output_of_a_terminal_arrives_whole() {
    let mut container = shell("i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done").terminal().create();
    let client = container.attach(ALL);
    assert_eq!(container.control.ask(&Request::Start), Reply::Started);
    let expected: String = (0..20000).map(|i| format!("{i}\r\n")).collect();
    assert!(read_all(&client) == expected.as_bytes());
    container.wait();
    assert!(container.log() == expected);
}
