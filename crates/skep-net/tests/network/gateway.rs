//! Gateway modes, IPv6, and links that a network trusts.

use skep_net::{Endpoint, GatewayMode, Netns, NetworkConfig, NetworkStack, Saved};

use crate::lab::{
    BridgeFilter, HOST, HOST6, OUTSIDE, OUTSIDE6, address, config, connect, container, dual, fd, host, inside, ip, lab,
    lab_with, open, refused, run, serve, tcp,
};

/// A container with port 80 published on 8080; 81 is served too, but not published.
fn web(stack: &NetworkStack, n: u8) -> (Netns, Endpoint) {
    let netns = Netns::create().unwrap();
    let mut wish = container(n);
    wish.ports = vec![tcp(None, 8080, 80)];
    let endpoint = stack.attach(&dual(17, "").id, &netns, &wish).unwrap();
    serve(netns.fd(), 80);
    serve(netns.fd(), 81);
    (netns, endpoint)
}

fn with_mode(mode: GatewayMode) -> NetworkConfig {
    let mut network = dual(17, "skep0");
    let bridge = network.as_bridge_mut().unwrap();
    (bridge.gateway_mode_v4, bridge.gateway_mode_v6) = (mode, mode);
    network
}

#[test]
fn published_ports_work_the_same_with_ipv6() {
    for bridge_filter in [BridgeFilter::AsFound, BridgeFilter::Off] {
        published_ports_work_the_same_with_ipv6_with(bridge_filter);
    }
}

fn published_ports_work_the_same_with_ipv6_with(bridge_filter: BridgeFilter) {
    lab_with(bridge_filter, |outside| {
        let stack = open("skep-t");
        stack.create_network(dual(17, "skep0")).unwrap();
        let (own, _) = web(&stack, 2);
        let (other, _) = {
            let netns = Netns::create().unwrap();
            let endpoint = stack.attach(&dual(17, "").id, &netns, &container(3)).unwrap();
            (netns, endpoint)
        };
        serve(outside.fd(), 80);
        let host = host();
        let published = format!("[{HOST6}]:8080");
        assert_eq!(connect(outside.fd(), &published), address(OUTSIDE6), "the source address is kept");
        assert_eq!(connect(fd(&host), &published), address(HOST6));
        if bridge_filter == BridgeFilter::Off {
            assert_eq!(connect(fd(&host), "[::1]:8080"), address("fd00:17::1"), "from the host by loopback");
        } else {
            assert!(refused(fd(&host), "[::1]:8080"), "refused, so that clients go on to 127.0.0.1");
        }
        assert_eq!(connect(own.fd(), &published), address("fd00:17::1"), "hairpin to itself");
        assert_eq!(connect(other.fd(), &published), address("fd00:17::1"), "from a neighbour through the host");
        assert_eq!(connect(other.fd(), "[fd00:17::2]:81"), address("fd00:17::3"), "from a neighbour directly");
        assert!(refused(outside.fd(), "[fd00:17::2]:80"), "direct routing");
        assert!(refused(outside.fd(), "[fd00:17::2]:81"));
        assert_eq!(connect(own.fd(), &format!("[{OUTSIDE6}]:80")), address(HOST6), "masqueraded");
        stack.destroy().unwrap();
    });
}

#[test]
fn nat_unprotected_lets_everybody_in_by_the_containers_address() {
    lab(|outside| {
        let stack = open("skep-t");
        stack.create_network(with_mode(GatewayMode::NatUnprotected)).unwrap();
        stack.create_network(dual(18, "skep1")).unwrap();
        let (own, _) = web(&stack, 2);
        let elsewhere = Netns::create().unwrap();
        stack.attach(&dual(18, "").id, &elsewhere, &container(3)).unwrap();
        serve(outside.fd(), 80);
        for (to, from) in [
            (format!("{HOST}:8080"), OUTSIDE),
            (format!("[{HOST6}]:8080"), OUTSIDE6),
            ("172.17.0.2:81".to_owned(), OUTSIDE),
            ("[fd00:17::2]:81".to_owned(), OUTSIDE6),
        ] {
            assert_eq!(connect(outside.fd(), &to), address(from), "{to}");
        }
        assert_eq!(connect(own.fd(), &format!("{OUTSIDE}:80")), address(HOST), "still masqueraded");
        assert!(
            refused(elsewhere.fd(), "172.17.0.2:81") && refused(elsewhere.fd(), "[fd00:17::2]:81"),
            "networks are apart"
        );
        stack.destroy().unwrap();
    });
}

#[test]
fn routed_opens_published_ports_where_they_are() {
    lab(|outside| {
        let stack = open("skep-t");
        stack.create_network(with_mode(GatewayMode::Routed)).unwrap();
        stack.create_network(dual(18, "skep1")).unwrap();
        let (own, mut endpoint) = web(&stack, 2);
        let elsewhere = Netns::create().unwrap();
        let third = stack.attach(&dual(18, "").id, &elsewhere, &container(3)).unwrap();
        serve(outside.fd(), 80);
        let check = |when: &str| {
            assert_eq!(connect(outside.fd(), "172.17.0.2:80"), address(OUTSIDE), "{when}");
            assert_eq!(connect(outside.fd(), "[fd00:17::2]:80"), address(OUTSIDE6), "{when}");
            assert!(refused(outside.fd(), "172.17.0.2:81") && refused(outside.fd(), "[fd00:17::2]:81"), "{when}");
            assert!(refused(outside.fd(), &format!("{HOST}:8080")), "{when}: no port of the host");
            assert_eq!(connect(elsewhere.fd(), "172.17.0.2:80"), address("172.18.0.2"), "{when}: other networks too");
            assert!(refused(elsewhere.fd(), "172.17.0.2:81"), "{when}");
        };
        check("at first");
        inside(outside.fd(), || run("busybox", "ping -c1 -W5 172.17.0.2"));
        assert_eq!(connect(own.fd(), &format!("{OUTSIDE}:80")), address("172.17.0.2"), "no masquerading");
        assert!(endpoint.published.iter().all(|port| port.host_port == 0), "{endpoint:?}");

        drop(stack);
        let networks = vec![with_mode(GatewayMode::Routed), dual(18, "skep1")];
        let saved = Saved { networks, endpoints: vec![endpoint.clone(), third] };
        let (stack, restored) = NetworkStack::open(config("skep-t"), saved).unwrap();
        assert!(restored.contested.is_empty(), "{restored:?}");
        check("after a restart");
        let again = stack.publish(&mut endpoint, &[tcp(None, 9090, 80)]).unwrap();
        stack.unpublish(&mut endpoint, &again).unwrap();
        assert!(refused(outside.fd(), "172.17.0.2:80"), "the same port is published once, whatever it was asked as");
        stack.destroy().unwrap();
    });
}

#[test]
fn each_family_has_its_own_mode() {
    lab(|outside| {
        let stack = open("skep-t");
        let mut network = dual(17, "skep0");
        network.as_bridge_mut().unwrap().gateway_mode_v6 = GatewayMode::Routed;
        stack.create_network(network).unwrap();
        let (_own, endpoint) = web(&stack, 2);
        let ports: Vec<_> = endpoint.published.iter().map(|port| (port.host_ip.is_ipv4(), port.host_port)).collect();
        assert_eq!(ports, [(true, 8080), (false, 0)]);
        assert_eq!(connect(outside.fd(), &format!("{HOST}:8080")), address(OUTSIDE));
        assert!(refused(outside.fd(), "172.17.0.2:80") && refused(outside.fd(), &format!("[{HOST6}]:8080")));
        assert_eq!(connect(outside.fd(), "[fd00:17::2]:80"), address(OUTSIDE6));
        stack.destroy().unwrap();
    });
}

#[test]
fn an_isolated_network_does_not_even_know_its_host() {
    lab(|_| {
        let stack = open("skep-t");
        let mut network = with_mode(GatewayMode::Isolated);
        network.internal = true;
        stack.create_network(network).unwrap();
        let (own, _) = web(&stack, 2);
        let other = Netns::create().unwrap();
        stack.attach(&dual(17, "").id, &other, &container(3)).unwrap();
        let host = host();
        serve(fd(&host), 9090);
        assert!(!ip("addr show skep0").contains("scope global"), "the bridge has no address");
        assert!(connect(other.fd(), "172.17.0.2:81").is_some() || connect(other.fd(), "172.17.0.1:81").is_some());
        for to in ["172.17.0.1:9090", "[fd00:17::1]:9090"] {
            assert!(refused(own.fd(), to), "{to}");
        }
        stack.destroy().unwrap();
    });
}

#[test]
fn trusted_links_reach_published_ports_directly() {
    lab(|outside| {
        let stack = open("skep-t");
        let mut network = dual(17, "skep0");
        network.as_bridge_mut().unwrap().trusted_host_interfaces = vec!["up0".to_owned()];
        stack.create_network(network).unwrap();
        let (_own, mut endpoint) = web(&stack, 2);
        assert_eq!(connect(outside.fd(), "172.17.0.2:80"), address(OUTSIDE));
        assert_eq!(connect(outside.fd(), "[fd00:17::2]:80"), address(OUTSIDE6));
        assert!(refused(outside.fd(), "172.17.0.2:81"));
        let more = stack.publish(&mut endpoint, &[tcp(Some("127.0.0.1"), 8081, 80)]).unwrap();
        stack.unpublish(&mut endpoint, &more).unwrap();
        assert_eq!(connect(outside.fd(), "172.17.0.2:80"), address(OUTSIDE), "it is still published on 8080");
        let all = endpoint.published.clone();
        stack.unpublish(&mut endpoint, &all).unwrap();
        assert!(refused(outside.fd(), "172.17.0.2:80"));
        stack.destroy().unwrap();
    });
}
