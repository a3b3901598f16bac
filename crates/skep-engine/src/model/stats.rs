//! Resource usage of a container at one moment.

use chrono::{DateTime, Utc};
use skep_types::{ContainerId, ContainerName};

/// One sample, with the one before it, from which percentages are made.
#[derive(Debug, Clone)]
pub struct Stats {
    /// The container.
    pub id: ContainerId,
    /// Its name.
    pub name: ContainerName,
    /// Now; absent when it does not run.
    pub now: Option<Sample>,
    /// About a second before, if it was asked for.
    pub before: Option<Sample>,
}

/// Counters read at one time.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When they were read.
    pub read: DateTime<Utc>,
    /// From the control groups.
    pub cgroup: skep_runtime::cgroup::Stats,
    /// The processors' time of the whole host, in nanoseconds.
    pub system_cpu_nanos: u64,
    /// Processors that are online.
    pub online_cpus: u32,
    /// The effective memory limit in bytes: its own, else the host's memory.
    pub memory_limit: u64,
    /// Counters of each interface, by its name in the container.
    pub networks: Vec<(String, InterfaceStats)>,
}

/// Counters of one network interface, seen from inside the container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InterfaceStats {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Errors while receiving.
    pub rx_errors: u64,
    /// Packets dropped while receiving.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Errors while sending.
    pub tx_errors: u64,
    /// Packets dropped while sending.
    pub tx_dropped: u64,
}
