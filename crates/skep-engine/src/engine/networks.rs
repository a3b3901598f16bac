//! Networks.

use std::collections::BTreeMap;

use skep_types::NetworkId;

use super::blocking;
use super::containers::until;
use crate::containers::filter::name_matches;
use crate::containers::task::Command;
use crate::model::event::EventType;
use crate::model::network::{CreateNetwork, EndpointSettings, NetworkView};
use crate::model::request::{ChangePorts, Pruned};
use crate::{Engine, Error, Result, networks};

impl Engine {
    /// Makes a network.
    pub async fn create_network(&self, request: CreateNetwork) -> Result<NetworkId> {
        let inner = self.inner.clone();
        let network = blocking(move || inner.networks.create(&inner, request)).await?;
        self.inner.network_event(&network, "create", []);
        Ok(network.id)
    }

    /// Removes a network that no container is plugged into.
    pub async fn remove_network(&self, name: &str) -> Result<()> {
        let (inner, name) = (self.inner.clone(), name.to_owned());
        let network = blocking(move || {
            let network = inner.networks.remove(&inner, &name)?;
            networks::refresh(&inner, &[network.id]);
            Ok(network)
        })
        .await?;
        self.inner.network_event(&network, "destroy", []);
        Ok(())
    }

    /// Connects a container to a network.
    pub async fn connect_network(&self, network: &str, container: &str, settings: EndpointSettings) -> Result<()> {
        let network = self.inner.networks.find(network)?;
        self.ask(container, |reply| Command::Connect(network, settings, reply)).await
    }

    /// Takes a container out of a network.
    pub async fn disconnect_network(&self, network: &str, container: &str, force: bool) -> Result<()> {
        let (text, network) = (network.to_owned(), self.inner.networks.find(network)?);
        if force && self.inner.containers.find(container).is_err() {
            return Err(Error::Invalid(format!("endpoint {container} not found")));
        }
        self.ask(container, |reply| Command::Disconnect(text, network, reply)).await
    }

    /// Publishes ports of a container and takes others back, whether it runs or not: all of it or nothing.
    pub async fn change_ports(&self, container: &str, change: ChangePorts) -> Result<()> {
        self.ask(container, |reply| Command::Ports(change, reply)).await
    }

    /// The networks that the filters leave.
    pub fn list_networks(&self, filters: &BTreeMap<String, Vec<String>>) -> Result<Vec<NetworkView>> {
        const KEYS: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];
        check_keys(filters, &KEYS)?;
        for value in filters.get("type").into_iter().flatten() {
            if !matches!(value.as_str(), "builtin" | "custom") {
                return Err(Error::Invalid(format!("invalid filter: 'type'='{value}'")));
            }
        }
        for value in filters.get("dangling").into_iter().flatten() {
            dangling(value)?;
        }
        let keep = |network: &NetworkView| {
            filters.iter().all(|(key, values)| match key.as_str() {
                // Of labels all are wanted, of others one.
                "label" => values.iter().all(|value| has_label(network, value)),
                _ => values.is_empty() || values.iter().any(|value| matches(network, key, value)),
            })
        };
        Ok(self.inner.networks.views(&self.views()).into_iter().filter(keep).collect())
    }

    /// One network by name, id or unique id prefix.
    pub fn network(&self, name: &str) -> Result<NetworkView> {
        self.inner.networks.view(name, &self.views())
    }

    /// Removes the networks that no running container is in and that the filters leave; tells their names.
    pub async fn prune_networks(&self, filters: &BTreeMap<String, Vec<String>>) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        for network in self.prunable_networks(filters)? {
            match self.remove_network(&network.id.to_string()).await {
                Ok(()) => pruned.removed.push(network.name),
                // Someone uses it again, or has removed it.
                Err(Error::Forbidden(_) | Error::NoSuchNetwork(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.prune_event(EventType::Network, 0);
        Ok(pruned)
    }

    /// The networks that a prune removes.
    pub(super) fn prunable_networks(&self, filters: &BTreeMap<String, Vec<String>>) -> Result<Vec<NetworkView>> {
        check_keys(filters, &["label", "label!", "until"])?;
        let until = filters.get("until").and_then(|values| values.first()).map(|text| until(text)).transpose()?;
        let labels = |key: &str| filters.get(key).into_iter().flatten();
        let mut found = self.inner.networks.views(&self.views());
        found.retain(|network| {
            is_unused(network)
                && !network.config_only
                && until.is_none_or(|moment| network.created <= moment)
                && labels("label").all(|label| has_label(network, label))
                && !labels("label!").any(|label| has_label(network, label))
        });
        Ok(found)
    }
}

fn check_keys(filters: &BTreeMap<String, Vec<String>>, known: &[&str]) -> Result<()> {
    match filters.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(Error::Invalid(format!("invalid filter '{key}'"))),
        None => Ok(()),
    }
}

fn dangling(text: &str) -> Result<bool> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(Error::Invalid(
            "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")".to_owned(),
        )),
    }
}

fn is_unused(network: &NetworkView) -> bool {
    !network.is_predefined() && network.containers.is_empty()
}

fn has_label(network: &NetworkView, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((name, wanted)) => network.labels.get(name).is_some_and(|found| found == wanted),
        None => network.labels.contains_key(wanted),
    }
}

fn matches(network: &NetworkView, key: &str, value: &str) -> bool {
    match key {
        "driver" => network.driver == value,
        "id" => name_matches(&network.id.to_string(), value),
        "name" => name_matches(&network.name, value),
        "scope" => network.scope == value,
        "type" => (value == "builtin") == network.is_predefined(),
        "dangling" => dangling(value).is_ok_and(|wanted| wanted == is_unused(network)),
        _ => false,
    }
}
