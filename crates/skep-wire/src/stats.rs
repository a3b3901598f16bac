//! Lines of GET /containers/{id}/stats. Times of processors are nanoseconds, all sizes bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::null::{if_empty, is_zero};

/// One sample.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct Stats {
    /// With a leading slash.
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub id: String,
    pub read: Timestamp,
    pub preread: Timestamp,
    pub pids_stats: PidsStats,
    pub blkio_stats: BlkioStats,
    /// Windows only.
    pub num_procs: u32,
    pub storage_stats: StorageStats,
    pub cpu_stats: CpuStats,
    /// The sample before, so that a single line is enough to tell the load.
    pub precpu_stats: CpuStats,
    pub memory_stats: MemoryStats,
    /// By interface; missing where there is no network.
    #[serde(skip_serializing_if = "is_zero")]
    pub networks: BTreeMap<String, NetworkStats>,
}

/// Processes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct PidsStats {
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    /// 0 (and missing): no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

/// Block I/O. All lists but the first exist on cgroup v1 only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct BlkioStats {
    #[serde(serialize_with = "if_empty")]
    pub io_service_bytes_recursive: Vec<BlkioEntry>,
    #[serde(serialize_with = "if_empty")]
    pub io_serviced_recursive: Vec<BlkioEntry>,
    #[serde(serialize_with = "if_empty")]
    pub io_queue_recursive: Vec<BlkioEntry>,
    #[serde(serialize_with = "if_empty")]
    pub io_service_time_recursive: Vec<BlkioEntry>,
    #[serde(serialize_with = "if_empty")]
    pub io_wait_time_recursive: Vec<BlkioEntry>,
    #[serde(serialize_with = "if_empty")]
    pub io_merged_recursive: Vec<BlkioEntry>,
    #[serde(serialize_with = "if_empty")]
    pub io_time_recursive: Vec<BlkioEntry>,
    #[serde(serialize_with = "if_empty")]
    pub sectors_recursive: Vec<BlkioEntry>,
}

/// One counter of one device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct BlkioEntry {
    pub major: u64,
    pub minor: u64,
    pub op: String,
    pub value: u64,
}

/// Windows only: always empty here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageStats {}

/// Processors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct CpuStats {
    pub cpu_usage: CpuUsage,
    /// Of the whole machine.
    #[serde(skip_serializing_if = "is_zero")]
    pub system_cpu_usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub online_cpus: u32,
    pub throttling_data: Throttling,
}

/// Processor time used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct CpuUsage {
    pub total_usage: u64,
    /// cgroup v1 only.
    #[serde(skip_serializing_if = "is_zero")]
    pub percpu_usage: Vec<u64>,
    pub usage_in_kernelmode: u64,
    pub usage_in_usermode: u64,
}

/// How often the quota held the container back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct Throttling {
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled_time: u64,
}

/// Memory. `stats` holds the kernel's memory.stat.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct MemoryStats {
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// cgroup v1 only.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub stats: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "is_zero")]
    pub failcnt: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

/// One network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct NetworkStats {
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}
