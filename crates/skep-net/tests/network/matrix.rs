//! Who reaches what, whatever the host's firewall does meanwhile: every cell of the matrix is tried, and what
//! [`NetworkStack::explain`] says about it has to be what happens.

use std::time::{Duration, Instant};

use skep_net::explain::{Explanation, Origin, Reach, Reason};
use skep_net::{Endpoint, Netns, NetworkConfig, NetworkStack, Saved};

use crate::lab::{
    BridgeFilter, HOST, HOST6, arrives, config, container, dual, fd, host, inside, ip, lab_with, open, run, serve, tcp,
};

/// How long the engine may take to put its table back.
const PATIENCE: Duration = Duration::from_secs(10);

const ORIGINS: [&str; 5] = ["host", "outside", "neighbour", "elsewhere", "internal"];
/// Where the container `web` can be looked for, by what is published.
const TARGETS: [(&str, &str); 8] = [
    ("any", "192.0.2.1:8080"),
    ("any6", "[2001:db8::1]:8080"),
    ("loopback", "127.0.0.1:8081"),
    ("loopback, from outside", "192.0.2.1:8081"),
    ("one address", "192.0.2.1:8082"),
    ("one address6", "[2001:db8::1]:8083"),
    ("direct", "172.17.0.2:80"),
    ("direct6", "[fd00:17::2]:80"),
];

/// What the host's own firewall does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Firewall {
    Nothing,
    /// Drops what is forwarded.
    Drops,
    /// Lets in what was led elsewhere, and drops the rest.
    Translated,
}

struct World {
    outside: Netns,
    neighbour: Netns,
    elsewhere: Netns,
    internal: Netns,
    endpoints: Vec<Endpoint>,
    filtered: bool,
}

fn networks() -> Vec<NetworkConfig> {
    vec![dual(17, "skep0"), dual(18, "skep1"), NetworkConfig { internal: true, ..dual(19, "skep2") }]
}

fn build(stack: &NetworkStack, outside: Netns, bridge_filter: BridgeFilter) -> (World, Netns) {
    for network in networks() {
        stack.create_network(network).unwrap();
    }
    let mut endpoints = Vec::new();
    let mut attach = |network: u8, n: u8, ports| {
        let netns = Netns::create().unwrap();
        let mut wish = container(n);
        wish.ports = ports;
        endpoints.push(stack.attach(&dual(network, "").id, &netns, &wish).unwrap());
        netns
    };
    let ports = vec![
        tcp(None, 8080, 80),
        tcp(Some("127.0.0.1"), 8081, 80),
        tcp(Some(HOST), 8082, 80),
        tcp(Some(HOST6), 8083, 80),
    ];
    let web = attach(17, 2, ports);
    let (neighbour, elsewhere, internal) = (attach(17, 3, vec![]), attach(18, 4, vec![]), attach(19, 5, vec![]));
    serve(web.fd(), 80);
    // As far as the container is concerned it may try.
    inside(internal.fd(), || {
        ip("route add default via 172.19.0.1");
        ip("-6 route add default via fd00:19::1");
    });
    let filtered = bridge_filter == BridgeFilter::AsFound
        && std::fs::read("/proc/sys/net/bridge/bridge-nf-call-iptables").is_ok_and(|value| value.starts_with(b"1"));
    (World { outside, neighbour, elsewhere, internal, endpoints, filtered }, web)
}

impl World {
    /// Whether a connection is to arrive.
    fn expected(&self, firewall: Firewall, origin: &str, target: &str) -> bool {
        let plain = match (origin, target) {
            ("host", target) => target != "loopback, from outside",
            ("outside" | "elsewhere", target) => !target.starts_with("loopback") && !target.starts_with("direct"),
            ("neighbour", target) => !target.starts_with("loopback"),
            _ => false,
        };
        // What the host sends itself is not forwarded, and neither are frames within a bridge that pass no filter.
        let untouched =
            origin == "host" || (origin, target.starts_with("direct"), self.filtered) == ("neighbour", true, false);
        let passes = match firewall {
            Firewall::Nothing => true,
            Firewall::Drops => untouched,
            Firewall::Translated => untouched || !target.starts_with("direct"),
        };
        plain && passes
    }

    fn check(&self, stack: &NetworkStack, firewall: Firewall, when: &str) {
        let host = host();
        let cells = || ORIGINS.iter().flat_map(|origin| TARGETS.iter().map(move |target| (*origin, *target)));
        std::thread::scope(|scope| {
            for (origin, (target, address)) in cells() {
                let from = match origin {
                    "host" => fd(&host),
                    "outside" => self.outside.fd(),
                    "neighbour" => self.neighbour.fd(),
                    "elsewhere" => self.elsewhere.fd(),
                    _ => self.internal.fd(),
                };
                let expected = self.expected(firewall, origin, target);
                scope.spawn(move || {
                    let found = arrives(from, address, expected);
                    assert_eq!(found, expected, "{when} (filtered {}): from {origin} to {target}", self.filtered);
                });
            }
        });
        self.check_explained(stack, firewall, when);
    }

    /// What is explained has to be what happens.
    fn check_explained(&self, stack: &NetworkStack, firewall: Firewall, when: &str) {
        let explanation = explained(stack, &self.endpoints[0]);
        assert!(explanation.unread.is_empty(), "{:?}", explanation.unread);
        for port in &explanation.ports {
            let v6 = port.address.is_ipv6();
            let target = match (port.published.map(|port| port.host_port), v6) {
                (Some(8080), false) => "any",
                (Some(8080), true) => "any6",
                (Some(8081), _) => "loopback, from outside",
                (Some(8082), _) => "one address",
                (Some(8083), _) => "one address6",
                (None, false) => "direct",
                _ => "direct6",
            };
            for answer in &port.answers {
                let (origin, target) = match &answer.origin {
                    Origin::Host if target.starts_with("loopback") => ("host", "loopback"),
                    Origin::Host => ("host", target),
                    Origin::OtherHost(link) => {
                        assert_eq!(link, "up0");
                        ("outside", target)
                    }
                    Origin::Internet(_) => continue,
                    Origin::SameNetwork => ("neighbour", if v6 { "direct6" } else { "direct" }),
                    Origin::OtherNetworks(ids) if ids.contains(&dual(18, "").id) => ("elsewhere", target),
                    Origin::OtherNetworks(_) => ("internal", target),
                };
                let expected = if self.expected(firewall, origin, target) { Reach::Yes } else { Reach::No };
                assert_eq!(answer.reach, expected, "{when}: {origin} to {target}: {answer:?}");
                assert!(!answer.reasons.is_empty() || answer.reach == Reach::Yes, "{answer:?}");
            }
        }
    }
}

/// Every state of the host's firewall, with the bridges' frames filtered and not.
#[test]
fn the_matrix_holds_in_every_state_of_the_hosts_firewall() {
    for bridge_filter in [BridgeFilter::AsFound, BridgeFilter::Off] {
        lab_with(bridge_filter, |outside| {
            let outside = Netns::open(outside.fd().try_clone_to_owned().unwrap()).unwrap();
            let stack = open("skep-t");
            let (world, _web) = build(&stack, outside, bridge_filter);
            world.check(&stack, Firewall::Nothing, "plain");

            run("nft", "flush ruleset");
            until("the table is back", || run("nft", "list ruleset").contains("jump user"));
            world.check(&stack, Firewall::Nothing, "after a flush");

            for program in ["iptables", "ip6tables"] {
                ufw_like(program);
            }
            world.check(&stack, Firewall::Drops, "ufw-like");
            for program in ["iptables", "ip6tables"] {
                run(program, "-I ufw-user-forward -m conntrack --ctstate DNAT -j ACCEPT");
            }
            world.check(&stack, Firewall::Translated, "ufw-like, with a route rule");
            run("nft", "delete table ip filter");
            run("nft", "delete table ip6 filter");

            firewalld_like();
            world.check(&stack, Firewall::Translated, "firewalld-like");
            firewalld_like();
            world.check(&stack, Firewall::Translated, "firewalld-like, reloaded");

            drop(stack);
            let saved = Saved { networks: networks(), endpoints: world.endpoints.clone() };
            let (stack, restored) = NetworkStack::open(config("skep-t"), saved).unwrap();
            assert!(restored.contested.is_empty() && restored.lost.is_empty(), "{restored:?}");
            world.check(&stack, Firewall::Translated, "after a restart");
            run("nft", "delete table inet firewalld");
            world.check(&stack, Firewall::Nothing, "plain again");
            stack.destroy().unwrap();
        });
    }
}

#[test]
fn rules_of_iptables_legacy_count_as_well() {
    lab_with(BridgeFilter::AsFound, |outside| {
        for program in ["iptables-legacy", "ip6tables-legacy"] {
            run(program, "-P FORWARD DROP");
        }
        let outside = Netns::open(outside.fd().try_clone_to_owned().unwrap()).unwrap();
        let stack = open("skep-t");
        let (world, _web) = build(&stack, outside, BridgeFilter::AsFound);
        world.check(&stack, Firewall::Drops, "iptables-legacy");
        for program in ["iptables-legacy", "ip6tables-legacy"] {
            run(program, "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT");
            run(program, "-A FORWARD -p tcp -m tcp --dport 80 -m conntrack --ctstate DNAT -j ACCEPT");
        }
        world.check(&stack, Firewall::Translated, "iptables-legacy, with a rule");
        stack.destroy().unwrap();
    });
}

#[test]
fn what_is_not_understood_is_named_and_never_guessed() {
    lab_with(BridgeFilter::AsFound, |outside| {
        let stack = open("skep-t");
        let outside = Netns::open(outside.fd().try_clone_to_owned().unwrap()).unwrap();
        let (world, _web) = build(&stack, outside, BridgeFilter::AsFound);
        run("nft", "add table inet own");
        run("nft", "add chain inet own forward { type filter hook forward priority -5 ; policy accept ; }");
        let ask = || {
            let explanation = explained(&stack, &world.endpoints[0]);
            let port = explanation.ports.into_iter().find(|port| port.published.is_some_and(|p| p.host_port == 8080));
            let answers = port.unwrap().answers;
            answers.into_iter().find(|answer| matches!(answer.origin, Origin::OtherHost(_))).unwrap()
        };
        assert_eq!(ask().reach, Reach::Yes);
        for (rule, expected, named) in [
            ("tcp dport 81 drop", Reach::Yes, ""),
            ("tcp dport { 80, 443 } iifname up0 drop", Reach::No, "tcp dport { 80, 443 } iifname \"up0\" drop"),
            ("ip saddr 192.0.2.128/25 drop", Reach::Depends, "ip saddr"),
            ("ip saddr 192.0.2.0/24 counter reject", Reach::No, "ip saddr 192.0.2.0/24 reject"),
            ("meta hour 12-14 drop", Reach::Depends, "meta key"),
            ("limit rate over 10/second drop", Reach::Depends, "limit"),
            ("ip saddr vmap { 192.0.2.0/24 : drop }", Reach::No, "vmap"),
            ("ct status dnat ip daddr 172.17.0.0/16 tcp dport 1-1023 drop", Reach::No, "tcp dport 1-1023"),
        ] {
            run("nft", &format!("add rule inet own forward {rule}"));
            let answer = ask();
            assert_eq!(answer.reach, expected, "{rule}: {answer:?}");
            let said = answer.reasons.iter().any(|reason| match reason {
                Reason::Rule(rule) => format!("{} {:?}", rule.rule, rule.depends).contains(named),
                Reason::Note(_) => false,
            });
            assert!(said || named.is_empty(), "{rule}: {answer:?}");
            run("nft", "flush chain inet own forward");
        }
        stack.destroy().unwrap();
    });
}

#[test]
fn what_is_in_the_way_is_found() {
    lab_with(BridgeFilter::AsFound, |_| {
        let stack = open("skep-t");
        ip("route add default via 192.0.2.2");
        stack.create_network(dual(17, "skep0")).unwrap();
        assert!(stack.obstacles().unwrap().is_empty());
        firewalld_like();
        let found = stack.obstacles().unwrap();
        assert_eq!(
            found.iter().map(|o| (o.outgoing, o.rule.table.as_str())).collect::<Vec<_>>(),
            [(true, "inet firewalld")]
        );
        ufw_like("iptables");
        let found = stack.obstacles().unwrap();
        assert!(
            found.iter().any(|o| !o.outgoing && o.rule.table == "ip filter" && o.rule.handle.is_none()),
            "{found:?}"
        );
        stack.destroy().unwrap();
    });
}

fn explained(stack: &NetworkStack, endpoint: &Endpoint) -> Explanation {
    stack.explain(endpoint.network, &endpoint.addresses().collect::<Vec<_>>()).unwrap()
}

/// The forward chain that `ufw enable` makes with its default of DROP.
fn ufw_like(program: &str) {
    for rule in [
        "-P FORWARD DROP",
        "-N ufw-before-forward",
        "-N ufw-user-forward",
        "-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A ufw-before-forward -j ufw-user-forward",
        "-A FORWARD -j ufw-before-forward",
    ] {
        run(program, rule);
    }
}

/// What firewalld's forward chain is made of. It replaces its table whole when it reloads.
fn firewalld_like() {
    let file = std::env::temp_dir().join(format!(
        "skep-firewalld-{}-{:?}.nft",
        std::process::id(),
        std::thread::current().id()
    ));
    let table = "table inet firewalld {
        chain filter_FORWARD {
            type filter hook forward priority filter + 10; policy accept;
            ct state { established, related } accept
            ct status dnat accept
            iifname \"lo\" accept
            ct state invalid drop
            jump filter_FORWARD_POLICIES
            reject with icmpx admin-prohibited
        }
        chain filter_FORWARD_POLICIES { iifname \"up0\" goto public; return; }
        chain public { meta l4proto { icmp, ipv6-icmp } accept; return; }
    }";
    std::fs::write(&file, format!("table inet firewalld\ndelete table inet firewalld\n{table}\n")).unwrap();
    run("nft", &format!("-f {}", file.display()));
    std::fs::remove_file(&file).unwrap();
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}
