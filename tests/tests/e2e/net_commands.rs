//! Networks on the command line: skep's own and Docker's say the same, and names are completed.

use std::path::Path;

use skep_testkit::{Command, Engine, EngineKind, Outcome};

use super::{engine, peers, sleeper};

/// Calls that change nothing, or fail: each client can make them one after the other.
const ALIKE: &[&str] = &[
    "network ls --format {{.Name}}|{{.Driver}}|{{.Scope}}|{{.IPv4}}|{{.IPv6}}|{{.Internal}}|{{.Labels}}",
    "network ls --format json",
    "network ls --format raw -q",
    "network ls -q --no-trunc -f type=custom",
    "network ls -f name=^net$ --format {{.Name}}",
    "network ls -f label=team -f driver=bridge --format {{.ID}}",
    "network ls -f type=nothing",
    "network ls -f nothing=1",
    "network inspect net9 net10",
    "network inspect -f {{.Driver}} net9",
    "network inspect nowhere net9",
    "network create net9",
    "network create bridge",
    "network create host",
    "network create -d nothing new",
    "network create --ipv4=false new",
    "network create --gateway 10.0.0.1 new",
    "network create --subnet 10.0.0.0/8 --gateway 11.0.0.1 new",
    "network create --subnet 10.0.0.0/8 --subnet 10.1.0.0/16 new",
    "network create --subnet 10.0.0.1/8 new",
    "network create --label =x new",
    "network create -o com.docker.network.driver.mtu=many new",
    "network create --config-only --internal new",
    "network create --config-from net9 new",
    "network rm bridge",
    "network rm net9",
    "network rm -f nowhere",
    "network connect nowhere web",
    "network connect net9 nobody",
    "network connect net9 web",
    "network connect host web",
    "network connect bridge web --ip 10.1.1.1",
    "network connect net10 web --driver-opt x",
    "network connect net10 web --link a:b:c",
    "network disconnect net10 web",
    "network disconnect net9 nobody",
    "network prune -f --filter nothing=1",
    "ps --filter network=net9 --format {{.Names}}|{{.Networks}}|{{.Ports}}",
    "ps --filter network=nowhere -q",
    "port web",
    "port web 80",
    "port web 81",
    "port web many",
    "create --network nowhere busybox",
    "create --network net9 --network bridge busybox",
    "create --network-alias x busybox",
    "create --network net9 --ip 10.99.99.99 busybox",
    "create --network name=net9,alias=x --network-alias y busybox",
    "create --network name=net9,nothing=x busybox",
    "create --mac-address 02 busybox",
    "create --network container:web -p 80 busybox",
    "create --network container:web --hostname x busybox",
    "create --add-host x busybox",
    "create --dns x busybox",
    "create -p 80:80/icmp busybox",
    "create -p 1-3:1-2 busybox",
    "create --expose x busybox",
];

#[test]
fn both_clients_say_the_same() {
    let Some(docker) = peers::installed("docker") else {
        println!("SKIPPED this machine's docker client: none is installed");
        return;
    };
    let engine = engine();
    if engine.kind() == EngineKind::Docker {
        println!("SKIPPED skep's command line: it is Docker's engine");
        return;
    }
    let subnet = engine.slot().subnet(0);
    engine.run(["network", "create", "--subnet", &subnet, "--label", "team=a", "net9"]).success();
    engine.run(["network", "create", "--internal", "--subnet", &engine.slot().subnet(1), "net10"]).success();
    engine
        .run([
            "run",
            "-d",
            "--init",
            "--name",
            "web",
            "--network",
            "net9",
            "-p",
            "127.0.0.1::80",
            "busybox",
            "sleep",
            "1000",
        ])
        .success();
    let mut differences = Vec::new();
    for line in ALIKE {
        let words: Vec<&str> = line.split(' ').collect();
        let own = spoken(engine.run(&words));
        let dockers = spoken(docker_client(&engine, &docker, &words));
        if own != dockers {
            differences.push(format!("{line}\n  skep   {own:?}\n  docker {dockers:?}\n"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.concat());
}

fn docker_client(engine: &Engine, docker: &Path, words: &[&str]) -> Outcome {
    let host = format!("unix://{}", engine.socket().display());
    Command::new(docker, words).env("DOCKER_HOST", host).env("DOCKER_CONFIG", engine.scratch()).run()
}

/// What there is to compare: the program's own name is not, nor is what Docker's client adds to a failed `network rm`.
fn spoken(outcome: Outcome) -> (i32, String, String) {
    let complaint = outcome.stderr.replace("skep", "docker").replace("\nexit status 1\n", "\n");
    (outcome.code, outcome.stdout, complaint)
}

#[test]
fn a_prune_can_be_looked_at_first() {
    let engine = engine();
    if engine.kind() == EngineKind::Docker {
        println!("SKIPPED --dry-run: Docker has none");
        return;
    }
    engine.run(["network", "create", "--subnet", &engine.slot().subnet(0), "--label", "a", "idle"]).success();
    engine.run(["network", "create", "--subnet", &engine.slot().subnet(1), "busy"]).success();
    engine.run(["run", "-d", "--init", "--network", "busy", "busybox", "sleep", "1000"]).success();
    let would = "Would delete Networks:\nidle\n\n";
    engine.run(["network", "prune", "--dry-run"]).success().stdout_is(would);
    engine.run(["network", "prune", "--dry-run", "--filter", "label!=a"]).success().stdout_is("");
    engine.run(["system", "prune", "--dry-run"]).success().stdout_has(would);
    engine.run(["network", "prune", "-f"]).success().stdout_is("Deleted Networks:\nidle\n\n");
    engine.run(["network", "ls", "-q", "-f", "type=custom"]).success().stdout_has("");
    engine.run(["network", "inspect", "busy"]).success();
}

#[test]
fn names_of_networks_are_completed() {
    let engine = engine();
    if engine.kind() == EngineKind::Docker {
        println!("SKIPPED completion: skep's own");
        return;
    }
    sleeper(&engine, "web");
    engine.run(["network", "create", "--subnet", &engine.slot().subnet(0), "backend"]).success();
    let complete = |words: &[&str]| engine.run([&["__complete"], words].concat()).success().stdout;
    assert_eq!(complete(&["network", "rm", "b"]), "backend\nbridge\n");
    assert_eq!(complete(&["network", "connect", "backend", ""]), "web\n");
    assert_eq!(complete(&["run", "--network", "ba"]), "backend\n");
}
