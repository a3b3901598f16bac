//! Samples of `stats`, and events, to the wire.

use skep_engine::model::event::{Event, EventType};
use skep_engine::model::stats::{Sample, Stats};
use skep_wire::{
    BlkioEntry, BlkioStats, CpuStats, CpuUsage, EventActor, MemoryStats, NetworkStats, PidsStats, Throttling, Timestamp,
};

pub(crate) fn stats(stats: &Stats) -> skep_wire::Stats {
    let mut wire =
        skep_wire::Stats { name: format!("/{}", stats.name), id: stats.id.to_string(), ..skep_wire::Stats::default() };
    if let Some(before) = &stats.before {
        wire.preread = Timestamp::from(before.read);
        wire.precpu_stats = cpu(before);
    }
    let Some(now) = &stats.now else { return wire };
    wire.read = Timestamp::from(now.read);
    wire.cpu_stats = cpu(now);
    wire.memory_stats = memory(now);
    wire.pids_stats = now.cgroup.pids.map_or_else(PidsStats::default, |pids| PidsStats {
        current: pids.current,
        limit: pids.limit.unwrap_or_default(),
    });
    wire.blkio_stats = BlkioStats {
        io_service_bytes_recursive: entries(&now.cgroup.blkio.service_bytes),
        io_serviced_recursive: entries(&now.cgroup.blkio.serviced),
        ..BlkioStats::default()
    };
    wire.networks = now
        .networks
        .iter()
        .map(|(name, counters)| {
            let counters = NetworkStats {
                rx_bytes: counters.rx_bytes,
                rx_packets: counters.rx_packets,
                rx_errors: counters.rx_errors,
                rx_dropped: counters.rx_dropped,
                tx_bytes: counters.tx_bytes,
                tx_packets: counters.tx_packets,
                tx_errors: counters.tx_errors,
                tx_dropped: counters.tx_dropped,
            };
            (name.clone(), counters)
        })
        .collect();
    wire
}

fn cpu(sample: &Sample) -> CpuStats {
    let cpu = &sample.cgroup.cpu;
    CpuStats {
        cpu_usage: CpuUsage {
            total_usage: cpu.total,
            percpu_usage: cpu.per_cpu.clone(),
            usage_in_kernelmode: cpu.kernel,
            usage_in_usermode: cpu.user,
        },
        system_cpu_usage: sample.system_cpu_nanos,
        online_cpus: sample.online_cpus,
        throttling_data: Throttling {
            periods: cpu.throttling.periods,
            throttled_periods: cpu.throttling.throttled_periods,
            throttled_time: cpu.throttling.throttled_time,
        },
    }
}

fn memory(sample: &Sample) -> MemoryStats {
    let Some(memory) = &sample.cgroup.memory else { return MemoryStats::default() };
    MemoryStats {
        usage: memory.usage,
        max_usage: memory.max_usage.unwrap_or_default(),
        stats: memory.stats.iter().cloned().collect(),
        failcnt: memory.failcnt.unwrap_or_default(),
        limit: sample.memory_limit,
    }
}

fn entries(counters: &[skep_runtime::cgroup::BlkioEntry]) -> Vec<BlkioEntry> {
    let entry = |counter: &skep_runtime::cgroup::BlkioEntry| BlkioEntry {
        major: counter.major,
        minor: counter.minor,
        op: counter.op.to_ascii_lowercase(),
        value: counter.value,
    };
    counters.iter().map(entry).collect()
}

pub(crate) fn event(event: Event) -> skep_wire::Event {
    let mut wire = skep_wire::Event {
        kind: event.kind.as_str().to_owned(),
        action: event.action,
        scope: "local".to_owned(),
        time: event.time.timestamp(),
        time_nano: event.time.timestamp_nanos_opt().unwrap_or_default(),
        actor: EventActor { id: event.actor, attributes: event.attributes },
        ..skep_wire::Event::default()
    };
    if matches!(event.kind, EventType::Container | EventType::Image) {
        wire.status.clone_from(&wire.action);
        wire.id.clone_from(&wire.actor.id);
    }
    if event.kind == EventType::Container {
        wire.from = wire.actor.attributes.get("image").cloned().unwrap_or_default();
    }
    wire
}
