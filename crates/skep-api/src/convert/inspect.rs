//! Answers of inspect: a container's view, and an exec's, to the wire.

use std::collections::BTreeMap;

use skep_engine::EngineConfig;
use skep_engine::model::container::ContainerConfig;
use skep_engine::model::exec::{ExecStatus, ExecView};
use skep_engine::model::status::Status;
use skep_engine::model::view::{ContainerSize, ContainerView, MountPoint};
use skep_wire::{
    ContainerInspect, ContainerState, Empty, ExecInspect, ExecProcess, GraphDriver, NetworkSettings, Timestamp,
};

use super::{endpoint, host};

/// The network whose addresses are repeated at the top of `NetworkSettings`.
const DEFAULT_NETWORK: &str = "bridge";

pub(crate) fn container(view: &ContainerView, size: Option<ContainerSize>, engine: &EngineConfig) -> ContainerInspect {
    let bytes = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let (path, args) =
        view.argv.split_first().map_or_else(Default::default, |(path, args)| (path.clone(), args.to_vec()));
    let mut host_config = host::host(&view.host, engine.default_shm_size);
    if host_config.log_config.driver.is_empty() {
        host_config.log_config.driver.clone_from(&engine.log.driver);
    }
    ContainerInspect {
        id: view.id.to_string(),
        created: view.created.into(),
        path,
        args,
        state: state(view),
        image: view.image_id.to_string(),
        resolv_conf_path: view.files.resolv_conf.clone(),
        hostname_path: view.files.hostname.clone(),
        hosts_path: view.files.hosts.clone(),
        log_path: view.files.log.clone(),
        name: format!("/{}", view.name),
        restart_count: i64::from(view.restart_count),
        driver: "overlay2".to_owned(),
        platform: view.platform.os.clone(),
        exec_ids: view.exec_ids.iter().map(ToString::to_string).collect(),
        host_config,
        graph_driver: graph_driver(view),
        size_rw: size.map(|size| bytes(size.writable)),
        size_root_fs: size.map(|size| bytes(size.root)),
        mounts: view.mounts.iter().map(mount_point).collect(),
        config: config(&view.config),
        network_settings: network_settings(view),
        ..ContainerInspect::default()
    }
}

fn state(view: &ContainerView) -> ContainerState {
    let running = view.status.running();
    let ended = view.status.exited().or(view.last_exit.as_ref());
    let shown = if never_ran(&view.status) { Status::Created.name() } else { view.status.name() };
    let mut state = ContainerState {
        status: shown.to_owned(),
        running: running.is_some(),
        started_at: Timestamp::or_never(ended.and_then(|ended| ended.started_at)),
        ..ContainerState::default()
    };
    if let Some(ended) = ended {
        state.oom_killed = ended.oom_killed;
        state.exit_code = i64::from(ended.code);
        state.error.clone_from(&ended.error);
        state.finished_at = Timestamp::or_never(ended.started_at.map(|_| ended.finished_at));
    }
    match &view.status {
        Status::Running(_) => {}
        Status::Paused(_) => state.paused = true,
        Status::Restarting(_) => (state.running, state.restarting) = (true, true),
        Status::Dead => state.dead = true,
        Status::Created | Status::Exited(_) | Status::Removing => {}
    }
    if let Some(running) = running {
        state.pid = i64::from(running.pid);
        state.started_at = running.started_at.into();
        (state.oom_killed, state.exit_code) = (false, 0);
        state.error.clear();
    }
    state
}

/// A container whose first start failed: to Docker it still is one that was only made.
pub(crate) fn never_ran(status: &Status) -> bool {
    matches!(status, Status::Exited(ended) if ended.started_at.is_none())
}

pub(crate) fn config(config: &ContainerConfig) -> skep_wire::ContainerConfig {
    skep_wire::ContainerConfig {
        hostname: config.hostname.clone(),
        domainname: config.domainname.clone(),
        user: config.user.clone(),
        attach_stdin: config.attach_stdin,
        attach_stdout: config.attach_stdout,
        attach_stderr: config.attach_stderr,
        exposed_ports: config.exposed_ports.iter().map(|port| (port.to_string(), Empty {})).collect(),
        tty: config.tty,
        open_stdin: config.open_stdin,
        stdin_once: config.stdin_once,
        env: config.env.clone(),
        cmd: config.cmd.clone(),
        image: config.image.clone(),
        volumes: config.volumes.iter().map(|path| (path.clone(), Empty {})).collect(),
        working_dir: config.working_dir.clone(),
        entrypoint: config.entrypoint.clone(),
        on_build: config.on_build.clone(),
        labels: config.labels.clone(),
        stop_signal: config.stop_signal.clone().unwrap_or_default(),
        stop_timeout: config.stop_timeout,
        shell: config.shell.clone().unwrap_or_default(),
        ..skep_wire::ContainerConfig::default()
    }
}

/// The overlay's directories. The merged tree is mounted nowhere on the host; while the container runs, it can be reached
/// through its process.
fn graph_driver(view: &ContainerView) -> GraphDriver {
    let dirs = &view.rootfs;
    let mut data = BTreeMap::from([("ID".to_owned(), view.id.to_string())]);
    let mut put = |key: &str, value: String| {
        if !value.is_empty() {
            data.insert(key.to_owned(), value);
        }
    };
    put("LowerDir", dirs.lower.join(":"));
    put("UpperDir", dirs.upper.clone());
    put("WorkDir", dirs.work.clone());
    put("MergedDir", view.status.running().map(|running| format!("/proc/{}/root", running.pid)).unwrap_or_default());
    GraphDriver { data, name: "overlay2".to_owned() }
}

pub(crate) fn mount_point(mount: &MountPoint) -> skep_wire::MountPoint {
    skep_wire::MountPoint {
        kind: mount.kind.as_str().to_owned(),
        name: mount.name.clone(),
        source: mount.source.clone(),
        destination: mount.destination.clone(),
        driver: mount.driver.clone(),
        mode: mount.mode.clone(),
        rw: mount.writable,
        propagation: mount.propagation.clone(),
    }
}

fn network_settings(view: &ContainerView) -> NetworkSettings {
    let networks: BTreeMap<_, _> =
        view.endpoints.iter().map(|(name, place)| (name.clone(), endpoint::endpoint(place))).collect();
    let main = networks.get(DEFAULT_NETWORK).cloned().unwrap_or_default();
    NetworkSettings {
        sandbox_id: view.sandbox_id.clone(),
        sandbox_key: view.sandbox_key.clone(),
        ports: if view.status.running().is_some() { host::ports(&view.ports) } else { BTreeMap::new() },
        endpoint_id: main.endpoint_id,
        gateway: main.gateway,
        ip_address: main.ip_address,
        ip_prefix_len: main.ip_prefix_len,
        ipv6_gateway: main.ipv6_gateway,
        global_ipv6_address: main.global_ipv6_address,
        global_ipv6_prefix_len: main.global_ipv6_prefix_len,
        mac_address: main.mac_address,
        networks,
        ..NetworkSettings::default()
    }
}

pub(crate) fn exec(view: &ExecView) -> ExecInspect {
    let config = &view.config;
    let (running, exit_code, pid) = match view.status {
        ExecStatus::Created => (false, None, 0),
        ExecStatus::Running(pid) => (true, None, i64::from(pid)),
        ExecStatus::Exited(code) => (false, Some(i64::from(code)), 0),
    };
    let (entrypoint, arguments) =
        config.cmd.split_first().map_or_else(Default::default, |(first, rest)| (first.clone(), rest.to_vec()));
    ExecInspect {
        id: view.id.to_string(),
        running,
        exit_code,
        process_config: ExecProcess {
            tty: config.tty,
            entrypoint,
            arguments,
            privileged: Some(config.privileged),
            user: config.user.clone(),
        },
        open_stdin: config.attach_stdin,
        open_stderr: config.attach_stderr,
        open_stdout: config.attach_stdout,
        can_remove: matches!(view.status, ExecStatus::Exited(_)),
        container_id: view.container.to_string(),
        detach_keys: String::new(),
        pid,
    }
}
