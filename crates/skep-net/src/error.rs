//! What can go wrong with networks.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use skep_types::{ContainerId, ErrorKind, NetworkId};

use crate::config::Protocol;

/// Who has a port that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortHolder {
    /// A container of this engine.
    Container(ContainerId),
    /// A process of the host.
    Process {
        /// Its process id.
        pid: u32,
        /// Its command name.
        name: String,
    },
    /// Nobody that could be found (a process of another pid namespace, or one that is gone again).
    Unknown,
}

impl fmt::Display for PortHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PortHolder::Container(id) => write!(f, "container {}", id.short()),
            PortHolder::Process { pid, name } => write!(f, "process {pid} ({name})"),
            PortHolder::Unknown => f.write_str("another program"),
        }
    }
}

/// A failed network operation.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The kernel refused a change of links, addresses or routes.
    #[error("{operation} {object}: {source}")]
    Link {
        /// What was tried.
        operation: &'static str,
        /// On what.
        object: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel refused a change of the packet filter.
    #[error("nftables: {operation} in table {table}: {source}")]
    Filter {
        /// What was tried.
        operation: &'static str,
        /// The engine's table.
        table: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A netlink socket could not be used.
    #[error("netlink: {operation}: {source}")]
    Socket {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A network namespace could not be made or entered.
    #[error("network namespace: {operation}: {source}")]
    Namespace {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A file of the host could not be read or a kernel setting not be written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The port is taken.
    #[error("Bind for {address}/{protocol} failed: port is already allocated by {holder}")]
    PortInUse {
        /// The host's address and port.
        address: SocketAddr,
        /// The protocol.
        protocol: Protocol,
        /// Who has it.
        holder: PortHolder,
    },
    /// The host address to publish on is not one of the host.
    #[error("failed to bind host port {address}/{protocol}: cannot assign requested address")]
    NotAHostAddress {
        /// The address and port asked for.
        address: SocketAddr,
        /// The protocol.
        protocol: Protocol,
    },
    /// A port could not be reserved for a reason other than being taken.
    #[error("failed to bind host port {address}/{protocol}: {source}")]
    Bind {
        /// The address and port asked for.
        address: SocketAddr,
        /// The protocol.
        protocol: Protocol,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A port range ends before it begins, or a port is zero.
    #[error("invalid port range: {0}-{1}")]
    PortRange(u16, u16),
    /// A range of ports has no free one.
    #[error("all ports are allocated")]
    PortsExhausted,
    /// The wished address belongs to another container.
    #[error("Address already in use: {0}")]
    AddressInUse(IpAddr),
    /// The wished address is not of the network.
    #[error("invalid address {address}: it does not belong to the network's subnet {subnet}")]
    AddressOutside {
        /// The address.
        address: IpAddr,
        /// The subnet.
        subnet: String,
    },
    /// The subnets of a family have no free address.
    #[error("no available {family} addresses on this network's address pools: {pools}")]
    AddressesExhausted {
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// The subnets.
        pools: String,
    },
    /// No pool has a free subnet.
    #[error("all predefined address pools have been fully subnetted")]
    SubnetsExhausted,
    /// The subnet overlaps with one in use.
    #[error("invalid pool request: Pool overlaps with other one on this address space: {subnet} and {with}")]
    SubnetOverlap {
        /// The subnet asked for.
        subnet: String,
        /// What it overlaps with.
        with: String,
    },
    /// A network's configuration makes no sense.
    #[error("invalid network configuration: {0}")]
    Config(String),
    /// No network has this id.
    #[error("network {0} not found")]
    NoSuchNetwork(NetworkId),
    /// A network with this id or bridge name is there already.
    #[error("network {0} exists already")]
    NetworkExists(String),
    /// The network still has endpoints.
    #[error("network {network} has active endpoints ({endpoints})")]
    NetworkBusy {
        /// The network.
        network: NetworkId,
        /// How many containers are plugged in.
        endpoints: usize,
    },
    /// The kernel has no such kind of link.
    #[error("the kernel has no {0} links: its module {0} is missing")]
    NoSuchKind(&'static str),
    /// A network's parent interface is missing.
    #[error("parent interface {parent} does not exist on the host (a VLAN of one that does is named like eth0.10)")]
    NoParent {
        /// Its name.
        parent: String,
    },
    /// Another network uses the parent interface, in a way that can't be shared.
    #[error("network {} is already using parent interface {parent}", network.short())]
    ParentInUse {
        /// The parent interface.
        parent: String,
        /// Who uses it.
        network: NetworkId,
    },
    /// An IPv6 subnet on a kernel without IPv6.
    #[error("IPv6 is switched off in the kernel (ipv6.disable=1), so the network can't have the subnet {0}")]
    NoIpv6(String),
    /// A link with the bridge's name is there and is no bridge.
    #[error("link {0} exists and is not a bridge")]
    NotABridge(String),
}

impl NetError {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            NetError::PortRange(..)
            | NetError::AddressOutside { .. }
            | NetError::Config(_)
            | NetError::NoParent { .. }
            | NetError::NoSuchKind(_)
            | NetError::NoIpv6(_)
            | NetError::NotAHostAddress { .. } => ErrorKind::InvalidParameter,
            NetError::AddressInUse(_)
            | NetError::NetworkExists(_)
            | NetError::NetworkBusy { .. }
            | NetError::NotABridge(_)
            | NetError::ParentInUse { .. }
            | NetError::SubnetOverlap { .. } => ErrorKind::Conflict,
            NetError::NoSuchNetwork(_) => ErrorKind::NotFound,
            NetError::PortsExhausted | NetError::AddressesExhausted { .. } | NetError::SubnetsExhausted => {
                ErrorKind::Exhausted
            }
            // dockerd answers 500 to a taken port, and its clients match on the text.
            NetError::PortInUse { .. }
            | NetError::Bind { .. }
            | NetError::Link { .. }
            | NetError::Filter { .. }
            | NetError::Socket { .. }
            | NetError::Namespace { .. }
            | NetError::File { .. } => ErrorKind::System,
        }
    }
}
