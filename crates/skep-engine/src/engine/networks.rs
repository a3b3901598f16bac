//! Networks.

use std::collections::BTreeMap;

use crate::model::network::NetworkView;
use crate::{Engine, Result};

impl Engine {
    /// The networks that the filters leave.
    pub fn list_networks(&self, _filters: &BTreeMap<String, Vec<String>>) -> Result<Vec<NetworkView>> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
    /// One network by name, id or unique id prefix.
    pub fn network(&self, _name: &str) -> Result<NetworkView> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
}
