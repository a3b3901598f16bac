//! Who reaches what: published ports, hairpin, isolation, the way out.

use skep_net::{Endpoint, Netns, NetworkStack, PortMapping, Protocol};

use crate::lab::{
    BridgeFilter, HOST, OUTSIDE, address, ask, assert_clean, connect, container, fd, host, ip, lab, lab_with, network,
    open, refused, run, serve, tcp,
};

/// A container that serves port 80, with `ports` published.
fn server(stack: &NetworkStack, net: u8, n: u8, ports: Vec<PortMapping>) -> (Netns, Endpoint) {
    let netns = Netns::create().unwrap();
    let mut wish = container(n);
    wish.ports = ports;
    let endpoint = stack.attach(&network(net, "").id, &netns, &wish).unwrap();
    serve(netns.fd(), 80);
    (netns, endpoint)
}

#[test]
fn ports_on_all_addresses_are_reached_from_everywhere() {
    for bridge_filter in [BridgeFilter::AsFound, BridgeFilter::Off] {
        ports_on_all_addresses_are_reached_from_everywhere_with(bridge_filter);
    }
}

fn ports_on_all_addresses_are_reached_from_everywhere_with(bridge_filter: BridgeFilter) {
    lab_with(bridge_filter, |outside| {
        let stack = open("skep-t");
        stack.create_network(network(17, "skep0")).unwrap();
        let (web, endpoint) = server(&stack, 17, 2, vec![tcp(None, 8080, 80)]);
        let (other, _) = server(&stack, 17, 3, vec![]);
        let published = format!("{HOST}:8080");
        let host = host();

        assert_eq!(endpoint.addresses().next(), address("172.17.0.2"));
        assert_eq!(connect(outside.fd(), &published), address(OUTSIDE), "the source address is kept");
        assert_eq!(connect(fd(&host), &published), address(HOST), "from the host by its address");
        assert_eq!(connect(fd(&host), "127.0.0.1:8080"), address("172.17.0.1"), "from the host by loopback");
        assert_eq!(connect(fd(&host), "172.17.0.2:80"), address("172.17.0.1"), "from the host directly");
        assert_eq!(connect(web.fd(), &published), address("172.17.0.1"), "hairpin to itself");
        assert_eq!(connect(other.fd(), &published), address("172.17.0.1"), "from a neighbour through the host");
        assert_eq!(connect(other.fd(), "172.17.0.2:80"), address("172.17.0.3"), "from a neighbour directly");
        assert!(refused(outside.fd(), "172.17.0.2:80"), "outside hosts can't route to a container");
        assert!(refused(outside.fd(), &format!("{HOST}:80")), "unpublished");

        stack.destroy().unwrap();
        ip("link del up0");
        assert_eq!(run("nft", "list ruleset").trim(), "");
    });
}

#[test]
fn ports_on_loopback_are_for_the_host_only() {
    lab(|outside| {
        let stack = open("skep-t");
        stack.create_network(network(17, "skep0")).unwrap();
        let (web, _) = server(&stack, 17, 2, vec![tcp(Some("127.0.0.1"), 8080, 80)]);
        let host = host();
        serve(fd(&host), 9090);

        assert_eq!(connect(fd(&host), "127.0.0.1:8080"), address("172.17.0.1"));
        assert!(refused(outside.fd(), &format!("{HOST}:8080")));
        assert!(refused(outside.fd(), "172.17.0.2:80"));
        // An outside host that sends packets for 127.0.0.1 to this one, and a container that does the same.
        crate::lab::inside(outside.fd(), || {
            run("sysctl", "-qw net.ipv4.conf.all.route_localnet=1");
            ip("addr del 127.0.0.1/8 dev lo");
            ip(&format!("route add 127.0.0.1 via {HOST}"));
        });
        assert!(refused(outside.fd(), "127.0.0.1:8080"), "CVE-2025-54388");
        assert!(refused(outside.fd(), "127.0.0.1:9090"), "CVE-2020-8558");
        crate::lab::inside(web.fd(), || {
            run("sysctl", "-qw net.ipv4.conf.all.route_localnet=1");
            ip("addr del 127.0.0.1/8 dev lo");
            ip("route add 127.0.0.1 via 172.17.0.1 src 172.17.0.2");
        });
        assert!(refused(web.fd(), "127.0.0.1:9090"), "the host's own services stay its own");
        assert_eq!(
            connect(web.fd(), "172.17.0.1:9090"),
            address("172.17.0.2"),
            "but not those on the bridge's address"
        );
        stack.destroy().unwrap();
    });
}

#[test]
fn udp_works_and_old_flows_do_not_stick() {
    lab(|outside| {
        let stack = open("skep-t");
        stack.create_network(network(17, "skep0")).unwrap();
        let port = PortMapping { protocol: Protocol::Udp, ..tcp(None, 5353, 80) };
        let (_first, mut endpoint) = server(&stack, 17, 2, vec![port.clone()]);
        let (_second, mut next) = server(&stack, 17, 3, vec![]);
        assert_eq!(ask(outside.fd(), &format!("{HOST}:5353")), address(OUTSIDE));
        assert_eq!(ask(fd(&host()), "127.0.0.1:5353"), address("172.17.0.1"));

        let client = crate::lab::inside(outside.fd(), || std::net::UdpSocket::bind(("0.0.0.0", 0)).unwrap());
        client.set_read_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
        let exchange = || {
            client.send_to(b"?", format!("{HOST}:5353")).unwrap();
            client.recv(&mut [0; 64]).is_ok()
        };
        assert!(exchange());
        let published = endpoint.published.clone();
        stack.unpublish(&mut endpoint, &published).unwrap();
        stack.detach(&endpoint).unwrap();
        stack.publish(&mut next, &[port]).unwrap();
        assert!(exchange(), "the same client reaches the new container");
        stack.destroy().unwrap();
    });
}

#[test]
fn the_way_out_is_masqueraded_and_networks_are_apart() {
    for bridge_filter in [BridgeFilter::AsFound, BridgeFilter::Off] {
        the_way_out_is_masqueraded_and_networks_are_apart_with(bridge_filter);
    }
}

fn the_way_out_is_masqueraded_and_networks_are_apart_with(bridge_filter: BridgeFilter) {
    lab_with(bridge_filter, |outside| {
        let stack = open("skep-t");
        stack.create_network(network(17, "skep0")).unwrap();
        stack.create_network(network(18, "skep1")).unwrap();
        stack.create_network(skep_net::NetworkConfig { internal: true, ..network(19, "skep2") }).unwrap();
        let mut closed = network(20, "skep3");
        closed.as_bridge_mut().unwrap().icc = false;
        stack.create_network(closed).unwrap();
        serve(outside.fd(), 80);
        let (a, _) = server(&stack, 17, 2, vec![]);
        let (b, _) = server(&stack, 18, 3, vec![tcp(None, 8081, 80)]);
        let (internal, _) = server(&stack, 19, 4, vec![]);
        let (neighbour, _) = server(&stack, 19, 5, vec![]);
        let (alone, _) = server(&stack, 20, 6, vec![]);
        let (alone_too, _) = server(&stack, 20, 7, vec![tcp(None, 8082, 80)]);

        assert_eq!(connect(a.fd(), &format!("{OUTSIDE}:80")), address(HOST));
        assert!(refused(a.fd(), "172.18.0.2:80"), "another network");
        assert_eq!(connect(a.fd(), &format!("{HOST}:8081")), address("172.18.0.1"), "its published port");
        assert!(refused(internal.fd(), &format!("{OUTSIDE}:80")));
        crate::lab::inside(internal.fd(), || ip("route add default via 172.19.0.1"));
        assert!(refused(internal.fd(), &format!("{OUTSIDE}:80")), "with a route of its own");
        assert!(refused(internal.fd(), &format!("{HOST}:8081")));
        assert!(refused(b.fd(), "172.19.0.2:80"));
        assert_eq!(connect(internal.fd(), "172.19.0.3:80"), address("172.19.0.2"));
        assert_eq!(connect(alone.fd(), &format!("{OUTSIDE}:80")), address(HOST));
        assert!(refused(alone.fd(), "172.20.0.3:80"), "no talk between containers");
        crate::lab::inside(alone.fd(), || ip("route add 172.20.0.3 via 172.20.0.1"));
        assert!(refused(alone.fd(), "172.20.0.3:80"), "nor through the bridge's address");
        assert_eq!(connect(alone.fd(), &format!("{HOST}:8082")), address("172.20.0.1"), "but to published ports");
        let _keep = (neighbour, alone_too);
        stack.destroy().unwrap();
    });
}

#[test]
fn two_engines_do_not_disturb_each_other() {
    lab(|outside| {
        let (one, two) = (open("skep-one"), open("skep-two"));
        one.create_network(network(17, "one0")).unwrap();
        two.create_network(network(18, "two0")).unwrap();
        let (_a, _) = server(&one, 17, 2, vec![tcp(None, 8080, 80)]);
        let (b, _) = server(&two, 18, 2, vec![tcp(None, 8081, 80)]);
        serve(outside.fd(), 80);
        for port in [8080, 8081] {
            assert_eq!(connect(outside.fd(), &format!("{HOST}:{port}")), address(OUTSIDE));
        }
        assert!(refused(b.fd(), "172.17.0.2:80"), "apart");
        one.destroy().unwrap();
        assert_eq!(connect(outside.fd(), &format!("{HOST}:8081")), address(OUTSIDE));
        assert_eq!(connect(b.fd(), &format!("{OUTSIDE}:80")), address(HOST));
        two.destroy().unwrap();
        assert_clean();
    });
}
