//! macvlan and ipvlan networks: who reaches whom, what happens to parents.

use ipnet::IpNet;
use skep_net::{
    EndpointConfig, Families, IpvlanFlag, IpvlanMode, LinkConfig, MacvlanMode, NetError, Netns, NetworkConfig,
    NetworkStack, Saved, Subnet,
};
use skep_types::NetworkId;

use crate::lab::{address, config, connect, container, inside, ip, lab, open, refused, serve};

/// A network with a subnet of the uplink's, so that containers are neighbours of the outside host.
fn on_uplink(n: u8, link: LinkConfig) -> NetworkConfig {
    let mut subnet = Subnet::new("192.0.2.0/24".parse::<IpNet>().unwrap());
    subnet.range = Some(format!("192.0.2.{}/28", n).parse().unwrap());
    subnet.gateway = address("192.0.2.2");
    let id = NetworkId::from_bytes([n; 32]);
    NetworkConfig { id, link, subnets: vec![subnet], mtu: None, internal: false }
}

fn macvlan(parent: Option<&str>, mode: MacvlanMode) -> LinkConfig {
    LinkConfig::Macvlan { parent: parent.map(str::to_owned), mode }
}

fn ipvlan(mode: IpvlanMode) -> LinkConfig {
    LinkConfig::Ipvlan { parent: Some("up0".to_owned()), mode, flag: IpvlanFlag::Bridge }
}

/// True if the kernel has a kind of link. What the test is about can't be shown without, which is printed.
#[allow(clippy::print_stderr, reason = "a skip is said")]
fn has(kind: &str) -> bool {
    let stack = open("skep-probe");
    let link = if kind == "macvlan" { macvlan(None, MacvlanMode::Bridge) } else { ipvlan(IpvlanMode::L2) };
    let made = stack.create_network(on_uplink(99, link));
    stack.destroy().unwrap();
    let missing = matches!(made, Err(NetError::NoSuchKind(_)));
    if missing {
        eprintln!("skipped: the kernel has no {kind} links");
    }
    !missing
}

fn attach(stack: &NetworkStack, network: u8, wish: &EndpointConfig) -> (Netns, skep_net::Endpoint) {
    let netns = Netns::create().unwrap();
    let endpoint = stack.attach(&NetworkId::from_bytes([network; 32]), &netns, wish).unwrap();
    serve(netns.fd(), 80);
    (netns, endpoint)
}

#[test]
fn macvlan_containers_are_neighbours_of_the_outside() {
    lab(|outside| {
        if !has("macvlan") {
            return;
        }
        for (mode, together) in [(MacvlanMode::Bridge, true), (MacvlanMode::Private, false), (MacvlanMode::Vepa, false)]
        {
            let stack = open("skep-t");
            stack.create_network(on_uplink(16, macvlan(Some("up0"), mode))).unwrap();
            let (one, first) = attach(&stack, 16, &container(2));
            let (two, second) = attach(&stack, 16, &container(3));
            assert_eq!((first.addresses().next(), &first.host_link), (address("192.0.2.16"), &None));
            let route = inside(one.fd(), || ip("route"));
            assert!(route.starts_with("default via 192.0.2.2 dev eth0"), "{route}");
            let (_, mac) = (inside(one.fd(), || ip("-o link show eth0")), first.mac.to_string());
            assert!(inside(one.fd(), || ip("-o link show eth0")).contains(&mac));
            assert_eq!(connect(outside.fd(), "192.0.2.16:80"), address("192.0.2.2"), "{mode:?}");
            let neighbour = format!("{}:80", second.addresses().next().unwrap());
            assert_eq!(refused(one.fd(), &neighbour), !together, "{mode:?}");
            // The server holds the namespace.
            for (netns, endpoint) in [(&one, &first), (&two, &second)] {
                stack.detach_from(netns, endpoint).unwrap();
            }
            stack.destroy().unwrap();
        }
    });
}

#[test]
fn macvlan_without_a_parent_is_a_world_of_its_own() {
    lab(|_| {
        if !has("macvlan") {
            return;
        }
        let stack = open("skep-t");
        let mut alone = on_uplink(16, macvlan(None, MacvlanMode::Bridge));
        alone.subnets = vec![Subnet::new("10.7.0.0/24".parse::<IpNet>().unwrap())];
        alone.subnets.push(Subnet::new("10.8.0.0/30".parse::<IpNet>().unwrap()));
        alone.subnets.push(Subnet::new("fd00:7::/64".parse::<IpNet>().unwrap()));
        alone.internal = true;
        stack.create_network(alone.clone()).unwrap();
        assert!(ip("-o link").contains("dm-101010101010"), "as Docker's");
        let mut wish = container(2);
        wish.address = Some([10, 8, 0, 2].into());
        let (one, first) = attach(&stack, 16, &wish);
        let (two, _) = attach(&stack, 16, &container(3));
        assert_eq!((first.address, first.gateway), (Some(([10, 8, 0, 2].into(), 30)), None));
        assert_eq!(first.address6.map(|(ip, _)| ip.to_string()).as_deref(), Some("fd00:7::2"));
        assert!(inside(two.fd(), || ip("-4 -o addr show eth0")).contains("10.7.0.2/24"));
        assert_eq!(connect(two.fd(), "[fd00:7::2]:80"), address("fd00:7::3"));
        stack.detach_from(&one, &first).unwrap();
        stack.detach_from(&one, &first).unwrap();
        assert!(!inside(one.fd(), || ip("-o link")).contains("eth0"), "gone from a container that goes on");
        drop(stack);
        let saved = Saved { networks: vec![alone], endpoints: vec![] };
        let (stack, restored) = NetworkStack::open(config("skep-t"), saved).unwrap();
        assert!(restored.failed.is_empty(), "{restored:?}");
        stack.remove_network(&NetworkId::from_bytes([16; 32])).unwrap();
        let links = ip("-o link");
        assert!(!links.contains("dm-"), "{links}: what was made here goes, after a restart too");
        stack.destroy().unwrap();
    });
}

#[test]
fn parents_are_found_made_or_named() {
    lab(|_| {
        if !has("macvlan") {
            return;
        }
        let stack = open("skep-t");
        let create = |n: u8, parent: &str, mode| {
            let mut network = on_uplink(n, macvlan(Some(parent), mode));
            network.subnets = vec![Subnet::new(format!("10.{n}.0.0/24").parse::<IpNet>().unwrap())];
            stack.create_network(network)
        };
        assert!(
            matches!(create(16, "eth9", MacvlanMode::Bridge), Err(NetError::NoParent { parent }) if parent == "eth9")
        );
        assert!(
            matches!(create(16, "eth9.5", MacvlanMode::Bridge), Err(NetError::NoParent { parent }) if parent == "eth9")
        );
        for bad in ["up0.0", "up0.4095", "up0.x", "lo", ""] {
            assert!(matches!(create(16, bad, MacvlanMode::Bridge), Err(NetError::Config(_))), "{bad}");
        }
        create(16, "up0", MacvlanMode::Bridge).unwrap();
        create(17, "up0", MacvlanMode::Bridge).unwrap();
        assert!(matches!(create(18, "up0", MacvlanMode::Passthru), Err(NetError::ParentInUse { .. })));
        stack.remove_network(&NetworkId::from_bytes([16; 32])).unwrap();
        stack.remove_network(&NetworkId::from_bytes([17; 32])).unwrap();
        assert!(ip("-o link").contains("up0"), "an interface of the host's stays");
        match create(18, "up0.10", MacvlanMode::Bridge) {
            Err(NetError::NoSuchKind("vlan")) => {}
            made => {
                made.unwrap();
                create(19, "up0.10", MacvlanMode::Bridge).unwrap();
                assert!(ip("-d -o link show up0.10").contains("vlan protocol 802.1Q id 10"));
                stack.remove_network(&NetworkId::from_bytes([18; 32])).unwrap();
                assert!(ip("-o link").contains("up0.10"), "another network is on it");
                stack.remove_network(&NetworkId::from_bytes([19; 32])).unwrap();
            }
        }
        assert!(!ip("-o link").contains("up0.10"));
        stack.destroy().unwrap();
    });
}

#[test]
fn ipvlan_containers_share_their_parents_address() {
    lab(|outside| {
        if !has("ipvlan") {
            return;
        }
        for mode in [IpvlanMode::L2, IpvlanMode::L3, IpvlanMode::L3s] {
            let stack = open("skep-t");
            stack.create_network(on_uplink(32, ipvlan(mode))).unwrap();
            let (one, first) = attach(&stack, 32, &container(2));
            let (two, second) = attach(&stack, 32, &container(3));
            assert!(ip("-o link show up0").contains(&first.mac.to_string()), "{mode:?}");
            assert_eq!(connect(one.fd(), "192.0.2.33:80"), address("192.0.2.32"), "{mode:?}");
            let route = inside(one.fd(), || ip("route"));
            if mode == IpvlanMode::L2 {
                assert!(route.starts_with("default via 192.0.2.2 dev eth0"), "{route}");
                assert_eq!(connect(outside.fd(), "192.0.2.32:80"), address("192.0.2.2"));
            } else {
                assert!(route.starts_with("default dev eth0 scope link"), "{route}");
            }
            for (netns, endpoint) in [(&one, &first), (&two, &second)] {
                stack.detach_from(netns, endpoint).unwrap();
            }
            stack.destroy().unwrap();
        }
    });
}

#[test]
fn addresses_of_a_namespace_that_is_going_are_waited_for() {
    lab(|_| {
        if !has("macvlan") {
            return;
        }
        let stack = open("skep-t");
        stack.create_network(on_uplink(16, macvlan(Some("up0"), MacvlanMode::Bridge))).unwrap();
        let id = NetworkId::from_bytes([16; 32]);
        let attach = || {
            let netns = Netns::create().unwrap();
            let endpoint = stack.attach(&id, &netns, &container(2)).unwrap();
            (netns, endpoint)
        };
        for _ in 0..5 {
            let (netns, endpoint) = attach();
            // As of a container that has ended.
            stack.detach(&endpoint).unwrap();
            drop(netns);
        }
        stack.destroy().unwrap();
    });
}

#[test]
fn default_routes_move_between_networks() {
    lab(|_| {
        let stack = open("skep-t");
        for n in [17, 18] {
            let mut network = crate::lab::network(n, &format!("skep{n}"));
            network.subnets.push(Subnet::new(format!("fd00:{n}::/64").parse::<IpNet>().unwrap()));
            stack.create_network(network).unwrap();
        }
        let netns = Netns::create().unwrap();
        stack.attach(&NetworkId::from_bytes([17; 32]), &netns, &container(2)).unwrap();
        let wish =
            EndpointConfig { ifname: "eth1".to_owned(), default_route: false, default_route6: false, ..container(2) };
        let second = stack.attach(&NetworkId::from_bytes([18; 32]), &netns, &wish).unwrap();
        let routes = || inside(netns.fd(), || (ip("route show default"), ip("-6 route show default")));
        let via = |n: u8, v6: u8| {
            let (v4, six) = routes();
            assert_eq!((v4.lines().count(), six.lines().count()), (1, 1), "{v4}{six}");
            assert!(v4.contains(&format!("via 172.{n}.0.1 ")), "{v4}");
            assert!(six.contains(&format!("via fd00:{v6}::1 ")), "{six}");
        };
        via(17, 17);
        stack.set_default_routes(&netns, &second, Families { v4: true, v6: false }).unwrap();
        via(18, 17);
        stack.set_default_routes(&netns, &second, Families { v4: true, v6: true }).unwrap();
        via(18, 18);
        stack.destroy().unwrap();
    });
}
