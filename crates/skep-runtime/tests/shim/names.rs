//! The container's name server.

use std::fs;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::process::Command;

use skep_dns::Forward;

use crate::harness::{OUTPUT, process, read_all, stdout_of, until};
use crate::name_clients::{
    A, AAAA, NO_ERROR, PTR, SERVER_FAILURE, SRV, Server, World, answer, entry, inside, question, receive_from, refusal,
    send_to, wire,
};

const ADDRESS: [u8; 4] = [192, 0, 2, 7];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn servers(addresses: &[&str]) -> Forward {
    Forward::Servers(addresses.iter().map(|address| ip(address)).collect())
}

#[test]
fn names_of_containers_are_answered() {
    let front = [entry("web", &["www", "both"], &["10.1.0.2", "fd01::2"]), entry("db", &["both"], &["10.1.0.3"])];
    let world = World::new(&[("front", &front)], Forward::Nowhere);
    let web = world.ask("Web", A);
    assert_eq!((web.rcode, web.records), (NO_ERROR, 1));
    assert!(web.has(&[10, 1, 0, 2]));
    assert!(world.ask("www.front", AAAA).has(&[0xfd, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]));
    assert_eq!((world.ask("db", AAAA).rcode, world.ask("db", AAAA).records), (NO_ERROR, 0));
    assert!(world.ask("3.0.1.10.in-addr.arpa", PTR).has(&wire("db.front")));
    assert!(world.ask("_http._tcp.db", SRV).has(&wire("db.front")));
    assert_eq!(world.ask("both", A).records, 2);
    assert_eq!(world.ask_stream("both", A).records, 2);
    assert_eq!(world.ask("example.org", A).rcode, SERVER_FAILURE);
    let orders: std::collections::BTreeSet<Vec<u8>> = (0..64).map(|_| world.ask("both", A).bytes).collect();
    assert_eq!(orders.len(), 2, "those who share a name take turns");
}

#[test]
fn changes_are_seen_at_once() {
    let mut world = World::new(&[("front", &[]), ("back", &[])], Forward::Nowhere);
    assert_eq!(world.ask("web", A).rcode, SERVER_FAILURE);
    for last in 2..20 {
        world.set_names("front", &[entry("web", &[], &[&format!("10.1.0.{last}")])]);
        assert!(world.ask("web", A).has(&[10, 1, 0, last]));
    }
    world.set_client(|client| drop(client.networks.remove(0)));
    assert_eq!(world.ask("web", A).rcode, SERVER_FAILURE);
}

#[test]
fn many_names_come_over_tcp() {
    let all: Vec<_> =
        (1..=200).map(|last| entry(&format!("c{last}"), &["all"], &[&format!("10.1.0.{last}")])).collect();
    let world = World::new(&[("front", &all)], Forward::Nowhere);
    let datagram = world.ask("all", A);
    assert!(datagram.truncated && datagram.bytes.len() <= 512);
    let stream = world.ask_stream("all", A);
    assert_eq!((stream.truncated, stream.records), (false, 200));
}

#[test]
fn several_questions_on_one_stream() {
    let world = World::new(&[("front", &[entry("web", &[], &["10.1.0.2"])])], Forward::Nowhere);
    let mut stream = world.stream();
    for id in 0..50 {
        send_to(&mut stream, &question(id, "web", A));
    }
    for id in 0..50u16 {
        let answer = receive_from(&mut stream).unwrap();
        assert_eq!(answer.bytes[..2], id.to_be_bytes());
        assert!(answer.has(&[10, 1, 0, 2]));
    }
}

#[test]
fn port_53_is_free_for_programs() {
    let world = World::new(&[("front", &[entry("web", &[], &["10.1.0.2"])])], Forward::Nowhere);
    let taken = inside(world.container.pid, || {
        (UdpSocket::bind("0.0.0.0:53").unwrap(), TcpListener::bind("0.0.0.0:53").unwrap())
    });
    assert!(world.ask("web", A).has(&[10, 1, 0, 2]));
    assert!(world.ask_stream("web", A).has(&[10, 1, 0, 2]));
    drop(taken);
}

#[test]
fn flushing_the_rules_of_the_container_leaves_names_alone() {
    let world = World::new(&[("front", &[entry("web", &[], &["10.1.0.2"])])], Forward::Nowhere);
    let pid = world.container.pid.to_string();
    let flushed = Command::new("nsenter").args(["-t", &pid, "-n", "nft", "flush", "ruleset"]).status().unwrap();
    assert!(flushed.success());
    assert!(world.ask("web", A).has(&[10, 1, 0, 2]));
}

#[test]
fn connection_tracking_in_the_container_sees_whole_conversations() {
    let world = World::new(&[("front", &[entry("web", &[], &["10.1.0.2"])])], Forward::Nowhere);
    let pid = world.container.pid.to_string();
    let strict = "table inet own { chain i { type filter hook input priority 0; policy drop; \
                  ct state established accept; ip daddr 127.0.0.11 ct state new accept; }; \
                  chain n { type nat hook output priority -100; }; }";
    let set = Command::new("nsenter").args(["-t", &pid, "-n", "nft", strict]).status().unwrap();
    assert!(set.success());
    assert!(world.ask("web", A).has(&[10, 1, 0, 2]));
    assert!(world.ask_stream("web", A).has(&[10, 1, 0, 2]));
}

#[test]
fn other_names_are_asked_elsewhere() {
    let world = World::new(&[("front", &[entry("web", &[], &["10.1.0.2"])])], servers(&["127.0.7.1"]));
    let server = world.server(ip("127.0.7.1"), |question, _| vec![answer(question, ADDRESS)]);
    for _ in 0..20 {
        assert!(world.ask("example.org", A).has(&ADDRESS));
    }
    assert!(world.ask_stream("example.org", A).has(&ADDRESS));
    assert!(world.ask("web", A).has(&[10, 1, 0, 2]));
    assert_eq!(world.ask("web", 15).records, 0, "who takes mail for a container is nobody else's business");
    let seen = server.seen.lock().unwrap();
    assert_eq!(seen.len(), 21, "names of containers go nowhere");
    let ids: std::collections::BTreeSet<_> = seen.iter().map(|(_, question)| question[..2].to_vec()).collect();
    let ports: std::collections::BTreeSet<_> = seen.iter().map(|(from, _)| from.port()).collect();
    assert!(ids.len() > 10 && ports.len() > 10, "ids and ports can't be foreseen: {ids:?} {ports:?}");
}

#[test]
fn only_the_answer_to_the_question_is_believed() {
    let world = World::new(&[], servers(&["127.0.7.1"]));
    let _server = world.server(ip("127.0.7.1"), |question, _| {
        let mut wrong_id = answer(question, [6, 6, 6, 1]);
        wrong_id[0] ^= 1;
        let mut wrong_name = answer(question, [6, 6, 6, 2]);
        wrong_name[13] ^= 1;
        let wrong_kind = {
            let mut bytes = answer(question, [6, 6, 6, 3]);
            let end = question.len();
            bytes[end - 3] = 28;
            bytes
        };
        vec![wrong_id, wrong_name, wrong_kind, question.to_vec(), vec![1, 2, 3], answer(question, ADDRESS)]
    });
    assert!(world.ask("example.org", A).has(&ADDRESS));
}

#[test]
fn a_server_that_can_t_answer_is_followed_by_the_next() {
    let world = World::new(&[], servers(&["127.0.7.1", "127.0.7.2", "127.0.7.3"]));
    // Nobody is at the first one.
    let refusing = world.server(ip("127.0.7.2"), |question, _| vec![refusal(question, 2)]);
    let answering = world.server(ip("127.0.7.3"), |question, _| vec![answer(question, ADDRESS)]);
    assert!(world.ask("example.org", A).has(&ADDRESS));
    assert!(world.ask_stream("example.org", A).has(&ADDRESS));
    assert!(world.ask("example.org", A).has(&ADDRESS));
    assert_eq!((refusing.count(), answering.count()), (1, 3), "the one that answers comes first for a while");
}

#[test]
fn a_silent_server_is_followed_by_the_next() {
    let world = World::new(&[], servers(&["127.0.7.1", "127.0.7.2"]));
    let _silent = world.server(ip("127.0.7.1"), |_, _| Vec::new());
    let _answering = world.server(ip("127.0.7.2"), |question, _| vec![answer(question, ADDRESS)]);
    assert!(world.ask("example.org", A).has(&ADDRESS));
}

#[test]
fn when_nobody_answers_that_is_said() {
    let world = World::new(&[], servers(&["127.0.7.1"]));
    assert_eq!(world.ask("example.org", A).rcode, SERVER_FAILURE);
    assert_eq!(world.ask_stream("example.org", A).rcode, SERVER_FAILURE);
    let silent = world.server(ip("127.0.7.1"), |_, _| Vec::new());
    assert_eq!(world.ask("example.org", A).rcode, SERVER_FAILURE);
    drop(silent);
    let _refusing = world.server(ip("127.0.7.1"), |question, _| vec![refusal(question, 5)]);
    assert_eq!(world.ask("example.org", A).rcode, 5, "what the server said");
}

#[test]
fn an_answer_that_there_is_no_such_name_is_final() {
    let world = World::new(&[], servers(&["127.0.7.1", "127.0.7.2"]));
    let _first = world.server(ip("127.0.7.1"), |question, _| vec![refusal(question, 3)]);
    let second = world.server(ip("127.0.7.2"), |question, _| vec![answer(question, ADDRESS)]);
    assert_eq!(world.ask("example.org", A).rcode, 3);
    assert_eq!(second.count(), 0);
}

#[test]
fn long_answers_come_over_tcp() {
    let world = World::new(&[], servers(&["127.0.7.1"]));
    let _server = world.server(ip("127.0.7.1"), |question, over_tcp| {
        let mut bytes = answer(question, ADDRESS);
        match over_tcp {
            true => bytes.extend_from_slice(&[0; 60_000]),
            false => bytes[2] |= 2,
        }
        vec![bytes]
    });
    assert!(world.ask("example.org", A).truncated);
    assert!(world.ask_stream("example.org", A).bytes.len() > 60_000);
}

#[test]
fn a_container_without_a_way_out_asks_nobody() {
    let mut world = World::new(&[], servers(&["127.0.7.1"]));
    let server = world.server(ip("127.0.7.1"), |question, _| vec![answer(question, ADDRESS)]);
    world.set_client(|client| client.forward = Forward::Nowhere);
    assert_eq!(world.ask("secret.example.org", A).rcode, SERVER_FAILURE);
    assert_eq!(world.ask_stream("secret.example.org", A).rcode, SERVER_FAILURE);
    assert_eq!(server.count(), 0);
}

#[test]
fn short_names_stay_here_if_dots_are_needed() {
    let mut world = World::new(&[], servers(&["127.0.7.1"]));
    let server = world.server(ip("127.0.7.1"), |question, _| vec![answer(question, ADDRESS)]);
    world.set_client(|client| client.dots_needed = true);
    let short = world.ask("intranet", A);
    assert_eq!((short.rcode, short.records, server.count()), (NO_ERROR, 0, 0));
    assert!(world.ask("intranet.example.org", A).has(&ADDRESS));
}

#[test]
fn the_host_s_servers_are_followed_as_they_change() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("resolv.conf");
    fs::write(&file, "").unwrap();
    // In the host's network. The addresses are this test's own.
    let own = std::process::id().to_be_bytes();
    let [one, other] = [1, 2].map(|last| IpAddr::from([127, own[2].max(1), own[3], last]));
    let world = World::new(&[], Forward::Host(file.clone()));
    assert_eq!(world.ask("example.org", A).rcode, SERVER_FAILURE);
    let _one = Server::start(one, |question, _| vec![answer(question, [192, 0, 2, 1])]);
    let _other = Server::start(other, |question, _| vec![answer(question, [192, 0, 2, 2])]);
    fs::write(&file, format!("nameserver {one}\n")).unwrap();
    assert!(world.ask("example.org", A).has(&[192, 0, 2, 1]));
    assert!(world.ask_stream("example.org", A).has(&[192, 0, 2, 1]));
    fs::write(directory.path().join("new"), format!("nameserver {other}\n")).unwrap();
    fs::rename(directory.path().join("new"), &file).unwrap();
    assert!(world.ask("example.org", A).has(&[192, 0, 2, 2]));
}

#[test]
fn a_flood_stops_neither_execs_nor_names() {
    let world = World::new(&[("front", &[entry("web", &[], &["10.1.0.2"])])], servers(&["127.0.7.1"]));
    let _silent = world.server(ip("127.0.7.1"), |_, _| Vec::new());
    let socket = world.socket();
    let streams: Vec<_> = (0..100).map(|_| world.stream()).collect();
    for id in 0..5000 {
        let _ = socket.send(&question(id, "example.org", A));
        let _ = socket.send(&[0; 3]);
    }
    let (mut link, _, stdio) = world.container.exec(&process(&["/bin/echo", "here"]), OUTPUT);
    assert_eq!(stdout_of(&stdio), "here\n");
    assert_eq!(link.exit().code, 0);
    assert!(world.ask("web", A).has(&[10, 1, 0, 2]));
    let shim = world.container.shim.id();
    let descriptors = || fs::read_dir(format!("/proc/{shim}/fd")).unwrap().count();
    assert!(descriptors() < 400, "{} descriptors", descriptors());
    drop(streams);
    until("the questions are given up", || descriptors() < 40);
}

#[test]
fn broken_questions_are_answered_or_dropped() {
    let world = World::new(&[("front", &[entry("web", &[], &["10.1.0.2"])])], Forward::Nowhere);
    let socket = world.socket();
    let good = question(1, "web", A);
    for at in 0..good.len() {
        for value in [0, 0x3f, 0x80, 0xc0, 0xff] {
            let mut broken = good.clone();
            broken[at] = value;
            socket.send(&broken).unwrap();
            socket.send(&good[..at]).unwrap();
        }
    }
    assert!(world.ask("web", A).has(&[10, 1, 0, 2]));
    let mut stream = world.stream();
    send_to(&mut stream, &[0; 5000]);
    assert_eq!(receive_from(&mut stream), None, "too long for a question");
}

#[test]
fn clients_of_the_container_s_own_library_find_names() {
    let world = World::new(&[("front", &[entry("web", &[], &["10.1.0.2"])])], Forward::Nowhere);
    let (_, _, stdio) = world.container.exec(&process(&["/bin/busybox", "nslookup", "web", "127.0.0.11"]), OUTPUT);
    let text = stdout_of(&stdio);
    assert!(text.contains("10.1.0.2"), "{text}");
    read_all(&stdio);
}
