//! The specification of a step's container.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use skep_build::BuildError;
use skep_build::graph::{Limits, Network, Run};
use skep_runtime::spec::{Mount, Spec};
use skep_types::ErrorKind;

use super::super::error::{engine as engine_error, failed};
use crate::cdi::Registry;
use crate::containers::oci::{self, Inputs};
use crate::containers::users::Identity;
use crate::engine::Inner;
use crate::model::container::ContainerConfig;
use crate::model::host::{HostConfig, Resources, Ulimit};
use crate::model::network::NetworkMode;
use crate::model::view::EngineFiles;

/// The name by which a step knows itself.
const HOSTNAME: &str = "buildkitsandbox";
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the specification is made from.
pub(super) struct Parts<'a> {
    pub(super) run: &'a Run,
    pub(super) identity: &'a Identity,
    pub(super) cgroup: &'a Path,
    pub(super) bundle: &'a Path,
    pub(super) mounts: Vec<Mount>,
    /// `NAME=value` of secrets.
    pub(super) secret_env: Vec<String>,
    pub(super) terminal: bool,
}

/// Writes the files that belong to it, and makes the specification.
pub(super) fn make(engine: &Inner, parts: Parts<'_>) -> Result<Spec, BuildError> {
    let run = parts.run;
    let hostname = run.hostname.as_deref().filter(|name| !name.is_empty()).unwrap_or(HOSTNAME);
    let host = host_config(run);
    let files = write_files(engine, &parts, hostname, &host)?;
    let config = ContainerConfig {
        user: run.user.clone(),
        working_dir: run.cwd.to_string_lossy().into_owned(),
        tty: parts.terminal,
        ..ContainerConfig::default()
    };
    let inputs = Inputs {
        engine: &engine.config,
        config: &config,
        host: &host,
        argv: &run.argv,
        identity: parts.identity,
        mounts: &[],
        files: &files,
        cgroup: parts.cgroup,
        pid_namespace_of: None,
        user_namespace: None,
        hostname,
        linked: &[],
    };
    let mut spec = oci::spec(&inputs).map_err(engine_error)?;
    let taken = |path: &Path| parts.mounts.iter().any(|own| own.destination == path);
    spec.mounts.retain(|default| !taken(&default.destination) && default.destination != Path::new("/sbin/docker-init"));
    spec.mounts.extend(parts.mounts);
    if let Some(process) = &mut spec.process {
        process.args.clone_from(&run.argv);
        let home = &parts.identity.home;
        process.env = environment(&run.env, &run.silent_env, parts.secret_env, home, parts.terminal);
    }
    add_devices(engine, run, &mut spec)?;
    Ok(spec)
}

/// Gives it the devices that it asks for; one that is not there and not required is left out.
fn add_devices(engine: &Inner, run: &Run, spec: &mut Spec) -> Result<(), BuildError> {
    if run.devices.is_empty() {
        return Ok(());
    }
    let registry = Registry::read(&engine.config.cdi_spec_dirs);
    let mut names: Vec<String> = Vec::new();
    for device in &run.devices {
        let found = registry.find(&device.name).map_err(engine_error)?;
        if found.is_empty() && device.required {
            let text = format!("required device {:?} is not registered{}", device.name, registry.excuse());
            return Err(BuildError::new(ErrorKind::NotFound, text));
        }
        if found.is_empty() {
            tracing::warn!(device = device.name, "a step's device is not registered{}", registry.excuse());
        }
        let known: Vec<String> = found.into_iter().filter(|name| !names.contains(name)).collect();
        names.extend(known);
    }
    registry.inject(&names, spec).map_err(engine_error)
}

/// What the step sets, what the client adds, what it can't do without.
pub(super) fn environment(
    own: &[String],
    silent: &[String],
    secret: Vec<String>,
    home: &str,
    terminal: bool,
) -> Vec<String> {
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let mut env = own.to_vec();
    for more in silent {
        if !env.iter().any(|own| name(own) == name(more)) {
            env.push(more.clone());
        }
    }
    env.extend(secret);
    let needed = [("PATH=", DEFAULT_PATH.to_owned()), ("HOME=", format!("HOME={home}"))];
    for (prefix, entry) in needed.into_iter().chain(terminal.then(|| ("TERM=", "TERM=xterm".to_owned()))) {
        if !env.iter().any(|own| own.starts_with(prefix)) {
            env.push(entry);
        }
    }
    env
}

fn host_config(run: &Run) -> HostConfig {
    let Limits { ulimits, shm_size, cgroup_parent, .. } = &run.limits;
    let ulimit = |(name, soft, hard): &(String, i64, i64)| Ulimit { name: name.clone(), soft: *soft, hard: *hard };
    HostConfig {
        network_mode: match run.network {
            Network::Default => NetworkMode::Bridge,
            Network::None => NetworkMode::None,
            Network::Host => NetworkMode::Host,
        },
        privileged: run.insecure,
        shm_size: i64::try_from(*shm_size).ok().filter(|size| *size > 0),
        init: Some(false),
        resources: Resources {
            memory: run.limits.memory,
            memory_swap: run.limits.memory_swap,
            cpu_shares: i64::try_from(run.limits.cpu_shares).unwrap_or(0),
            cpu_quota: run.limits.cpu_quota,
            cpu_period: i64::try_from(run.limits.cpu_period).unwrap_or(0),
            cpuset_cpus: run.limits.cpuset_cpus.clone(),
            cpuset_mems: run.limits.cpuset_mems.clone(),
            cgroup_parent: cgroup_parent.clone(),
            ulimits: ulimits.iter().map(ulimit).collect(),
            ..Resources::default()
        },
        ..HostConfig::default()
    }
}

/// /etc/hosts and /etc/resolv.conf.
fn write_files(
    engine: &Inner,
    parts: &Parts<'_>,
    hostname: &str,
    host: &HostConfig,
) -> Result<EngineFiles, BuildError> {
    let gateway = engine.networks.host_gateways(&engine.config).first().copied();
    let mut hosts = format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for (name, address) in &parts.run.limits.extra_hosts {
        let address = match address.as_str() {
            "host-gateway" => gateway,
            text => text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok(),
        };
        let address =
            address.ok_or_else(|| BuildError::invalid(format!("invalid IP address for the host name {name}")))?;
        hosts += &format!("{address}\t{name}\n");
    }
    let resolv = crate::networks::resolv_conf_of_step(&engine.config, host).map_err(engine_error)?;
    let write = |name: &str, text: &str| -> Result<String, BuildError> {
        let path: PathBuf = parts.bundle.join(name);
        std::fs::write(&path, text).map_err(failed("write a file for a step"))?;
        Ok(path.to_string_lossy().into_owned())
    };
    Ok(EngineFiles {
        hosts: write("hosts", &hosts)?,
        resolv_conf: write("resolv.conf", &resolv)?,
        ..EngineFiles::default()
    })
}
