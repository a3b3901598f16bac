//! A host for each engine, all of the same shape, so that no engine's firewall stands in another's way:
//!
//! ```text
//! outside 192.0.2.2 ──veth── 192.0.2.1 host ── bridge ──veth── bench-a
//!                                               └──────veth── bench-b (publishes PORTS)
//! ```
//!
//! The bare host has the bridge, the pairs and their addresses, but neither engine nor firewall: outside reaches its bench-b by
//! a route. Each host has the addresses of this machine's name servers, and one of our own answers there.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::{Context, Result};

use super::dns::Upstream;
use super::space::Space;
use crate::bench::engines::Engine;
use crate::bench::words;

/// Published by bench-b: for throughput, for latency.
pub(super) const PORTS: [u16; 2] = [5201, 5202];
/// The network of bench-a and bench-b.
const NETWORK: &str = "bench";
const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// A container, or what stands for one.
pub(super) struct Guest {
    pub(super) space: Space,
    pub(super) address: IpAddr,
    /// The first name server that it is told about.
    pub(super) resolver: Option<IpAddr>,
}

pub(super) struct Home {
    pub(super) name: &'static str,
    pub(super) host: Space,
    pub(super) outside: Space,
    pub(super) a: Guest,
    pub(super) b: Guest,
    /// Where outside reaches the published ports.
    pub(super) published: IpAddr,
    /// None on the bare host.
    engine: Option<Engine>,
    _upstream: Vec<Upstream>,
}

impl Home {
    /// A host with an engine.
    pub(super) fn of(name: &'static str, folder: &Path, image: &Path) -> Result<Home> {
        let (host, outside, upstream) = machine()?;
        let start = || {
            let mut engine = Engine::start(name, folder)?;
            engine.serve()?;
            engine.run(&["import".to_owned(), image.display().to_string(), "busybox:latest".to_owned()])?;
            engine.run(&words(&format!("network create --subnet 10.220.0.0/16 {NETWORK}")))?;
            let publish = PORTS.map(|port| format!("-p {port}:{port} ")).concat();
            for (name, options) in [("bench-a", ""), ("bench-b", publish.as_str())] {
                engine.run(&words(&format!("run -d --name {name} {options}{}", idle(NETWORK))))?;
            }
            let guests = [Guest::of(&engine, "bench-a")?, Guest::of(&engine, "bench-b")?];
            Ok((engine, guests))
        };
        let (engine, [a, b]) = host.within(start)?;
        Ok(Home { name, host, outside, a, b, published: HOST.into(), engine: Some(engine), _upstream: upstream })
    }

    /// A host without an engine.
    pub(super) fn bare() -> Result<Home> {
        let (host, outside, upstream) = machine()?;
        host.ip("link add bare0 type bridge")?;
        host.ip("address add 10.220.0.1/16 dev bare0")?;
        host.ip("link set bare0 up")?;
        outside.ip(&format!("route add 10.220.0.0/16 via {HOST}"))?;
        let [a, b] = [2, 3].map(|number| -> Result<Guest> {
            let (space, address) = (Space::new()?, Ipv4Addr::new(10, 220, 0, number));
            let link = format!("bare-{number}");
            host.join(&link, &space, "eth0")?;
            host.ip(&format!("link set {link} master bare0"))?;
            space.ip(&format!("address add {address}/16 dev eth0"))?;
            space.ip("route add default via 10.220.0.1")?;
            Ok(Guest { space, address: address.into(), resolver: None })
        });
        let (a, b) = (a?, b?);
        let published = b.address;
        Ok(Home { name: "bare", host, outside, a, b, published, engine: None, _upstream: upstream })
    }

    /// Asks the engine for something, from its host.
    pub(super) fn on_engine<T: Send>(&self, work: impl FnOnce(&Engine) -> Result<T> + Send) -> Result<T> {
        let engine = self.engine.as_ref().context("there is no engine")?;
        self.host.within(|| work(engine))
    }

    pub(super) fn is_bare(&self) -> bool {
        self.engine.is_none()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.take() {
            // What is cleared away is on its host.
            let _ = self.host.within(|| {
                let containers = engine.run(&words("rm -f bench-a bench-b"));
                let network = engine.run(&words(&format!("network rm {NETWORK}")));
                drop(engine);
                containers.and(network)
            });
        }
    }
}

impl Guest {
    pub(super) fn of(engine: &Engine, name: &str) -> Result<Guest> {
        let format = "{{.State.Pid}} {{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}";
        let answer = engine.ask(&["inspect", "--format", format, name].map(str::to_owned))?;
        let mut parts = answer.split_whitespace();
        let pid = parts.next().and_then(|pid| pid.parse().ok()).context("no process id")?;
        let address = parts.next().and_then(|address| address.parse().ok()).context("no address")?;
        let told = fs::read_to_string(format!("/proc/{pid}/root/etc/resolv.conf")).unwrap_or_default();
        Ok(Guest { space: Space::of(pid)?, address, resolver: servers(&told).next() })
    }
}

/// The end of a `run` of something that does nothing, and ends at once when it is told to.
pub(super) fn idle(network: &str) -> String {
    format!("--network {network} --stop-signal KILL busybox sleep 3600")
}

/// A host, something outside of it, and the name servers on it.
fn machine() -> Result<(Space, Space, Vec<Upstream>)> {
    let (host, outside) = (Space::new()?, Space::new()?);
    host.join("outside0", &outside, "eth0")?;
    host.ip(&format!("address add {HOST}/24 dev outside0"))?;
    outside.ip("address add 192.0.2.2/24 dev eth0")?;
    host.set("ipv4/ip_forward", "1")?;
    let mut upstream = Vec::new();
    for address in name_servers() {
        if !address.is_loopback() {
            let (length, more) = if address.is_ipv4() { (32, "") } else { (128, " nodad") };
            host.ip(&format!("address add {address}/{length} dev lo{more}"))?;
        }
        upstream.push(Upstream::start(&host, address)?);
    }
    Ok((host, outside, upstream))
}

/// All that an engine may find to be the host's name servers.
fn name_servers() -> BTreeSet<IpAddr> {
    let texts = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"].map(fs::read_to_string);
    texts.iter().flatten().flat_map(|text| servers(text)).collect()
}

fn servers(text: &str) -> impl Iterator<Item = IpAddr> {
    text.lines().filter_map(|line| line.strip_prefix("nameserver")).filter_map(|address| address.trim().parse().ok())
}
