//! What the name server of one container has to know.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A container's file: where its names come from. JSON; members that are not known are passed over, so that a server that has been at
/// work for long understands what a newer engine writes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Client {
    /// Its networks, in the order in which they are asked.
    pub networks: Vec<Membership>,
    /// Names that are there if nobody in the networks has them, in lower case.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub hosts: BTreeMap<String, Vec<IpAddr>>,
    /// Who is asked about all other names.
    pub forward: Forward,
    /// The user has chosen how many dots a name has to have (`--dns-option ndots:1`): one without a dot is then no name of the world.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dots_needed: bool,
}

/// A network of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The network's name: `web.front` is `web` in `front`.
    pub name: String,
    /// The file of its names ([`names`](crate::names)).
    pub names: PathBuf,
    /// Names that only this container has for others (`--link`), in lower case, with the names that those have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<String, String>,
}

/// Where questions go that are not about containers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forward {
    /// Nowhere: the container has no way out, and its questions shall have none.
    #[default]
    Nowhere,
    /// To the servers of the host, from the host, as this file (its resolv.conf) names them at that moment.
    Host(PathBuf),
    /// To these servers, from the container's own network.
    Servers(Vec<IpAddr>),
}

impl Client {
    /// The text of the file.
    pub fn to_text(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    /// Reads the file.
    pub fn from_text(text: &[u8]) -> serde_json::Result<Client> {
        serde_json::from_slice(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_passed_over() {
        let text =
            br#"{"networks":[{"name":"front","names":"/n","weight":3}],"forward":{"servers":["10.0.0.1"]},"more":1}"#;
        let client = Client::from_text(text).unwrap();
        assert_eq!(client.networks[0].name, "front");
        assert_eq!(client.forward, Forward::Servers(vec!["10.0.0.1".parse().unwrap()]));
        assert_eq!(Client::from_text(&client.to_text().unwrap()).unwrap(), client);
        assert_eq!(Client::from_text(b"{}").unwrap(), Client::default());
    }
}
