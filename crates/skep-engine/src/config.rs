//! How an engine is set up. Fixed for its lifetime.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use skep_fs::apply::Limits;

use crate::images::PolicyFile;
use crate::model::gc::GcSettings;
pub use skep_net::{AddressPool, HostFirewall};
use skep_registry::Proxies;
pub use skep_runtime::spec::IdMapping;

use crate::model::host::{LogConfig, Ulimit};

/// Settings of one engine; several can run on a machine if roots and bridge differ.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Everything that lasts (`/var/lib/skep`).
    pub data_root: PathBuf,
    /// Everything that a reboot may take (`/run/skep`).
    pub exec_root: PathBuf,
    /// The `skep-runtime` binary.
    pub runtime: PathBuf,
    /// The default bridge.
    pub bridge: BridgeSettings,
    /// What the host's own firewall may say about containers (`host-firewall`).
    pub host_firewall: HostFirewall,
    /// Where subnets of new networks are cut from (`default-address-pools`); Docker's pools for a family without one.
    pub address_pools: Vec<AddressPool>,
    /// Options for new networks, by driver (`default-network-opts`).
    pub default_network_options: BTreeMap<String, BTreeMap<String, String>>,
    /// Registries spoken to without TLS, besides loopback: `host[:port]` or a CIDR range.
    pub insecure_registries: Vec<String>,
    /// Mirrors of Docker Hub.
    pub registry_mirrors: Vec<String>,
    /// Directories with what belongs to registries, `HOST[:PORT]/{*.crt,*.cert,*.key,hosts.toml}`; the usual ones when `None`.
    pub certificate_dirs: Option<Vec<PathBuf>>,
    /// Proxies on the way to registries; those of the environment when `None`.
    pub proxies: Option<Proxies>,
    /// Layers downloaded at once, per pull.
    pub max_concurrent_downloads: usize,
    /// Layers uploaded at once, per push.
    pub max_concurrent_uploads: usize,
    /// How often a download is begun before it fails for good.
    pub max_download_attempts: u32,
    /// Which images may come in.
    pub signature_policy: PolicyFile,
    /// What unpacking one layer may cost.
    pub unpack_limits: Limits,
    /// Log driver for containers that name none.
    pub log: LogConfig,
    /// Limits of processes that name none.
    pub default_ulimits: Vec<Ulimit>,
    /// Name servers for containers that name none; the host's when empty.
    pub dns: Vec<String>,
    /// Options of resolv.conf for containers that name none.
    pub dns_options: Vec<String>,
    /// Search domains for containers that name none.
    pub dns_search: Vec<String>,
    /// What `host-gateway` stands for, one address of each family at most; the addresses of the default bridge when empty.
    pub host_gateways: Vec<IpAddr>,
    /// Bytes of /dev/shm for containers that name none.
    pub default_shm_size: u64,
    /// Give every container an init unless it says otherwise.
    pub init: bool,
    /// All containers get `no-new-privileges`.
    pub no_new_privileges: bool,
    /// What clients may allow their builds.
    pub entitlements: Entitlements,
    /// Where vendors describe their devices (CDI); a later directory goes before an earlier one.
    pub cdi_spec_dirs: Vec<PathBuf>,
    /// The user namespace of containers and steps of builds; the host's when absent.
    pub userns_remap: Option<IdMaps>,
    /// Collection of garbage when the disk runs full.
    pub gc: GcSettings,
    /// Labels of the daemon: `key=value`.
    pub labels: Vec<String>,
    /// Cgroup that containers live below when they name none (`/skep`).
    pub cgroup_parent: Option<String>,
    /// Settings shown by `info` that the engine itself has no use for.
    pub extra: BTreeMap<String, String>,
}

/// What clients may allow their builds (`builder.entitlements`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entitlements {
    /// The host's network.
    pub network_host: bool,
    /// All capabilities.
    pub security_insecure: bool,
    /// Devices that CDI specifications name.
    pub device: bool,
}

impl Default for Entitlements {
    /// dockerd's: the engine's own privileges are given to no step, unless whoever runs the daemon says so.
    fn default() -> Self {
        Entitlements { network_host: true, security_insecure: false, device: true }
    }
}

/// Which ids of the host stand for those in a user namespace; 0 must be among these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMaps {
    /// Users.
    pub uids: Vec<IdMapping>,
    /// Groups.
    pub gids: Vec<IdMapping>,
}

impl IdMaps {
    /// What the host calls a user and a group of the namespace.
    pub(crate) fn outside(&self, (uid, gid): (u32, u32)) -> Option<(u32, u32)> {
        let of = |maps: &[IdMapping], id: u32| {
            maps.iter().find_map(|map| {
                let offset = id.checked_sub(map.container_id).filter(|offset| *offset < map.size)?;
                map.host_id.checked_add(offset)
            })
        };
        Some((of(&self.uids, uid)?, of(&self.gids, gid)?))
    }
}

/// The default bridge network.
#[derive(Debug, Clone)]
pub enum BridgeSettings {
    /// There is none (`--bridge=none`); containers get `none` unless they choose.
    Disabled,
    /// The engine makes it.
    Managed {
        /// The device's name (`skep0`).
        link: String,
        /// Address of the bridge and its prefix length (`--bip`); a free subnet is chosen when absent.
        address: Option<(Ipv4Addr, u8)>,
        /// Addresses for containers (`--fixed-cidr`), within the subnet.
        range: Option<(Ipv4Addr, u8)>,
        /// The bridge has IPv6 addresses, too.
        ipv6: bool,
        /// IPv6 address of the bridge and its prefix length (`--bip6`).
        address6: Option<(Ipv6Addr, u8)>,
        /// IPv6 addresses for containers (`--fixed-cidr-v6`), which is all of the subnet if the bridge has no address of its own.
        range6: Option<(Ipv6Addr, u8)>,
        /// Maximum transmission unit.
        mtu: u32,
        /// Containers may talk to each other.
        inter_container: bool,
        /// Traffic to the outside takes the host's address.
        masquerade: bool,
        /// Address that ports are published on by default.
        default_host_ip: Ipv4Addr,
    },
}

impl EngineConfig {
    /// Docker-like defaults over the two roots.
    pub fn new(data_root: PathBuf, exec_root: PathBuf, runtime: PathBuf) -> Self {
        EngineConfig {
            data_root,
            exec_root,
            runtime,
            bridge: BridgeSettings::Managed {
                link: "skep0".to_owned(),
                address: None,
                range: None,
                ipv6: false,
                address6: None,
                range6: None,
                mtu: 1500,
                inter_container: true,
                masquerade: true,
                default_host_ip: Ipv4Addr::UNSPECIFIED,
            },
            host_firewall: HostFirewall::default(),
            address_pools: Vec::new(),
            default_network_options: BTreeMap::new(),
            insecure_registries: Vec::new(),
            registry_mirrors: Vec::new(),
            certificate_dirs: None,
            proxies: None,
            max_concurrent_downloads: 3,
            max_concurrent_uploads: 5,
            max_download_attempts: 5,
            signature_policy: PolicyFile::None,
            unpack_limits: Limits::default(),
            log: LogConfig { driver: "json-file".to_owned(), options: BTreeMap::new() },
            default_ulimits: Vec::new(),
            dns: Vec::new(),
            dns_options: Vec::new(),
            dns_search: Vec::new(),
            host_gateways: Vec::new(),
            default_shm_size: 64 << 20,
            init: false,
            no_new_privileges: false,
            entitlements: Entitlements::default(),
            cdi_spec_dirs: crate::cdi::DIRECTORIES.iter().map(PathBuf::from).collect(),
            userns_remap: None,
            gc: GcSettings::default(),
            labels: Vec::new(),
            cgroup_parent: None,
            extra: BTreeMap::new(),
        }
    }
}
