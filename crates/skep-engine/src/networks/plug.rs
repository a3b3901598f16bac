//! A container's place in its networks: its namespace, and what is plugged into it.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use skep_net::{EndpointConfig, MacAddr, Netns};
use skep_types::{ContainerId, Port};

use super::{BRIDGE, Networks, ports, random_id, words};
use crate::containers::record::Record;
use crate::engine::Inner;
use crate::model::host::PortBinding;
use crate::model::network::{Attached, Endpoint, NetworkMode};
use crate::{Error, Result};

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
                address: own.address.map_or(Ipv4Addr::UNSPECIFIED, |(address, _)| address),
                prefix: own.address.map_or(0, |(_, prefix)| prefix),
                gateway: own.gateway.unwrap_or(Ipv4Addr::UNSPECIFIED),
                mac: own.mac.to_string(),
                host_link: own.host_link.clone().unwrap_or_default(),
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
            let host_port = if published.is_translated() { published.host_port.to_string() } else { String::new() };
            let binding = PortBinding { host_ip: published.host_ip.to_string(), host_port };
            let bindings = ports.entry(port).or_default();
            if !bindings.contains(&binding) {
                bindings.push(binding);
            }
        }
    }
}

impl Networks {
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
        config.ports = ports::port_mappings(record)?;
        let endpoint =
            stack.attach(&bridge.id, netns, &config).map_err(|error| words::plug_error(engine, record, error))?;
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
}
