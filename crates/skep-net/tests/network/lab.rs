//! A small laboratory: one host, one outside host on its uplink, containers.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::process::Command;
use std::thread;
use std::time::Duration;

use ipnet::Ipv4Net;
use skep_net::{
    EndpointConfig, ForwardPolicy, HostFirewall, HostPort, Netns, NetworkConfig, NetworkStack, PortMapping, Protocol,
    Saved, StackConfig,
};
use skep_types::{ContainerId, NetworkId};

/// How long to wait for what must not come.
const SILENCE: Duration = Duration::from_millis(150);
/// How long to wait for what must come.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) const HOST: &str = "192.0.2.1";
pub(crate) const OUTSIDE: &str = "192.0.2.2";
pub(crate) const HOST6: &str = "2001:db8::1";
pub(crate) const OUTSIDE6: &str = "2001:db8::2";

/// Runs a test in a network namespace of its own; `host` has the uplink to `outside`.
pub(crate) fn lab(test: impl FnOnce(&Netns) + Send) {
    lab_with(BridgeFilter::AsFound, test);
}

/// Whether bridged frames pass the packet filter (br_netfilter); both kinds of hosts exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BridgeFilter {
    AsFound,
    Off,
}

/// As [`lab`], on a host whose bridges are filtered or not.
pub(crate) fn lab_with(bridge_filter: BridgeFilter, test: impl FnOnce(&Netns) + Send) {
    thread::scope(|scope| {
        let run = scope.spawn(|| {
            let own = skep_sys::netns::unshare_thread().unwrap();
            ip("link set lo up");
            if bridge_filter == BridgeFilter::Off {
                // Missing where br_netfilter is not loaded, which is the same as off.
                let _ = std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "0");
                let _ = std::fs::write("/proc/sys/net/bridge/bridge-nf-call-ip6tables", "0");
            }
            let outside = Netns::create().unwrap();
            let path = format!("/proc/{}/fd/{}", std::process::id(), outside.fd().as_raw_fd());
            ip(&format!("link add up0 type veth peer name up1 netns {path}"));
            ip(&format!("addr add {HOST}/24 dev up0"));
            ip(&format!("addr add {HOST6}/64 dev up0 nodad"));
            ip("link set up0 up");
            inside(outside.fd(), || {
                ip(&format!("addr add {OUTSIDE}/24 dev up1"));
                ip("link set up1 up");
                ip(&format!("addr add {OUTSIDE6}/64 dev up1 nodad"));
                ip(&format!("route add default via {HOST}"));
                ip(&format!("-6 route add default via {HOST6}"));
            });
            test(&outside);
            drop(own);
        });
        if let Err(panic) = run.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Runs `work` in a namespace.
pub(crate) fn inside<T: Send>(netns: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let run = scope.spawn(|| {
            skep_sys::netns::enter(netns).unwrap();
            work()
        });
        run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

pub(crate) fn ip(arguments: &str) -> String {
    run("ip", arguments)
}

pub(crate) fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split(' ')).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn config(table: &str) -> StackConfig {
    StackConfig {
        table: table.to_owned(),
        forward: ForwardPolicy::DropIfEnabledHere,
        host_firewall: HostFirewall::Respect,
    }
}

pub(crate) fn open(table: &str) -> NetworkStack {
    NetworkStack::open(config(table), Saved::default()).unwrap().0
}

pub(crate) fn network(n: u8, bridge: &str) -> NetworkConfig {
    let subnet: Ipv4Net = format!("172.{n}.0.0/16").parse().unwrap();
    NetworkConfig::bridge(NetworkId::from_bytes([n; 32]), bridge, subnet)
}

/// As [`network`], with an IPv6 subnet.
pub(crate) fn dual(n: u8, bridge: &str) -> NetworkConfig {
    let subnet: ipnet::Ipv6Net = format!("fd00:{n}::/64").parse().unwrap();
    let mut config = network(n, bridge);
    config.subnets.push(skep_net::Subnet::new(subnet));
    config
}

pub(crate) fn container(n: u8) -> EndpointConfig {
    EndpointConfig::new(ContainerId::from_bytes([n; 32]))
}

pub(crate) fn tcp(host_ip: Option<&str>, host_port: u16, container_port: u16) -> PortMapping {
    PortMapping {
        host_ip: host_ip.map(|ip| ip.parse().unwrap()),
        host_port: HostPort::Exact(host_port),
        container_port,
        protocol: Protocol::Tcp,
    }
}

/// Serves `port` in a namespace: answers each TCP connection and each UDP packet with the client's address.
pub(crate) fn serve(netns: BorrowedFd<'_>, port: u16) {
    let any: SocketAddr = (std::net::Ipv6Addr::UNSPECIFIED, port).into();
    let (tcp, udp) = inside(netns, || (TcpListener::bind(any).unwrap(), UdpSocket::bind(any).unwrap()));
    thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            let peer = stream.peer_addr().unwrap().ip().to_canonical().to_string();
            let _ = stream.write_all(peer.as_bytes());
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 16];
        while let Ok((_, peer)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(peer.ip().to_canonical().to_string().as_bytes(), peer);
        }
    });
}

/// The address that the server at `to` sees when a client in `netns` connects; `None` if it can't.
pub(crate) fn connect(netns: BorrowedFd<'_>, to: &str) -> Option<IpAddr> {
    reach(netns, to, PATIENCE)
}

/// True if a client in `netns` gets no answer from `to`.
pub(crate) fn refused(netns: BorrowedFd<'_>, to: &str) -> bool {
    reach(netns, to, SILENCE).is_none()
}

/// Whether a client in `netns` gets an answer from `to`; it is waited for longer if it is `expected`.
pub(crate) fn arrives(netns: BorrowedFd<'_>, to: &str, expected: bool) -> bool {
    reach(netns, to, if expected { PATIENCE } else { SILENCE }).is_some()
}

fn reach(netns: BorrowedFd<'_>, to: &str, wait: Duration) -> Option<IpAddr> {
    let to: SocketAddr = to.parse().unwrap();
    inside(netns, || {
        let mut stream = TcpStream::connect_timeout(&to, wait).ok()?;
        stream.set_read_timeout(Some(wait)).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.parse().ok()
    })
}

/// As [`connect`], with one UDP packet.
pub(crate) fn ask(netns: BorrowedFd<'_>, to: &str) -> Option<IpAddr> {
    let to: SocketAddr = to.parse().unwrap();
    inside(netns, || {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.connect(to).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        socket.send(b"?").ok()?;
        let mut buffer = [0; 64];
        let size = socket.recv(&mut buffer).ok()?;
        std::str::from_utf8(&buffer[..size]).unwrap().parse().ok()
    })
}

/// The namespace of the calling thread: the test's host.
pub(crate) fn host() -> std::os::fd::OwnedFd {
    skep_sys::netns::current().unwrap()
}

pub(crate) fn address(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

/// Checks that the host has no link but its own and no table.
pub(crate) fn assert_clean() {
    let links = ip("-o link");
    assert_eq!(links.lines().count(), 2, "links are left: {links}");
    assert_eq!(run("nft", "list ruleset").trim(), "", "tables are left");
}

pub(crate) fn fd(netns: &impl AsFd) -> BorrowedFd<'_> {
    netns.as_fd()
}
