//! Where and within which bounds a container runs (Docker's `HostConfig`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use skep_types::Port;

use super::network::NetworkMode;

/// Settings of a container that belong to this host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostConfig {
    /// `source:target[:options]`, as written.
    pub binds: Vec<String>,
    /// Mounts in their long form.
    pub mounts: Vec<MountRequest>,
    /// In-memory file systems: target to mount options.
    pub tmpfs: BTreeMap<String, String>,
    /// Containers whose volumes are mounted here too: `name[:ro|rw]`.
    pub volumes_from: Vec<String>,
    /// The network it starts in.
    pub network_mode: NetworkMode,
    /// Published ports.
    pub port_bindings: BTreeMap<Port, Vec<PortBinding>>,
    /// Publish every exposed port on a free port of the host.
    pub publish_all_ports: bool,
    /// What happens when it ends.
    pub restart_policy: RestartPolicy,
    /// Remove it when it ends.
    pub auto_remove: bool,
    /// Log driver and its options.
    pub log: LogConfig,
    /// Capabilities beyond the default ones.
    pub cap_add: Vec<String>,
    /// Default capabilities to leave out.
    pub cap_drop: Vec<String>,
    /// All capabilities and devices, nothing masked.
    pub privileged: bool,
    /// The root file system is read-only.
    pub readonly_rootfs: bool,
    /// `no-new-privileges`, `seccomp=…` (`unconfined` or the profile's JSON), as written.
    pub security_opt: Vec<String>,
    /// Name servers.
    pub dns: Vec<String>,
    /// Options of resolv.conf.
    pub dns_options: Vec<String>,
    /// Search domains.
    pub dns_search: Vec<String>,
    /// `host:address` lines for /etc/hosts; the address may be `host-gateway`.
    pub extra_hosts: Vec<String>,
    /// Other containers on the default bridge, as `container[:alias]`.
    pub links: Vec<String>,
    /// Further groups of the process.
    pub group_add: Vec<String>,
    /// The IPC namespace.
    pub ipc_mode: NamespaceMode,
    /// The PID namespace.
    pub pid_mode: NamespaceMode,
    /// The UTS namespace.
    pub uts_mode: NamespaceMode,
    /// The user namespace.
    pub userns_mode: UsernsMode,
    /// The cgroup namespace.
    pub cgroupns_mode: NamespaceMode,
    /// Size of /dev/shm in bytes; 64 MiB when absent.
    pub shm_size: Option<i64>,
    /// Kernel settings of its namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Devices of the host.
    pub devices: Vec<DeviceMapping>,
    /// Rules of the device cgroup, as written.
    pub device_cgroup_rules: Vec<String>,
    /// A small init as process 1; the daemon's default when absent.
    pub init: Option<bool>,
    /// Paths that read as empty; Docker's list when absent.
    pub masked_paths: Option<Vec<String>>,
    /// Paths that can't be written; Docker's list when absent.
    pub readonly_paths: Option<Vec<String>>,
    /// Adjustment of the out-of-memory score, -1000 to 1000.
    pub oom_score_adj: i32,
    /// Resource limits.
    pub resources: Resources,
    /// Where the client wrote the id.
    pub container_id_file: String,
    /// Height and width of the terminal at the start.
    pub console_size: [u32; 2],
    /// Annotations handed to the runtime.
    pub annotations: BTreeMap<String, String>,
}

/// Resource limits. Zero means no limit, as in Docker's API.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Bytes.
    pub memory: i64,
    /// Soft limit in bytes.
    pub memory_reservation: i64,
    /// Memory and swap in bytes; -1 for no limit of swap.
    pub memory_swap: i64,
    /// 0 to 100.
    pub memory_swappiness: Option<i64>,
    /// Stall instead of killing when out of memory.
    pub oom_kill_disable: Option<bool>,
    /// Billionths of a processor.
    pub nano_cpus: i64,
    /// Relative weight, 2 to 262144.
    pub cpu_shares: i64,
    /// Microseconds.
    pub cpu_period: i64,
    /// Microseconds per period.
    pub cpu_quota: i64,
    /// Processors, as a list of ranges.
    pub cpuset_cpus: String,
    /// Memory nodes, as a list of ranges.
    pub cpuset_mems: String,
    /// Number of processes; 0 or negative is no limit.
    pub pids_limit: Option<i64>,
    /// Relative weight for block devices, 10 to 1000.
    pub blkio_weight: u16,
    /// The cgroup to live below.
    pub cgroup_parent: String,
    /// Limits of the process (getrlimit(2)).
    pub ulimits: Vec<Ulimit>,
}

/// One limit of the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// `nofile`, `nproc`, …
    pub name: String,
    /// Soft limit; -1 for none.
    pub soft: i64,
    /// Hard limit; -1 for none.
    pub hard: i64,
}

/// A device of the host shown in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMapping {
    /// Path on the host: a device or a directory of devices.
    pub path_on_host: String,
    /// Path in the container.
    pub path_in_container: String,
    /// Letters of `rwm`.
    pub permissions: String,
}

/// A log driver and its options; the daemon's default driver when the name is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogConfig {
    /// `json-file`, `none`.
    pub driver: String,
    /// `max-size`, `max-file`, …
    pub options: BTreeMap<String, String>,
}

/// Where a port of a container is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortBinding {
    /// Address on the host; all addresses when empty.
    pub host_ip: String,
    /// `8080`, `8000-8010`, or empty for any free port.
    pub host_port: String,
}

/// What happens when a container ends by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// Nothing.
    #[default]
    No,
    /// It is started again, at boot of the engine too.
    Always,
    /// Like `Always`, but not at boot if someone had stopped it.
    UnlessStopped,
    /// It is started again after an exit code other than zero.
    OnFailure {
        /// How many times at the most; 0 for no bound.
        max_retries: u32,
    },
}

/// Which namespace a container lives in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamespaceMode {
    /// What the engine does by default: its own.
    #[default]
    Default,
    /// Its own.
    Private,
    /// Its own, open to others (IPC only).
    Shareable,
    /// None at all (IPC only: no /dev/shm).
    None,
    /// The host's.
    Host,
    /// That of another container, by name or id.
    Container(String),
}

/// The user namespace of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum UsernsMode {
    /// What the engine is set up for.
    #[default]
    Default,
    /// The host's, whatever the engine is set up for.
    Host,
}

/// A mount in its long form (`--mount`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRequest {
    /// Where it appears in the container: an absolute path.
    pub target: String,
    /// It can't be written through.
    pub read_only: bool,
    /// What is mounted.
    pub source: MountSource,
}

/// What a [`MountRequest`] mounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A path of the host.
    Bind {
        /// The path.
        path: String,
        /// `rprivate`, `rshared`, …; empty for rprivate.
        propagation: String,
        /// Mounts below the source are left out.
        non_recursive: bool,
        /// Make the source if it is missing.
        create_mountpoint: bool,
    },
    /// A volume; anonymous when the name is empty.
    Volume {
        /// The volume's name.
        name: String,
        /// Don't copy the image's files into an empty volume.
        no_copy: bool,
        /// Labels for a volume that is made.
        labels: BTreeMap<String, String>,
        /// Driver for a volume that is made.
        driver: String,
        /// The driver's options.
        driver_options: BTreeMap<String, String>,
        /// Path within the volume.
        subpath: String,
    },
    /// Memory.
    Tmpfs {
        /// Bytes; no bound when zero.
        size: i64,
        /// Permission bits; 1777 when absent.
        mode: Option<u32>,
    },
}
