//! What is said about who can reach a port.

use std::net::{IpAddr, SocketAddr};

use skep_types::NetworkId;

use crate::config::{Protocol, Published};

/// Who can reach a container, port by port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Its published ports, and one that stands for all others.
    pub ports: Vec<PortReport>,
    /// What filters on this host and could not be read.
    pub unread: Vec<String>,
}

/// Who can reach one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortReport {
    /// How it is published; `None` stands for all ports that are not.
    pub published: Option<Published>,
    /// The container's address.
    pub address: IpAddr,
    /// One answer for each way to get there.
    pub answers: Vec<Answer>,
}

/// What happens to connections from somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Where they come from.
    pub origin: Origin,
    /// Where they are sent to; `None` where there is nothing that could be tried.
    pub target: Option<Target>,
    /// Whether they arrive.
    pub reach: Reach,
    /// What decides that.
    pub reasons: Vec<Reason>,
    /// What to do if it is the host's firewall that is in the way.
    pub advice: Option<String>,
}

/// Where a client sends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The address.
    pub address: IpAddr,
    /// The port; `None` for any.
    pub port: Option<u16>,
    /// The protocol.
    pub protocol: Protocol,
}

impl Target {
    /// Address and port, if it is one port.
    pub fn socket(&self) -> Option<SocketAddr> {
        self.port.map(|port| SocketAddr::new(self.address, port))
    }
}

/// Where a client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A program of the host.
    Host,
    /// Another host on the link.
    OtherHost(String),
    /// Any address, by the link of the default route.
    Internet(String),
    /// A container of the same network.
    SameNetwork,
    /// Containers of other networks of this engine.
    OtherNetworks(Vec<NetworkId>),
}

/// Whether connections arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// All do.
    Yes,
    /// None does.
    No,
    /// Some may: it depends on what the reasons say.
    Depends,
}

/// Something that decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A rule or a policy.
    Rule(RuleReason),
    /// Something else than a rule, in words.
    Note(String),
}

/// Something of the host's firewall that is in the way of containers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Obstacle {
    /// In the way of what containers send, or else of what is sent to them.
    pub outgoing: bool,
    /// What drops it.
    pub rule: RuleReason,
    /// What to do about it.
    pub advice: String,
}

/// A rule or a chain's policy, and what it does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleReason {
    /// The table with its family: `inet skep`, `iptables-legacy filter`.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// The kernel's number for the rule, with iptables-legacy its place in the chain; `None` for the chain's policy.
    pub handle: Option<u64>,
    /// The rule.
    pub rule: String,
    /// What it does.
    pub effect: RuleEffect,
    /// What it depends on that it does; empty if it certainly does.
    pub depends: Vec<String>,
    /// It is in the engine's own table.
    pub own: bool,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RuleEffect {
    /// Lets the packet pass its chain.
    Accepts,
    /// Drops or rejects it.
    Drops,
    /// Leads it to another destination.
    Leads,
}
