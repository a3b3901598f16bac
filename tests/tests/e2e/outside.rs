//! Containers and another machine: a network namespace behind a link to the host, which knows no way back to containers.

use std::io::{BufRead, BufReader};
use std::process::Child;

use skep_testkit::{Command, Engine, until};

use super::engine;
use super::network::server;

/// The other machine. Gone with its process.
struct Outside {
    holder: Child,
    link: String,
    /// The host's address on the link.
    host: String,
    /// Its own.
    own: String,
}

impl Outside {
    fn new(engine: &Engine) -> Outside {
        let number = engine.slot().number();
        let (host, own) = (format!("10.214.{number}.1"), format!("10.214.{number}.2"));
        let (link, peer) = (format!("skepout{number}"), format!("skepin{number}"));
        let mut holder = Command::new("unshare", ["--net", "sh", "-c", "echo ready; exec sleep 1000"]).spawn();
        let mut ready = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let outside = Outside { holder, link, host, own };
        let pid = outside.holder.id().to_string();
        run(&["ip", "link", "add", &outside.link, "type", "veth", "peer", "name", &peer, "netns", &pid]);
        run(&["ip", "address", "add", &format!("{}/30", outside.host), "dev", &outside.link]);
        run(&["ip", "link", "set", &outside.link, "up"]);
        outside.run(&["ip", "address", "add", &format!("{}/30", outside.own), "dev", &peer]).success();
        outside.run(&["ip", "link", "set", &peer, "up"]).success();
        outside
    }

    fn command(&self, words: &[&str]) -> Command {
        let pid = self.holder.id().to_string();
        Command::new("nsenter", [&["--net", "--target", &pid, "--"], words].concat())
    }

    fn run(&self, words: &[&str]) -> skep_testkit::Outcome {
        self.command(words).run()
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = Command::new("ip", ["link", "delete", &self.link]).run();
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[track_caller]
fn run(words: &[&str]) {
    Command::new(words[0], &words[1..]).run().success();
}

fn published_port(engine: &Engine, container: &str) -> String {
    let outcome = engine.run(["port", container, "80/tcp"]).success();
    outcome.stdout.lines().next().unwrap().rsplit(':').next().unwrap().to_owned()
}

#[test]
fn published_ports_are_reached_from_outside() {
    let engine = engine();
    let outside = Outside::new(&engine);
    server(&engine, "open", &["-p", "80"]);
    server(&engine, "local", &["-p", "127.0.0.1::80"]);
    let fetch = |host: &str, port: &str| {
        outside.run(&["timeout", "2", "busybox", "wget", "-q", "-O", "-", &format!("http://{host}:{port}/")])
    };
    let port = published_port(&engine, "open");
    until("the published port answers", || fetch(&outside.host, &port).stdout == "hello from inside\n");
    // The container sees who asks: the server prints it.
    until("the server has seen who asks", || engine.run(["logs", "open"]).success().stderr.contains("10.214."));
    let local = published_port(&engine, "local");
    assert_ne!(fetch(&outside.host, &local).code, 0);
    // A machine on the link that sends packets for the loopback address gets nowhere either.
    outside.run(&["ip", "route", "add", "10.213.0.0/16", "via", &outside.host]).success();
    let address =
        engine.inspect("local")["NetworkSettings"]["Networks"]["bridge"]["IPAddress"].as_str().unwrap().to_owned();
    assert_ne!(fetch(&address, "80").code, 0);
}

/// Answers one question with 192.0.2.7, and prints the name and who asked.
const NAME_SERVER: &str = "
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((sys.argv[1], 53))
print('ready', flush=True)
while True:
    query, asker = server.recvfrom(512)
    end = query.index(b'\\0', 12)
    question = query[12:end + 5]
    is_ipv4 = question[-4:-2] == b'\\0\\x01'
    head = query[:2] + b'\\x81\\x80\\0\\x01' + (b'\\0\\x01' if is_ipv4 else b'\\0\\0') + b'\\0\\0\\0\\0'
    answer = b'\\xc0\\x0c\\0\\x01\\0\\x01\\0\\0\\0\\x3c\\0\\x04\\xc0\\0\\x02\\x07' if is_ipv4 else b''
    server.sendto(head + question + answer, asker)
    print(asker[0], flush=True)
";

#[test]
fn names_are_asked_outside() {
    let engine = engine();
    let outside = Outside::new(&engine);
    let mut names = outside.command(&["python3", "-c", NAME_SERVER, &outside.own]).spawn();
    let mut said = BufReader::new(names.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(said.next().as_deref(), Some("ready"));
    let outcome = engine.run(["run", "--rm", "--dns", &outside.own, "busybox", "nslookup", "some.example"]);
    outcome.success().stdout_has("192.0.2.7");
    // It knows no way to the container: the host asked in its place.
    assert_eq!(said.next().as_deref(), Some(outside.host.as_str()));
    let _ = names.kill();
    let _ = names.wait();
}
