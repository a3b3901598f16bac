//! Which networks there are and which container is plugged into which. The kernel's side is skep-net's.
//!
//! Three networks are always there: `bridge` (unless it is switched off), `host` and `none`. A namespace belongs to the
//! process in it: it is held by descriptors only, so whatever dies, nothing stays behind.
//!
//! | file | owns |
//! |---|---|
//! | `store` | the stored form; the default bridge as the settings want it |
//! | `create` | making and removing networks, each whole or not at all |
//! | `check`, `options` | what is asked for, in Docker's words where it can't be |
//! | `endpoint` | what a container asks of a network |
//! | `plug` | a container's namespace and what is plugged into it |
//! | `route` | in which order, and which of its networks has the default routes and the ports |
//! | `ports`, `republish` | which ports are published where, and how that changes while a container runs |
//! | `leaving` | who is on the way out while its links are still deleted |
//! | `members` | who is in which network now |
//! | `names` | what containers are told about names |
//! | `view` | networks as they are shown |
//!
//! A row is stored before the kernel hears of a network, and deleted after the kernel has forgotten it: what an engine that
//! was killed leaves is finished by the next one, which puts in force what is stored and nothing else.

mod check;
mod create;
mod endpoint;
mod explain;
mod leaving;
mod members;
mod names;
mod options;
mod plug;
mod ports;
mod rate;
mod republish;
mod resolver;
mod route;
mod store;
mod view;
mod words;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use skep_net::{
    AddressPool, ForwardPolicy, HostFirewall, NetError, NetnsPool, NetworkConfig, NetworkStack, Restored, Saved,
    StackConfig, Subnet,
};
use skep_types::NetworkId;

use crate::config::{BridgeSettings, EngineConfig};
use crate::model::network::NetworkView;
use crate::model::view::ContainerView;
use crate::storage::Storage;
use crate::{Error, Result};

pub(crate) use endpoint::{Context, check as check_endpoint, names as endpoint_names};
pub(crate) use leaving::Leaving;
pub(crate) use members::{announce, remember};
pub(crate) use names::{refresh, take_over as take_over_names};
pub(crate) use plug::{Plug, StepNetwork, ToPlug, addresses, describe, of_process, sandbox};
pub(crate) use ports::bound as port_mappings;
pub(crate) use rate::named as rates;
pub(crate) use resolver::{client_file, resolv_conf_of_step, write as write_resolver};
pub(crate) use store::StoredNetwork;

/// Namespaces kept ready.
const POOL: usize = 4;
/// The key under which the default bridge is stored.
const BRIDGE: &str = "bridge";

pub(crate) struct Networks {
    /// Set up when the first network needs it: an engine without a bridge asks nothing of the kernel but namespaces.
    stack: OnceLock<NetworkStack>,
    /// Where subnets are cut from that nobody named.
    pools: Vec<AddressPool>,
    host_firewall: HostFirewall,
    /// The name of the firewall table.
    table: String,
    pool: Arc<NetnsPool>,
    known: RwLock<Known>,
    members: Mutex<members::Members>,
    exits: Arc<leaving::Exits>,
    /// One network is made or removed at a time.
    turn: Mutex<()>,
    /// Files of names are written one at a time, each from the newest state.
    writing: Mutex<names::Files>,
}

#[derive(Default)]
struct Known {
    networks: BTreeMap<NetworkId, Arc<StoredNetwork>>,
    ids: BTreeMap<String, NetworkId>,
}

impl Known {
    fn insert(&mut self, network: StoredNetwork) {
        self.ids.insert(network.name.clone(), network.id);
        self.networks.insert(network.id, Arc::new(network));
    }

    fn remove(&mut self, id: NetworkId) {
        if let Some(network) = self.networks.remove(&id) {
            self.ids.remove(&network.name);
        }
    }

    fn named(&self, name: &str) -> Option<&Arc<StoredNetwork>> {
        self.ids.get(name).and_then(|id| self.networks.get(id))
    }
}

impl Networks {
    /// Opens the stack, makes the default bridge, and takes over what running containers have. Blocking.
    pub(crate) fn open(
        config: &EngineConfig,
        storage: &Storage,
        endpoints: Vec<skep_net::Endpoint>,
    ) -> Result<(Self, Restored)> {
        let failed = |e: NetError| Error::system("setting up the network", e);
        let mut known = Known::default();
        for network in storage.networks()? {
            known.insert(network);
        }
        for name in ["host", "none"] {
            if known.named(name).is_none() {
                let network = StoredNetwork::predefined(name, None);
                storage.put_network(&network)?;
                known.insert(network);
            }
        }
        let stored = known.named(BRIDGE).and_then(|network| network.config.clone());
        let wanted = store::wanted_bridge(config, stored.as_ref());
        let lacks6 = store::wants_ipv6(config) && wanted.as_ref().is_some_and(|wanted| wanted.subnet6().is_none());
        let keeps_bridge = stored.is_some() && stored == wanted && !lacks6;
        let others = known.networks.values().filter(|network| network.name != BRIDGE);
        let mut saved = Saved { networks: others.filter_map(|network| network.config.clone()).collect(), endpoints };
        saved.networks.extend(stored.filter(|_| keeps_bridge));
        let pool = Arc::new(NetnsPool::new(POOL));
        let networks = Networks {
            stack: OnceLock::new(),
            pools: AddressPool::in_force(&config.address_pools, &storage.engine_id()?),
            host_firewall: config.host_firewall,
            table: table(config, storage)?,
            pool,
            known: RwLock::new(known),
            members: Mutex::default(),
            exits: Arc::default(),
            turn: Mutex::new(()),
            writing: Mutex::new(names::Files::Inherited),
        };
        let mut restored = Restored::default();
        if wanted.is_some() || !saved.networks.is_empty() {
            restored = networks.set_up(saved).map_err(failed)?;
        }
        match wanted {
            None => networks.forget(BRIDGE),
            Some(_) if keeps_bridge => {}
            Some(bridge) => networks.make_default_bridge(bridge, lacks6, storage)?,
        }
        networks.pool.refill().map_err(failed)?;
        Ok((networks, restored))
    }

    fn make_default_bridge(&self, mut bridge: NetworkConfig, lacks6: bool, storage: &Storage) -> Result<()> {
        let failed = |e: NetError| Error::system("setting up the default bridge", e);
        let stack = self.stack()?;
        if bridge.subnet4().is_none() {
            bridge.subnets.insert(0, Subnet::new(stack.free_subnet(&self.pools).map_err(failed)?));
        }
        if lacks6 {
            bridge.subnets.push(Subnet::new(stack.free_subnet6(&self.pools).map_err(failed)?));
        }
        stack.create_network(bridge.clone()).map_err(failed)?;
        let network = StoredNetwork::predefined(BRIDGE, Some(bridge));
        storage.put_network(&network)?;
        self.known.write().insert(network);
        Ok(())
    }

    fn forget(&self, name: &str) {
        let mut known = self.known.write();
        if let Some(id) = known.ids.get(name).copied() {
            known.remove(id);
        }
    }

    fn set_up(&self, saved: Saved) -> std::result::Result<Restored, NetError> {
        let config =
            StackConfig { table: self.table.clone(), forward: ForwardPolicy::Leave, host_firewall: self.host_firewall };
        let (stack, restored) = NetworkStack::open(config, saved)?;
        // Whoever calls has the turn, or is the only one that knows of this yet.
        let _ = self.stack.set(stack);
        Ok(restored)
    }

    /// The kernel's side of all networks; set up now if no network needed it so far. The caller has the turn.
    fn stack(&self) -> Result<&NetworkStack> {
        if self.stack.get().is_none() {
            self.set_up(Saved::default()).map_err(|e| Error::system("setting up the network", e))?;
        }
        self.stack.get().ok_or_else(|| Error::Invalid("the network is not set up".to_owned()))
    }

    /// The network for containers that name none.
    pub(crate) fn default_name(&self) -> &'static str {
        if self.known.read().named(BRIDGE).is_some() { BRIDGE } else { "none" }
    }

    /// A network, by name, id or a prefix of ids that fits only one.
    pub(crate) fn find(&self, text: &str) -> Result<Arc<StoredNetwork>> {
        let missing = || Error::NoSuchNetwork(text.to_owned());
        let known = self.known.read();
        if let Some(network) = known.named(text) {
            return Ok(network.clone());
        }
        if text.is_empty() || !text.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(missing());
        }
        let mut fitting = known.networks.values().filter(|network| network.id.to_string().starts_with(text));
        match (fitting.next(), fitting.next()) {
            (Some(network), None) => Ok(network.clone()),
            (Some(_), Some(_)) => Err(Error::Invalid(format!("network {text} is ambiguous"))),
            (None, _) => Err(missing()),
        }
    }

    /// The network that a container's record means: the one of that id, or one that was made anew under the name.
    pub(crate) fn of_endpoint(&self, name: &str, id: NetworkId) -> Result<Arc<StoredNetwork>> {
        let known = self.known.read();
        let found = known.networks.get(&id).or_else(|| known.named(name)).cloned();
        found.ok_or_else(|| Error::NoSuchNetwork(name.to_owned()))
    }

    /// Fills the pool up again. Blocking; nobody waits for it.
    pub(crate) fn refill(&self) {
        if let Err(error) = self.pool.refill() {
            tracing::warn!(%error, "making network namespaces ahead");
        }
    }

    /// The kernel's settings of the default bridge.
    fn default_bridge(&self) -> Option<NetworkConfig> {
        self.known.read().named(BRIDGE).and_then(|network| network.config.clone())
    }

    /// All networks, by name, with the running containers in them.
    pub(crate) fn views(&self, containers: &[Arc<ContainerView>]) -> Vec<NetworkView> {
        let known = self.known.read();
        known.ids.values().filter_map(|id| known.networks.get(id)).map(|one| view::view(one, containers)).collect()
    }

    pub(crate) fn view(&self, text: &str, containers: &[Arc<ContainerView>]) -> Result<NetworkView> {
        self.find(text).map(|network| view::view(&network, containers))
    }
}

/// The firewall table is named after the default bridge, which no two engines of a host share.
fn table(config: &EngineConfig, storage: &Storage) -> Result<String> {
    match &config.bridge {
        BridgeSettings::Managed { link, .. } => Ok(link.clone()),
        BridgeSettings::Disabled => {
            let id = storage.engine_id()?;
            Ok(format!("skep-{}", id.chars().take(8).collect::<String>()))
        }
    }
}

fn random_id() -> NetworkId {
    NetworkId::from_bytes(crate::random::bytes())
}
