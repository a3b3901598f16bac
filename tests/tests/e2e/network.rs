//! Networks.

use std::io::{Read, Write};
use std::net::TcpStream;

use skep_testkit::{Engine, until};

use super::{engine, sleeper};

/// A container that serves a line as a web page on its port 80.
pub(super) fn server(engine: &Engine, name: &str, arguments: &[&str]) {
    let start = ["run", "-d", "--name", name];
    let command = ["busybox", "sh", "-c", SERVE];
    engine.run([&start, arguments, &command].concat()).success();
}

const SERVE: &str = "echo hello from inside > /tmp/index.html; exec httpd -f -v -p 80 -h /tmp";

/// The page at an address; `None` if nothing serves one.
pub(super) fn ask(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5))).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text.split_once("\r\n\r\n")?.1.trim().to_owned())
}

fn address(engine: &Engine, container: &str) -> String {
    let networks = &engine.inspect(container)["NetworkSettings"]["Networks"];
    networks["bridge"]["IPAddress"].as_str().unwrap().to_owned()
}

#[test]
fn published_ports_answer_on_every_way() {
    let engine = engine();
    server(&engine, "web", &["-p", "80"]);
    let port = engine
        .run(["port", "web", "80/tcp"])
        .success()
        .stdout
        .lines()
        .next()
        .unwrap()
        .rsplit(':')
        .next()
        .unwrap()
        .to_owned();
    until("the published port answers", || ask(&format!("127.0.0.1:{port}")).as_deref() == Some("hello from inside"));
    let gateway = engine.slot().bip().split('/').next().unwrap().to_owned();
    until("from the bridge's address too", || {
        ask(&format!("{gateway}:{port}")).as_deref() == Some("hello from inside")
    });
    until("and the container itself", || ask(&format!("{}:80", address(&engine, "web"))).is_some());
    // From a container through the host's address (hairpin).
    let url = format!("http://{gateway}:{port}/");
    engine.run(["run", "--rm", "busybox", "wget", "-qO-", &url]).success().stdout_is("hello from inside\n");
    engine.run(["rm", "-f", "web"]).success();
    assert_eq!(ask(&format!("127.0.0.1:{port}")), None);
}

#[test]
fn a_port_in_use_is_refused_and_nothing_is_left() {
    let engine = engine();
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let publish = format!("{port}:80");
    let outcome = engine.run(["run", "-d", "--name", "one", "-p", &publish, "busybox", "sleep", "1000"]).code_is(125);
    outcome.stderr_has("address already in use");
    assert_eq!(engine.inspect("one")["State"]["Status"], "created");
    drop(taken);
    engine.run(["start", "one"]).success();
}

#[test]
fn modes() {
    let engine = engine();
    let links = |network: &str| {
        let outcome = engine.run(["run", "--rm", "--network", network, "busybox", "ls", "/sys/class/net"]).success();
        outcome.stdout.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(links("none"), ["lo"]);
    assert_eq!(links("bridge"), ["eth0", "lo"]);
    assert!(links("host").contains(&engine.slot().bridge()));
    sleeper(&engine, "one");
    let own = engine.run(["exec", "one", "ip", "-o", "-4", "addr", "show", "eth0"]).success().stdout;
    let joined =
        engine.run(["run", "--rm", "--network", "container:one", "busybox", "ip", "-o", "-4", "addr", "show", "eth0"]);
    assert_eq!(joined.success().stdout, own);
}

#[test]
fn files_for_names() {
    let engine = engine();
    let id = engine.run([
        "run",
        "-d",
        "--name",
        "one",
        "--add-host",
        "db:10.9.8.7",
        "--dns",
        "10.1.2.3",
        "busybox",
        "sleep",
        "1000",
    ]);
    let id = id.success().word();
    let own = address(&engine, "one");
    let hosts = engine.run(["exec", "one", "cat", "/etc/hosts"]).success().stdout;
    assert!(hosts.contains("127.0.0.1\tlocalhost") && hosts.contains("10.9.8.7\tdb"), "{hosts}");
    assert!(hosts.contains(&format!("{own}\t{}", &id[..12])), "{hosts}");
    engine.run(["exec", "one", "cat", "/etc/resolv.conf"]).success().stdout_has("nameserver 10.1.2.3");
    engine.run(["exec", "one", "cat", "/etc/hostname"]).success().stdout_is(&format!("{}\n", &id[..12]));
}

#[test]
fn containers_reach_each_other() {
    let engine = engine();
    server(&engine, "web", &[]);
    let address = address(&engine, "web");
    until("it serves", || ask(&format!("{address}:80")).is_some());
    let url = format!("http://{address}/");
    engine.run(["run", "--rm", "busybox", "wget", "-qO-", &url]).success().stdout_is("hello from inside\n");
}

#[test]
fn addresses_are_given_back() {
    let engine = engine();
    sleeper(&engine, "one");
    let first = address(&engine, "one");
    sleeper(&engine, "two");
    assert_ne!(address(&engine, "two"), first);
    engine.run(["rm", "-f", "one", "two"]).success();
    let subnet = first.rsplit_once('.').unwrap().0.to_owned();
    sleeper(&engine, "three");
    assert!(address(&engine, "three").starts_with(&subnet));
}
