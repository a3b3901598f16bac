//! From a container's limits to the runtime's.

use skep_runtime::spec;

use crate::model::host::{HostConfig, Resources};

const PERIOD_MICROS: i64 = 100_000;

/// The cgroup limits of a container; `devices` are the rules of its device cgroup.
pub(super) fn resources(host: &HostConfig, devices: Vec<spec::DeviceRule>) -> spec::Resources {
    let limits = &host.resources;
    spec::Resources {
        devices,
        memory: memory(limits),
        cpu: cpu(limits),
        pids: limits.pids_limit.filter(|&limit| limit > 0).map(|limit| spec::Pids { limit }),
        block_io: (limits.blkio_weight > 0)
            .then(|| spec::BlockIo { weight: Some(limits.blkio_weight), ..spec::BlockIo::default() }),
        ..spec::Resources::default()
    }
}

fn memory(limits: &Resources) -> Option<spec::Memory> {
    let set = |value: i64| (value != 0).then_some(value);
    // Without a word about swap a container may swap as much as it has memory.
    let swap = match (limits.memory, limits.memory_swap) {
        (0, 0) => None,
        (memory, 0) => Some(memory.saturating_mul(2)),
        (_, swap) => Some(swap),
    };
    let memory = spec::Memory {
        limit: set(limits.memory),
        reservation: set(limits.memory_reservation),
        swap,
        swappiness: limits.memory_swappiness.and_then(|value| u64::try_from(value).ok()),
        disable_oom_killer: limits.oom_kill_disable.filter(|&disabled| disabled),
        ..spec::Memory::default()
    };
    (memory != spec::Memory::default()).then_some(memory)
}

fn cpu(limits: &Resources) -> Option<spec::Cpu> {
    let positive = |value: i64| u64::try_from(value).ok().filter(|&value| value > 0);
    let list = |text: &String| (!text.is_empty()).then(|| text.clone());
    let (period, quota) = match limits.nano_cpus {
        0 => (positive(limits.cpu_period), (limits.cpu_quota != 0).then_some(limits.cpu_quota)),
        nano => (positive(PERIOD_MICROS), Some(nano * PERIOD_MICROS / 1_000_000_000)),
    };
    let cpu = spec::Cpu {
        shares: positive(limits.cpu_shares),
        period,
        quota,
        cpus: list(&limits.cpuset_cpus),
        mems: list(&limits.cpuset_mems),
        ..spec::Cpu::default()
    };
    (cpu != spec::Cpu::default()).then_some(cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_become_a_quota_and_memory_brings_swap() {
        let mut host = HostConfig::default();
        assert_eq!(resources(&host, Vec::new()), spec::Resources::default());
        host.resources.nano_cpus = 1_500_000_000;
        host.resources.memory = 64 << 20;
        let limits = resources(&host, Vec::new());
        assert_eq!(limits.cpu.expect("cpu").quota, Some(150_000));
        assert_eq!(limits.memory.expect("memory").swap, Some(128 << 20));
    }
}
