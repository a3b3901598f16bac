//! Making and removing networks: each whole or not at all.

use std::sync::Arc;

use chrono::Utc;
use ipnet::IpNet;
use skep_net::{LinkConfig, NetError, NetworkConfig, Subnet};
use skep_store::crash_point;
use skep_types::NetworkId;

use super::check::{self, Driver};
use super::store::Settings;
use super::{Networks, StoredNetwork, options, random_id, words};
use crate::engine::Inner;
use crate::model::network::CreateNetwork;
use crate::{Error, Result};

impl Networks {
    /// Makes a network. Blocking.
    pub(crate) fn create(&self, engine: &Inner, mut request: CreateNetwork) -> Result<Arc<StoredNetwork>> {
        let driver = check::kind(&request)?;
        check::references(&request)?;
        let _turn = self.turn.lock();
        if self.known.read().named(&request.name).is_some() {
            return Err(Error::Conflict(format!("network with name {} already exists", request.name)));
        }
        self.take_settings(&mut request)?;
        self.default_options(engine, driver, &mut request);
        let id = random_id();
        let settings = settings(driver, &request)?;
        let config = match request.config_only {
            true => check::subnets(&request.ipam).map(|_| None)?,
            false => Some(self.config(id, driver, &settings)?),
        };
        let network = StoredNetwork { name: request.name, created: Utc::now(), id, config, settings };
        engine.storage.put_network(&network)?;
        crash_point("network-stored");
        if let Some(config) = &network.config
            && let Err(error) =
                self.stack().and_then(|stack| stack.create_network(config.clone()).map_err(words::network))
        {
            engine.storage.delete_network(&network.name)?;
            return Err(error);
        }
        crash_point("network-made");
        let mut known = self.known.write();
        known.insert(network);
        known.networks.get(&id).cloned().ok_or_else(|| Error::NoSuchNetwork(id.to_string()))
    }

    /// Removes a network that no container is plugged into. Blocking.
    pub(crate) fn remove(&self, engine: &Inner, name: &str) -> Result<Arc<StoredNetwork>> {
        let _turn = self.turn.lock();
        let network = self.find(name)?;
        if network.is_predefined() {
            return Err(Error::Forbidden(format!("{} is a pre-defined network and cannot be removed", network.name)));
        }
        let is_user = |other: &&Arc<StoredNetwork>| other.settings.config_from == network.name;
        if network.settings.config_only && self.known.read().networks.values().any(|other| is_user(&other)) {
            return Err(Error::Forbidden(format!(
                "error while removing network: configuration network {:?} is in use",
                network.name
            )));
        }
        if network.config.is_some() {
            let stack = self.stack()?;
            let mut removed = stack.remove_network(&network.id);
            if matches!(removed, Err(NetError::NetworkBusy { .. })) && self.exits.wait(network.id) {
                removed = stack.remove_network(&network.id);
            }
            match removed {
                // One that could not be put in force when the engine came up.
                Ok(()) | Err(NetError::NoSuchNetwork(_)) => {}
                Err(NetError::NetworkBusy { .. }) => return Err(words::busy(engine, &network)),
                Err(error) => return Err(words::network(error)),
            }
        }
        crash_point("network-unmade");
        engine.storage.delete_network(&network.name)?;
        self.known.write().remove(network.id);
        Ok(network)
    }

    /// Fills in what another network says that holds settings only.
    fn take_settings(&self, request: &mut CreateNetwork) -> Result<()> {
        let Some(name) = &request.config_from else { return Ok(()) };
        let missing = || Error::NoSuchConfiguration(name.clone());
        let found = self.find(name).map_err(|_| missing())?;
        if !found.settings.config_only {
            return Err(missing());
        }
        let Settings { ipv4, ipv6, ipam, options, labels, .. } = found.settings.clone();
        request.config_from = Some(found.name.clone());
        (request.ipv4, request.ipv6) = (Some(ipv4), Some(ipv6));
        (request.ipam, request.options, request.labels) = (ipam, options, labels);
        Ok(())
    }

    /// Options that the daemon's configuration gives to all networks of a driver.
    fn default_options(&self, engine: &Inner, driver: Driver, request: &mut CreateNetwork) {
        let defaults = engine.config.default_network_options.get(driver.name());
        for (key, value) in defaults.into_iter().flatten().filter(|_| !request.config_only) {
            request.options.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }

    fn config(&self, id: NetworkId, driver: Driver, settings: &Settings) -> Result<NetworkConfig> {
        let link = options::link(driver, &settings.options, &id.to_string(), settings.internal)?;
        let managed = check::ipam_driver(&settings.ipam)?;
        let mut subnets = check::subnets(&settings.ipam)?;
        subnets.retain(|subnet| is_on(settings, subnet.subnet));
        for (on, v4) in [(settings.ipv4, true), (settings.ipv6, false)] {
            let count = subnets.iter().filter(|subnet| subnet.subnet.addr().is_ipv4() == v4).count();
            match count {
                0 if on && !managed && driver == Driver::Bridge => {
                    return Err(Error::Invalid(format!("ipv{} pool is empty", if v4 { 4 } else { 6 })));
                }
                0 if on && managed => subnets.push(self.free_subnet(v4)?),
                0 | 1 => {}
                _ if driver == Driver::Bridge => {
                    return Err(Error::Forbidden("bridge driver doesn't support multiple subnets".to_owned()));
                }
                _ => {}
            }
        }
        subnets.iter().try_for_each(reserved)?;
        if let LinkConfig::Macvlan { parent: Some(parent), .. } | LinkConfig::Ipvlan { parent: Some(parent), .. } =
            &link
            && parent == "lo"
        {
            return Err(Error::Invalid(format!("loopback interface is not a valid {} parent link", driver.name())));
        }
        let mtu = options::mtu(&settings.options)?;
        Ok(NetworkConfig { id, link, subnets, mtu, internal: settings.internal })
    }

    fn free_subnet(&self, v4: bool) -> Result<Subnet> {
        let stack = self.stack()?;
        let found = if v4 { stack.free_subnet(&self.pools) } else { stack.free_subnet6(&self.pools) };
        found.map(Subnet::new).map_err(words::network)
    }
}

impl Driver {
    /// Docker's word.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Driver::Bridge => "bridge",
            Driver::Macvlan => "macvlan",
            Driver::Ipvlan => "ipvlan",
        }
    }
}

fn settings(driver: Driver, request: &CreateNetwork) -> Result<Settings> {
    let (option4, option6) = options::families(&request.options)?;
    let ipv4 = request.ipv4.or(option4).unwrap_or(true);
    let ipv6 = request.ipv6.or(option6).unwrap_or(false);
    if !ipv4 && !ipv6 {
        return Err(Error::Invalid("IPv4 or IPv6 must be enabled".to_owned()));
    }
    let mut ipam = request.ipam.clone();
    if ipam.driver.is_empty() {
        ipam.driver = "default".to_owned();
    }
    Ok(Settings {
        driver: if request.config_only { "null" } else { driver.name() }.to_owned(),
        scope: "local".to_owned(),
        ipv4,
        ipv6,
        internal: request.internal,
        attachable: request.attachable,
        config_only: request.config_only,
        config_from: request.config_from.clone().unwrap_or_default(),
        ipam,
        options: request.options.clone(),
        labels: request.labels.clone(),
    })
}

fn is_on(settings: &Settings, net: IpNet) -> bool {
    match net {
        IpNet::V4(_) => settings.ipv4,
        IpNet::V6(_) => settings.ipv6,
    }
}

/// An address can't be kept back that somebody has already, and the gateway has none that means the whole subnet.
fn reserved(subnet: &Subnet) -> Result<()> {
    let gateway = subnet.gateway_address();
    if let IpNet::V4(net) = subnet.subnet
        && net.prefix_len() < 31
        && [net.network(), net.broadcast()].iter().any(|address| gateway == *address)
    {
        return Err(Error::Forbidden(format!("failed to allocate gateway ({gateway}): Address already in use")));
    }
    let mut taken = std::collections::BTreeSet::from([gateway]);
    for (name, address) in &subnet.reserved {
        if !taken.insert(*address) {
            return Err(Error::Forbidden(format!(
                "failed to allocate secondary ip address ({name}:{address}): Address already in use"
            )));
        }
    }
    Ok(())
}
