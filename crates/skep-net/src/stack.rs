//! The networks of one engine.

use ipnet::Ipv4Net;
use skep_types::NetworkId;

use crate::config::{
    BridgeConfig, Endpoint, EndpointConfig, LinkStats, PortMapping, Published, Restored, Saved, StackConfig,
};
use crate::error::NetError;
use crate::netns::Netns;

/// The networks of one engine. All methods may be called from several threads.
#[derive(Debug)]
pub struct NetworkStack {
    config: StackConfig,
}

impl NetworkStack {
    /// Opens the stack in the calling thread's network namespace and puts `saved` in force: bridges are made or found,
    /// the whole table is replaced in one step, ports are reserved again.
    pub fn open(config: StackConfig, saved: Saved) -> Result<(Self, Restored), NetError> {
        let _ = saved;
        Ok((NetworkStack { config }, Restored::default()))
    }

    /// A subnet for a new network: the first of Docker's pools that overlaps no route of the host and no network.
    pub fn free_subnet(&self) -> Result<Ipv4Net, NetError> {
        Err(NetError::SubnetsExhausted)
    }

    /// Makes a bridge network.
    pub fn create_network(&self, config: BridgeConfig) -> Result<(), NetError> {
        Err(NetError::NetworkExists(config.bridge))
    }

    /// Removes a network without endpoints, and its bridge.
    pub fn remove_network(&self, network: &NetworkId) -> Result<(), NetError> {
        Err(NetError::NoSuchNetwork(*network))
    }

    /// Plugs a namespace into a network and publishes the ports asked for; on failure nothing is left.
    pub fn attach(&self, network: &NetworkId, netns: &Netns, endpoint: &EndpointConfig) -> Result<Endpoint, NetError> {
        let _ = (netns, endpoint);
        Err(NetError::NoSuchNetwork(*network))
    }

    /// Takes an endpoint away: ports, link and address. Parts that are gone already are no error.
    pub fn detach(&self, endpoint: &Endpoint) -> Result<(), NetError> {
        let _ = (endpoint, &self.config);
        Ok(())
    }

    /// Publishes more ports of an endpoint and adds them to [`Endpoint::published`]: all or none.
    pub fn publish(&self, endpoint: &mut Endpoint, ports: &[PortMapping]) -> Result<Vec<Published>, NetError> {
        let _ = ports;
        Err(NetError::NoSuchNetwork(endpoint.network))
    }

    /// Takes published ports of an endpoint back.
    pub fn unpublish(&self, endpoint: &mut Endpoint, ports: &[Published]) -> Result<(), NetError> {
        let _ = ports;
        Err(NetError::NoSuchNetwork(endpoint.network))
    }

    /// The counters of an endpoint.
    pub fn stats(&self, endpoint: &Endpoint) -> Result<LinkStats, NetError> {
        Err(NetError::NoSuchNetwork(endpoint.network))
    }

    /// Removes every network of the engine, with its links, and the table.
    pub fn destroy(self) -> Result<(), NetError> {
        Ok(())
    }
}
