//! `info`: the engine's facts in Docker's form.

use std::collections::BTreeMap;

use chrono::Utc;
use skep_engine::model::system::SystemInfo;
use skep_engine::{EngineConfig, HostFirewall};
use skep_wire::{
    Commit, FirewallInfo, Info, Plugins, RegistryIndex, RegistryServiceConfig, RuntimeInfo, SwarmInfo, Timestamp,
};

/// The name that `--runtime` and `docker info` know skep's own runtime by.
pub(crate) const RUNTIME: &str = "skep-runtime";
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

pub(crate) fn info(facts: SystemInfo, config: &EngineConfig) -> Info {
    let version = env!("CARGO_PKG_VERSION");
    let counts = facts.containers;
    let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| [(*k).to_owned(), (*v).to_owned()]).collect();
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    Info {
        id: facts.id,
        containers: count(counts.running + counts.paused + counts.stopped),
        containers_running: count(counts.running),
        containers_paused: count(counts.paused),
        containers_stopped: count(counts.stopped),
        images: count(facts.images),
        driver: "overlay2".to_owned(),
        driver_status: pairs(&[
            ("Backing Filesystem", &facts.backing_filesystem),
            ("Supports d_type", "true"),
            ("Using metacopy", "false"),
            ("Native Overlay Diff", "true"),
            ("userxattr", "false"),
        ]),
        plugins: Plugins {
            volume: words(&["local"]),
            network: words(&["bridge", "host", "null"]),
            authorization: Vec::new(),
            log: words(&["json-file", "none"]),
        },
        memory_limit: facts.support.memory,
        swap_limit: facts.support.swap,
        cpu_cfs_period: facts.support.cpu_quota,
        cpu_cfs_quota: facts.support.cpu_quota,
        cpu_shares: facts.support.cpu_shares,
        cpu_set: facts.support.cpuset,
        pids_limit: facts.support.pids,
        oom_kill_disable: facts.support.oom_kill_disable,
        ipv4_forwarding: facts.ipv4_forwarding,
        n_fd: count(facts.descriptors),
        system_time: Timestamp::from(Utc::now()).to_string(),
        logging_driver: facts.log_driver,
        cgroup_driver: "cgroupfs".to_owned(),
        cgroup_version: facts.cgroup_version.to_string(),
        n_events_listener: count(facts.event_listeners),
        kernel_version: facts.kernel_version,
        operating_system: facts.operating_system,
        os_version: facts.os_version,
        os_type: "linux".to_owned(),
        architecture: std::env::consts::ARCH.to_owned(),
        index_server_address: DOCKER_HUB.to_owned(),
        registry_config: Some(registries(&facts.insecure_registries, &facts.registry_mirrors)),
        ncpu: count(facts.cpus),
        mem_total: i64::try_from(facts.memory).unwrap_or(i64::MAX),
        docker_root_dir: facts.data_root,
        http_proxy: extra(config, "http-proxy"),
        https_proxy: extra(config, "https-proxy"),
        no_proxy: extra(config, "no-proxy"),
        name: facts.host_name,
        labels: facts.labels,
        server_version: version.to_owned(),
        runtimes: BTreeMap::from([(
            RUNTIME.to_owned(),
            RuntimeInfo { path: facts.runtime_path, ..RuntimeInfo::default() },
        )]),
        default_runtime: RUNTIME.to_owned(),
        swarm: SwarmInfo { local_node_state: "inactive".to_owned(), ..SwarmInfo::default() },
        live_restore_enabled: true,
        init_binary: facts.init_path,
        runc_commit: Commit { id: version.to_owned() },
        init_commit: Commit { id: version.to_owned() },
        security_options: security_options(config),
        cdi_spec_dirs: config.cdi_spec_dirs.iter().map(|path| path.display().to_string()).collect(),
        firewall_backend: Some(FirewallInfo {
            driver: "nftables".to_owned(),
            info: vec![["HostFirewall".to_owned(), host_firewall(config).to_owned()]],
        }),
        warnings: facts.warnings,
        ..Info::default()
    }
}

fn host_firewall(config: &EngineConfig) -> &'static str {
    match config.host_firewall {
        HostFirewall::Respect => "respect",
        HostFirewall::Bypass => "bypass",
    }
}

fn security_options(config: &EngineConfig) -> Vec<String> {
    let mut options = vec!["name=seccomp,profile=builtin".to_owned()];
    options.extend(config.userns_remap.as_ref().map(|_| "name=userns".to_owned()));
    options.push("name=cgroupns".to_owned());
    options
}

/// Settings that only `info` shows.
fn extra(config: &EngineConfig, key: &str) -> String {
    config.extra.get(key).cloned().unwrap_or_default()
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn registries(insecure: &[String], mirrors: &[String]) -> RegistryServiceConfig {
    let (ranges, hosts): (Vec<_>, Vec<_>) = insecure.iter().cloned().partition(|entry| entry.contains('/'));
    let index = |name: &str, secure, official| {
        (
            name.to_owned(),
            RegistryIndex {
                name: name.to_owned(),
                mirrors: if official { mirrors.to_vec() } else { Vec::new() },
                secure,
                official,
            },
        )
    };
    RegistryServiceConfig {
        insecure_registry_cidrs: ["::1/128".to_owned(), "127.0.0.0/8".to_owned()].into_iter().chain(ranges).collect(),
        index_configs: std::iter::once(index("docker.io", true, true))
            .chain(hosts.iter().map(|host| index(host, false, false)))
            .collect(),
        mirrors: mirrors.to_vec(),
    }
}
