//! Connections made and cut again and again, while containers, shims and the daemon are killed: nothing is left in the end.
//!
//! `SKEP_SOAK_OPERATIONS=5000` makes it long (`make soak`); `SKEP_SOAK_SEED` repeats a run.

use skep_testkit::{Command, Engine, EngineKind, until};

use super::engine;

const OPERATIONS: u32 = 100;
const CONTAINERS: u32 = 4;
const NETWORKS: u32 = 3;

/// Namespaces that the daemon keeps ready, and some that are just being made or let go.
const READY_NAMESPACES: usize = 8;

/// Numbers that look random, the same again for the same seed (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 % u64::from(limit)).unwrap()
    }

    fn container(&mut self) -> String {
        format!("c{}", self.below(CONTAINERS))
    }

    fn network(&mut self) -> String {
        format!("n{}", self.below(NETWORKS))
    }
}

fn setting(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn nothing_is_left_of_networks_whatever_dies() {
    let mut engine = engine();
    if engine.kind() == EngineKind::Docker {
        return println!(
            "SKIPPED nothing_is_left_of_networks_whatever_dies: it looks at skep's own links and namespaces"
        );
    }
    let seed = setting("SKEP_SOAK_SEED", 20_261_121);
    let mut numbers = Numbers(u64::from(seed) | 1 << 40);
    for number in 0..NETWORKS {
        let subnet = format!("10.{}.{}.0/24", 215 + number, engine.slot().number());
        let subnet6 = format!("fd5c:{:x}:{number:x}::/64", engine.slot().number());
        let mut words = vec!["network".to_owned(), "create".to_owned(), "--subnet".to_owned(), subnet];
        if number == 1 {
            words.extend(["--ipv6".to_owned(), "--subnet".to_owned(), subnet6]);
        }
        words.push(format!("n{number}"));
        engine.run(words).success();
    }
    for number in 0..CONTAINERS {
        make(&engine, &format!("c{number}"));
    }
    for operation in 0..setting("SKEP_SOAK_OPERATIONS", OPERATIONS) {
        step(&mut engine, &mut numbers, operation);
    }
    for number in 0..CONTAINERS {
        agrees(&engine, &format!("c{number}"), seed);
    }
    clean(&engine, seed);
}

fn make(engine: &Engine, name: &str) {
    let words = ["run", "-d", "--name", name, "-p", "80", "--rate-out", "1gbit", "busybox", "sleep", "100000"];
    engine.run(words).success();
}

/// One thing happens. Commands may be refused (a container that is connected already, one that does not run); what they leave is
/// what matters.
fn step(engine: &mut Engine, numbers: &mut Numbers, operation: u32) {
    let (container, network) = (numbers.container(), numbers.network());
    match numbers.below(40) {
        0..=17 => drop(engine.run(["network", "connect", &network, &container])),
        18..=31 => drop(engine.run(["network", "disconnect", &network, &container])),
        32 => drop(engine.run(["kill", &container])),
        33 => drop(engine.run(["restart", "-t", "0", &container])),
        34 => kill_process(engine, &container, false),
        35 => kill_process(engine, &container, true),
        36 => {
            engine.run(["rm", "-f", &container]).success();
            make(engine, &container);
        }
        _ => kill_daemon_during(engine, &network, &container, operation.is_multiple_of(2)),
    }
    drop(engine.run(["start", &container]));
}

/// Kills a container's process behind the engine's back, or the shim that watches it.
fn kill_process(engine: &Engine, container: &str, shim: bool) {
    let pid = engine.inspect(container)["State"]["Pid"].as_i64().unwrap_or_default();
    if pid == 0 {
        return;
    }
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap_or_default().trim().to_owned();
    let victim = if shim { parent } else { pid.to_string() };
    if victim.parse::<u32>().is_ok_and(|pid| pid > 1) {
        let _ = Command::new("kill", ["-9", &victim]).run();
    }
    until("the engine knows", || {
        let state = &engine.inspect(container)["State"];
        state["Pid"].as_i64() != Some(pid) || state["Running"] == false
    });
}

/// Kills the daemon while it connects or disconnects.
fn kill_daemon_during(engine: &mut Engine, network: &str, container: &str, connect: bool) {
    let verb = if connect { "connect" } else { "disconnect" };
    let command = engine.command(["network", verb, network, container]);
    std::thread::scope(|scope| {
        let client = scope.spawn(move || drop(command.run()));
        engine.kill();
        client.join().unwrap();
    });
    engine.launch();
}

/// A container has the interfaces of the networks that it is said to be in.
fn agrees(engine: &Engine, container: &str, seed: u32) {
    engine.until_status(container, "running");
    let said = engine.inspect(container)["NetworkSettings"]["Networks"].as_object().unwrap().len();
    let listed = engine.run(["exec", container, "ls", "/sys/class/net"]).success().stdout;
    let there = listed.split_whitespace().filter(|name| name.starts_with("eth")).count();
    assert_eq!(there, said, "{container}, seed {seed}: {listed}");
}

/// The address that a new container gets.
fn first_address(engine: &Engine, number: u32) -> String {
    let network = format!("n{number}");
    let words = ["run", "-d", "--name", "last", "--network", &network, "busybox", "sleep", "1000"];
    engine.run(words).success();
    let address =
        engine.inspect("last")["NetworkSettings"]["Networks"][&network]["IPAddress"].as_str().unwrap().to_owned();
    engine.run(["rm", "-f", "last"]).success();
    address
}

fn clean(engine: &Engine, seed: u32) {
    for number in 0..CONTAINERS {
        engine.run(["rm", "-f", &format!("c{number}")]).success();
    }
    for number in 0..NETWORKS {
        // Addresses are given back behind the answer to `rm`.
        until(&format!("n{number} has its first address again, seed {seed}"), || {
            first_address(engine, number).ends_with(".2")
        });
        engine.run(["network", "rm", &format!("n{number}")]).success();
    }
    let bridge = engine.slot().bridge();
    let marked = || {
        let links = Command::new("ip", ["-o", "link"]).run().success().stdout;
        let mark = format!("alias made by skep for {bridge}");
        let own =
            links.lines().filter(|line| line.trim_end().ends_with(&mark) || line.contains(&format!("master {bridge}")));
        own.map(str::to_owned).collect::<Vec<_>>()
    };
    until("nothing but the bridge is left", || marked().len() == 1);
    let namespaces = || {
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", engine.pid().unwrap())).unwrap().flatten();
        let links = descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        links.filter(|link| link.to_string_lossy().starts_with("net:[")).count()
    };
    until("the daemon holds no namespaces but those that are ready", || namespaces() <= READY_NAMESPACES);
}
