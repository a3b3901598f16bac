//! `HostConfig` to the wire.

use skep_engine::model::host::{
    HostConfig, MountRequest, MountSource, NamespaceMode, PortBinding, RestartPolicy, UsernsMode,
};
use skep_engine::model::network::NetworkMode;
use skep_types::Port;
use skep_wire::{BindOptions, DriverConfig, Mount, PortMap, TmpfsOptions, VolumeOptions};

/// As inspect shows it: defaults that the engine applies are filled in.
pub(crate) fn host(host: &HostConfig, default_shm_size: u64) -> skep_wire::HostConfig {
    let resources = &host.resources;
    skep_wire::HostConfig {
        binds: host.binds.clone(),
        container_id_file: host.container_id_file.clone(),
        log_config: skep_wire::LogConfig { driver: host.log.driver.clone(), config: host.log.options.clone() },
        network_mode: network_mode(&host.network_mode),
        port_bindings: ports(&host.port_bindings),
        restart_policy: restart_policy(host.restart_policy),
        auto_remove: host.auto_remove,
        volumes_from: host.volumes_from.clone(),
        console_size: host.console_size.map(u64::from),
        annotations: host.annotations.clone(),
        cap_add: host.cap_add.clone(),
        cap_drop: host.cap_drop.clone(),
        cgroupns_mode: namespace(&host.cgroupns_mode, "private"),
        dns: host.dns.clone(),
        dns_options: host.dns_options.clone(),
        dns_search: host.dns_search.clone(),
        extra_hosts: host.extra_hosts.clone(),
        links: host.links.clone(),
        group_add: host.group_add.clone(),
        ipc_mode: namespace(&host.ipc_mode, "private"),
        oom_score_adj: i64::from(host.oom_score_adj),
        pid_mode: namespace(&host.pid_mode, ""),
        privileged: host.privileged,
        publish_all_ports: host.publish_all_ports,
        readonly_rootfs: host.readonly_rootfs,
        security_opt: host.security_opt.clone(),
        tmpfs: host.tmpfs.clone(),
        uts_mode: namespace(&host.uts_mode, ""),
        userns_mode: match host.userns_mode {
            UsernsMode::Default => String::new(),
            UsernsMode::Host => "host".to_owned(),
        },
        shm_size: host.shm_size.unwrap_or_else(|| i64::try_from(default_shm_size).unwrap_or(i64::MAX)),
        sysctls: host.sysctls.clone(),
        runtime: super::info::RUNTIME.to_owned(),
        cpu_shares: resources.cpu_shares,
        memory: resources.memory,
        nano_cpus: resources.nano_cpus,
        cgroup_parent: resources.cgroup_parent.clone(),
        blkio_weight: resources.blkio_weight,
        cpu_period: resources.cpu_period,
        cpu_quota: resources.cpu_quota,
        cpuset_cpus: resources.cpuset_cpus.clone(),
        cpuset_mems: resources.cpuset_mems.clone(),
        devices: host
            .devices
            .iter()
            .map(|device| skep_wire::DeviceMapping {
                path_on_host: device.path_on_host.clone(),
                path_in_container: device.path_in_container.clone(),
                cgroup_permissions: device.permissions.clone(),
            })
            .collect(),
        device_cgroup_rules: host.device_cgroup_rules.clone(),
        memory_reservation: resources.memory_reservation,
        memory_swap: resources.memory_swap,
        memory_swappiness: resources.memory_swappiness,
        oom_kill_disable: resources.oom_kill_disable,
        pids_limit: resources.pids_limit,
        ulimits: resources
            .ulimits
            .iter()
            .map(|limit| skep_wire::Ulimit { name: limit.name.clone(), hard: limit.hard, soft: limit.soft })
            .collect(),
        mounts: host.mounts.iter().map(mount).collect(),
        masked_paths: host.masked_paths.clone(),
        readonly_paths: host.readonly_paths.clone(),
        init: host.init,
        ..skep_wire::HostConfig::default()
    }
}

pub(crate) fn network_mode(mode: &NetworkMode) -> String {
    match mode {
        NetworkMode::Default | NetworkMode::Bridge => "bridge".to_owned(),
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Container(other) => format!("container:{other}"),
        NetworkMode::Named(name) => name.clone(),
    }
}

fn namespace(mode: &NamespaceMode, default: &str) -> String {
    match mode {
        NamespaceMode::Default => default.to_owned(),
        NamespaceMode::Private => "private".to_owned(),
        NamespaceMode::Shareable => "shareable".to_owned(),
        NamespaceMode::None => "none".to_owned(),
        NamespaceMode::Host => "host".to_owned(),
        NamespaceMode::Container(other) => format!("container:{other}"),
    }
}

fn restart_policy(policy: RestartPolicy) -> skep_wire::RestartPolicy {
    let (name, retries) = match policy {
        RestartPolicy::No => ("no", 0),
        RestartPolicy::Always => ("always", 0),
        RestartPolicy::UnlessStopped => ("unless-stopped", 0),
        RestartPolicy::OnFailure { max_retries } => ("on-failure", i64::from(max_retries)),
    };
    skep_wire::RestartPolicy { name: name.to_owned(), maximum_retry_count: retries }
}

/// Ports by `80/tcp`; exposed ones that aren't published are `null`.
pub(crate) fn ports<'a>(ports: impl IntoIterator<Item = (&'a Port, &'a Vec<PortBinding>)>) -> PortMap {
    let place = |place: &PortBinding| skep_wire::PortBinding {
        host_ip: place.host_ip.clone(),
        host_port: place.host_port.clone(),
    };
    ports
        .into_iter()
        .map(|(port, places)| (port.to_string(), (!places.is_empty()).then(|| places.iter().map(place).collect())))
        .collect()
}

fn mount(request: &MountRequest) -> Mount {
    let mut mount = Mount { target: request.target.clone(), read_only: request.read_only, ..Mount::default() };
    match &request.source {
        MountSource::Bind { path, propagation, non_recursive, create_mountpoint } => {
            mount.kind = "bind".to_owned();
            mount.source = path.clone();
            let options = BindOptions {
                propagation: propagation.clone(),
                non_recursive: *non_recursive,
                create_mountpoint: *create_mountpoint,
                ..BindOptions::default()
            };
            mount.bind_options = Some(options).filter(|options| *options != BindOptions::default());
        }
        MountSource::Volume { name, no_copy, labels, driver, driver_options, subpath } => {
            mount.kind = "volume".to_owned();
            mount.source = name.clone();
            let driver = DriverConfig { name: driver.clone(), options: driver_options.clone() };
            let options = VolumeOptions {
                no_copy: *no_copy,
                labels: labels.clone(),
                subpath: subpath.clone(),
                driver_config: Some(driver).filter(|driver| *driver != DriverConfig::default()),
            };
            mount.volume_options = Some(options).filter(|options| *options != VolumeOptions::default());
        }
        MountSource::Tmpfs { size, mode } => {
            mount.kind = "tmpfs".to_owned();
            let options = TmpfsOptions { size_bytes: *size, mode: mode.unwrap_or_default(), ..TmpfsOptions::default() };
            mount.tmpfs_options = Some(options).filter(|options| *options != TmpfsOptions::default());
        }
    }
    mount
}
