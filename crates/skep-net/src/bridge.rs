//! Bridge links on the host.

use std::io;

use ipnet::IpNet;
use skep_types::{ContainerId, NetworkId};

use crate::error::NetError;
use crate::mac::MacAddr;
use crate::netlink::{Batch, Refused, Socket, route};
use crate::network::{BridgeLink, GatewayMode, NetworkConfig};
use crate::sysctl;

/// Longest name of a link, without the closing NUL.
const NAME_LENGTH: usize = 15;
/// Present and 1 where the kernel shows bridged IPv4 frames to the packet filter.
const BRIDGE_FILTER: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";
/// The same for IPv6.
const BRIDGE_FILTER6: &str = "/proc/sys/net/bridge/bridge-nf-call-ip6tables";

/// Refuses names that no link can have, or that mean something else below /proc/sys/net.
pub(crate) fn check_name(name: &str) -> Result<(), NetError> {
    let plain = name.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b':'));
    if name.is_empty() || name.len() > NAME_LENGTH || !plain || matches!(name, "." | ".." | "all" | "default") {
        return Err(NetError::Config(format!("{name:?} is no name for a link")));
    }
    Ok(())
}

/// Makes the bridge, or brings one that is there into the wished state. Returns its index.
pub(crate) fn ensure(
    socket: &mut Socket,
    config: &NetworkConfig,
    bridge: &BridgeLink,
    mark: &str,
) -> Result<u32, NetError> {
    let name = bridge.name.as_str();
    let index = match find(socket, name)? {
        Some(index) => index,
        None => {
            let mut batch = Batch::new();
            route::add_bridge(&mut batch, name, mac(config), config.mtu);
            route::mark(&mut batch, name, mark);
            socket.run(&batch).map_err(|e| failed("create bridge", name, e))?;
            find(socket, name)?.ok_or_else(|| failed("find bridge", name, rustix::io::Errno::NODEV.into()))?
        }
    };
    // Even without an address of the subnet a bridge could be reached by its link-local one.
    let ipv6 = if config.subnet6().is_some() && bridge.gateway_mode_v6 != GatewayMode::Isolated { "0" } else { "1" };
    sysctl::set_if_there(&format!("ipv6/conf/{name}/disable_ipv6"), ipv6)?;
    // Containers are no routers: what they announce is not believed (CVE-2020-13401).
    sysctl::set_if_there(&format!("ipv6/conf/{name}/accept_ra"), "0")?;
    // Neighbours are asked for by the link-local address, which the kernel would hold back for more than a second to see
    // whether somebody else has it: what is forwarded to a container meanwhile would not arrive.
    sysctl::set_if_there(&format!("ipv6/conf/{name}/accept_dad"), "0")?;
    let mut batch = Batch::new();
    for address in own_addresses(config, bridge) {
        route::add_address(&mut batch, index, address);
    }
    route::set_up(&mut batch, index);
    socket.run(&batch).map_err(|e| failed("configure bridge", name, e))?;
    Ok(index)
}

/// True where the kernel shows bridged IPv6 frames to the packet filter, which gives answers to `::1` their destination
/// back before they count as received, and drops them then: no port can be led from there to a container.
pub(crate) fn filters_ipv6() -> bool {
    filters(true)
}

/// True where the kernel shows bridged frames of the family to the packet filter.
pub(crate) fn filters(v6: bool) -> bool {
    std::fs::read(if v6 { BRIDGE_FILTER6 } else { BRIDGE_FILTER }).is_ok_and(|value| value.starts_with(b"1"))
}

/// Lets answers to connections from `::1` arrive by the bridge. The kernel asks for a route of the link that they come
/// by; for everything else the one of `lo` is nearer.
pub(crate) fn accept_loopback6(socket: &mut Socket, name: &str, index: u32) -> Result<(), NetError> {
    let mut batch = Batch::new();
    route::add_loopback6_route(&mut batch, index);
    match socket.run(&batch) {
        Err(e) if e.errno == rustix::io::Errno::EXIST => Ok(()),
        other => other.map_err(|e| failed("lead loopback to", name, e)),
    }
}

/// The addresses of the bridge itself: the gateways, unless somebody else is.
fn own_addresses(config: &NetworkConfig, bridge: &BridgeLink) -> Vec<IpNet> {
    let own = config.subnets.iter().filter(|subnet| match subnet.subnet {
        IpNet::V4(_) => !bridge.inhibit_ipv4 && bridge.gateway_mode_v4 != GatewayMode::Isolated,
        IpNet::V6(_) => bridge.gateway_mode_v6 != GatewayMode::Isolated,
    });
    own.filter_map(|subnet| IpNet::new(subnet.gateway_address(), subnet.subnet.prefix_len()).ok()).collect()
}

fn find(socket: &mut Socket, name: &str) -> Result<Option<u32>, NetError> {
    match socket.link(name).map_err(|e| failed("look up", name, e))? {
        None => Ok(None),
        Some(link) if link.kind == "bridge" => Ok(Some(link.index)),
        Some(_) => Err(NetError::NotABridge(name.to_owned())),
    }
}

/// The bridge's own address, fixed: by default a bridge takes that of one of its ports and changes with them.
fn mac(config: &NetworkConfig) -> MacAddr {
    let id = config.id.to_string();
    let byte = |n: usize| id.get(n * 2..n * 2 + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok()).unwrap_or_default();
    MacAddr::local([byte(0), byte(1), byte(2), byte(3)])
}

/// Removes a link; one that is gone is no error.
pub(crate) fn delete(socket: &mut Socket, name: &str) -> Result<(), NetError> {
    let mut batch = Batch::new();
    route::delete_link(&mut batch, name);
    match socket.run(&batch) {
        Err(e) if e.errno == rustix::io::Errno::NODEV => Ok(()),
        other => other.map_err(|e| failed("delete", name, e)),
    }
}

/// Error of an operation on a link.
pub(crate) fn failed(operation: &'static str, object: &str, refused: Refused) -> NetError {
    NetError::Link { operation, object: object.to_owned(), source: io::Error::from(refused) }
}

/// 64 bits of a hash of both ids (FNV-1a). A container has one endpoint per network.
fn hash(network: &NetworkId, container: &ContainerId) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in format!("{network}{container}").bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

/// Name of an endpoint's link on the host: `veth` and 44 bits of a hash, so that it can be found again.
pub(crate) fn host_link(network: &NetworkId, container: &ContainerId) -> String {
    format!("veth{:011x}", hash(network, container) >> 20)
}

/// The hardware address of an endpoint that has no IPv4 address to take it from.
pub(crate) fn hashed_mac(network: &NetworkId, container: &ContainerId) -> MacAddr {
    let [a, b, c, d, ..] = hash(network, container).to_be_bytes();
    MacAddr::local([a, b, c, d])
}

/// True for names that [`host_link`] makes.
pub(crate) fn is_host_link(name: &str) -> bool {
    name.strip_prefix("veth").is_some_and(|hex| hex.len() == 11 && u64::from_str_radix(hex, 16).is_ok())
}

/// How a bridge is to treat a container's port, if not as any other.
///
/// With br_netfilter, frames between containers pass the forward chain, which then does what isolation is for; and
/// a frame whose destination was changed stays on the bridge, so that a container reaches itself only by hairpin. Without
/// it, such packets are routed, and the forward chain never sees frames that stay on the bridge.
pub(crate) fn port_mode(bridge: &BridgeLink) -> Option<route::PortMode> {
    match (filters(false), bridge.icc) {
        (true, _) => Some(route::PortMode::Hairpin),
        (false, false) => Some(route::PortMode::Isolated),
        (false, true) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert!(check_name("skep0").is_ok());
        for bad in ["", "..", "a/b", "sixteen-bytes-ab", "a b", "all"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn host_links_have_names_that_are_known_again() {
        let network = NetworkId::from_bytes([0x5a; 32]);
        let container = ContainerId::from_bytes([0x0f; 32]);
        let name = host_link(&network, &container);
        assert_eq!(name.len(), 15);
        assert_ne!(name, host_link(&NetworkId::from_bytes([0x0f; 32]), &container));
        assert!(is_host_link(&name) && !is_host_link("veth0") && !is_host_link("vethzzzzzzzzzzz"));
    }
}
