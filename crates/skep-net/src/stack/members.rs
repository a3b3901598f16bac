//! A network in memory: its addresses and who is plugged in.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use skep_types::ContainerId;

use crate::config::{Endpoint, EndpointConfig};
use crate::error::NetError;
use crate::ipam::Pool;
use crate::mac::MacAddr;
use crate::network::{GatewayMode, NetworkConfig, Subnet};
use crate::{bridge, rate};

#[derive(Debug)]
pub(super) struct Network {
    pub(super) config: NetworkConfig,
    /// Index of the bridge or the parent.
    pub(super) index: u32,
    /// One per subnet, in their order.
    pools: Vec<Pool>,
    pub(super) endpoints: BTreeSet<(ContainerId, String)>,
    /// Loopback addresses may leave through the bridge.
    pub(super) loopback: bool,
    /// The same of IPv6.
    pub(super) loopback6: bool,
}

/// An address drawn from a subnet.
struct Drawn<'a> {
    address: IpAddr,
    subnet: &'a Subnet,
}

impl Network {
    pub(super) fn new(config: NetworkConfig, index: u32) -> Self {
        let pools = config.subnets.iter().map(Pool::of).collect();
        Network { config, index, pools, endpoints: BTreeSet::new(), loopback: false, loopback6: false }
    }

    /// Takes the addresses that an endpoint wishes, or the next free ones: all or none.
    pub(super) fn draw(&mut self, wish: &EndpointConfig) -> Result<Endpoint, NetError> {
        let (id, container) = (self.config.id, wish.container);
        let key = (container, wish.ifname.clone());
        if self.endpoints.contains(&key) {
            return Err(NetError::NetworkExists(format!("endpoint of container {container} in network {id}")));
        }
        rate::check(self.config.as_bridge().is_some(), wish.rate)?;
        let v4 = draw(&self.config, &mut self.pools, wish.address.map(IpAddr::V4), Family::V4)?;
        let v6 = match draw(&self.config, &mut self.pools, wish.address6.map(IpAddr::V6), Family::V6) {
            Ok(drawn) => drawn,
            Err(e) => {
                let taken = v4.map(|drawn| drawn.address);
                taken.into_iter().for_each(|address| release(&mut self.pools, address));
                return Err(e);
            }
        };
        let address = v4.as_ref().and_then(Drawn::v4);
        let mac = address.map(|(ip, _)| MacAddr::for_ip(ip));
        let endpoint = Endpoint {
            network: id,
            container,
            ifname: wish.ifname.clone(),
            host_link: self.config.as_bridge().map(|_| bridge::host_link(&id, &container)),
            mac: wish.mac.or(mac).unwrap_or_else(|| bridge::hashed_mac(&id, &container)),
            address,
            gateway: v4.as_ref().and_then(|drawn| gateway(&self.config, drawn)).and_then(ipv4),
            address6: v6.as_ref().and_then(Drawn::v6),
            gateway6: v6.as_ref().and_then(|drawn| gateway(&self.config, drawn)).and_then(ipv6),
            link_local: wish.link_local.clone(),
            rate: wish.rate,
            published: Vec::new(),
        };
        self.endpoints.insert(key);
        Ok(endpoint)
    }

    /// Takes the addresses of an endpoint that was there before the engine was restarted. Those that it shares with another
    /// one stay shared: it is what is in force.
    pub(super) fn restore(&mut self, endpoint: &Endpoint) {
        for address in endpoint.addresses() {
            if let Some(pool) = self.pools.iter_mut().find(|pool| pool.contains(address)) {
                let _ = pool.allocate(Some(address));
            }
        }
        self.endpoints.insert((endpoint.container, endpoint.ifname.clone()));
    }

    /// Gives the addresses of an endpoint back, unless that was done before.
    pub(super) fn release(&mut self, endpoint: &Endpoint) {
        if self.endpoints.remove(&(endpoint.container, endpoint.ifname.clone())) {
            endpoint.addresses().for_each(|address| release(&mut self.pools, address));
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

impl Drawn<'_> {
    fn v4(&self) -> Option<(Ipv4Addr, u8)> {
        ipv4(self.address).map(|ip| (ip, self.subnet.subnet.prefix_len()))
    }

    fn v6(&self) -> Option<(Ipv6Addr, u8)> {
        ipv6(self.address).map(|ip| (ip, self.subnet.subnet.prefix_len()))
    }
}

/// An address of one family, from the first subnet that has it; `None` if the network has no such family.
fn draw<'a>(
    config: &'a NetworkConfig,
    pools: &mut [Pool],
    wish: Option<IpAddr>,
    family: Family,
) -> Result<Option<Drawn<'a>>, NetError> {
    let mut pools: Vec<(&Subnet, &mut Pool)> =
        config.subnets.iter().zip(pools).filter(|(s, _)| Family::of(s.subnet.addr()) == family).collect();
    let all = || config.subnets.iter().map(|s| s.subnet).filter(|net| Family::of(net.addr()) == family);
    let list = || all().map(|net| net.to_string()).collect::<Vec<_>>().join(", ");
    if let Some(address) = wish {
        let Some((subnet, pool)) = pools.iter_mut().find(|(_, pool)| pool.contains(address)) else {
            return Err(NetError::AddressOutside { address, subnet: list() });
        };
        return pool.allocate(Some(address)).map(|address| Some(Drawn { address, subnet }));
    }
    let mut exhausted = None;
    for (subnet, pool) in pools {
        match pool.allocate(None) {
            Ok(address) => return Ok(Some(Drawn { address, subnet })),
            Err(e) => exhausted = Some(e),
        }
    }
    match exhausted {
        None => Ok(None),
        Some(NetError::AddressesExhausted { family, .. }) => {
            Err(NetError::AddressesExhausted { family, pools: list() })
        }
        Some(e) => Err(e),
    }
}

fn release(pools: &mut [Pool], address: IpAddr) {
    if let Some(pool) = pools.iter_mut().find(|pool| pool.contains(address)) {
        pool.release(address);
    }
}

/// Where packets that leave the network go.
fn gateway(config: &NetworkConfig, drawn: &Drawn<'_>) -> Option<IpAddr> {
    let isolated = config.gateway_mode(drawn.address) == Some(GatewayMode::Isolated);
    (!config.internal && !isolated && !config.routes_into_device()).then(|| drawn.subnet.gateway_address())
}

fn ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}

fn ipv6(address: IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(ip) => Some(ip),
    }
}
