//! Others change the packet filter: what is the engine's is put back, what is theirs is left alone.

use std::time::{Duration, Instant};

use skep_net::{Netns, Saved};

use crate::lab::{HOST, OUTSIDE, address, config, connect, container, lab, network, open, refused, run, serve, tcp};

/// How long the engine may take to notice.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn whatever_others_do_to_the_table_is_undone_at_once() {
    lab(|outside| {
        let stack = open("skep-t");
        stack.create_network(network(17, "skep0")).unwrap();
        let netns = Netns::create().unwrap();
        let mut wish = container(2);
        wish.ports = vec![tcp(None, 8080, 80)];
        let _endpoint = stack.attach(&network(17, "").id, &netns, &wish).unwrap();
        serve(netns.fd(), 80);
        let whole = table();
        for change in [
            "flush ruleset",
            "delete table inet skep-t",
            "flush table inet skep-t",
            "flush chain inet skep-t forward",
            "flush map inet skep-t published",
            "delete element inet skep-t bridges { skep0 }",
            "insert rule inet skep-t prerouting drop",
            "add table inet skep-t { flags dormant ; }",
            "add chain inet skep-t more { type filter hook input priority 0 ; policy drop ; }",
        ] {
            run("nft", change);
            until(change, || table() == whole);
            assert_eq!(connect(outside.fd(), &format!("{HOST}:8080")), address(OUTSIDE), "{change}");
            assert!(refused(outside.fd(), "172.17.0.2:80"), "{change}");
        }
        stack.destroy().unwrap();
    });
}

#[test]
fn a_saved_ruleset_loads_again() {
    lab(|_| {
        let stack = open("skep-t");
        stack.create_network(network(17, "skep0")).unwrap();
        let netns = Netns::create().unwrap();
        let mut wish = container(2);
        wish.ports = vec![tcp(None, 8080, 80), tcp(Some("127.0.0.1"), 8081, 81)];
        let _endpoint = stack.attach(&network(17, "").id, &netns, &wish).unwrap();
        let whole = table();
        run("nft", &format!("flush ruleset ; {whole}"));
        assert_eq!(table(), whole);
        stack.destroy().unwrap();
    });
}

#[test]
fn the_administrators_chain_is_first_and_kept() {
    lab(|outside| {
        let stack = open("skep-t");
        stack.create_network(network(17, "skep0")).unwrap();
        let netns = Netns::create().unwrap();
        let mut wish = container(2);
        wish.ports = vec![tcp(None, 8080, 80), tcp(None, 8081, 81)];
        let endpoint = stack.attach(&network(17, "").id, &netns, &wish).unwrap();
        serve(netns.fd(), 80);
        serve(netns.fd(), 81);
        run("nft", "add set inet skep-t blocked { type inet_service ; elements = { 81 } ; }");
        run("nft", "add chain inet skep-t own");
        run("nft", "add rule inet skep-t own tcp dport @blocked drop");
        run("nft", "add rule inet skep-t user ip saddr { 192.0.2.2, 192.0.2.9 } jump own");
        let open_one = || connect(outside.fd(), &format!("{HOST}:8080")) == address(OUTSIDE);
        let closed_one = || refused(outside.fd(), &format!("{HOST}:8081"));
        assert!(open_one() && closed_one());

        run("nft", "flush chain inet skep-t forward");
        until("the chain is back", || run("nft", "list chain inet skep-t forward").contains("jump user"));
        assert!(open_one() && closed_one(), "after it was put back");

        drop(stack);
        let saved = Saved { networks: vec![network(17, "skep0")], endpoints: vec![endpoint] };
        let (stack, _) = skep_net::NetworkStack::open(config("skep-t"), saved).unwrap();
        assert!(open_one() && closed_one(), "after a restart");

        // As /etc/nftables.conf does it: a flush, and the administrator's part again, in one transaction.
        let file = std::env::temp_dir().join(format!("skep-user-{}.nft", std::process::id()));
        let text = "flush ruleset\ntable inet skep-t { chain user { tcp dport 80 drop; }; }\n";
        std::fs::write(&file, text).unwrap();
        run("nft", &format!("-f {}", file.display()));
        std::fs::remove_file(&file).unwrap();
        until("the table is back", || table().contains("jump user"));
        until("ports are back", || connect(outside.fd(), &format!("{HOST}:8081")) == address(OUTSIDE));
        assert!(refused(outside.fd(), &format!("{HOST}:8080")), "the new rule holds");
        stack.destroy().unwrap();
    });
}

#[test]
fn tables_of_others_are_never_touched() {
    lab(|_| {
        run("nft", "add table inet other");
        run("nft", "add chain inet other forward { type filter hook forward priority 10 ; policy drop ; }");
        let before = run("nft", "list table inet other");
        let stack = open("skep-t");
        stack.create_network(network(17, "skep0")).unwrap();
        run("nft", "delete table inet skep-t");
        until("the table is back", || table().contains("skep0"));
        assert_eq!(run("nft", "list table inet other"), before);
        stack.destroy().unwrap();
        assert_eq!(run("nft", "list ruleset"), before);
    });
}

/// The engine's table; empty if it is not there.
fn table() -> String {
    let listed = std::process::Command::new("nft").args(["list", "table", "inet", "skep-t"]).output().unwrap();
    String::from_utf8_lossy(&listed.stdout).into_owned()
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}\n{}", table());
        std::thread::yield_now();
    }
}
