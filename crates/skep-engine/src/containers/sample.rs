//! Reads the counters of a running container.

use chrono::Utc;

use crate::model::stats::{InterfaceStats, Sample};
use crate::{Error, Result};

/// One sample of the container in `cgroup` whose first process is `pid`.
pub(crate) fn take(cgroup: &skep_runtime::cgroup::Cgroup, pid: i32) -> Result<Sample> {
    let counters = cgroup.stats().map_err(|e| Error::system("reading the control group", e))?;
    let memory = read("/proc/meminfo").lines().find_map(|line| {
        let kib = line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim();
        kib.parse::<u64>().ok().map(|kib| kib * 1024)
    });
    let stat = read("/proc/stat");
    let host_memory = memory.unwrap_or(0);
    let limit = counters
        .memory
        .as_ref()
        .and_then(|memory| memory.limit)
        .filter(|&limit| limit > 0 && limit < host_memory)
        .unwrap_or(host_memory);
    Ok(Sample {
        read: Utc::now(),
        memory_limit: limit,
        cgroup: counters,
        system_cpu_nanos: system_cpu(&stat),
        online_cpus: u32::try_from(stat.lines().filter(|line| line.starts_with("cpu")).count().saturating_sub(1))
            .unwrap_or(1),
        networks: interfaces(&read(&format!("/proc/{pid}/net/dev"))),
    })
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The first seven columns of the `cpu` line of /proc/stat are clock ticks, of which Linux shows 100 a second.
fn system_cpu(stat: &str) -> u64 {
    let line = stat.lines().next().unwrap_or("");
    let ticks: u64 = line.split_whitespace().skip(1).take(7).filter_map(|column| column.parse::<u64>().ok()).sum();
    ticks * 10_000_000
}

fn interfaces(text: &str) -> Vec<(String, InterfaceStats)> {
    text.lines()
        .skip(2)
        .filter_map(|line| {
            let (name, numbers) = line.split_once(':')?;
            let n: Vec<u64> = numbers.split_whitespace().filter_map(|number| number.parse().ok()).collect();
            let name = name.trim();
            (name != "lo" && n.len() >= 12).then(|| {
                let stats = InterfaceStats {
                    rx_bytes: n[0],
                    rx_packets: n[1],
                    rx_errors: n[2],
                    rx_dropped: n[3],
                    tx_bytes: n[8],
                    tx_packets: n[9],
                    tx_errors: n[10],
                    tx_dropped: n[11],
                };
                (name.to_owned(), stats)
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_counters_are_read() {
        let text = "Inter-|   Receive\n face |bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 10 2 3 4 0 0 0 0 20 5 6 7 0 0 0 0\n";
        let found = interfaces(text);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].1.rx_bytes, found[0].1.tx_bytes, found[0].1.tx_dropped), (10, 20, 7));
    }
}
