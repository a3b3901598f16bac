//! Attach, detach, ports in use, addresses, leaks.

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use ipnet::Ipv6Net;
use skep_net::{AddressPool, HostPort, NetError, Netns, NetnsPool, PortHolder, PortMapping, Subnet};
use skep_types::ContainerId;

use crate::lab::{address, assert_clean, connect, container, fd, host, inside, ip, lab, network, open, serve, tcp};

#[test]
fn an_endpoint_has_address_route_and_hardware_address() {
    lab(|_| {
        let stack = open("skep-t");
        stack.create_network(network(17, "skep0")).unwrap();
        let netns = Netns::create().unwrap();
        let endpoint = stack.attach(&network(17, "").id, &netns, &container(2)).unwrap();
        let (links, routes, ipv6) = inside(netns.fd(), || {
            (ip("-4 -o addr"), ip("route"), std::fs::read_to_string("/proc/sys/net/ipv6/conf/eth0/disable_ipv6"))
        });
        assert!(links.contains("eth0    inet 172.17.0.2/16 brd 172.17.255.255"), "{links}");
        assert!(links.contains("lo    inet 127.0.0.1/8"), "{links}");
        assert!(routes.starts_with("default via 172.17.0.1 dev eth0"), "{routes}");
        assert_eq!(ipv6.unwrap().trim(), "1", "no IPv6 on a network without it");
        assert_eq!(endpoint.mac.to_string(), "02:42:ac:11:00:02");
        serve(fd(&host()), 9090);
        assert_eq!(connect(netns.fd(), "172.17.0.1:9090"), address("172.17.0.2"));
        let stats = stack.stats(&endpoint).unwrap();
        assert!(stats.tx_packets >= 1 && stats.rx_packets >= 1, "{stats:?}");

        stack.detach(&endpoint).unwrap();
        stack.detach(&endpoint).unwrap();
        let again = stack.attach(&network(17, "").id, &netns, &container(2)).unwrap();
        assert_eq!(again.address, endpoint.address);
        assert!(matches!(stack.remove_network(&network(17, "").id), Err(NetError::NetworkBusy { endpoints: 1, .. })));
        stack.detach(&again).unwrap();
        stack.remove_network(&network(17, "").id).unwrap();
        stack.destroy().unwrap();
        assert_clean_but_uplink();
    });
}

fn assert_clean_but_uplink() {
    ip("link del up0");
    ip("link add up0 type bridge");
    assert_clean();
}

#[test]
fn ipv6_networks_get_both_families() {
    lab(|_| {
        let stack = open("skep-t");
        let mut config = network(17, "skep0");
        config.subnets.push(Subnet::new("fd00:17::/64".parse::<Ipv6Net>().unwrap()));
        stack.create_network(config).unwrap();
        let netns = Netns::create().unwrap();
        let endpoint = stack.attach(&network(17, "").id, &netns, &container(2)).unwrap();
        assert_eq!(endpoint.address6, Some(("fd00:17::2".parse().unwrap(), 64)));
        let setting =
            |name: &str| std::fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{name}/accept_ra")).unwrap();
        assert_eq!(setting("up0").trim(), "2", "the host keeps listening to its routers");
        assert_eq!(setting("skep0").trim(), "0", "CVE-2020-13401");
        let inner = inside(netns.fd(), || (setting("eth0"), ip("-6 -o addr show eth0"), ip("-6 route show default")));
        assert_eq!(inner.0.trim(), "0", "CVE-2020-13401");
        let global = inner.1.lines().find(|line| line.contains("fd00:17::2")).unwrap();
        assert!(!global.contains("tentative"), "{global}");
        assert!(inner.2.starts_with("default via fd00:17::1 dev eth0"), "{}", inner.2);
        let listener = TcpListener::bind("[fd00:17::1]:9090").unwrap();
        inside(netns.fd(), || TcpStream::connect(listener.local_addr().unwrap())).unwrap();
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip().to_string(), "fd00:17::2");
        stack.destroy().unwrap();
    });
}

#[test]
fn networks_may_have_ipv6_only() {
    lab(|_| {
        let stack = open("skep-t");
        let mut config = network(17, "skep0");
        config.subnets = vec![Subnet::new("fd00:17::/64".parse::<Ipv6Net>().unwrap())];
        stack.create_network(config).unwrap();
        let attach = |n: u8| {
            let netns = Netns::create().unwrap();
            let mut wish = container(n);
            wish.link_local = vec!["169.254.9.9".parse().unwrap(), "fe80::9".parse().unwrap()];
            wish.sysctls = vec![("net.ipv4.conf.IFNAME.log_martians".to_owned(), "1".to_owned())];
            let endpoint = stack.attach(&network(17, "").id, &netns, &wish).unwrap();
            (netns, endpoint)
        };
        let ((one, first), (_two, second)) = (attach(2), attach(3));
        assert_eq!((first.address, first.gateway), (None, None));
        assert_ne!(first.mac, second.mac);
        let (links, v4, martians) = inside(one.fd(), || {
            let setting = std::fs::read_to_string("/proc/sys/net/ipv4/conf/eth0/log_martians").unwrap();
            (ip("-o addr show eth0"), ip("route show default"), setting)
        });
        assert!(links.contains("169.254.9.9/16") && links.contains("fe80::9/64"), "{links}");
        assert_eq!((v4.as_str(), martians.trim()), ("", "1"));
        let port = stack.publish(&mut first.clone(), &[tcp(None, 7000, 80)]).unwrap();
        assert_eq!(port.iter().map(|p| p.host_ip.to_string()).collect::<Vec<_>>(), ["::"], "no IPv4 to publish");
        assert!(matches!(
            stack.publish(&mut first.clone(), &[tcp(Some("127.0.0.1"), 7001, 80)]),
            Err(NetError::Config(_))
        ));
        let mut wish = container(4);
        wish.address = Some([172, 17, 0, 9].into());
        let refused = stack.attach(&network(17, "").id, &Netns::create().unwrap(), &wish);
        assert!(matches!(refused, Err(NetError::AddressOutside { .. })), "{refused:?}");
        wish.address = None;
        wish.sysctls = vec![("net.ipv4.conf.IFNAME.no_such".to_owned(), "1".to_owned())];
        let refused = stack.attach(&network(17, "").id, &Netns::create().unwrap(), &wish);
        assert!(matches!(refused, Err(NetError::Config(_))), "{refused:?}");
        assert_eq!(ip("-o link show type veth").lines().count(), 3, "nothing half-made");
        stack.destroy().unwrap();
    });
}

#[test]
fn a_port_in_use_names_its_holder_and_leaves_nothing() {
    lab(|_| {
        let stack = open("skep-t");
        stack.create_network(network(17, "skep0")).unwrap();
        let id = network(17, "").id;
        let host = host();
        let listener = inside(fd(&host), || TcpListener::bind("127.0.0.1:7000").unwrap());
        let attach = |n: u8, ports: Vec<PortMapping>| {
            let mut wish = container(n);
            wish.ports = ports;
            stack.attach(&id, &Netns::create().unwrap(), &wish)
        };
        let own = PortHolder::Process { pid: std::process::id(), name: comm() };
        match attach(2, vec![tcp(None, 7001, 80), tcp(None, 7000, 80)]) {
            Err(NetError::PortInUse { holder, address, .. }) => {
                assert_eq!((holder, address.to_string()), (own, "0.0.0.0:7000".to_owned()));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(ip("-o link show type veth").lines().count(), 1, "only the uplink");
        drop(listener);

        let first = attach(2, vec![tcp(None, 7000, 80), tcp(None, 7001, 80)]).unwrap();
        inside(fd(&host), || {
            assert!(TcpListener::bind("0.0.0.0:7000").is_err(), "a host program sees the port as taken")
        });
        match attach(3, vec![tcp(Some("127.0.0.1"), 7000, 80)]) {
            Err(NetError::PortInUse { holder, .. }) => assert_eq!(holder, PortHolder::Container(first.container)),
            other => panic!("{other:?}"),
        }
        assert!(matches!(attach(3, vec![tcp(Some("203.0.113.9"), 7005, 80)]), Err(NetError::NotAHostAddress { .. })));
        stack.detach(&first).unwrap();
        let range = PortMapping { host_port: HostPort::Range(7000, 7001), ..tcp(None, 0, 80) };
        let ranged = attach(3, vec![range.clone(), range.clone()]).unwrap();
        assert_eq!(ranged.published.iter().map(|p| p.host_port).collect::<Vec<_>>(), [7000, 7001]);
        let mut ranged = ranged;
        assert!(matches!(stack.publish(&mut ranged, &[range]), Err(NetError::PortsExhausted)));
        let any = PortMapping { host_port: HostPort::Ephemeral, ..tcp(None, 0, 80) };
        let drawn = stack.publish(&mut ranged, &[any.clone(), any]).unwrap();
        assert!(drawn[0].host_port >= 32768 && drawn[0].host_port != drawn[1].host_port);
        stack.destroy().unwrap();
    });
}

fn comm() -> String {
    std::fs::read_to_string("/proc/self/comm").unwrap().trim().to_owned()
}

#[test]
fn wrong_networks_are_refused() {
    lab(|_| {
        let stack = open("skep-t");
        assert_eq!(stack.free_subnet(&AddressPool::defaults()).unwrap().to_string(), "172.17.0.0/16");
        stack.create_network(network(17, "skep0")).unwrap();
        assert_eq!(stack.free_subnet(&AddressPool::defaults()).unwrap().to_string(), "172.18.0.0/16");
        let overlapping = skep_net::NetworkConfig { id: network(18, "").id, ..network(17, "skep1") };
        assert!(matches!(stack.create_network(overlapping), Err(NetError::SubnetOverlap { .. })));
        assert!(matches!(stack.create_network(network(18, "skep0")), Err(NetError::NetworkExists(_))));
        assert!(matches!(stack.create_network(network(18, "up0")), Err(NetError::NotABridge(_))));
        let netns = Netns::create().unwrap();
        assert!(matches!(stack.attach(&network(18, "").id, &netns, &container(2)), Err(NetError::NoSuchNetwork(_))));
        stack.destroy().unwrap();
        assert_clean_but_uplink();
    });
}

/// Not a limit: prints what attach and detach cost, and checks that two hundred endpoints fit and go away.
#[test]
fn two_hundred_endpoints_come_and_go() {
    lab(|_| {
        let stack = open("skep-t");
        stack.create_network(network(17, "skep0")).unwrap();
        let pool = NetnsPool::new(200);
        pool.refill().unwrap();
        let (mut attached, mut up, mut down) = (Vec::new(), Vec::new(), Vec::new());
        for n in 0..200_u16 {
            let mut bytes = [0; 32];
            bytes[..2].copy_from_slice(&(n + 1).to_be_bytes());
            let netns = pool.take().unwrap();
            let mut wish = container(0);
            wish.container = ContainerId::from_bytes(bytes);
            wish.ports = vec![tcp(None, 20000 + n, 80)];
            let start = Instant::now();
            let endpoint = stack.attach(&network(17, "").id, &netns, &wish).unwrap();
            up.push(start.elapsed());
            attached.push((netns, endpoint));
        }
        let (alone, together) = attached.split_at(20);
        for (_netns, endpoint) in alone {
            let start = Instant::now();
            stack.detach(endpoint).unwrap();
            down.push(start.elapsed());
        }
        let start = Instant::now();
        std::thread::scope(|scope| {
            for endpoints in together.chunks(together.len() / 8 + 1) {
                scope.spawn(|| endpoints.iter().for_each(|(_netns, endpoint)| stack.detach(endpoint).unwrap()));
            }
        });
        report("attach+publish", &mut up);
        report("detach", &mut down);
        report("detach by eight", &mut [start.elapsed() / u32::try_from(together.len()).unwrap(); 1]);
        stack.destroy().unwrap();
        assert_clean_but_uplink();
    });
}

#[allow(clippy::print_stderr, reason = "a measurement for the reader")]
fn report(what: &str, times: &mut [Duration]) {
    let few = times.len().min(20);
    let first = times[..few].iter().sum::<Duration>() / u32::try_from(few).unwrap();
    let last = times[times.len() - few..].iter().sum::<Duration>() / u32::try_from(few).unwrap();
    times.sort();
    eprintln!("{what}: median {:?}, first {few} {first:?}, last {few} {last:?}", times[times.len() / 2]);
}
