//! Attached clients.

use std::io::{Read, Write};
use std::thread;

use skep_runtime::protocol::{Attach, Reply, Request, StdinMode};

use crate::harness::{ALL, OUTPUT, command, demultiplex, end_input, read_all, shell, stdout_of, until};

#[test]
fn three_clients_see_everything_from_before_the_start() {
    let mut container = shell("echo out; echo err >&2").create();
    let clients = [container.attach(OUTPUT), container.attach(OUTPUT), container.attach(OUTPUT)];
    let only_errors = container.attach(Attach { stdin: false, stdout: false, stderr: true });
    assert_eq!(container.control.ask(&Request::Start), Reply::Started);
    for client in &clients {
        assert_eq!(demultiplex(&read_all(client)), (b"out\n".to_vec(), b"err\n".to_vec()));
    }
    assert_eq!(demultiplex(&read_all(&only_errors)), (Vec::new(), b"err\n".to_vec()));
}

#[test]
fn who_comes_later_sees_what_comes_later() {
    let container = shell("echo early; read line; echo late $line").stdin(StdinMode::Open).start();
    until("the first line", || container.log() == "early\n");
    let mut client = container.attach(ALL);
    client.write_all(b"x\n").unwrap();
    assert_eq!(stdout_of(&client), "late x\n");
}

#[test]
fn binary_data_goes_in_and_out_unchanged_and_the_end_too() {
    let mut container = command(&["/bin/cat"]).stdin(StdinMode::Once).with_config(|c| c.log = None).create();
    let client = container.attach(ALL);
    assert_eq!(container.control.ask(&Request::Start), Reply::Started);
    let data: Vec<u8> = (0..8_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (mut sender, sent) = (client.try_clone().unwrap(), data.clone());
    let writer = thread::spawn(move || {
        sender.write_all(&sent).unwrap();
        end_input(&sender);
    });
    let (stdout, _) = demultiplex(&read_all(&client));
    writer.join().unwrap();
    assert!(stdout == data, "{} of {} bytes", stdout.len(), data.len());
    assert_eq!(container.wait().code, 0);
}

#[test]
fn a_client_that_closes_at_once_has_still_said_everything() {
    let mut container = command(&["/bin/wc", "-c"]).stdin(StdinMode::Once).start();
    let mut client = container.attach(ALL);
    client.write_all(&[b'x'; 100_000]).unwrap();
    drop(client);
    container.wait();
    assert_eq!(container.log(), "100000\n");
}

#[test]
fn without_once_the_end_of_input_ends_the_client_only() {
    let mut container = shell("while read line; do echo got $line; done").stdin(StdinMode::Open).start();
    let mut first = container.attach(ALL);
    first.write_all(b"1\n").unwrap();
    until("it is taken", || container.log() == "got 1\n");
    end_input(&first);
    read_all(&first);
    let mut second = container.attach(ALL);
    second.write_all(b"2\n").unwrap();
    until("it is taken", || container.log() == "got 1\ngot 2\n");
    container.kill();
    container.wait();
}

#[test]
fn several_clients_write_to_the_same_input() {
    let mut container = command(&["/bin/cat"]).stdin(StdinMode::Open).start();
    let (mut one, mut two) = (container.attach(ALL), container.attach(ALL));
    one.write_all(b"one\n").unwrap();
    until("one", || container.log() == "one\n");
    two.write_all(b"two\n").unwrap();
    until("two", || container.log() == "one\ntwo\n");
    container.kill();
    assert_eq!(stdout_of(&one), "one\ntwo\n");
    assert_eq!(stdout_of(&two), "one\ntwo\n");
    container.wait();
}

#[test]
fn closed_input_is_the_null_device() {
    let mut container = command(&["/bin/wc", "-c"]).start();
    container.wait();
    assert_eq!(container.log(), "0\n");
}

#[test]
fn a_gigabyte_passes_through_a_client_without_loss() {
    const SIZE: u64 = 1 << 30;
    let mut container = command(&["/bin/busybox", "dd", "if=/dev/zero", "bs=65536", "count=16384", "status=none"])
        .with_config(|c| c.log = None)
        .create();
    let mut client = container.attach(OUTPUT);
    assert_eq!(container.control.ask(&Request::Start), Reply::Started);
    let (mut total, mut buffer) = (0, vec![0; 1 << 20]);
    let mut header = [0; 8];
    while client.read_exact(&mut header).is_ok() {
        let mut left = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        total += left as u64;
        while left > 0 {
            let part = left.min(buffer.len());
            client.read_exact(&mut buffer[..part]).unwrap();
            left -= part;
        }
    }
    assert_eq!(total, SIZE);
    assert_eq!(container.wait().code, 0);
}

#[test]
fn a_slow_client_gets_everything() {
    let mut container = shell("i=0; while [ $i -lt 50000 ]; do echo line $i; i=$((i+1)); done").create();
    let mut slow = container.attach(OUTPUT);
    let quick = container.attach(OUTPUT);
    assert_eq!(container.control.ask(&Request::Start), Reply::Started);
    let quick = thread::spawn(move || stdout_of(&quick));
    let (mut bytes, mut piece) = (Vec::new(), [0; 1000]);
    loop {
        match slow.read(&mut piece).unwrap() {
            0 => break,
            count => bytes.extend_from_slice(&piece[..count]),
        }
        if bytes.len() % 16 == 0 {
            thread::yield_now();
        }
    }
    let expected: String = (0..50000).map(|i| format!("line {i}\n")).collect();
    assert!(demultiplex(&bytes).0 == expected.as_bytes());
    assert!(quick.join().unwrap() == expected);
    container.wait();
    assert!(container.log() == expected);
}

#[test]
fn a_client_that_takes_nothing_is_dropped_and_the_container_goes_on() {
    let mut container = shell("i=0; while [ $i -lt 100000 ]; do echo line $i; i=$((i+1)); done")
        .with_config(|c| c.grace.slow_client_ms = 100)
        .create();
    let stuck = container.attach(OUTPUT);
    assert_eq!(container.control.ask(&Request::Start), Reply::Started);
    let mut told = false;
    let exit = loop {
        match container.control.next().unwrap() {
            Reply::Trouble(text) => told |= text.contains("disconnected"),
            Reply::Exited { exit, .. } => break exit,
            _ => {}
        }
    };
    assert!(told);
    assert_eq!(exit.code, 0);
    assert_eq!(container.log().lines().count(), 100_000);
    drop(stuck);
}
