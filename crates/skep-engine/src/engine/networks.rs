//! Networks.

use std::collections::BTreeMap;

use crate::model::network::NetworkView;
use crate::{Engine, Error, Result};

impl Engine {
    /// The networks that the filters leave.
    pub fn list_networks(&self, filters: &BTreeMap<String, Vec<String>>) -> Result<Vec<NetworkView>> {
        const KEYS: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];
        if let Some(key) = filters.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(Error::Invalid(format!("invalid filter '{key}'")));
        }
        let keep = |network: &NetworkView| {
            filters
                .iter()
                .all(|(key, values)| values.is_empty() || values.iter().any(|value| matches(network, key, value)))
        };
        Ok(self.inner.networks.views(&self.views()).into_iter().filter(keep).collect())
    }

    /// One network by name, id or unique id prefix.
    pub fn network(&self, name: &str) -> Result<NetworkView> {
        self.inner.networks.view(name, &self.views())
    }
}

fn matches(network: &NetworkView, key: &str, value: &str) -> bool {
    match key {
        "driver" => network.driver == value,
        "id" => network.id.to_string().starts_with(value),
        "name" => network.name.contains(value),
        "scope" => value == "local",
        "type" => value == "builtin",
        "dangling" => matches!(value, "false" | "0"),
        "label" => match value.split_once('=') {
            Some((name, wanted)) => network.labels.get(name).is_some_and(|found| found == wanted),
            None => network.labels.contains_key(value),
        },
        _ => false,
    }
}
