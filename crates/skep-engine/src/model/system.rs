//! What the engine says about itself.

/// Facts for `info`.
#[derive(Debug, Clone)]
pub struct SystemInfo {
    /// An id that stays with the data root.
    pub id: String,
    /// Containers by state.
    pub containers: ContainerCounts,
    /// Images.
    pub images: usize,
    /// The data root.
    pub data_root: String,
    /// The file system that holds it (`extfs`, `xfs`, …).
    pub backing_filesystem: String,
    /// Kernel release.
    pub kernel_version: String,
    /// `PRETTY_NAME` of os-release.
    pub operating_system: String,
    /// `VERSION_ID` of os-release.
    pub os_version: String,
    /// Processors.
    pub cpus: usize,
    /// Bytes.
    pub memory: u64,
    /// The host's name.
    pub host_name: String,
    /// 1, 2.
    pub cgroup_version: u8,
    /// Which limits the machine can set.
    pub support: LimitSupport,
    /// IPv4 forwarding is on.
    pub ipv4_forwarding: bool,
    /// Open descriptors of the daemon.
    pub descriptors: usize,
    /// Subscribers of the event stream.
    pub event_listeners: usize,
    /// Default log driver.
    pub log_driver: String,
    /// Labels of the daemon.
    pub labels: Vec<String>,
    /// What an operator should know.
    pub warnings: Vec<String>,
    /// Path of the runtime.
    pub runtime_path: String,
    /// Path of the init given to containers with `--init`.
    pub init_path: String,
    /// Registries spoken to without TLS.
    pub insecure_registries: Vec<String>,
    /// Mirrors of Docker Hub.
    pub registry_mirrors: Vec<String>,
}

/// Containers by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ContainerCounts {
    /// With a process that is not frozen.
    pub running: usize,
    /// Frozen.
    pub paused: usize,
    /// All others.
    pub stopped: usize,
}

/// Which limits the machine's control groups can set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LimitSupport {
    /// Memory.
    pub memory: bool,
    /// Memory and swap together.
    pub swap: bool,
    /// CFS period and quota.
    pub cpu_quota: bool,
    /// CPU shares.
    pub cpu_shares: bool,
    /// cpuset.
    pub cpuset: bool,
    /// Number of processes.
    pub pids: bool,
    /// Disabling the OOM killer.
    pub oom_kill_disable: bool,
}
