//! The option by which the host's firewall is bypassed, as Docker does it.

use std::time::{Duration, Instant};

use skep_net::{HostFirewall, Netns, NetworkStack, Saved, StackConfig};

use crate::lab::{HOST, OUTSIDE, address, config, connect, container, lab, network, open, refused, run, serve, tcp};

const PATIENCE: Duration = Duration::from_secs(10);

fn bypassing() -> StackConfig {
    StackConfig { host_firewall: HostFirewall::Bypass, ..config("skep-t") }
}

#[test]
fn what_the_hosts_firewall_drops_passes_if_it_is_to_be_bypassed() {
    lab(|outside| {
        for program in ["iptables", "iptables-legacy"] {
            run(program, "-P FORWARD DROP");
        }
        own_table();
        let stack = open("skep-t");
        stack.create_network(network(17, "skep0")).unwrap();
        let netns = Netns::create().unwrap();
        let mut wish = container(2);
        wish.ports = vec![tcp(None, 8080, 80)];
        let endpoint = stack.attach(&network(17, "").id, &netns, &wish).unwrap();
        serve(netns.fd(), 80);
        serve(netns.fd(), 81);
        serve(outside.fd(), 80);
        let published = format!("{HOST}:8080");
        let before = rules();
        assert!(refused(outside.fd(), &published), "respected");
        drop(stack);

        let saved = || Saved { networks: vec![network(17, "skep0")], endpoints: vec![endpoint.clone()] };
        let (stack, _) = NetworkStack::open(bypassing(), saved()).unwrap();
        assert_eq!(connect(outside.fd(), &published), address(OUTSIDE), "bypassed");
        assert_eq!(connect(netns.fd(), &format!("{OUTSIDE}:80")), address(HOST), "the way out too");
        assert!(refused(outside.fd(), "172.17.0.2:81"), "what is not published stays closed");
        assert!(refused(outside.fd(), "172.17.0.2:80"), "so does direct routing");
        assert!(run("iptables", "-S FORWARD").contains("--comment \"skep: skep-t\""), "iptables can list it");
        assert!(stack.obstacles().unwrap().is_empty());

        // A reload of the host's firewall, as its service does it.
        own_table();
        until("it is bypassed again", || connect(outside.fd(), &published).is_some());
        stack.create_network(network(18, "skep1")).unwrap();
        assert!(run("iptables-legacy", "-S FORWARD").contains("-i skep1"));
        stack.remove_network(&network(18, "").id).unwrap();
        assert!(!rules().contains("skep1"));

        drop(stack);
        let (stack, _) = NetworkStack::open(config("skep-t"), saved()).unwrap();
        assert!(refused(outside.fd(), &published), "respected again");
        assert_eq!(rules(), before, "and nothing is left");
        drop(stack);
        let (stack, _) = NetworkStack::open(bypassing(), saved()).unwrap();
        stack.destroy().unwrap();
        assert_eq!(rules(), before, "nor behind an engine that is taken away");
    });
}

/// A table as an administrator writes it to /etc/nftables.conf, loaded anew.
fn own_table() {
    let file = std::env::temp_dir().join(format!("skep-own-{}.nft", std::process::id()));
    let chain =
        "chain forward { type filter hook forward priority 5; policy drop; ct state established,related accept; }";
    std::fs::write(&file, format!("table inet own\ndelete table inet own\ntable inet own {{\n{chain}\n}}\n")).unwrap();
    run("nft", &format!("-f {}", file.display()));
    std::fs::remove_file(&file).unwrap();
}

/// The forward chains of the host's firewall.
fn rules() -> String {
    let legacy = run("iptables-legacy", "-S FORWARD");
    format!("{legacy}{}{}", run("iptables", "-S FORWARD"), run("nft", "list table inet own"))
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}
