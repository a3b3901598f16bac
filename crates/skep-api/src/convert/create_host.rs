//! `HostConfig` from the wire.

use std::collections::BTreeMap;

use skep_engine::model::host::{
    DeviceMapping, HostConfig, LogConfig, MountRequest, MountSource, NamespaceMode, PortBinding, Resources,
    RestartPolicy, Ulimit, UsernsMode,
};
use skep_engine::model::network::NetworkMode;
use skep_types::Port;
use skep_wire::{ContainerCreateRequest, PortMap};

use crate::http::ApiError;

/// Options that exclude each other and that the engine's types can't hold at once.
pub(crate) fn check_conflicts(request: &ContainerCreateRequest) -> Result<(), ApiError> {
    let host = &request.host_config;
    let refuse = |text: &str| Err(ApiError::invalid(text));
    if host.network_mode == "container" || host.network_mode == "container:" {
        return refuse("invalid network mode: invalid container format container:<name|id>");
    }
    if host.network_mode.starts_with("container:") {
        if !host.links.is_empty() {
            return refuse(
                "conflicting options: container type network can't be used with links. This would result in undefined \
                 behavior",
            );
        }
        if !request.config.mac_address.is_empty() {
            return refuse("conflicting options: mac-address and the network mode");
        }
    }
    if host.network_mode == "host" && !host.links.is_empty() {
        return refuse(
            "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
        );
    }
    if !matches!(host.isolation.as_str(), "" | "default") {
        return Err(ApiError::invalid(format!(
            "invalid isolation ({}): linux only supports 'default'",
            host.isolation
        )));
    }
    if host.annotations.contains_key("") {
        return refuse("invalid Annotations: the empty string is not permitted as an annotation key");
    }
    Ok(())
}

pub(crate) fn host(wire: skep_wire::HostConfig) -> Result<HostConfig, ApiError> {
    let [height, width] = wire.console_size;
    let resources = resources(&wire)?;
    Ok(HostConfig {
        binds: wire.binds,
        mounts: wire.mounts.into_iter().map(mount).collect::<Result<_, _>>()?,
        tmpfs: wire.tmpfs,
        volumes_from: wire.volumes_from,
        network_mode: network_mode(wire.network_mode),
        port_bindings: port_bindings(wire.port_bindings)?,
        publish_all_ports: wire.publish_all_ports,
        restart_policy: restart_policy(&wire.restart_policy)?,
        auto_remove: wire.auto_remove,
        log: LogConfig { driver: wire.log_config.driver, options: wire.log_config.config },
        cap_add: wire.cap_add,
        cap_drop: wire.cap_drop,
        privileged: wire.privileged,
        readonly_rootfs: wire.readonly_rootfs,
        security_opt: wire.security_opt,
        dns: wire.dns,
        dns_options: wire.dns_options,
        dns_search: wire.dns_search,
        extra_hosts: wire.extra_hosts,
        links: wire.links,
        group_add: wire.group_add,
        ipc_mode: namespace("IPC mode", &wire.ipc_mode, &["shareable", "none", "container"])?,
        pid_mode: namespace("PID mode", &wire.pid_mode, &["container"])?,
        uts_mode: namespace("UTS mode", &wire.uts_mode, &[])?,
        userns_mode: match wire.userns_mode.as_str() {
            "host" => UsernsMode::Host,
            _ => UsernsMode::Default,
        },
        cgroupns_mode: namespace("cgroup namespace mode", &wire.cgroupns_mode, &[])?,
        shm_size: Some(wire.shm_size).filter(|&size| size != 0),
        sysctls: wire.sysctls,
        devices: wire
            .devices
            .into_iter()
            .map(|device| DeviceMapping {
                path_on_host: device.path_on_host,
                path_in_container: device.path_in_container,
                permissions: device.cgroup_permissions,
            })
            .collect(),
        device_cgroup_rules: wire.device_cgroup_rules,
        init: wire.init,
        masked_paths: wire.masked_paths,
        readonly_paths: wire.readonly_paths,
        oom_score_adj: i32::try_from(wire.oom_score_adj).map_err(|_| {
            ApiError::invalid(format!("Invalid value {}, range for oom score adj is [-1000, 1000]", wire.oom_score_adj))
        })?,
        resources,
        container_id_file: wire.container_id_file,
        console_size: [characters(height), characters(width)],
        annotations: wire.annotations,
    })
}

fn characters(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn resources(wire: &skep_wire::HostConfig) -> Result<Resources, ApiError> {
    Ok(Resources {
        memory: wire.memory,
        memory_reservation: wire.memory_reservation,
        memory_swap: wire.memory_swap,
        memory_swappiness: wire.memory_swappiness.filter(|&value| value != -1),
        oom_kill_disable: wire.oom_kill_disable,
        nano_cpus: wire.nano_cpus,
        cpu_shares: wire.cpu_shares,
        cpu_period: wire.cpu_period,
        cpu_quota: wire.cpu_quota,
        cpuset_cpus: wire.cpuset_cpus.clone(),
        cpuset_mems: wire.cpuset_mems.clone(),
        pids_limit: wire.pids_limit,
        blkio_weight: wire.blkio_weight,
        cgroup_parent: wire.cgroup_parent.clone(),
        ulimits: wire
            .ulimits
            .iter()
            .map(|limit| Ulimit { name: limit.name.clone(), soft: limit.soft, hard: limit.hard })
            .collect(),
    })
}

fn network_mode(text: String) -> NetworkMode {
    match text.as_str() {
        "" | "default" => NetworkMode::Default,
        "bridge" => NetworkMode::Bridge,
        "host" => NetworkMode::Host,
        "none" => NetworkMode::None,
        _ => match text.strip_prefix("container:") {
            Some(other) => NetworkMode::Container(other.to_owned()),
            None => NetworkMode::Named(text),
        },
    }
}

/// `allowed` names the words that this kind of namespace knows besides nothing, `private` and `host`.
fn namespace(what: &str, text: &str, allowed: &[&str]) -> Result<NamespaceMode, ApiError> {
    let (word, container) = text.split_once(':').unwrap_or((text, ""));
    let known = matches!(word, "" | "host" | "private") || allowed.contains(&word);
    let fits = (word == "container") != container.is_empty();
    match word {
        _ if !known || !fits => Err(ApiError::invalid(format!("invalid {what}: {text}"))),
        "" => Ok(NamespaceMode::Default),
        "host" => Ok(NamespaceMode::Host),
        "shareable" => Ok(NamespaceMode::Shareable),
        "none" => Ok(NamespaceMode::None),
        "container" => Ok(NamespaceMode::Container(container.to_owned())),
        _ => Ok(NamespaceMode::Private),
    }
}

/// Ports with the bindings that they have, or with none.
pub(crate) fn ports(wire: PortMap) -> Result<BTreeMap<Port, Vec<PortBinding>>, ApiError> {
    let parse =
        |text: &String| text.parse().map_err(|_| ApiError::invalid(format!("invalid port specification: {text:?}")));
    let mut ports: BTreeMap<Port, Vec<PortBinding>> =
        wire.keys().map(|text| Ok((parse(text)?, Vec::new()))).collect::<Result<_, ApiError>>()?;
    ports.extend(port_bindings(wire)?);
    Ok(ports)
}

pub(crate) fn port_bindings(wire: PortMap) -> Result<BTreeMap<Port, Vec<PortBinding>>, ApiError> {
    let invalid = |text: &str| ApiError::invalid(format!("invalid port specification: {text:?}"));
    let mut bindings = BTreeMap::new();
    for (text, places) in wire {
        let port: Port = text.parse().map_err(|_| invalid(text.split('/').next().unwrap_or_default()))?;
        for place in places.unwrap_or_default() {
            if !is_port_or_range(&place.host_port) {
                return Err(invalid(&place.host_port));
            }
            if !place.host_ip.is_empty() && place.host_ip.parse::<std::net::IpAddr>().is_err() {
                return Err(ApiError::invalid(format!("invalid IP address: {:?}", place.host_ip)));
            }
            let list: &mut Vec<PortBinding> = bindings.entry(port).or_default();
            list.push(PortBinding { host_ip: place.host_ip, host_port: place.host_port });
        }
    }
    Ok(bindings)
}

/// Nothing, `8080` or `8000-8010`.
fn is_port_or_range(text: &str) -> bool {
    if text.is_empty() {
        return true;
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(first), Ok(last)) if first <= last)
}

pub(crate) fn restart_policy(wire: &skep_wire::RestartPolicy) -> Result<RestartPolicy, ApiError> {
    let retries = wire.maximum_retry_count;
    let never_retried = |policy| match retries {
        0 => Ok(policy),
        1.. => Err("maximum retry count can only be used with 'on-failure'".to_owned()),
        ..0 => Err("maximum retry count can only be used with 'on-failure' and cannot be negative".to_owned()),
    };
    match wire.name.as_str() {
        "" => Ok(RestartPolicy::No),
        "no" => never_retried(RestartPolicy::No),
        "always" => never_retried(RestartPolicy::Always),
        "unless-stopped" => never_retried(RestartPolicy::UnlessStopped),
        "on-failure" => match u32::try_from(retries) {
            Ok(max_retries) => Ok(RestartPolicy::OnFailure { max_retries }),
            Err(_) => Err("maximum retry count cannot be negative".to_owned()),
        },
        other => Err(format!("unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'")),
    }
    .map_err(|why| ApiError::invalid(format!("invalid restart policy: {why}")))
}

fn mount(wire: skep_wire::Mount) -> Result<MountRequest, ApiError> {
    let invalid = |why: &str| ApiError::invalid(format!("invalid mount config for type {:?}: {why}", wire.kind));
    let alien = |options: &str| {
        Err(ApiError::invalid(format!("{options} must not be specified on mount type {:?}", wire.kind)))
    };
    if !matches!(wire.kind.as_str(), "bind" | "volume" | "tmpfs") {
        return Err(invalid("mount type unknown"));
    }
    if wire.bind_options.is_some() && wire.kind != "bind" {
        return alien("BindOptions");
    }
    if wire.volume_options.is_some() && wire.kind != "volume" {
        return alien("VolumeOptions");
    }
    if wire.tmpfs_options.is_some() && wire.kind != "tmpfs" {
        return alien("TmpfsOptions");
    }
    let source = match wire.kind.as_str() {
        "bind" => {
            let options = wire.bind_options.unwrap_or_default();
            MountSource::Bind {
                path: wire.source,
                propagation: options.propagation,
                non_recursive: options.non_recursive,
                create_mountpoint: options.create_mountpoint,
            }
        }
        "volume" => {
            let options = wire.volume_options.unwrap_or_default();
            let driver = options.driver_config.unwrap_or_default();
            MountSource::Volume {
                name: wire.source,
                no_copy: options.no_copy,
                labels: options.labels,
                driver: driver.name,
                driver_options: driver.options,
                subpath: options.subpath,
            }
        }
        _ if !wire.source.is_empty() => return Err(invalid("field Source must not be specified")),
        _ => {
            let options = wire.tmpfs_options.unwrap_or_default();
            MountSource::Tmpfs { size: options.size_bytes, mode: Some(options.mode).filter(|&mode| mode != 0) }
        }
    };
    Ok(MountRequest { target: wire.target, read_only: wire.read_only, source })
}
