//! The receiver against senders that break the rules.

use std::os::unix::fs::symlink;
use std::path::Path;

use skep_buildkit::filesync::{Limits, Packet, PacketType, ReceiveOptions, Received, Stat, SyncError, receive};
use tokio::sync::mpsc;

const DIRECTORY: u32 = 1 << 31 | 0o755;
const SYMLINK: u32 = 1 << 27 | 0o777;
const FILE: u32 = 0o644;

fn stat(path: &str, mode: u32) -> Packet {
    let stat = Stat { path: path.to_owned(), mode, ..Stat::default() };
    Packet { r#type: PacketType::PacketStat.into(), stat: Some(stat), ..Packet::default() }
}

fn link(path: &str, mode: u32, target: &str) -> Packet {
    let mut packet = stat(path, mode);
    if let Some(stat) = packet.stat.as_mut() {
        stat.linkname = target.to_owned();
    }
    packet
}

fn file(path: &str, size: i64) -> Packet {
    let mut packet = stat(path, FILE);
    if let Some(stat) = packet.stat.as_mut() {
        stat.size = size;
    }
    packet
}

fn plain(kind: PacketType) -> Packet {
    Packet { r#type: kind.into(), ..Packet::default() }
}

fn data(id: u32, bytes: &[u8]) -> Packet {
    Packet { r#type: PacketType::PacketData.into(), id, data: bytes.to_vec(), ..Packet::default() }
}

/// Plays `packets` to a receiver of the directory.
fn play(into: &Path, packets: Vec<Packet>, limits: Limits) -> Result<Received, SyncError> {
    let (sender, receiver) = mpsc::channel(packets.len().max(1));
    for packet in packets {
        sender.try_send(packet).expect("room");
    }
    drop(sender);
    let (replies, _kept) = mpsc::unbounded_channel();
    let root = std::fs::File::open(into).expect("open").into();
    receive(root, receiver, &replies, ReceiveOptions { limits, ..ReceiveOptions::default() })
}

#[test]
fn nothing_leads_out_of_the_directory() {
    let place = tempfile::tempdir().expect("dir");
    let outside = place.path().join("outside");
    std::fs::create_dir(&outside).expect("mkdir");
    std::fs::write(outside.join("canary"), b"alive").expect("write");
    let end = || vec![plain(PacketType::PacketStat), plain(PacketType::PacketFin)];
    let cases: Vec<(&str, Vec<Packet>)> = vec![
        ("dots", vec![stat("../outside/x", FILE)]),
        ("absolute", vec![stat("/etc/x", FILE)]),
        ("through a link", vec![link("a", SYMLINK, "../outside"), stat("a/x", FILE)]),
        ("below a file", vec![stat("a", FILE), stat("a/x", FILE)]),
        ("without its directory", vec![stat("a/b", FILE)]),
        ("backwards", vec![stat("b", DIRECTORY), stat("a", FILE)]),
        ("twice", vec![stat("a", DIRECTORY), stat("a", FILE)]),
        ("a link out", vec![link("a", FILE, "../outside/canary")]),
        ("a link to an absolute path", vec![link("a", FILE, "/../outside/canary")]),
        ("a link through a link", vec![link("a", SYMLINK, "../outside"), link("b", FILE, "a/canary")]),
        ("a link to a directory", vec![stat("a", DIRECTORY), link("b", FILE, "a")]),
        ("a link to itself", vec![link("a", FILE, "a")]),
        ("an odd mode", vec![stat("a", 1 << 24)]),
        ("data that nobody asked for", vec![file("a", 0), data(0, b"x")]),
        ("data after the end", vec![file("a", 1), data(0, b"x"), data(0, b""), data(0, b"y")]),
        ("a question", vec![plain(PacketType::PacketReq)]),
        ("an early end", vec![plain(PacketType::PacketFin)]),
        ("two ends", vec![file("a", 1), plain(PacketType::PacketStat), plain(PacketType::PacketStat)]),
    ];
    for (what, mut packets) in cases {
        let into = place.path().join("into");
        std::fs::create_dir(&into).expect("mkdir");
        packets.extend(end());
        play(&into, packets, Limits::default()).expect_err(what);
        std::fs::remove_dir_all(&into).expect("remove");
        assert_eq!(std::fs::read(outside.join("canary")).expect(what), b"alive");
        assert_eq!(std::fs::read_dir(&outside).expect("list").count(), 1, "{what}");
    }
}

#[test]
fn a_link_that_was_there_is_not_followed() {
    let place = tempfile::tempdir().expect("dir");
    let (into, outside) = (place.path().join("into"), place.path().join("outside"));
    std::fs::create_dir(&into).expect("mkdir");
    std::fs::create_dir(&outside).expect("mkdir");
    symlink("../outside", into.join("a")).expect("symlink");
    symlink("../outside/canary", into.join("b")).expect("symlink");
    let packets = vec![
        stat("a", DIRECTORY),
        file("a/x", 1),
        file("b", 1),
        plain(PacketType::PacketStat),
        data(1, b"x"),
        data(1, b""),
        data(2, b"y"),
        data(2, b""),
        plain(PacketType::PacketFin),
    ];
    play(&into, packets, Limits::default()).expect("received");
    assert_eq!(std::fs::read(into.join("a/x")).expect("read"), b"x");
    assert_eq!(std::fs::read(into.join("b")).expect("read"), b"y");
    assert_eq!(std::fs::read_dir(&outside).expect("list").count(), 0);
}

#[test]
fn there_is_an_end_to_everything() {
    let place = tempfile::tempdir().expect("dir");
    let limits = Limits { entries: 3, bytes: 10, depth: 2, xattrs: 10 };
    let mut attributes = stat("a", FILE);
    if let Some(stat) = attributes.stat.as_mut() {
        stat.xattrs.insert("user.x".to_owned(), vec![0; 10]);
    }
    let cases = [
        vec![stat("a", FILE), stat("b", FILE), stat("c", FILE), stat("d", FILE)],
        vec![stat("a", DIRECTORY), stat("a/b", DIRECTORY), stat("a/b/c", FILE)],
        vec![attributes],
        vec![file("a", 1), data(0, &[0; 6]), data(0, &[0; 6])],
    ];
    for packets in cases {
        let error = play(place.path(), packets, limits).expect_err("too much");
        assert!(matches!(error, SyncError::TooMuch(_)), "{error}");
    }
}

#[test]
fn the_sender_may_say_why_it_fails() {
    let place = tempfile::tempdir().expect("dir");
    let error = Packet { data: b"open x: permission denied".to_vec(), ..plain(PacketType::PacketErr) };
    let error = play(place.path(), vec![error], Limits::default()).expect_err("failed");
    assert_eq!(error.to_string(), "error from sender: open x: permission denied");
}
