//! The host's interfaces below macvlan and ipvlan networks.
//!
//! A parent is there already, or it is made here: a VLAN of one that is there (`eth0.10`), or for a network without a
//! parent a link that leads nowhere. What was made carries a mark in its alias, so that it is known again after a restart
//! and goes with the last network on it; interfaces of the host's owner are never removed.

use rustix::io::Errno;
use skep_types::NetworkId;

use crate::bridge::{self, failed};
use crate::error::NetError;
use crate::netlink::route::{self, Child, Link};
use crate::netlink::{Batch, Socket};
use crate::network::{IpvlanFlag, IpvlanMode, LinkConfig, MacvlanMode, NetworkConfig};

const LOOPBACK: &str = "lo";

impl LinkConfig {
    /// Name of the parent interface; bridges have none.
    pub(crate) fn parent(&self, id: &NetworkId) -> Option<String> {
        match self {
            LinkConfig::Bridge(_) => None,
            LinkConfig::Macvlan { parent, .. } | LinkConfig::Ipvlan { parent, .. } => {
                Some(parent.clone().unwrap_or_else(|| nowhere(id)))
            }
        }
    }

    /// What the kernel makes for an endpoint on the parent.
    pub(crate) fn child(&self) -> Option<Child> {
        match self {
            LinkConfig::Bridge(_) => None,
            LinkConfig::Macvlan { mode, .. } => Some(Child::Macvlan(*mode)),
            LinkConfig::Ipvlan { mode, flag, .. } => Some(Child::Ipvlan(*mode, *flag)),
        }
    }

    /// Refuses what the kernel can't do with one parent.
    pub(crate) fn check_parent_beside(&self, own: &NetworkId, new: &NetworkConfig) -> Result<(), NetError> {
        let (Some(parent), Some(other)) = (self.parent(own), new.link.parent(&new.id)) else { return Ok(()) };
        let shares =
            |link: &LinkConfig| matches!(link, LinkConfig::Macvlan { mode, .. } if *mode != MacvlanMode::Passthru);
        if parent == other && !(shares(self) && shares(&new.link)) {
            return Err(NetError::ParentInUse { parent, network: *own });
        }
        Ok(())
    }
}

/// Name of the parent of a network without one: as Docker's.
fn nowhere(id: &NetworkId) -> String {
    format!("dm-{}", id.short())
}

/// Finds or makes the parent of a network. Returns its index.
pub(crate) fn ensure(socket: &mut Socket, config: &NetworkConfig, mark: &str) -> Result<u32, NetError> {
    let (Some(name), Some(child)) = (config.link.parent(&config.id), config.link.child()) else {
        return Err(NetError::Config("a bridge has no parent".to_owned()));
    };
    bridge::check_name(&name)?;
    if name == LOOPBACK {
        return Err(NetError::Config(format!("loopback interface is not a valid {} parent link", child.kind())));
    }
    require(socket, child.kind())?;
    if let Some(link) = find(socket, &name)? {
        return Ok(link.index);
    }
    if name == nowhere(&config.id) {
        make_nowhere(socket, &name, mark)?;
    } else {
        make_vlan(socket, &name, mark)?;
    }
    let link = find(socket, &name)?.ok_or_else(|| failed("find", &name, Errno::NODEV.into()))?;
    Ok(link.index)
}

/// Removes the parent if it was made here.
pub(crate) fn release(socket: &mut Socket, name: &str, mark: &str) -> Result<(), NetError> {
    match find(socket, name)? {
        Some(link) if link.alias == mark => bridge::delete(socket, name),
        _ => Ok(()),
    }
}

fn find(socket: &mut Socket, name: &str) -> Result<Option<Link>, NetError> {
    socket.link(name).map_err(|e| failed("look up", name, e))
}

/// Refuses a kind of link that the kernel does not have. A request that lacks what all kinds need tells: known kinds miss it.
fn require(socket: &mut Socket, kind: &'static str) -> Result<(), NetError> {
    let mut batch = Batch::new();
    route::probe(&mut batch, kind);
    match socket.run(&batch) {
        Err(e) if e.errno == Errno::OPNOTSUPP => Err(NetError::NoSuchKind(kind)),
        _ => Ok(()),
    }
}

/// A link that leads nowhere: a dummy, or where the kernel has none a bridge without ports.
fn make_nowhere(socket: &mut Socket, name: &str, mark: &str) -> Result<(), NetError> {
    let mut batch = Batch::new();
    route::add_marked(&mut batch, name, "dummy", mark);
    match socket.run(&batch) {
        Err(e) if e.errno == Errno::OPNOTSUPP => {
            let mut batch = Batch::new();
            route::add_marked(&mut batch, name, "bridge", mark);
            socket.run(&batch).map_err(|e| failed("create", name, e))
        }
        other => other.map_err(|e| failed("create", name, e)),
    }
}

fn make_vlan(socket: &mut Socket, name: &str, mark: &str) -> Result<(), NetError> {
    let Some((base, tag)) = name.rsplit_once('.') else {
        return Err(NetError::NoParent { parent: name.to_owned() });
    };
    let tag = match tag.parse::<u16>() {
        Ok(tag @ 1..=4094) => tag,
        _ => return Err(NetError::Config(format!("vlan id must be between 1-4094, received: {tag}"))),
    };
    let Some(base_link) = find(socket, base)? else {
        return Err(NetError::NoParent { parent: base.to_owned() });
    };
    require(socket, "vlan")?;
    let mut batch = Batch::new();
    route::add_vlan(&mut batch, name, base_link.index, tag, mark);
    socket.run(&batch).map_err(|e| failed("create VLAN", name, e))
}

impl NetworkConfig {
    /// Whether default routes lead into the interface and not to a gateway: in these modes the host's routes decide.
    pub(crate) fn routes_into_device(&self) -> bool {
        matches!(&self.link, LinkConfig::Ipvlan { mode: IpvlanMode::L3 | IpvlanMode::L3s, .. })
    }
}

impl Child {
    /// The kernel's word for the kind of link.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Child::Macvlan(_) => "macvlan",
            Child::Ipvlan(..) => "ipvlan",
        }
    }

    /// The kernel's number of the mode (`MACVLAN_MODE_*`, `IPVLAN_MODE_*`).
    pub(crate) fn mode(self) -> u32 {
        match self {
            Child::Macvlan(MacvlanMode::Private) => 1,
            Child::Macvlan(MacvlanMode::Vepa) => 2,
            Child::Macvlan(MacvlanMode::Bridge) => 4,
            Child::Macvlan(MacvlanMode::Passthru) => 8,
            Child::Ipvlan(IpvlanMode::L2, _) => 0,
            Child::Ipvlan(IpvlanMode::L3, _) => 1,
            Child::Ipvlan(IpvlanMode::L3s, _) => 2,
        }
    }

    /// `IPVLAN_F_*`.
    pub(crate) fn flags(self) -> u16 {
        match self {
            Child::Macvlan(_) | Child::Ipvlan(_, IpvlanFlag::Bridge) => 0,
            Child::Ipvlan(_, IpvlanFlag::Private) => 1,
            Child::Ipvlan(_, IpvlanFlag::Vepa) => 2,
        }
    }
}
