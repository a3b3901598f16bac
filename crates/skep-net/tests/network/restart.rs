//! What an engine finds when it comes back.

use skep_net::{Netns, NetworkStack, Saved};

use crate::lab::{
    HOST, OUTSIDE, address, assert_clean, config, connect, container, fd, host, ip, lab, network, open, run, serve, tcp,
};

#[test]
fn everything_goes_on_without_the_engine_and_is_found_again() {
    lab(|outside| {
        let stack = open("skep-t");
        stack.create_network(network(17, "skep0")).unwrap();
        let netns = Netns::create().unwrap();
        let mut wish = container(2);
        wish.ports = vec![tcp(None, 8080, 80)];
        let endpoint = stack.attach(&network(17, "").id, &netns, &wish).unwrap();
        let half_made = Netns::create().unwrap();
        let unknown = stack.attach(&network(17, "").id, &half_made, &container(3)).unwrap();
        serve(netns.fd(), 80);
        drop(stack);
        assert_eq!(connect(outside.fd(), &format!("{HOST}:8080")), address(OUTSIDE), "while no engine runs");

        let mut lost = endpoint.clone();
        lost.host_link = Some("vethaaaaaaaaaaa".to_owned());
        let saved = Saved { networks: vec![network(17, "skep0")], endpoints: vec![endpoint.clone(), lost] };
        let (stack, restored) = NetworkStack::open(config("skep-t"), saved).unwrap();
        assert_eq!(restored.lost.len(), 1);
        assert!(restored.contested.is_empty() && restored.failed.is_empty(), "{restored:?}");
        assert!(!ip("-o link").contains(unknown.host_link.as_deref().unwrap()), "what was never stored is gone");
        assert_eq!(connect(outside.fd(), &format!("{HOST}:8080")), address(OUTSIDE));
        assert_eq!(connect(fd(&host()), "127.0.0.1:8080"), address("172.17.0.1"));
        let next = stack.attach(&network(17, "").id, &half_made, &container(4)).unwrap();
        assert_eq!(next.addresses().next(), address("172.17.0.3"), "taken addresses stay taken");
        assert!(stack.publish(&mut next.clone(), &[tcp(None, 8080, 80)]).is_err(), "taken ports too");
        stack.detach(&endpoint).unwrap();
        stack.destroy().unwrap();
        ip("link del up0");
        ip("link add up0 type bridge");
        assert_clean();
    });
}

#[test]
fn a_flushed_table_comes_back_with_the_next_change() {
    lab(|outside| {
        let stack = open("skep-t");
        stack.create_network(network(17, "skep0")).unwrap();
        let netns = Netns::create().unwrap();
        let mut wish = container(2);
        wish.ports = vec![tcp(None, 8080, 80)];
        let mut endpoint = stack.attach(&network(17, "").id, &netns, &wish).unwrap();
        serve(netns.fd(), 80);
        run("nft", "flush ruleset");
        stack.publish(&mut endpoint, &[tcp(None, 8081, 80)]).unwrap();
        for port in [8080, 8081] {
            assert_eq!(connect(outside.fd(), &format!("{HOST}:{port}")), address(OUTSIDE));
        }
        run("nft", "flush ruleset");
        stack.detach(&endpoint).unwrap();
        assert!(run("nft", "list table inet skep-t").contains("chain forward"));
        stack.destroy().unwrap();
    });
}
