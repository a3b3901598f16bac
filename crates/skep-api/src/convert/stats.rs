//! Samples of `stats`, and events, to the wire.

use skep_engine::model::event::{Event, EventType};
use skep_engine::model::stats::{Sample, Stats};
use skep_wire::{CpuStats, EventActor, NetworkStats, Timestamp};

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
    wire.memory_stats.limit = now.memory_limit;
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
    CpuStats { system_cpu_usage: sample.system_cpu_nanos, online_cpus: sample.online_cpus, ..CpuStats::default() }
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
