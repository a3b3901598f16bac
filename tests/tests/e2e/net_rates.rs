//! How much may flow through a container's networks.

use skep_testkit::{Command, Engine, EngineKind};

use super::engine;

/// What the kernel does with what passes the host's end of a container's link.
fn held(engine: &Engine, container: &str) -> (bool, bool) {
    let inner = engine.run(["exec", container, "cat", "/sys/class/net/eth0/iflink"]).success().word();
    let links = Command::new("ip", ["-o", "link"]).run().success().stdout;
    let line = links.lines().find(|line| line.starts_with(&format!("{inner}: "))).expect("the other end");
    let name = line.split([' ', '@', ':']).filter(|word| !word.is_empty()).nth(1).unwrap().to_owned();
    let qdiscs = Command::new("tc", ["qdisc", "show", "dev", &name]).run().success().stdout;
    (qdiscs.contains("tbf"), qdiscs.contains("ingress"))
}

#[test]
fn labels_and_options_limit_what_flows() {
    let engine = engine();
    if engine.kind() == EngineKind::Docker {
        return println!("SKIPPED labels_and_options_limit_what_flows: Docker has no rates");
    }
    let run = |name: &str, more: &[&str]| {
        engine.run([&["run", "-d", "--name", name], more, &["busybox", "sleep", "1000"]].concat()).success();
    };
    run("free", &[]);
    run("label", &["--label", "skep.rate.in=10mbit", "--label", "skep.rate.out=1.5mbit"]);
    run("option", &["--rate-out", "10mbit"]);
    run("endpoint", &["--network", "name=bridge,driver-opt=skep.rate.in=10mbit"]);
    let held = |name: &str| held(&engine, name);
    assert_eq!(
        [held("free"), held("label"), held("option"), held("endpoint")],
        [(false, false), (true, true), (false, true), (true, false)]
    );
    engine.run(["rm", "-f", "label"]).success();
}

#[test]
fn an_image_does_not_say_how_much_may_flow() {
    let engine = engine();
    if engine.kind() == EngineKind::Docker {
        return println!("SKIPPED an_image_does_not_say_how_much_may_flow: Docker has no rates");
    }
    engine.run(["create", "--name", "empty", "busybox"]).success();
    engine.run(["commit", "--change", "LABEL skep.rate.in=1mbit", "empty", "limited"]).success();
    engine.run(["run", "-d", "--name", "one", "limited", "sleep", "1000"]).success();
    assert_eq!(held(&engine, "one"), (false, false));
}

#[test]
fn what_is_no_rate_is_named() {
    let engine = engine();
    if engine.kind() == EngineKind::Docker {
        return println!("SKIPPED what_is_no_rate_is_named: Docker has no rates");
    }
    let outcome = engine.run(["run", "--rm", "--rate-in", "fast", "busybox", "true"]);
    assert_eq!(outcome.code, 125);
    assert!(outcome.stderr.contains("skep.rate.in: invalid rate \"fast\""), "{}", outcome.stderr);
    for mode in ["host", "none"] {
        let refused = engine.run(["run", "--rm", "--network", mode, "--rate-in", "5mbit", "busybox", "true"]);
        refused.code_is(125).stderr_has("conflicting options: rates (skep.rate.*) and the network mode");
    }
}
