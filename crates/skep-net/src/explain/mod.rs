//! Who can reach a container, and which rule decides.
//!
//! Nothing is sent: the rules of all tables are read as the kernel has them (iptables-legacy's by its own program), and
//! the first packet of a connection is followed through them, for each place that it may come from. What a rule asks that
//! can't be known beforehand, or that is not understood here, makes the answer "depends" and is named.
//!
//! ```text
//! another host ─ prerouting ─┬─ forward ─ postrouting ─ container     a program of the host ─ output ─ postrouting ─ container
//!                            └─ (the host itself: not a container)
//! ```

mod advice;
mod compat;
mod expression;
mod host;
pub(crate) mod legacy;
mod packet;
mod report;
pub(crate) mod ruleset;
mod text;
mod value;
mod walk;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use skep_types::NetworkId;

use crate::bridge;
use crate::config::{Protocol, Published};
use crate::netlink::{Refused, Socket};
use crate::network::{GatewayMode, NetworkConfig};
use advice::Way;
pub(crate) use expression::{Expression, Field, Verdict};
use host::Host;
use packet::{Interface, Packet};
pub use report::{Answer, Explanation, Obstacle, Origin, PortReport, Reach, Reason, RuleEffect, RuleReason, Target};
use ruleset::{Hook, Ruleset};
use value::Value;
use walk::{Effect, Passage, Place};

/// The networks of the engine, and its table.
pub(crate) struct Own<'a> {
    pub(crate) table: &'a str,
    pub(crate) networks: BTreeMap<NetworkId, &'a NetworkConfig>,
}

/// What is asked about: addresses of a container in a bridge network, and the ports that are published for them.
pub(crate) struct Subject {
    pub(crate) network: NetworkId,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) published: Vec<Published>,
}

/// Explains who can reach a container by one of its networks.
pub(crate) fn explain(
    route: &mut Socket,
    filter: &mut Socket,
    own: &Own<'_>,
    subject: &Subject,
) -> Result<Explanation, Refused> {
    let host = Host::read(route)?;
    let mut ruleset = Ruleset::read(filter)?;
    legacy::read(&mut ruleset);
    let mut unread = std::mem::take(&mut ruleset.unread);
    unread.extend(ruleset.unfollowed());
    let Some((network, bridge)) = own.networks.get(&subject.network).and_then(|n| Some((*n, n.as_bridge()?))) else {
        return Ok(Explanation { ports: Vec::new(), unread });
    };
    let link = host.link(&bridge.name).cloned().unwrap_or(Interface { name: bridge.name.clone(), index: 0 });
    let explainer = Explainer { host: &host, rules: &ruleset, own, network, bridge: link, local: host.own() };
    let published = subject.published.iter().map(|port| explainer.report(Some(*port), port.container_ip));
    let others = subject.addresses.iter().map(|address| explainer.report(None, *address));
    let ports = published.chain(others).collect();
    Ok(Explanation { ports, unread })
}

/// What others drop of the engine's traffic, as far as it is certain.
pub(crate) fn obstacles(route: &mut Socket, filter: &mut Socket, own: &Own<'_>) -> Result<Vec<Obstacle>, Refused> {
    let host = Host::read(route)?;
    let mut ruleset = Ruleset::read(filter)?;
    legacy::read(&mut ruleset);
    let mut obstacles: Vec<Obstacle> = Vec::new();
    let outside = |network: &&&NetworkConfig| !network.internal && network.as_bridge().is_some();
    for network in own.networks.values().filter(outside) {
        let bridge = network.as_bridge().map(|bridge| bridge.name.as_str()).unwrap_or_default();
        let Some(bridge) = host.link(bridge) else { continue };
        for subnet in &network.subnets {
            let v6 = subnet.subnet.addr().is_ipv6();
            let Some(uplink) = host.default_link(v6) else { continue };
            let way = Way { bridge: &bridge.name, ufw: ruleset.has_ufw() };
            let container = Value::address(subnet.subnet.network(), subnet.subnet.prefix_len());
            let any = Value::unknown(if v6 { 16 } else { 4 });
            for outgoing in [true, false] {
                let (source, destination) = if outgoing { (&container, &any) } else { (&any, &container) };
                let mut packet = Packet::between(source.clone(), destination.clone());
                let (from, to) = if outgoing { (bridge, uplink) } else { (uplink, bridge) };
                (packet.from, packet.to) = (Some(from.clone()), Some(to.clone()));
                packet.translated = !outgoing;
                let mut trail = Trail::new(own.table);
                trail.hook(&ruleset, Hook::Forward, &mut packet, &[]);
                let stop = trail.met.iter().find(|passage| stops(passage) && !trail.is_own(&passage.place));
                let reason = stop.map(|stop| trail.rule_reason(stop.effect, &stop.place, &[]));
                obstacles.extend(reason.map(|rule| Obstacle {
                    outgoing,
                    advice: advice::for_bridge(&rule, &way),
                    rule,
                }));
            }
        }
    }
    obstacles.sort();
    obstacles.dedup();
    Ok(obstacles)
}

struct Explainer<'a> {
    host: &'a Host,
    rules: &'a Ruleset,
    own: &'a Own<'a>,
    network: &'a NetworkConfig,
    bridge: Interface,
    local: Vec<IpAddr>,
}

/// How far a packet got.
enum Fate {
    Passed,
    Stopped,
    /// It stays on the host, which is no container.
    Stayed,
}

impl Explainer<'_> {
    fn report(&self, published: Option<Published>, address: IpAddr) -> PortReport {
        let mut answers = vec![self.by_host(published.as_ref(), address)];
        answers.extend(self.by_others(published.as_ref(), address));
        answers.push(self.by_neighbour(published.as_ref(), address));
        answers.extend(self.by_networks(published.as_ref(), address));
        let way = Way { bridge: &self.bridge.name, ufw: self.rules.has_ufw() };
        for answer in &mut answers {
            answer.advice = advice::of(answer, published.as_ref(), address, &way);
        }
        PortReport { published, address, answers }
    }

    /// Where a client sends that can use `host_address` of the host, if it is one that the port is published on.
    fn target(&self, published: Option<&Published>, address: IpAddr, host_address: IpAddr) -> Target {
        match published {
            Some(port) if port.is_translated() => {
                let ip = if port.host_ip.is_unspecified() { host_address } else { port.host_ip };
                Target { address: ip, port: Some(port.host_port), protocol: port.protocol }
            }
            Some(port) => Target { address, port: Some(port.container_port), protocol: port.protocol },
            None => Target { address, port: None, protocol: Protocol::Tcp },
        }
    }

    fn by_host(&self, published: Option<&Published>, address: IpAddr) -> Answer {
        let loopback: IpAddr = if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { self.reachable_loopback6() };
        let target = self.target(published, address, loopback);
        let to_self = target.address.is_loopback() || self.local.contains(&target.address);
        let source = if to_self { target.address } else { self.gateway(address) };
        let mut packet = packet_to(&target, Value::address(source, 128));
        packet.from_host = true;
        packet.to = Some(if to_self { self.host.loopback() } else { self.bridge.clone() });
        let mut trail = Trail::new(self.own.table);
        let mut fate = trail.hook(self.rules, Hook::Output, &mut packet, &self.local);
        if matches!(fate, Fate::Passed) {
            fate = self.deliver(&mut trail, &mut packet, Hook::Postrouting);
        }
        trail.answer(Origin::Host, target, fate)
    }

    /// An address of the host that stands for all where `::1` can't be led anywhere.
    fn reachable_loopback6(&self) -> IpAddr {
        let own = self.host.uplinks(true, &[]).first().map(|(_, own)| own.address);
        own.filter(|_| bridge::filters_ipv6()).unwrap_or(Ipv6Addr::LOCALHOST.into())
    }

    fn by_others(&self, published: Option<&Published>, address: IpAddr) -> Vec<Answer> {
        let engines: Vec<_> =
            self.own.networks.values().filter_map(|n| n.as_bridge()).map(|b| b.name.as_str()).collect();
        let mut answers = Vec::new();
        let v6 = address.is_ipv6();
        let default = self.host.default_link(v6).map(|link| link.index);
        for (link, own) in self.host.uplinks(v6, &engines) {
            let target = self.target(published, address, own.address);
            let mut from = |origin: Origin, source: Value| {
                let answer = if target.address.is_loopback() {
                    let note = format!(
                        "{} is an address of the host's own: packets to it do not come from outside",
                        target.address
                    );
                    Answer { origin, target: None, reach: Reach::No, reasons: vec![Reason::Note(note)], advice: None }
                } else {
                    self.by_outside(origin, link, source, target)
                };
                answers.push(answer);
            };
            from(Origin::OtherHost(link.name.clone()), Value::address(own.address, own.prefix));
            if default == Some(link.index) {
                from(Origin::Internet(link.name.clone()), Value::unknown(if v6 { 16 } else { 4 }));
            }
        }
        answers
    }

    fn by_outside(&self, origin: Origin, link: &Interface, source: Value, target: Target) -> Answer {
        let mut packet = packet_to(&target, source);
        packet.from = Some(link.clone());
        let mut trail = Trail::new(self.own.table);
        let mut fate = trail.hook(self.rules, Hook::Prerouting, &mut packet, &self.local);
        for hook in [Hook::Forward, Hook::Postrouting] {
            if matches!(fate, Fate::Passed) {
                fate = self.deliver(&mut trail, &mut packet, hook);
            }
        }
        trail.answer(origin, target, fate)
    }

    /// The next step of a packet that has its destination by now.
    fn deliver(&self, trail: &mut Trail<'_>, packet: &mut Packet, hook: Hook) -> Fate {
        if packet.is_local(&self.local) {
            return Fate::Stayed;
        }
        packet.to = Some(self.bridge.clone());
        trail.hook(self.rules, hook, packet, &self.local)
    }

    fn by_neighbour(&self, published: Option<&Published>, address: IpAddr) -> Answer {
        let target = Target {
            address,
            port: published.map(|port| port.container_port),
            protocol: published.map_or(Protocol::Tcp, |port| port.protocol),
        };
        let origin = Origin::SameNetwork;
        let talk = self.network.as_bridge().is_some_and(|bridge| bridge.icc);
        if !talk {
            let note = "containers of this network may not talk to each other (enable_icc=false)".to_owned();
            return Answer {
                origin,
                target: Some(target),
                reach: Reach::No,
                reasons: vec![Reason::Note(note)],
                advice: None,
            };
        }
        if !bridge::filters(address.is_ipv6()) {
            let note = "frames within a bridge pass no packet filter here".to_owned();
            return Answer {
                origin,
                target: Some(target),
                reach: Reach::Yes,
                reasons: vec![Reason::Note(note)],
                advice: None,
            };
        }
        let mut packet = packet_to(&target, self.subnet(self.network, address));
        (packet.from, packet.to) = (Some(self.bridge.clone()), Some(self.bridge.clone()));
        let mut trail = Trail::new(self.own.table);
        let mut fate = Fate::Passed;
        for hook in [Hook::Prerouting, Hook::Forward, Hook::Postrouting] {
            if matches!(fate, Fate::Passed) {
                fate = trail.hook(self.rules, hook, &mut packet, &self.local);
            }
        }
        trail.answer(origin, target, fate)
    }

    /// Other networks, those with the same answer together.
    fn by_networks(&self, published: Option<&Published>, address: IpAddr) -> Vec<Answer> {
        let mut answers: Vec<Answer> = Vec::new();
        for (id, other) in &self.own.networks {
            let (Some(bridge), Some(gateway)) = (other.as_bridge(), gateway_of(other, address)) else { continue };
            let Some(link) = self.host.link(&bridge.name).filter(|_| *id != self.network.id) else { continue };
            let target = self.target(published, address, gateway);
            let origin = Origin::OtherNetworks(vec![*id]);
            let answer = if target.address.is_loopback() {
                let note = format!("{} is an address of the host's own", target.address);
                Answer { origin, target: None, reach: Reach::No, reasons: vec![Reason::Note(note)], advice: None }
            } else {
                self.by_outside(origin, link, self.subnet(other, address), target)
            };
            let same = |known: &&mut Answer| (known.reach, &known.reasons) == (answer.reach, &answer.reasons);
            match answers.iter_mut().find(same) {
                Some(Answer { origin: Origin::OtherNetworks(ids), .. }) => ids.push(*id),
                _ => answers.push(answer),
            }
        }
        answers
    }

    /// Any address of a network's subnet of the same family.
    fn subnet(&self, network: &NetworkConfig, like: IpAddr) -> Value {
        let own = network.subnets.iter().find(|subnet| subnet.subnet.addr().is_ipv4() == like.is_ipv4());
        own.map_or(Value::unknown(if like.is_ipv4() { 4 } else { 16 }), |own| {
            Value::address(own.subnet.network(), own.subnet.prefix_len())
        })
    }

    fn gateway(&self, like: IpAddr) -> IpAddr {
        gateway_of(self.network, like).unwrap_or(like)
    }
}

/// The host's address in a network; none where it has none.
fn gateway_of(network: &NetworkConfig, like: IpAddr) -> Option<IpAddr> {
    let subnet = network.subnets.iter().find(|subnet| subnet.subnet.addr().is_ipv4() == like.is_ipv4())?;
    (network.gateway_mode(like)? != GatewayMode::Isolated).then(|| subnet.gateway_address())
}

fn packet_to(target: &Target, source: Value) -> Packet {
    Packet::new(source, target.address, target.protocol.number(), target.port)
}

/// What a packet met on its way.
struct Trail<'a> {
    own: &'a str,
    met: Vec<Passage>,
}

impl<'a> Trail<'a> {
    fn new(own: &'a str) -> Self {
        Trail { own, met: Vec::new() }
    }

    fn hook(&mut self, rules: &Ruleset, hook: Hook, packet: &mut Packet, local: &[IpAddr]) -> Fate {
        self.met.extend(walk::hook(rules, hook, packet, local));
        if self.met.iter().any(stops) { Fate::Stopped } else { Fate::Passed }
    }

    fn answer(self, origin: Origin, target: Target, fate: Fate) -> Answer {
        let answer = |reach, reasons| Answer { origin, target: Some(target), reach, reasons, advice: None };
        let (certain, open): (Vec<_>, Vec<_>) = self.met.iter().partition(|passage| passage.possible.is_empty());
        if let Some(stop) = self.met.iter().find(|passage| stops(passage)) {
            return answer(Reach::No, vec![self.reason(stop.effect, &stop.place, &[])]);
        }
        if matches!(fate, Fate::Stayed) {
            let at = target.socket().map_or(target.address.to_string(), |socket| socket.to_string());
            let note = format!("no rule leads {at} to the container: the host itself is meant");
            return answer(Reach::No, vec![Reason::Note(note)]);
        }
        // What would not change anything is no doubt.
        let doubts: Vec<_> = open
            .iter()
            .filter(|passage| {
                passage.possible.iter().any(|other| (other.effect == Effect::Drop) != (passage.effect == Effect::Drop))
            })
            .collect();
        let mut reasons = Vec::new();
        for passage in &doubts {
            let differs = passage.possible.iter().filter(|other| other.effect != passage.effect);
            reasons.extend(differs.map(|other| self.reason(other.effect, &other.place, &other.depends)));
            reasons.push(self.reason(passage.effect, &passage.place, &[]));
        }
        if !doubts.is_empty() {
            return answer(Reach::Depends, reasons);
        }
        // Rules that let it pass, and the chains of others that do not mind.
        let decides = |passage: &&&Passage| passage.place.handle.is_some() || !self.is_own(&passage.place);
        reasons.extend(certain.iter().filter(decides).map(|passage| self.reason(passage.effect, &passage.place, &[])));
        answer(Reach::Yes, reasons)
    }

    fn reason(&self, effect: Effect, place: &Place, depends: &[String]) -> Reason {
        Reason::Rule(self.rule_reason(effect, place, depends))
    }

    fn rule_reason(&self, effect: Effect, place: &Place, depends: &[String]) -> RuleReason {
        RuleReason {
            table: place.table.to_string(),
            chain: place.chain.clone(),
            handle: place.handle,
            rule: place.text.clone(),
            effect: match effect {
                Effect::Accept => RuleEffect::Accepts,
                Effect::Drop => RuleEffect::Drops,
                Effect::Translate => RuleEffect::Leads,
            },
            depends: depends.to_vec(),
            own: self.is_own(place),
        }
    }

    fn is_own(&self, place: &Place) -> bool {
        place.table.family == ruleset::Family::INET && place.table.name == self.own
    }
}

/// The chain drops the packet whatever it depends on.
fn stops(passage: &Passage) -> bool {
    passage.effect == Effect::Drop && passage.possible.iter().all(|other| other.effect == Effect::Drop)
}
