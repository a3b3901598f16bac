//! Answer of GET /skep/networks/explain: who can reach a container, and what decides.

use serde::{Deserialize, Serialize};

/// The whole answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkExplanation {
    /// Containers by their networks.
    pub containers: Vec<ExplainedContainer>,
    /// What filters on the host and could not be followed.
    pub unread: Vec<String>,
}

/// A container in one network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ExplainedContainer {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its name.
    pub name: String,
    /// The network's name.
    pub network: String,
    /// What there is to say instead of ports.
    pub note: String,
    /// Its published ports, and one entry for all others.
    pub ports: Vec<ExplainedPort>,
}

/// Who can reach a port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ExplainedPort {
    /// The host's address and port, `0.0.0.0:8080`; empty where the host has none for it.
    pub published: String,
    /// The container's address.
    pub address: String,
    /// The container's port and protocol, `80/tcp`; empty for all that are not published.
    pub port: String,
    /// One for each origin.
    pub answers: Vec<ExplainedAnswer>,
}

/// What happens to connections from somewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ExplainedAnswer {
    /// `host`, `other-hosts`, `internet`, `same-network`, `other-networks`.
    pub from: String,
    /// The link that they come by.
    pub link: String,
    /// The networks that they come from.
    pub networks: Vec<String>,
    /// Where they are sent to.
    pub to: String,
    /// `yes`, `no`, `depends`.
    pub reach: String,
    /// What decides.
    pub reasons: Vec<ExplainedReason>,
    /// What to do where the host's firewall is in the way.
    pub advice: String,
}

/// A rule, a chain's policy, or something else in words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ExplainedReason {
    /// The table with its family; empty if it is no rule.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// The rule's number; zero for a policy.
    pub handle: u64,
    /// The rule, or what it is in words.
    pub text: String,
    /// `accepts`, `drops`, `leads`.
    pub effect: String,
    /// What it depends on.
    pub depends_on: Vec<String>,
    /// It is in the engine's own table.
    pub own: bool,
}
