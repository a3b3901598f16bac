//! What a cgroup uses. The fields are those of Docker's `/containers/{id}/stats`, which differ between v1 and v2 where the
//! kernel's own do; what a version does not have is `None` or empty.

use super::file::{pairs, value};
use super::{Cgroup, Controllers, Result, Version};

/// What the processes of a cgroup use, and have used.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    /// `None` without a memory controller.
    pub memory: Option<MemoryStats>,
    /// CPU time; zero without a controller.
    pub cpu: CpuStats,
    /// `None` without a pids controller.
    pub pids: Option<PidsStats>,
    /// Empty without a blkio or io controller, and before the first transfer.
    pub blkio: BlkioStats,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MemoryStats {
    /// With page cache.
    pub usage: u64,
    /// The highest usage (v1; v2 since Linux 5.19).
    pub max_usage: Option<u64>,
    /// How often the limit was hit (v1).
    pub failcnt: Option<u64>,
    /// The limit; `None` if there is none.
    pub limit: Option<u64>,
    /// All of memory.stat, in the kernel's order.
    pub stats: Vec<(String, u64)>,
}

/// CPU time, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CpuStats {
    /// All of it.
    pub total: u64,
    /// In the kernel.
    pub kernel: u64,
    /// Outside the kernel.
    pub user: u64,
    /// For each CPU (v1).
    pub per_cpu: Vec<u64>,
    /// By `cpu` limits.
    pub throttling: Throttling,
}

/// How a CPU limit held the cgroup up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Throttling {
    /// Periods in which the cgroup ran.
    pub periods: u64,
    /// Periods in which it was stopped.
    pub throttled_periods: u64,
    /// Nanoseconds for which it was stopped.
    pub throttled_time: u64,
}

/// The number of tasks (threads).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PidsStats {
    /// Now.
    pub current: u64,
    /// `None` without a limit.
    pub limit: Option<u64>,
}

/// Block device transfers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BlkioStats {
    /// Bytes.
    pub service_bytes: Vec<BlkioEntry>,
    /// Operations.
    pub serviced: Vec<BlkioEntry>,
}

/// One number about one kind of operation on one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlkioEntry {
    /// Of the device.
    pub major: u64,
    /// Of the device.
    pub minor: u64,
    /// `Read`, `Write`, `Sync`, `Async`, `Discard`, `Total` in v1; `read`, `write` in v2.
    pub op: String,
    /// Bytes or operations.
    pub value: u64,
}

/// Above any real limit; v1 says "no limit" with the highest multiple of the page size.
const NO_LIMIT: u64 = 0x7fff_ffff_ffff_0000;

const NANOSECONDS_PER_MICROSECOND: u64 = 1000;

pub(super) fn read(cgroup: &Cgroup) -> Result<Stats> {
    Ok(Stats { memory: memory(cgroup)?, cpu: cpu(cgroup)?, pids: pids(cgroup)?, blkio: blkio(cgroup)? })
}

pub(super) fn oom_kills(cgroup: &Cgroup) -> Result<u64> {
    let Some(group) = cgroup.group(Controllers::MEMORY) else { return Ok(0) };
    let text = group.text(match group.version {
        Version::V1 => "memory.oom_control",
        Version::V2 => "memory.events",
    })?;
    Ok(value(&text, "oom_kill").unwrap_or(0))
}

fn memory(cgroup: &Cgroup) -> Result<Option<MemoryStats>> {
    let Some(group) = cgroup.group(Controllers::MEMORY) else { return Ok(None) };
    let (usage, max_usage, limit) = match group.version {
        Version::V1 => ("memory.usage_in_bytes", "memory.max_usage_in_bytes", "memory.limit_in_bytes"),
        Version::V2 => ("memory.current", "memory.peak", "memory.max"),
    };
    let Some(usage) = group.number(usage)? else { return Ok(None) };
    Ok(Some(MemoryStats {
        usage,
        max_usage: group.number(max_usage)?,
        failcnt: match group.version {
            Version::V1 => group.number("memory.failcnt")?,
            Version::V2 => None,
        },
        limit: group.number(limit)?.filter(|limit| *limit < NO_LIMIT),
        stats: pairs(&group.text("memory.stat")?).map(|(key, value)| (key.to_owned(), value)).collect(),
    }))
}

fn cpu(cgroup: &Cgroup) -> Result<CpuStats> {
    let mut stats = CpuStats::default();
    if let Some(group) = cgroup.group(Controllers::CPUACCT) {
        match group.version {
            Version::V1 => {
                stats.total = group.number("cpuacct.usage")?.unwrap_or(0);
                stats.per_cpu = group
                    .text("cpuacct.usage_percpu")?
                    .split_whitespace()
                    .filter_map(|time| time.parse().ok())
                    .collect();
                for line in group.text("cpuacct.usage_all")?.lines().skip(1) {
                    let mut fields = line.split(' ').skip(1).map(|time| time.parse().unwrap_or(0));
                    stats.user += fields.next().unwrap_or(0);
                    stats.kernel += fields.next().unwrap_or(0);
                }
            }
            Version::V2 => {
                let text = group.text("cpu.stat")?;
                let time = |key| value(&text, key).unwrap_or(0) * NANOSECONDS_PER_MICROSECOND;
                (stats.total, stats.user, stats.kernel) = (time("usage_usec"), time("user_usec"), time("system_usec"));
            }
        }
    }
    if let Some(group) = cgroup.group(Controllers::CPU) {
        let text = group.text("cpu.stat")?;
        let count = |key| value(&text, key).unwrap_or(0);
        stats.throttling = Throttling {
            periods: count("nr_periods"),
            throttled_periods: count("nr_throttled"),
            throttled_time: match group.version {
                Version::V1 => count("throttled_time"),
                Version::V2 => count("throttled_usec") * NANOSECONDS_PER_MICROSECOND,
            },
        };
    }
    Ok(stats)
}

fn pids(cgroup: &Cgroup) -> Result<Option<PidsStats>> {
    let Some(group) = cgroup.group(Controllers::PIDS) else { return Ok(None) };
    let Some(current) = group.number("pids.current")? else { return Ok(None) };
    Ok(Some(PidsStats { current, limit: group.number("pids.max")?.filter(|limit| *limit != u64::MAX) }))
}

fn blkio(cgroup: &Cgroup) -> Result<BlkioStats> {
    let Some(group) = cgroup.group(Controllers::BLKIO) else { return Ok(BlkioStats::default()) };
    match group.version {
        Version::V1 => {
            let read = |names: [&str; 2]| -> Result<Vec<BlkioEntry>> {
                for name in names {
                    let entries = v1_entries(&group.text(name)?);
                    if !entries.is_empty() {
                        return Ok(entries);
                    }
                }
                Ok(Vec::new())
            };
            Ok(BlkioStats {
                service_bytes: read([
                    "blkio.bfq.io_service_bytes_recursive",
                    "blkio.throttle.io_service_bytes_recursive",
                ])?,
                serviced: read(["blkio.bfq.io_serviced_recursive", "blkio.throttle.io_serviced_recursive"])?,
            })
        }
        Version::V2 => Ok(v2_entries(&group.text("io.stat")?)),
    }
}

/// Lines `8:0 Read 4096`; the line of the sums of all devices has no device and is left out.
fn v1_entries(text: &str) -> Vec<BlkioEntry> {
    let entry = |line: &str| {
        let mut fields = line.split(' ');
        let (major, minor) = device(fields.next()?)?;
        Some(BlkioEntry { major, minor, op: fields.next()?.to_owned(), value: fields.next()?.parse().ok()? })
    };
    text.lines().filter_map(entry).collect()
}

/// Lines `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`.
fn v2_entries(text: &str) -> BlkioStats {
    let mut stats = BlkioStats::default();
    for line in text.lines() {
        let mut fields = line.split(' ');
        let Some((major, minor)) = fields.next().and_then(device) else { continue };
        for (key, value) in fields.filter_map(|field| field.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut stats.service_bytes, "read"),
                "wbytes" => (&mut stats.service_bytes, "write"),
                "rios" => (&mut stats.serviced, "read"),
                "wios" => (&mut stats.serviced, "write"),
                _ => continue,
            };
            if let Ok(value) = value.parse() {
                list.push(BlkioEntry { major, minor, op: op.to_owned(), value });
            }
        }
    }
    stats
}

fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_devices_of_v1() {
        let entries = v1_entries("254:0 Read 4096\n254:0 Total 4096\nTotal 4096\n");
        assert_eq!(entries[0], BlkioEntry { major: 254, minor: 0, op: "Read".to_owned(), value: 4096 });
        assert_eq!(entries.len(), 2);
    }

    #[test]
    fn block_devices_of_v2() {
        let stats = v2_entries("254:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n8:0 \n");
        let values = |list: &[BlkioEntry]| list.iter().map(|entry| (entry.op.clone(), entry.value)).collect::<Vec<_>>();
        assert_eq!(values(&stats.service_bytes), [("read".to_owned(), 1), ("write".to_owned(), 2)]);
        assert_eq!(values(&stats.serviced), [("read".to_owned(), 3), ("write".to_owned(), 4)]);
    }
}
