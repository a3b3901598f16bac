//! Which networks there are and which container is plugged into which. The kernel's side is skep-net's.
//!
//! Three networks are always there: `bridge` (unless it is switched off), `host` and `none`. A namespace belongs to the
//! process in it: it is held by descriptors only, so whatever dies, nothing stays behind.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use skep_net::resolv::{ResolvFor, ResolvOverrides};
use skep_net::{
    BridgeConfig, EndpointConfig, ForwardPolicy, HostPort, MacAddr, NetError, Netns, NetnsPool, NetworkStack,
    PortHolder, PortMapping, Restored, Saved, StackConfig,
};
use skep_types::{ContainerId, NetworkId, Port};

use crate::config::{BridgeSettings, EngineConfig};
use crate::containers::record::Record;
use crate::engine::Inner;
use crate::model::host::{HostConfig, PortBinding};
use crate::model::network::{Attached, Endpoint, IpamPool, NetworkMember, NetworkMode, NetworkView};
use crate::model::view::ContainerView;
use crate::storage::Storage;
use crate::{Error, Result, StartFailure};

/// Namespaces kept ready.
const POOL: usize = 4;
/// The key under which the default bridge is stored.
const BRIDGE: &str = "bridge";

/// A network in the database.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StoredNetwork {
    pub(crate) name: String,
    pub(crate) created: DateTime<Utc>,
    pub(crate) id: NetworkId,
    /// Absent for `host` and `none`, which need nothing of the kernel.
    pub(crate) bridge: Option<BridgeConfig>,
}

pub(crate) struct Networks {
    /// Absent when there is no bridge: then nothing is asked of the kernel but namespaces.
    stack: Option<NetworkStack>,
    pool: Arc<NetnsPool>,
    /// By name.
    known: BTreeMap<String, StoredNetwork>,
}

/// A container's place in the bridge network.
#[derive(Clone)]
pub(crate) struct Plug {
    network: String,
    /// 64 random digits that name this attachment.
    id: String,
    pub(crate) endpoint: skep_net::Endpoint,
}

/// What of a container is plugged into a network.
pub(crate) enum ToPlug {
    /// Nothing: it joins a namespace that exists, or has a network of its own alone.
    Nothing,
    /// A namespace that was made for it.
    Ready(Netns),
    /// The one that it makes for itself: that of a user namespace.
    Own,
}

/// The network of a step of a build.
pub(crate) struct StepNetwork {
    pub(crate) netns: Netns,
    endpoint: Option<skep_net::Endpoint>,
}

impl StepNetwork {
    /// Whether it is in a network that others are in.
    pub(crate) fn is_plugged(&self) -> bool {
        self.endpoint.is_some()
    }
}

/// The network namespace that a process made. Blocking.
pub(crate) fn of_process(pid: i32) -> Result<Netns> {
    let path = format!("/proc/{pid}/ns/net");
    let file = File::open(&path).map_err(|e| Error::system(format!("opening {path}"), e))?;
    Netns::open(file.into()).map_err(|e| Error::system(format!("entering {path}"), e))
}

impl Plug {
    /// The network sandbox's id: that of the attachment, as each start has its own sandbox.
    pub(crate) fn sandbox_id(&self) -> String {
        self.id.clone()
    }

    /// Writes addresses and ports into what is stored and shown.
    pub(crate) fn describe(
        &self,
        endpoints: &mut BTreeMap<String, Endpoint>,
        ports: &mut BTreeMap<Port, Vec<PortBinding>>,
    ) {
        let own = &self.endpoint;
        if let Some(endpoint) = endpoints.get_mut(&self.network) {
            endpoint.attached = Some(Attached {
                endpoint_id: self.id.clone(),
                address: own.address,
                prefix: own.prefix,
                gateway: own.gateway.unwrap_or(Ipv4Addr::UNSPECIFIED),
                mac: own.mac.to_string(),
                host_link: own.host_link.clone(),
            });
        }
        ports.clear();
        for published in &own.published {
            let protocol = match published.protocol {
                skep_net::Protocol::Tcp => skep_types::Protocol::Tcp,
                skep_net::Protocol::Udp => skep_types::Protocol::Udp,
                skep_net::Protocol::Sctp => skep_types::Protocol::Sctp,
            };
            let port = Port { number: published.container_port, protocol };
            let binding =
                PortBinding { host_ip: published.host_ip.to_string(), host_port: published.host_port.to_string() };
            let bindings = ports.entry(port).or_default();
            if !bindings.contains(&binding) {
                bindings.push(binding);
            }
        }
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
        let stored: Option<BridgeConfig> = known.get(BRIDGE).and_then(|network| network.bridge.clone());
        let wanted = wanted_bridge(config, stored.as_ref());
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
                let stack_config = StackConfig { table: bridge.bridge.clone(), forward: ForwardPolicy::Leave };
                let (stack, restored) = NetworkStack::open(stack_config, saved).map_err(failed)?;
                if !adopt {
                    if bridge.subnet.prefix_len() == 0 {
                        bridge.subnet = stack.free_subnet().map_err(failed)?;
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

    /// The namespace a container joins (none for the host's, and for one that it makes itself), and what is to be plugged in.
    pub(crate) fn namespace(&self, engine: &Inner, record: &Record) -> Result<(Option<OwnedFd>, ToPlug)> {
        let plugged = record.endpoints.keys().any(|name| self.bridge_of(name).is_some());
        match &record.host.network_mode {
            NetworkMode::Host => Ok((None, ToPlug::Nothing)),
            NetworkMode::Container(name) => {
                let other = engine.containers.find(name)?;
                let live = other.live().map_err(|_| {
                    Error::Conflict(format!("cannot join network of a non running container: {}", other.id))
                })?;
                let path = format!("/proc/{}/ns/net", live.pid);
                let file = File::open(&path).map_err(|e| Error::system(format!("opening {path}"), e))?;
                Ok((Some(file.into()), ToPlug::Nothing))
            }
            // Made here, it would belong to the host's user namespace, and the container's root would have no rights over it.
            _ if crate::userns::maps(&engine.config, &record.host).is_some() => {
                Ok((None, if plugged { ToPlug::Own } else { ToPlug::Nothing }))
            }
            NetworkMode::Default | NetworkMode::Bridge | NetworkMode::None | NetworkMode::Named(_) => {
                let netns = self.pool.take().map_err(|e| Error::system("taking a network namespace", e))?;
                let fd = netns.fd().try_clone_to_owned().map_err(|e| Error::system("duplicating a descriptor", e))?;
                Ok((Some(fd), if plugged { ToPlug::Ready(netns) } else { ToPlug::Nothing }))
            }
        }
    }

    /// Fills the pool up again. Blocking; nobody waits for it.
    pub(crate) fn refill(&self) {
        if let Err(error) = self.pool.refill() {
            tracing::warn!(%error, "making network namespaces ahead");
        }
    }

    fn bridge_of(&self, name: &str) -> Option<&BridgeConfig> {
        self.known.get(name).and_then(|network| network.bridge.as_ref())
    }

    /// Plugs a namespace into the container's network and publishes its ports. Blocking.
    pub(crate) fn plug(&self, engine: &Inner, record: &Record, netns: &Netns) -> Result<Option<Plug>> {
        let bridged =
            record.endpoints.iter().find_map(|(name, endpoint)| Some((name, endpoint, self.bridge_of(name)?)));
        let (Some(stack), Some((name, endpoint, bridge))) = (&self.stack, bridged) else { return Ok(None) };
        let mut config = EndpointConfig::new(record.id);
        config.address = endpoint.settings.ipv4_address;
        config.mac = match endpoint.settings.mac_address.as_deref() {
            Some(text) if !text.is_empty() => Some(text.parse::<MacAddr>().map_err(|e| Error::Invalid(e.to_string()))?),
            _ => None,
        };
        config.ports = port_mappings(record)?;
        let endpoint = stack.attach(&bridge.id, netns, &config).map_err(|error| plug_error(engine, record, error))?;
        Ok(Some(Plug { network: name.clone(), id: random_id().to_string(), endpoint }))
    }

    /// A namespace for a step of a build, plugged into the default bridge if there is one. Blocking.
    pub(crate) fn plug_step(&self) -> Result<StepNetwork> {
        let netns = self.pool.take().map_err(|e| Error::system("taking a network namespace", e))?;
        self.plug_step_of(netns)
    }

    /// As [`Networks::plug_step`], with a namespace that is there.
    pub(crate) fn plug_step_of(&self, netns: Netns) -> Result<StepNetwork> {
        let failed = |e| Error::system("plugging a step of a build into the network", e);
        let bridge = self.bridge_of(BRIDGE).map(|bridge| bridge.id);
        let endpoint = match (&self.stack, bridge) {
            (Some(stack), Some(bridge)) => {
                let config = EndpointConfig::new(ContainerId::from_bytes(crate::random::bytes()));
                Some(stack.attach(&bridge, &netns, &config).map_err(failed)?)
            }
            _ => None,
        };
        Ok(StepNetwork { netns, endpoint })
    }

    /// A namespace with nothing but its loopback device. Blocking.
    pub(crate) fn isolated_step(&self) -> Result<StepNetwork> {
        let netns = self.pool.take().map_err(|e| Error::system("taking a network namespace", e))?;
        Ok(StepNetwork { netns, endpoint: None })
    }

    /// Unplugs a step. The kernel takes some 20 ms to delete a link. Blocking.
    pub(crate) fn unplug_step(&self, network: StepNetwork) -> Result<()> {
        let (Some(stack), Some(endpoint)) = (&self.stack, &network.endpoint) else { return Ok(()) };
        stack.detach(endpoint).map_err(|e| Error::system("unplugging a step of a build", e))
    }

    /// Takes over the attachment of a container that an earlier daemon started.
    pub(crate) fn adopt(&self, record: &Record) -> Option<Plug> {
        let endpoint = record.net.clone()?;
        let network = self.known.values().find(|network| network.id == endpoint.network)?.name.clone();
        let id = record.endpoints.get(&network)?.attached.as_ref()?.endpoint_id.clone();
        Some(Plug { network, id, endpoint })
    }

    /// Gives the published ports back, which is quick: others may want them at once. Blocking.
    pub(crate) fn unpublish(&self, plug: &mut Plug) -> Result<()> {
        let Some(stack) = &self.stack else { return Ok(()) };
        let ports = plug.endpoint.published.clone();
        stack
            .unpublish(&mut plug.endpoint, &ports)
            .map_err(|e| Error::system(format!("unpublishing the ports of container {}", plug.endpoint.container), e))
    }

    /// Unplugs, and unpublishes what still is. The kernel takes some 20 ms to delete a link. Blocking.
    pub(crate) fn unplug(&self, plug: &Plug) -> Result<()> {
        let Some(stack) = &self.stack else { return Ok(()) };
        stack
            .detach(&plug.endpoint)
            .map_err(|e| Error::system(format!("unplugging container {}", plug.endpoint.container), e))
    }

    /// The address of the host as containers see it (`host-gateway`).
    pub(crate) fn host_gateway(&self) -> Option<IpAddr> {
        self.bridge_of(BRIDGE).map(|bridge| IpAddr::V4(bridge.gateway_address()))
    }

    /// Text of /etc/resolv.conf.
    pub(crate) fn resolv_conf(&self, engine: &EngineConfig, host: &HostConfig) -> Result<String> {
        let pick = |own: &[String], default: &[String]| if own.is_empty() { default.to_vec() } else { own.to_vec() };
        let overrides = ResolvOverrides {
            servers: pick(&host.dns, &engine.dns),
            search: pick(&host.dns_search, &engine.dns_search),
            options: pick(&host.dns_options, &engine.dns_options),
        };
        let target = match host.network_mode {
            NetworkMode::Host => ResolvFor::HostNetwork,
            _ => ResolvFor::Bridge { ipv6: false },
        };
        skep_net::resolv::resolv_conf(target, &overrides).map_err(|e| Error::system("making resolv.conf", e))
    }

    /// All networks, by name, with the running containers in them.
    pub(crate) fn views(&self, containers: &[Arc<ContainerView>]) -> Vec<NetworkView> {
        self.known.values().map(|network| view(network, containers)).collect()
    }

    pub(crate) fn view(&self, text: &str, containers: &[Arc<ContainerView>]) -> Result<NetworkView> {
        self.stored(text).map(|network| view(network, containers))
    }
}

fn random_id() -> NetworkId {
    NetworkId::from_bytes(crate::random::bytes())
}

/// The default bridge as the settings want it. A subnet of length 0 stands for one that is still to be chosen; one that was
/// chosen before is kept.
fn wanted_bridge(config: &EngineConfig, stored: Option<&BridgeConfig>) -> Option<BridgeConfig> {
    let BridgeSettings::Managed { link, address, range, mtu, inter_container, masquerade, default_host_ip } =
        &config.bridge
    else {
        return None;
    };
    let id = stored.map_or_else(random_id, |bridge| bridge.id);
    let subnet = match (address, stored) {
        (Some((ip, prefix)), _) => ipnet::Ipv4Net::new(*ip, *prefix).ok()?.trunc(),
        (None, Some(bridge)) => bridge.subnet,
        (None, None) => ipnet::Ipv4Net::default(),
    };
    let mut bridge = BridgeConfig::new(id, link.clone(), subnet);
    bridge.gateway = match address {
        Some((ip, _)) => Some(*ip),
        None => stored.and_then(|bridge| bridge.gateway),
    };
    bridge.ip_range = range.and_then(|(ip, prefix)| ipnet::Ipv4Net::new(ip, prefix).ok());
    bridge.mtu = Some(*mtu);
    bridge.icc = *inter_container;
    bridge.masquerade = *masquerade;
    bridge.host_binding = (!default_host_ip.is_unspecified()).then_some(IpAddr::V4(*default_host_ip));
    Some(bridge)
}

/// What is to be published: the ports that the user bound, and with `-P` the exposed ones on any free port.
fn port_mappings(record: &Record) -> Result<Vec<PortMapping>> {
    let mut mappings = Vec::new();
    let protocol = |port: &Port| match port.protocol {
        skep_types::Protocol::Tcp => skep_net::Protocol::Tcp,
        skep_types::Protocol::Udp => skep_net::Protocol::Udp,
        skep_types::Protocol::Sctp => skep_net::Protocol::Sctp,
    };
    for (port, bindings) in &record.host.port_bindings {
        for binding in bindings {
            let host_ip = match binding.host_ip.as_str() {
                "" => None,
                text => Some(text.parse().map_err(|_| Error::Invalid(format!("invalid IP address: {text}")))?),
            };
            mappings.push(PortMapping {
                host_ip,
                host_port: host_port(&binding.host_port)?,
                container_port: port.number,
                protocol: protocol(port),
            });
        }
    }
    if record.host.publish_all_ports {
        let bound = |port: &&Port| record.host.port_bindings.get(port).is_some_and(|bindings| !bindings.is_empty());
        for port in record.config.exposed_ports.iter().filter(|port| !bound(port)) {
            mappings.push(PortMapping {
                host_ip: None,
                host_port: HostPort::Ephemeral,
                container_port: port.number,
                protocol: protocol(port),
            });
        }
    }
    Ok(mappings)
}

fn host_port(text: &str) -> Result<HostPort> {
    let invalid = || Error::Invalid(format!("invalid port specification: \"{text}\""));
    match text.split_once('-') {
        _ if text.is_empty() => Ok(HostPort::Ephemeral),
        Some((first, last)) => {
            Ok(HostPort::Range(first.parse().map_err(|_| invalid())?, last.parse().map_err(|_| invalid())?))
        }
        None => match text.parse().map_err(|_| invalid())? {
            0 => Ok(HostPort::Ephemeral),
            port => Ok(HostPort::Exact(port)),
        },
    }
}

/// Docker's words for what goes wrong while plugging in; who has a port is said in addition.
fn plug_error(engine: &Inner, record: &Record, error: NetError) -> Error {
    let prefix = format!(
        "failed to set up container networking: driver failed programming external connectivity on endpoint {}",
        record.name
    );
    match error {
        NetError::PortInUse { address, protocol, holder } => {
            let holder = match &holder {
                PortHolder::Container(id) => match engine.containers.get(*id) {
                    Some(handle) => format!("container \"{}\" ({})", handle.view().name, id.short()),
                    None => holder.to_string(),
                },
                PortHolder::Process { .. } | PortHolder::Unknown => holder.to_string(),
            };
            let why = match holder.starts_with("container") {
                true => format!("Bind for {address} failed: port is already allocated"),
                false => format!("failed to bind host port for {address}/{protocol}: address already in use"),
            };
            Error::Start { cause: StartFailure::PortInUse, message: format!("{prefix}: {why}: in use by {holder}") }
        }
        error @ (NetError::AddressInUse(_)
        | NetError::AddressOutside { .. }
        | NetError::Config(_)
        | NetError::PortRange(..)) => Error::Invalid(format!("{prefix}: {error}")),
        error => Error::Start { cause: StartFailure::Other, message: format!("{prefix}: {error}") },
    }
}

fn view(network: &StoredNetwork, containers: &[Arc<ContainerView>]) -> NetworkView {
    let members = containers.iter().filter_map(|container| {
        let attached = container.endpoints.get(&network.name).filter(|endpoint| endpoint.network == network.id)?;
        let running = container.status.running().is_some();
        let (endpoint_id, mac, ipv4) = match &attached.attached {
            Some(at) => (at.endpoint_id.clone(), at.mac.clone(), format!("{}/{}", at.address, at.prefix)),
            None => (String::new(), String::new(), String::new()),
        };
        running.then(|| (container.id, NetworkMember { name: container.name.to_string(), endpoint_id, mac, ipv4 }))
    });
    let mut options = BTreeMap::new();
    let mut ipam = Vec::new();
    if let Some(bridge) = &network.bridge {
        ipam.push(IpamPool { subnet: bridge.subnet.to_string(), gateway: bridge.gateway_address().to_string() });
        let option = |name: &str| format!("com.docker.network.{name}");
        options.insert(option("bridge.default_bridge"), (network.name == BRIDGE).to_string());
        options.insert(option("bridge.enable_icc"), bridge.icc.to_string());
        options.insert(option("bridge.enable_ip_masquerade"), bridge.masquerade.to_string());
        let host_ip = bridge.host_binding.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        options.insert(option("bridge.host_binding_ipv4"), host_ip.to_string());
        options.insert(option("bridge.name"), bridge.bridge.clone());
        options.insert(option("driver.mtu"), bridge.mtu.unwrap_or(1500).to_string());
    }
    NetworkView {
        id: network.id,
        name: network.name.clone(),
        created: network.created,
        driver: match network.name.as_str() {
            "host" => "host",
            "none" => "null",
            _ => "bridge",
        }
        .to_owned(),
        internal: network.bridge.as_ref().is_some_and(|bridge| bridge.internal),
        ipam,
        options,
        labels: BTreeMap::new(),
        containers: members.collect(),
    }
}
