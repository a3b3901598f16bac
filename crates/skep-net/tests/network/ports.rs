//! Which ports of the host can be had, and who has the others.

use std::net::TcpListener;

use skep_net::{Endpoint, NetError, Netns, NetworkStack, PortHolder, PortMapping, Protocol};

use crate::lab::{HOST, HOST6, address, connect, container, dual, fd, host, inside, lab, open, refused, serve, tcp};

fn attach(stack: &NetworkStack, n: u8) -> (Netns, Endpoint) {
    let netns = Netns::create().unwrap();
    let endpoint = stack.attach(&dual(17, "").id, &netns, &container(n)).unwrap();
    (netns, endpoint)
}

/// Who is in the way of a port.
fn holder(result: Result<Vec<skep_net::Published>, NetError>) -> PortHolder {
    match result {
        Err(NetError::PortInUse { holder, .. }) => holder,
        other => panic!("not in use: {other:?}"),
    }
}

#[test]
fn one_address_and_all_addresses_are_in_each_others_way() {
    lab(|_| {
        let stack = open("skep-t");
        stack.create_network(dual(17, "skep0")).unwrap();
        let (one, mut first) = attach(&stack, 2);
        let (_two, mut second) = attach(&stack, 3);
        let own = PortHolder::Container(first.container);
        for address in ["127.0.0.1", HOST, "0.0.0.0", HOST6, "::"] {
            let published = stack.publish(&mut first, &[tcp(Some(address), 8080, 80)]).unwrap();
            let family = |ip: &str| ip.contains(':') == address.contains(':');
            for other in ["127.0.0.1", HOST, "0.0.0.0", HOST6, "::"] {
                let conflict = family(other)
                    && (other == address || [other, address].iter().any(|ip| ["0.0.0.0", "::"].contains(ip)));
                let result = stack.publish(&mut second, &[tcp(Some(other), 8080, 80)]);
                if conflict {
                    assert_eq!(holder(result), own, "{address}, then {other}");
                } else {
                    let result = result.unwrap();
                    stack.unpublish(&mut second, &result).unwrap();
                }
            }
            assert_eq!(holder(stack.publish(&mut second, &[tcp(None, 8080, 80)])), own);
            assert!(second.published.is_empty(), "nothing is left of it");
            stack.unpublish(&mut first, &published).unwrap();
        }
        let mine = PortHolder::Process { pid: std::process::id(), name: comm() };
        for address in ["127.0.0.1:8081", "[::1]:8081", "[2001:db8::1]:8081"] {
            let taken = TcpListener::bind(address).unwrap();
            assert_eq!(holder(stack.publish(&mut first, &[tcp(None, 8081, 80)])), mine, "{address}");
            drop(taken);
        }
        serve(one.fd(), 80);
        stack.publish(&mut first, &[tcp(None, 8081, 80)]).unwrap();
        assert_eq!(connect(fd(&host()), &format!("{HOST}:8081")), address(HOST), "free again");
        stack.destroy().unwrap();
    });
}

#[test]
fn sctp_is_published_as_the_others_are() {
    lab(|outside| {
        let stack = open("skep-t");
        stack.create_network(dual(17, "skep0")).unwrap();
        let (_one, mut endpoint) = attach(&stack, 2);
        let port = PortMapping { protocol: Protocol::Sctp, ..tcp(None, 5000, 5000) };
        let published = stack.publish(&mut endpoint, &[port]).unwrap();
        assert_eq!(published.len(), 2, "for both families");
        let table = crate::lab::run("nft", "list map inet skep-t published");
        assert!(table.contains("sctp . 5000 : 172.17.0.2 . 5000"), "{table}");
        assert!(refused(outside.fd(), &format!("{HOST}:5000")), "and not for TCP");
        stack.destroy().unwrap();
    });
}

/// A thousand ports are a thousand elements: the next one costs what the first one did. (Not measured here.)
#[test]
fn a_thousand_ports_come_and_go() {
    lab(|outside| {
        let stack = open("skep-t");
        stack.create_network(dual(17, "skep0")).unwrap();
        let (one, mut endpoint) = attach(&stack, 2);
        serve(one.fd(), 80);
        let ports: Vec<_> = (20000..21000).map(|port| tcp(Some(HOST), port, 80)).collect();
        let published = stack.publish(&mut endpoint, &ports).unwrap();
        assert_eq!(published.len(), 1000);
        for port in [20000, 20500, 20999] {
            assert_eq!(connect(outside.fd(), &format!("{HOST}:{port}")), address(crate::lab::OUTSIDE));
        }
        crate::lab::run("nft", "delete table inet skep-t");
        let elements = || {
            let listed =
                std::process::Command::new("nft").args(["list", "map", "inet", "skep-t", "published_on"]).output();
            String::from_utf8_lossy(&listed.unwrap().stdout).matches("tcp . 20").count()
        };
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while elements() != 1000 {
            assert!(std::time::Instant::now() < deadline, "{} of 1000 are back", elements());
            std::thread::yield_now();
        }
        stack.unpublish(&mut endpoint, &published).unwrap();
        assert_eq!(elements(), 0);
        assert!(inside(outside.fd(), || std::net::TcpStream::connect(format!("{HOST}:20500"))).is_err());
        stack.destroy().unwrap();
    });
}

fn comm() -> String {
    std::fs::read_to_string("/proc/self/comm").unwrap().trim().to_owned()
}
