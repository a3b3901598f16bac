//! Which networks there are and which container is plugged into which. The kernel's side is skep-net's.
//!
//! Three networks are always there: `bridge` (unless it is switched off), `host` and `none`. A namespace belongs to the
//! process in it: it is held by descriptors only, so whatever dies, nothing stays behind.

mod names;
mod plug;
mod ports;
mod resolver;
mod store;
mod view;
mod words;

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::Utc;
use skep_net::{ForwardPolicy, NetError, NetnsPool, NetworkConfig, NetworkStack, Restored, Saved, StackConfig};
use skep_types::NetworkId;

use crate::config::{BridgeSettings, EngineConfig};
use crate::model::network::NetworkView;
use crate::model::view::ContainerView;
use crate::storage::Storage;
use crate::{Error, Result};

pub(crate) use plug::{Plug, StepNetwork, ToPlug, of_process};
pub(crate) use resolver::{client_file, resolv_conf_of_step, write as write_resolver};
pub(crate) use store::StoredNetwork;

/// Namespaces kept ready.
const POOL: usize = 4;
/// The key under which the default bridge is stored.
const BRIDGE: &str = "bridge";

pub(crate) struct Networks {
    /// Absent when there is no bridge: then nothing is asked of the kernel but namespaces.
    stack: Option<NetworkStack>,
    pool: Arc<NetnsPool>,
    /// By name.
    known: BTreeMap<String, StoredNetwork>,
}

impl Networks {
    /// Opens the stack, makes the default bridge, and takes over what running containers have. Blocking.
    pub(crate) fn open(
        config: &EngineConfig,
        storage: &Storage,
        endpoints: Vec<skep_net::Endpoint>,
    ) -> Result<(Self, Restored)> {
        let failed = |e: NetError| Error::system("setting up the network", e);
        let mut known: BTreeMap<String, StoredNetwork> =
            storage.networks()?.into_iter().map(|network| (network.name.clone(), network)).collect();
        for name in ["host", "none"] {
            if !known.contains_key(name) {
                let network =
                    StoredNetwork { name: name.to_owned(), created: Utc::now(), id: random_id(), bridge: None };
                storage.put_network(&network)?;
                known.insert(name.to_owned(), network);
            }
        }
        let stored: Option<NetworkConfig> = known.get(BRIDGE).and_then(|network| network.bridge.clone());
        let wanted = store::wanted_bridge(config, stored.as_ref());
        let saved = Saved {
            networks: match (&stored, &wanted) {
                (Some(old), Some(wanted)) if old == wanted => vec![old.clone()],
                _ => Vec::new(),
            },
            endpoints,
        };
        let (stack, restored) = match wanted {
            None => (None, Restored::default()),
            Some(mut bridge) => {
                let adopt = !saved.networks.is_empty();
                let table = bridge.as_bridge().map(|link| link.name.clone()).unwrap_or_default();
                let stack_config = StackConfig { table, forward: ForwardPolicy::Leave };
                let (stack, restored) = NetworkStack::open(stack_config, saved).map_err(failed)?;
                if !adopt {
                    if bridge.subnets.is_empty() {
                        bridge.subnets.push(skep_net::Subnet::new(
                            stack.free_subnet(&skep_net::AddressPool::defaults()).map_err(failed)?,
                        ));
                    }
                    stack.create_network(bridge.clone()).map_err(failed)?;
                    let network = StoredNetwork {
                        name: BRIDGE.to_owned(),
                        created: Utc::now(),
                        id: bridge.id,
                        bridge: Some(bridge),
                    };
                    storage.put_network(&network)?;
                    known.insert(BRIDGE.to_owned(), network);
                }
                (Some(stack), restored)
            }
        };
        if matches!(config.bridge, BridgeSettings::Disabled) {
            known.remove(BRIDGE);
        }
        let pool = Arc::new(NetnsPool::new(POOL));
        pool.refill().map_err(failed)?;
        Ok((Networks { stack, pool, known }, restored))
    }

    /// The network for containers that name none.
    pub(crate) fn default_name(&self) -> &'static str {
        if self.known.contains_key(BRIDGE) { BRIDGE } else { "none" }
    }

    /// A network's id and name, by name, id or a prefix of ids that fits only one.
    pub(crate) fn find(&self, text: &str) -> Result<(NetworkId, String)> {
        let network = self.stored(text)?;
        Ok((network.id, network.name.clone()))
    }

    fn stored(&self, text: &str) -> Result<&StoredNetwork> {
        let missing = || Error::NoSuchNetwork(text.to_owned());
        if let Some(network) = self.known.get(text) {
            return Ok(network);
        }
        if text.is_empty() || !text.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(missing());
        }
        let mut fitting = self.known.values().filter(|network| network.id.to_string().starts_with(text));
        match (fitting.next(), fitting.next()) {
            (Some(network), None) => Ok(network),
            (Some(_), Some(_)) => Err(Error::Invalid(format!("network {text} is ambiguous"))),
            (None, _) => Err(missing()),
        }
    }

    /// Fills the pool up again. Blocking; nobody waits for it.
    pub(crate) fn refill(&self) {
        if let Err(error) = self.pool.refill() {
            tracing::warn!(%error, "making network namespaces ahead");
        }
    }

    fn bridge_of(&self, name: &str) -> Option<&NetworkConfig> {
        self.known.get(name).and_then(|network| network.bridge.as_ref())
    }

    /// All networks, by name, with the running containers in them.
    pub(crate) fn views(&self, containers: &[Arc<ContainerView>]) -> Vec<NetworkView> {
        self.known.values().map(|network| view::view(network, containers)).collect()
    }

    pub(crate) fn view(&self, text: &str, containers: &[Arc<ContainerView>]) -> Result<NetworkView> {
        self.stored(text).map(|network| view::view(network, containers))
    }
}

fn random_id() -> NetworkId {
    NetworkId::from_bytes(crate::random::bytes())
}
