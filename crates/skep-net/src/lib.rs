//! Container networks: bridges, veth pairs, addresses, NAT and published ports.
//!
//! Everything is synchronous and goes through netlink inside the process; the engine calls it from its blocking threads.
//! One [`NetworkStack`] belongs to one engine and owns
//!
//! - the bridges of its networks and the veth pairs plugged into them,
//! - one nftables table (family inet), whose sets and maps say who may reach what, and
//! - a bound socket per published port, so that no other program takes the port.
//!
//! It never touches a table, a link or an address that it did not make; only where the host's firewall is to be bypassed
//! it puts rules into the forward chains of others (`bypass`). What it keeps in memory can be rebuilt from the
//! [`NetworkConfig`]s and [`Endpoint`]s that the engine has stored ([`NetworkStack::open`]); dropping the stack leaves
//! links and rules in place, so containers stay reachable while no engine runs.
//!
//! ```text
//!  container's namespace          host's namespace
//!  eth0 172.17.0.2 ──── veth ──── vethXXXXXXXXXXX ┐
//!  eth0 172.17.0.3 ──── veth ──── vethYYYYYYYYYYY ┴ bridge 172.17.0.1 ── nftables ── uplink
//! ```
//!
//! Not here: names of networks and which container uses which (skep-engine), and names of containers (skep-dns).
#![warn(missing_docs)]

mod bridge;
mod bypass;
mod config;
mod conntrack;
mod endpoint;
mod error;
pub mod explain;
mod filter;
mod holder;
mod ipam;
mod mac;
mod monitor;
mod netlink;
mod netns;
mod network;
mod parent;
mod pools;
mod ports;
mod rate;
mod reaper;
mod stack;
mod stored;
mod sysctl;

pub use config::{
    Endpoint, EndpointConfig, Families, ForwardPolicy, HostFirewall, HostPort, LinkStats, PortMapping, Protocol,
    Published, Rate, Restored, Saved, StackConfig,
};
pub use error::{NetError, PortHolder};
pub use mac::{MacAddr, MacAddrError};
pub use netns::{Netns, NetnsPool};
pub use network::{BridgeLink, GatewayMode, IpvlanFlag, IpvlanMode, LinkConfig, MacvlanMode, NetworkConfig, Subnet};
pub use pools::AddressPool;
pub use rate::RateError;
pub use stack::NetworkStack;
