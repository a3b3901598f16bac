//! One line of `stats`: loads worked out of the engine's counters.

use serde_json::{Value, json};
use skep_types::format_binary;
use skep_wire::Stats;

use crate::ui::human;

/// What is shown of one container.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Sample {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) cpu_percent: f64,
    pub(crate) memory: u64,
    pub(crate) memory_limit: u64,
    pub(crate) memory_percent: f64,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) read: u64,
    pub(crate) written: u64,
    pub(crate) pids: u64,
}

impl Sample {
    pub(crate) fn new(stats: &Stats) -> Self {
        let memory = used_memory(stats);
        let limit = stats.memory_stats.limit;
        let (read, written) = block_io(stats);
        Sample {
            id: stats.id.clone(),
            name: stats.name.trim_start_matches('/').to_owned(),
            cpu_percent: cpu_percent(stats),
            memory,
            memory_limit: limit,
            memory_percent: if limit == 0 { 0.0 } else { float(memory) / float(limit) * 100.0 },
            received: stats.networks.values().map(|network| network.rx_bytes).sum(),
            sent: stats.networks.values().map(|network| network.tx_bytes).sum(),
            read,
            written,
            pids: stats.pids_stats.current,
        }
    }
}

/// The fields of a line; dashes as long as there is no sample. `asked` is what the user calls the container.
pub(crate) fn row(asked: &str, sample: Option<&Sample>, truncate: bool) -> Value {
    let none = Sample::default();
    let known = sample.unwrap_or(&none);
    let or_dashes = |text: String| if sample.is_some() && !text.is_empty() { text } else { "--".to_owned() };
    let pair = |a: String, b: String| if sample.is_some() { format!("{a} / {b}") } else { "-- / --".to_owned() };
    let size = |bytes: u64| human::size(i64::try_from(bytes).unwrap_or(i64::MAX));
    let id = if known.id.is_empty() { asked } else { &known.id };
    json!({
        "Container": asked,
        "ID": if truncate { human::short_id(id) } else { id },
        "Name": or_dashes(known.name.clone()),
        "CPUPerc": or_dashes(format!("{:.2}%", known.cpu_percent)),
        "MemUsage": pair(format_binary(known.memory), format_binary(known.memory_limit)),
        "MemPerc": or_dashes(format!("{:.2}%", known.memory_percent)),
        "NetIO": pair(size(known.received), size(known.sent)),
        "BlockIO": pair(size(known.read), size(known.written)),
        "PIDs": or_dashes(known.pids.to_string()),
    })
}

/// The share of one processor's time since the sample before, so up to 100% for each processor.
fn cpu_percent(stats: &Stats) -> f64 {
    let (now, before) = (&stats.cpu_stats, &stats.precpu_stats);
    let used = float(now.cpu_usage.total_usage) - float(before.cpu_usage.total_usage);
    let passed = float(now.system_cpu_usage) - float(before.system_cpu_usage);
    let processors = match now.online_cpus {
        0 => float(now.cpu_usage.percpu_usage.len() as u64),
        online => f64::from(online),
    };
    if used > 0.0 && passed > 0.0 { used / passed * processors * 100.0 } else { 0.0 }
}

/// Memory without the part of the page cache that is not in use: `total_inactive_file` of cgroup v1, `inactive_file` of v2.
fn used_memory(stats: &Stats) -> u64 {
    let memory = &stats.memory_stats;
    let below_usage = |name: &str| memory.stats.get(name).copied().filter(|bytes| *bytes < memory.usage);
    let cache = match memory.stats.contains_key("total_inactive_file") {
        true => below_usage("total_inactive_file"),
        false => None,
    };
    memory.usage - cache.or_else(|| below_usage("inactive_file")).unwrap_or(0)
}

fn block_io(stats: &Stats) -> (u64, u64) {
    let total = |letter: u8| {
        let entries = stats.blkio_stats.io_service_bytes_recursive.iter();
        let of_kind =
            entries.filter(|entry| entry.op.as_bytes().first().is_some_and(|op| op.eq_ignore_ascii_case(&letter)));
        of_kind.map(|entry| entry.value).sum()
    };
    (total(b'r'), total(b'w'))
}

#[expect(clippy::cast_precision_loss, reason = "shown with two decimals")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_wire::{BlkioEntry, NetworkStats};

    fn stats() -> Stats {
        let mut stats = Stats { id: "0123456789abcdef".into(), name: "/web".into(), ..Stats::default() };
        stats.cpu_stats.cpu_usage.total_usage = 300;
        stats.cpu_stats.system_cpu_usage = 2000;
        stats.cpu_stats.online_cpus = 4;
        stats.precpu_stats.cpu_usage.total_usage = 100;
        stats.precpu_stats.system_cpu_usage = 1000;
        stats.memory_stats.usage = 3 << 20;
        stats.memory_stats.limit = 16 << 20;
        stats.memory_stats.stats.insert("inactive_file".into(), 1 << 20);
        stats.networks.insert("eth0".into(), NetworkStats { rx_bytes: 1500, tx_bytes: 7, ..NetworkStats::default() });
        for (op, value) in [("read", 10), ("Write", 20), ("total", 30)] {
            let entry = BlkioEntry { op: op.into(), value, ..BlkioEntry::default() };
            stats.blkio_stats.io_service_bytes_recursive.push(entry);
        }
        stats.pids_stats.current = 3;
        stats
    }

    #[test]
    fn counters_become_loads() {
        let row = row("web", Some(&Sample::new(&stats())), true);
        for (field, text) in [
            ("ID", "0123456789ab"),
            ("Name", "web"),
            ("CPUPerc", "80.00%"),
            ("MemUsage", "2MiB / 16MiB"),
            ("MemPerc", "12.50%"),
            ("NetIO", "1.5kB / 7B"),
            ("BlockIO", "10B / 20B"),
            ("PIDs", "3"),
        ] {
            assert_eq!(row[field], text, "{field}");
        }
    }

    #[test]
    fn the_first_sample_has_no_load() {
        let mut stats = stats();
        stats.cpu_stats.system_cpu_usage = 0;
        assert_eq!(cpu_percent(&stats), 0.0);
        stats.memory_stats.stats.insert("total_inactive_file".into(), 2 << 20);
        assert_eq!(used_memory(&stats), 1 << 20);
        assert_eq!(row("x", None, true)["MemUsage"], "-- / --");
    }
}
