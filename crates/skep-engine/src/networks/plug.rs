//! A container's place in its networks: its namespace, and what is plugged into it, at its start and while it runs.

use std::fs::File;
use std::os::fd::OwnedFd;

use skep_net::{EndpointConfig, MacAddr, NetError, Netns};
use skep_types::{ContainerId, NetworkId};

use super::route::{Gateways, Leg, gateways};
use super::{Leaving, Networks, endpoint, ports, random_id, rate, words};
use crate::containers::record::Record;
use crate::engine::Inner;
use crate::model::network::{Attached, NetworkMode};
use crate::{Error, Result};

/// A container's place in one network.
#[derive(Clone)]
pub(crate) struct Plug {
    /// The network's name.
    pub(crate) network: String,
    /// 64 random digits that name this attachment.
    pub(super) id: String,
    pub(crate) endpoint: skep_net::Endpoint,
}

/// What of a container is plugged into its networks.
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
    /// As it is stored and shown.
    fn attached(&self) -> Attached {
        let own = &self.endpoint;
        Attached {
            endpoint_id: self.id.clone(),
            address: own.address.map(|(address, _)| address),
            prefix: own.address.map_or(0, |(_, prefix)| prefix),
            gateway: own.gateway,
            address6: own.address6,
            gateway6: own.gateway6,
            mac: own.mac.to_string(),
            host_link: own.host_link.clone().unwrap_or_default(),
        }
    }
}

/// Writes addresses and ports of a container that runs into what is stored and shown.
pub(crate) fn describe(plugs: &[Plug], record: &mut Record) {
    for (name, endpoint) in &mut record.endpoints {
        endpoint.attached = match (plugs.iter().find(|plug| plug.network == *name), endpoint.attached.take()) {
            (Some(plug), _) => Some(plug.attached()),
            // In `host` and `none` there is nothing but the fact.
            (None, Some(before)) => Some(before),
            (None, None) => Some(Attached { endpoint_id: random_id().to_string(), ..Attached::default() }),
        };
    }
    record.nets = plugs.iter().map(|plug| plug.endpoint.clone()).collect();
    record.ports = ports::published(plugs);
}

/// All addresses of a container, in the order of its networks.
pub(crate) fn addresses(plugs: &[Plug]) -> Vec<std::net::IpAddr> {
    plugs.iter().flat_map(|plug| plug.endpoint.addresses()).collect()
}

/// A name for the network sandbox of one run.
pub(crate) fn sandbox() -> String {
    random_id().to_string()
}

impl Networks {
    /// The namespace a container joins (none for the host's, and for one that it makes itself), and what is to be plugged in.
    pub(crate) fn namespace(&self, engine: &Inner, record: &Record) -> Result<(Option<OwnedFd>, ToPlug)> {
        let plugged = !self.legs(record)?.is_empty();
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

    /// Plugs a namespace into all networks of the container and publishes its ports: all or nothing. Blocking.
    pub(crate) fn plug(&self, engine: &Inner, record: &Record, netns: &Netns) -> Result<Vec<Plug>> {
        let legs = self.legs(record)?;
        let ways = gateways(legs.iter().map(|leg| &leg.config));
        let mut plugs: Vec<Plug> = Vec::new();
        for (index, leg) in legs.iter().enumerate() {
            let attached = wish(record, leg, &legs, &plugs, ways.of(index))
                .and_then(|wish| self.attach(engine, record, leg.config.id, netns, &wish));
            match attached {
                Ok(endpoint) => plugs.push(Plug::new(&leg.network.name, endpoint)),
                Err(error) => {
                    self.unplug_all(&plugs)?;
                    return Err(error);
                }
            }
        }
        Ok(plugs)
    }

    /// Plugs a namespace into one network. An address whose last user is on the way out is waited for.
    fn attach(
        &self,
        engine: &Inner,
        record: &Record,
        network: NetworkId,
        netns: &Netns,
        wish: &EndpointConfig,
    ) -> Result<skep_net::Endpoint> {
        let stack = self.stack()?;
        let mut attached = stack.attach(&network, netns, wish);
        if matches!(attached, Err(NetError::AddressInUse(_))) && self.exits.wait(network) {
            attached = stack.attach(&network, netns, wish);
        }
        attached.map_err(|error| words::plug(engine, record, error))
    }

    /// Plugs a running container into one more of its networks. Default routes and ports go there if that is where they belong
    /// now. Blocking.
    pub(crate) fn plug_more(
        &self,
        engine: &Inner,
        record: &Record,
        netns: &Netns,
        name: &str,
        plugs: &mut Vec<Plug>,
    ) -> Result<()> {
        let legs = self.legs(record)?;
        let Some(index) = legs.iter().position(|leg| leg.network.name == name) else { return Ok(()) };
        let old = gateways(legs.iter().filter(|leg| leg.network.name != name).map(|leg| &leg.config));
        let ways = gateways(legs.iter().map(|leg| &leg.config));
        let mut wish = wish(record, &legs[index], &legs, plugs, ways.of(index))?;
        if old != Gateways::default() {
            wish.ports.clear();
        }
        plugs.push(Plug::new(name, self.attach(engine, record, legs[index].config.id, netns, &wish)?));
        let moved = self.lead_ways(engine, record, netns, plugs, None);
        if moved.is_err()
            && let Some(plug) = plugs.pop()
        {
            self.unplug_one(netns, &plug)?;
        }
        moved
    }

    /// Leads default routes and ports of a running container where they belong; a network that it is `leaving` is still plugged
    /// in. Ports go from wherever they are now; on failure they are there again. Blocking.
    pub(crate) fn lead_ways(
        &self,
        engine: &Inner,
        record: &Record,
        netns: &Netns,
        plugs: &mut [Plug],
        leaving: Option<&str>,
    ) -> Result<()> {
        let legs = self.legs(record)?;
        let staying: Vec<&Leg> = legs.iter().filter(|leg| Some(leg.network.name.as_str()) != leaving).collect();
        let ways = gateways(staying.iter().map(|leg| &leg.config));
        let name = |index: Option<usize>| index.map(|index| staying[index].network.name.as_str());
        let stack = self.stack()?;
        for (way, v4) in [(name(ways.v4), true), (name(ways.v6), false)] {
            let Some(to) = way.and_then(|name| plugs.iter().position(|plug| plug.network == name)) else { continue };
            for from in (0..plugs.len()).filter(|from| *from != to) {
                let all = plugs[from].endpoint.published.iter().copied();
                let leaving_ports: Vec<_> = all.filter(|port| port.container_ip.is_ipv4() == v4).collect();
                if leaving_ports.is_empty() {
                    continue;
                }
                let again = ports::again(&leaving_ports);
                stack.unpublish(&mut plugs[from].endpoint, &leaving_ports).map_err(Error::Network)?;
                if let Err(error) = stack.publish(&mut plugs[to].endpoint, &again) {
                    stack.publish(&mut plugs[from].endpoint, &again).map_err(Error::Network)?;
                    return Err(words::plug(engine, record, error));
                }
            }
            let families = skep_net::Families { v4, v6: !v4 };
            stack.set_default_routes(netns, &plugs[to].endpoint, families).map_err(Error::Network)?;
        }
        Ok(())
    }

    /// A namespace for a step of a build, plugged into the default bridge if there is one. Blocking.
    pub(crate) fn plug_step(&self) -> Result<StepNetwork> {
        let netns = self.pool.take().map_err(|e| Error::system("taking a network namespace", e))?;
        self.plug_step_of(netns)
    }

    /// As [`Networks::plug_step`], with a namespace that is there.
    pub(crate) fn plug_step_of(&self, netns: Netns) -> Result<StepNetwork> {
        let failed = |e| Error::system("plugging a step of a build into the network", e);
        let endpoint = match self.default_bridge() {
            Some(bridge) => {
                let config = EndpointConfig::new(ContainerId::from_bytes(crate::random::bytes()));
                Some(self.stack()?.attach(&bridge.id, &netns, &config).map_err(failed)?)
            }
            None => None,
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
        let Some(endpoint) = &network.endpoint else { return Ok(()) };
        self.stack()?.detach(endpoint).map_err(|e| Error::system("unplugging a step of a build", e))
    }

    /// Takes over the attachments of a container that an earlier daemon started.
    pub(crate) fn adopt(&self, record: &Record) -> Vec<Plug> {
        let known = self.known.read();
        let one = |endpoint: &skep_net::Endpoint| {
            let network = known.networks.get(&endpoint.network)?.name.clone();
            let id = record.endpoints.get(&network)?.attached.as_ref()?.endpoint_id.clone();
            Some(Plug { network, id, endpoint: endpoint.clone() })
        };
        record.nets.iter().filter_map(one).collect()
    }

    /// Gives the published ports back, which is quick: others may want them at once. Blocking.
    pub(crate) fn unpublish_all(&self, plugs: &mut [Plug]) -> Result<()> {
        let mut first = Ok(());
        for plug in plugs.iter_mut().filter(|plug| !plug.endpoint.published.is_empty()) {
            let ports = plug.endpoint.published.clone();
            let done = self.stack()?.unpublish(&mut plug.endpoint, &ports).map_err(|e| {
                Error::system(format!("unpublishing the ports of container {}", plug.endpoint.container), e)
            });
            first = first.and(done);
        }
        first
    }

    /// Tells that a container is about to be unplugged: until what comes back is dropped, the removal of its networks waits.
    pub(crate) fn leave(&self, plugs: &[Plug]) -> Leaving {
        self.exits.begin(plugs)
    }

    /// Unplugs a container that goes on from one network. The kernel takes some 20 ms to delete a link. Blocking.
    pub(crate) fn unplug_one(&self, netns: &Netns, plug: &Plug) -> Result<()> {
        self.stack()?
            .detach_from(netns, &plug.endpoint)
            .map_err(|e| Error::system(format!("unplugging container {}", plug.endpoint.container), e))
    }

    /// Unplugs, and unpublishes what still is; goes on after an error and returns the first. The kernel takes some 20 ms to
    /// delete a link. Blocking.
    pub(crate) fn unplug_all(&self, plugs: &[Plug]) -> Result<()> {
        let mut first = Ok(());
        for plug in plugs {
            let done = self
                .stack()?
                .detach(&plug.endpoint)
                .map_err(|e| Error::system(format!("unplugging container {}", plug.endpoint.container), e));
            first = first.and(done);
        }
        first
    }
}

impl Plug {
    fn new(network: &str, endpoint: skep_net::Endpoint) -> Self {
        Plug { network: network.to_owned(), id: random_id().to_string(), endpoint }
    }
}

/// What a container asks of one of its networks; `legs` are all of them, `plugs` those that it is plugged into already.
fn wish(
    record: &Record,
    leg: &Leg,
    legs: &[Leg],
    plugs: &[Plug],
    (v4, v6, split): (bool, bool, bool),
) -> Result<EndpointConfig> {
    let settings = &leg.settings;
    let mut config = EndpointConfig::new(record.id);
    config.ifname = ifname(leg, legs, plugs);
    config.address = settings.ipv4_address.filter(|address| !address.is_unspecified());
    config.address6 = settings.ipv6_address.filter(|address| !address.is_unspecified());
    config.link_local.clone_from(&settings.link_local);
    config.mac = match settings.mac_address.as_deref() {
        Some(text) if !text.is_empty() => Some(text.parse::<MacAddr>().map_err(|e| Error::Invalid(e.to_string()))?),
        _ => None,
    };
    (config.default_route, config.default_route6) = (v4, v6);
    config.rate = rate::of_endpoint(record.rate, &settings.driver_options).map_err(Error::Invalid)?;
    config.sysctls = endpoint::sysctls(&settings.driver_options).map_err(Error::Invalid)?;
    config.ports = ports::of_families(&ports::mappings(record)?, v4, v6, split);
    Ok(config)
}

/// The interface's name: as it was said, or the first number that nobody has.
fn ifname(leg: &Leg, legs: &[Leg], plugs: &[Plug]) -> String {
    if let Some(name) = endpoint::ifname(&leg.settings.driver_options) {
        return name.to_owned();
    }
    let prefix = leg.config.as_bridge().and_then(|bridge| bridge.ifname_prefix.as_deref()).unwrap_or("eth");
    let taken = |name: &str| {
        plugs.iter().any(|plug| plug.endpoint.ifname == name)
            || legs.iter().any(|leg| endpoint::ifname(&leg.settings.driver_options) == Some(name))
    };
    (0u32..).map(|number| format!("{prefix}{number}")).find(|name| !taken(name)).unwrap_or_default()
}

impl Gateways {
    /// Whether the network at this place is the way out for IPv4 and for IPv6, and whether these are two networks.
    pub(super) fn of(self, index: usize) -> (bool, bool, bool) {
        let split = self.v4.is_some() && self.v6.is_some() && self.v4 != self.v6;
        (self.v4 == Some(index), self.v6 == Some(index), split)
    }
}
