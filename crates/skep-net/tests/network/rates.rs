//! Rates of endpoints: held in both directions, changed, taken away, and nothing of them is left.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::BorrowedFd;
use std::thread;
use std::time::Instant;

use skep_net::{NetError, Netns, NetworkStack, Rate, Saved};

use crate::lab::{config, container, fd, host, inside, ip, lab, network, open, run};

const PAYLOAD: usize = 1 << 20;

fn rate(inbound: &str, outbound: &str) -> Rate {
    let parse = |text: &str| (!text.is_empty()).then(|| Rate::parse(text).unwrap());
    Rate { inbound: parse(inbound), outbound: parse(outbound) }
}

/// Bits per second of a transfer from one namespace to another.
fn flow(from: BorrowedFd<'_>, to: BorrowedFd<'_>, address: &str) -> f64 {
    let listener = inside(to, || TcpListener::bind((address, 0)).unwrap());
    let target = listener.local_addr().unwrap();
    let receiver = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = vec![0; 64 << 10];
        let mut first = None;
        let mut received = 0;
        loop {
            match stream.read(&mut buffer).unwrap() {
                0 => break,
                size => received += size,
            }
            first.get_or_insert_with(Instant::now);
        }
        assert_eq!(received, PAYLOAD);
        first.map(|first| first.elapsed().as_secs_f64()).unwrap()
    });
    inside(from, || TcpStream::connect(target).unwrap().write_all(&vec![7; PAYLOAD]).unwrap());
    let bits = u32::try_from(PAYLOAD * 8).unwrap();
    f64::from(bits) / receiver.join().unwrap()
}

/// Both directions of a container. That a rate is not exceeded does not depend on how fast the machine is; that more than it
/// flows without one does, so it is asked of the kernel's configuration and not of the clock.
fn both(netns: &Netns) -> (f64, f64) {
    let host = host();
    (flow(fd(&host), netns.fd(), "172.17.0.2"), flow(netns.fd(), fd(&host), "172.17.0.1"))
}

fn plugged(stack: &NetworkStack, rate: Rate) -> (Netns, skep_net::Endpoint) {
    let netns = Netns::create().unwrap();
    let mut wish = container(2);
    wish.rate = rate;
    let endpoint = stack.attach(&network(17, "").id, &netns, &wish).unwrap();
    (netns, endpoint)
}

#[test]
fn rates_are_held_where_the_container_can_not_undo_them() {
    lab(|_| {
        let stack = open("skep-t");
        stack.create_network(network(17, "skep0")).unwrap();
        let (netns, mut endpoint) = plugged(&stack, rate("16mbit", "32mbit"));
        // What a container with CAP_NET_ADMIN may do to its own end.
        inside(netns.fd(), || run("tc", "qdisc replace dev eth0 root pfifo"));
        let (inbound, outbound) = both(&netns);
        assert!(inbound < 20e6, "{inbound}");
        assert!(outbound < 40e6, "{outbound}");

        stack.set_rate(&mut endpoint, rate("32mbit", "16mbit")).unwrap();
        let (inbound, outbound) = both(&netns);
        assert!(inbound < 40e6, "{inbound}");
        assert!(outbound < 20e6, "{outbound}");

        stack.set_rate(&mut endpoint, Rate::default()).unwrap();
        stack.set_rate(&mut endpoint, Rate::default()).unwrap();
        assert!(!run("tc", "qdisc").contains("tbf") && !ip("-o link").contains("ifb"), "{}", run("tc", "qdisc"));
        both(&netns);
        stack.set_rate(&mut endpoint, rate("", "1gbit")).unwrap();
        stack.detach(&endpoint).unwrap();
        assert!(!ip("-o link").contains("ifb"), "{}", ip("-o link"));
        stack.destroy().unwrap();
    });
}

#[test]
fn rates_outlive_the_engine_and_forgotten_ones_go() {
    lab(|_| {
        let stack = open("skep-t");
        stack.create_network(network(17, "skep0")).unwrap();
        let (_one, endpoint) = plugged(&stack, rate("", "32mbit"));
        let other = Netns::create().unwrap();
        let mut wish = container(3);
        wish.rate = rate("", "32mbit");
        stack.attach(&network(17, "").id, &other, &wish).unwrap();
        let unknown = network(18, "skep1");
        stack.create_network(unknown).unwrap();
        drop(stack);
        let saved = Saved { networks: vec![network(17, "skep0")], endpoints: vec![endpoint.clone()] };
        let (stack, _) = NetworkStack::open(config("skep-t"), saved).unwrap();
        let links = ip("-o link");
        assert_eq!(links.matches("ifb").count(), 1, "what was never stored is gone: {links}");
        assert!(!links.contains("skep1"), "{links}");
        assert_eq!(run("tc", "qdisc").matches("tbf").count(), 1);
        stack.detach(&endpoint).unwrap();
        assert_eq!(ip("-o link").matches("ifb").count(), 0);
        stack.destroy().unwrap();
    });
}

#[test]
fn a_rate_without_an_end_on_the_host_is_refused() {
    lab(|_| {
        let stack = open("skep-t");
        let link = skep_net::LinkConfig::Macvlan { parent: None, mode: skep_net::MacvlanMode::Bridge };
        match stack.create_network(skep_net::NetworkConfig { link, ..network(17, "") }) {
            Err(NetError::NoSuchKind("macvlan")) => return,
            made => made.unwrap(),
        }
        let netns = Netns::create().unwrap();
        let mut wish = container(2);
        wish.rate = rate("1mbit", "");
        assert!(matches!(stack.attach(&network(17, "").id, &netns, &wish), Err(NetError::Config(_))));
        assert!(!inside(netns.fd(), || ip("-o link")).contains("eth0"), "nothing half-made");
        stack.destroy().unwrap();
    });
}
