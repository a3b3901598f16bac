//! Who can reach a container.

pub use skep_net::explain::{Answer, Explanation, Origin, PortReport, Reach, Reason, RuleEffect, RuleReason, Target};
pub use skep_net::{Protocol, Published};
use skep_types::{ContainerId, NetworkId};

/// A container in one network.
#[derive(Debug, Clone)]
pub struct Explained {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// The network's name.
    pub network: String,
    /// What there is to know.
    pub about: About,
}

/// What is known of who can reach a container by a network.
#[derive(Debug, Clone)]
pub enum About {
    /// By address and port.
    Ports(Explanation),
    /// In words: the network is none that this engine filters.
    Words(&'static str),
}

/// The answer to a question about a port or a container.
#[derive(Debug, Clone)]
pub struct ExplainedNetworks {
    /// The containers, once for each network.
    pub containers: Vec<Explained>,
    /// Names of the networks that are spoken of.
    pub names: Vec<(NetworkId, String)>,
}
