//! Checks of a create request that need nothing but the request and a few facts of the machine. Texts are Docker's.

use crate::model::container::ContainerConfig;
use crate::model::host::{HostConfig, NamespaceMode, Resources, RestartPolicy};
use crate::model::network::NetworkMode;
use crate::{Error, Result};

use super::hosts::parse_extra_host;

/// The least memory a container can start with, in bytes.
const MINIMUM_MEMORY: i64 = 6 << 20;

/// Facts of the machine that limits are checked against.
pub(super) struct Machine {
    /// Processors that are online.
    pub(super) cpus: u32,
    /// Why the engine's user namespaces exclude this.
    pub(super) userns: Option<&'static str>,
}

/// Refuses what can't work, before anything is made.
pub(super) fn check(config: &ContainerConfig, host: &HostConfig, machine: &Machine) -> Result<()> {
    let problem = machine
        .userns
        .map(str::to_owned)
        .or_else(|| check_basics(config, host))
        .or_else(|| check_network(config, host))
        .or_else(|| check_memory(&host.resources))
        .or_else(|| check_cpu(&host.resources, machine));
    problem.map_or(Ok(()), |text| Err(Error::Invalid(text)))
}

fn check_basics(config: &ContainerConfig, host: &HostConfig) -> Option<String> {
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return Some(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        ));
    }
    if host.auto_remove && host.restart_policy != RestartPolicy::No {
        return Some("can't create 'AutoRemove' container with restart policy".to_owned());
    }
    if host.shm_size.is_some_and(|size| size < 0) {
        return Some("SHM size can not be less than 0".to_owned());
    }
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return Some(format!("Invalid value {}, range for oom score adj is [-1000, 1000]", host.oom_score_adj));
    }
    if let Some(bad) = host.extra_hosts.iter().find(|entry| parse_extra_host(entry).is_none()) {
        return Some(format!("bad format for add-host: \"{bad}\""));
    }
    if host.shm_size.is_some() && host.ipc_mode == NamespaceMode::Host && host.shm_size != Some(0) {
        return None;
    }
    let signal = config.stop_signal.as_deref().filter(|signal| !signal.is_empty());
    if let Some(error) = signal.and_then(|signal| signal.parse::<skep_types::Signal>().err()) {
        return Some(error.to_string());
    }
    None
}

fn check_network(config: &ContainerConfig, host: &HostConfig) -> Option<String> {
    let shared = match &host.network_mode {
        NetworkMode::Container(_) => true,
        NetworkMode::Host | NetworkMode::None | NetworkMode::Default | NetworkMode::Bridge | NetworkMode::Named(_) => {
            false
        }
    };
    if !shared {
        return (host.uts_mode == NamespaceMode::Host && !config.hostname.is_empty())
            .then(|| "conflicting options: hostname and the UTS mode".to_owned());
    }
    let conflict = |what: &str| Some(format!("conflicting options: {what} and the network mode"));
    if !config.hostname.is_empty() {
        return conflict("hostname");
    }
    if !host.dns.is_empty() {
        return conflict("dns");
    }
    if !host.extra_hosts.is_empty() {
        return conflict("custom host-to-IP mapping");
    }
    if !host.port_bindings.is_empty() || host.publish_all_ports {
        return Some("conflicting options: port publishing and the container type network mode".to_owned());
    }
    if !config.exposed_ports.is_empty() {
        return Some("conflicting options: port exposing and the container type network mode".to_owned());
    }
    None
}

fn check_memory(limits: &Resources) -> Option<String> {
    if limits.memory != 0 && limits.memory < MINIMUM_MEMORY {
        return Some("Minimum memory limit allowed is 6MB".to_owned());
    }
    if limits.memory > 0 && limits.memory_swap > 0 && limits.memory_swap < limits.memory {
        return Some("Minimum memoryswap limit should be larger than memory limit, see usage".to_owned());
    }
    if limits.memory == 0 && limits.memory_swap > 0 {
        return Some("You should always set the Memory limit when using Memoryswap limit, see usage".to_owned());
    }
    if let Some(value) = limits.memory_swappiness.filter(|&value| value != -1 && !(0..=100).contains(&value)) {
        return Some(format!("Invalid value: {value}, valid memory swappiness range is 0-100"));
    }
    if limits.memory_reservation > 0 && limits.memory_reservation < MINIMUM_MEMORY {
        return Some("Minimum memory reservation allowed is 6MB".to_owned());
    }
    if limits.memory > 0 && limits.memory_reservation > limits.memory {
        return Some("Minimum memory limit can not be less than memory reservation limit, see usage".to_owned());
    }
    None
}

fn check_cpu(limits: &Resources, machine: &Machine) -> Option<String> {
    if limits.nano_cpus > 0 && limits.cpu_period > 0 {
        return Some("Conflicting options: Nano CPUs and CPU Period cannot both be set".to_owned());
    }
    if limits.nano_cpus > 0 && limits.cpu_quota > 0 {
        return Some("Conflicting options: Nano CPUs and CPU Quota cannot both be set".to_owned());
    }
    let most = i64::from(machine.cpus) * 1_000_000_000;
    if limits.nano_cpus < 0 || limits.nano_cpus > most {
        return Some(format!(
            "range of CPUs is from 0.01 to {0}.00, as there are only {0} CPUs available",
            machine.cpus
        ));
    }
    if limits.cpu_period != 0 && !(1_000..=1_000_000).contains(&limits.cpu_period) {
        return Some("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)".to_owned());
    }
    if limits.cpu_quota != 0 && limits.cpu_quota < 1_000 && limits.cpu_quota != -1 {
        return Some("CPU cfs quota can not be less than 1ms (i.e. 1000)".to_owned());
    }
    if limits.cpu_shares < 0 {
        return Some(format!("invalid CPU shares ({}): value must be a positive integer", limits.cpu_shares));
    }
    if limits.blkio_weight != 0 && !(10..=1000).contains(&limits.blkio_weight) {
        return Some("Range of blkio weight is from 10 to 1000".to_owned());
    }
    check_set("cpus", "CPUs", &limits.cpuset_cpus, &online("/sys/devices/system/cpu/online"))
        .or_else(|| check_set("mems", "memory nodes", &limits.cpuset_mems, &online("/sys/devices/system/node/online")))
}

fn online(path: &str) -> String {
    std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

fn check_set(option: &str, what: &str, wanted: &str, available: &str) -> Option<String> {
    if wanted.is_empty() {
        return None;
    }
    let Some(set) = parse_set(wanted) else {
        return Some(format!("Invalid value {wanted} for cpuset {option}: invalid format: {wanted}"));
    };
    let there = parse_set(available)?;
    (!set.iter().all(|number| there.contains(number)))
        .then(|| format!("Requested {what} are not available - requested {wanted}, available: {available}"))
}

/// `0-2,5`.
fn parse_set(text: &str) -> Option<std::collections::BTreeSet<u32>> {
    let mut set = std::collections::BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last > 8192 {
            return None;
        }
        set.extend(first..=last);
    }
    Some(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl FnOnce(&mut HostConfig)) -> String {
        let mut host = HostConfig::default();
        change(&mut host);
        match check(&ContainerConfig::default(), &host, &Machine { cpus: 2, userns: None }) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn limits_that_cannot_work_get_dockers_words() {
        assert_eq!(with(|_| {}), "");
        assert_eq!(with(|h| h.resources.memory = 4 << 20), "Minimum memory limit allowed is 6MB");
        assert_eq!(
            with(|h| (h.resources.memory, h.resources.memory_swap) = (64 << 20, 32 << 20)),
            "Minimum memoryswap limit should be larger than memory limit, see usage"
        );
        assert_eq!(
            with(|h| h.resources.memory_swap = 32 << 20),
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        );
        assert_eq!(
            with(|h| h.resources.nano_cpus = 3_000_000_000),
            "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"
        );
        assert_eq!(
            with(|h| h.resources.cpuset_cpus = "x".to_owned()),
            "Invalid value x for cpuset cpus: invalid format: x"
        );
        assert!(
            with(|h| h.resources.cpuset_cpus = "4000".to_owned()).starts_with("Requested CPUs are not available - ")
        );
        assert_eq!(
            with(|h| (h.auto_remove, h.restart_policy) = (true, RestartPolicy::Always)),
            "can't create 'AutoRemove' container with restart policy"
        );
    }
}
