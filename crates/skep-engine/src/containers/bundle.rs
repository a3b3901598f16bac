//! What a container has on disk: its directory below the data root, and while it runs its bundle below the exec root.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use skep_runtime::cgroup::{Cgroup, CgroupPath};
use skep_runtime::protocol::{
    FirstProcess, Lifetime, LogConfig, OverlayOwners, OverlaySync, Rootfs, ShimConfig, StdinMode, VERSION,
};
use skep_types::ContainerId;

use super::mounts::Mount;
use super::oci::{self, Inputs};
use super::record::Record;
use super::rootfs;
use super::start::Running;
use super::{hosts, links};
use crate::engine::Inner;
use crate::model::host::{HostConfig, NamespaceMode};
use crate::model::network::NetworkMode;
use crate::model::status::Status;
use crate::model::view::{ContainerView, MountKind, OverlayDirs};
use crate::networks::{self, ToPlug};
use crate::{Error, Result, userns};

/// Everything the shim needs, written to disk.
pub(super) struct Prepared {
    pub(super) bundle: PathBuf,
    pub(super) config: ShimConfig,
    pub(super) cgroup: PathBuf,
    /// The network namespace to join or to fill; none for the host's.
    pub(super) netns: Option<OwnedFd>,
    /// What is to be plugged into a network.
    pub(super) to_plug: ToPlug,
    pub(super) hostname: String,
}

/// The directory of a container below the data root.
pub(crate) fn directory(engine: &Inner, id: ContainerId) -> PathBuf {
    engine.config.data_root.join("containers").join(id.to_string())
}

/// The bundle of a container below the exec root.
pub(crate) fn bundle_path(engine: &Inner, id: ContainerId) -> PathBuf {
    engine.config.exec_root.join("containers").join(id.to_string())
}

/// The cgroup of a container, as the runtime takes it.
pub(crate) fn cgroup_path(engine: &Inner, host: &HostConfig, id: ContainerId) -> PathBuf {
    let own = Some(host.resources.cgroup_parent.as_str()).filter(|parent| !parent.is_empty());
    let parent = own.or(engine.config.cgroup_parent.as_deref()).unwrap_or("/skep");
    Path::new("/").join(parent.trim_start_matches('/')).join(id.to_string())
}

pub(crate) fn open_cgroup(path: &Path) -> Result<Cgroup> {
    let name = path.to_string_lossy();
    CgroupPath::new(Some(&name), "")
        .and_then(|path| Cgroup::open(&path))
        .map_err(|e| Error::system(format!("opening the control group {}", path.display()), e))
}

/// The parts of the root file system.
pub(crate) fn overlay(engine: &Inner, record: &Record) -> Result<OverlayDirs> {
    let lower = engine.storage.lower_dirs(record.chain_id.as_ref())?;
    let rw = directory(engine, record.id).join("rw");
    Ok(OverlayDirs {
        lower: lower.iter().map(|path| path.display().to_string()).collect(),
        upper: rw.join("upper").display().to_string(),
        work: rw.join("work").display().to_string(),
    })
}

/// Writes the engine's files and the bundle, and sets addresses aside. Blocking.
pub(super) fn prepare(engine: &Inner, record: &Record, overlay: &OverlayDirs) -> Result<Prepared> {
    if let Some(text) = userns::conflict(&engine.config, &record.host) {
        return Err(Error::Invalid(text.to_owned()));
    }
    let (netns, to_plug) = engine.networks.namespace(engine, record)?;
    let linked = links::variables(engine, record)?;
    let hostname = hostname(engine, record)?;
    write_files(engine, record, &hostname)?;
    let identity = rootfs::identity(engine, record, overlay)?;
    let cgroup = cgroup_path(engine, &record.host, record.id);
    let mounts = sources(engine, record)?;
    let spec = oci::spec(&Inputs {
        engine: &engine.config,
        config: &record.config,
        host: &record.host,
        argv: &record.argv,
        identity: &identity,
        mounts: &mounts,
        files: &record.files,
        cgroup: &cgroup,
        pid_namespace_of: joined_pid_namespace(engine, record)?,
        user_namespace: joined_user_namespace(engine, record)?,
        hostname: &hostname,
        linked: &linked,
    })?;
    let bundle = bundle_path(engine, record.id);
    delete(&bundle)?;
    crate::storage::make_dir(&bundle, 0o700)?;
    if !matches!(record.host.network_mode, NetworkMode::Container(_)) {
        networks::write_resolver(engine, record, &bundle)?;
    }
    let text = serde_json::to_vec(&spec).map_err(|e| Error::system("writing the OCI specification", e))?;
    let file = bundle.join("config.json");
    // Not synced: the exec root does not outlive the machine.
    std::fs::write(&file, text).map_err(|e| Error::system(format!("writing {}", file.display()), e))?;
    let config = ShimConfig {
        version: VERSION,
        id: record.id,
        rootfs: Rootfs::Overlay {
            lower: overlay.lower.iter().map(PathBuf::from).collect(),
            upper: PathBuf::from(&overlay.upper),
            work: PathBuf::from(&overlay.work),
            sync: OverlaySync::Fulfilled,
            owners: match userns::maps(&engine.config, &record.host) {
                Some(_) => OverlayOwners::Mapped,
                None => OverlayOwners::Stored,
            },
        },
        stdin: match (record.config.open_stdin, record.config.stdin_once) {
            (false, _) => StdinMode::Closed,
            (true, false) => StdinMode::Open,
            (true, true) => StdinMode::Once,
        },
        netns_fd: None,
        names: networks::client_file(record, &bundle),
        log: log_config(record)?,
        grace: skep_runtime::protocol::Grace::default(),
        lifetime: Lifetime::Own,
        first: match oci::has_init(&engine.config, &record.host) {
            true => FirstProcess::Init,
            false => FirstProcess::Program,
        },
    };
    Ok(Prepared { bundle, config, cgroup, netns, to_plug, hostname })
}

/// The name a container knows itself by.
pub(super) fn hostname(engine: &Inner, record: &Record) -> Result<String> {
    if !record.config.hostname.is_empty() {
        return Ok(record.config.hostname.clone());
    }
    match &record.host.network_mode {
        NetworkMode::Host => Ok(rustix::system::uname().nodename().to_string_lossy().into_owned()),
        NetworkMode::Container(name) => {
            let other = engine.containers.find(name)?.view();
            Ok(match other.config.hostname.as_str() {
                "" => other.id.short(),
                own => own.to_owned(),
            })
        }
        _ if record.host.uts_mode == NamespaceMode::Host => {
            Ok(rustix::system::uname().nodename().to_string_lossy().into_owned())
        }
        _ => Ok(record.id.short()),
    }
}

fn write_files(engine: &Inner, record: &Record, hostname: &str) -> Result<()> {
    if matches!(record.host.network_mode, NetworkMode::Container(_)) {
        // The files are those of the other container.
        return Ok(());
    }
    write_hosts(engine, record, hostname, &[])?;
    write(&record.files.hostname, &format!("{hostname}\n"))
}

/// Writes /etc/hosts; again in place when the container's addresses are known or change, as the file may be mounted already.
pub(super) fn write_hosts(engine: &Inner, record: &Record, hostname: &str, own: &[IpAddr]) -> Result<()> {
    let gateways = engine.networks.host_gateways(&engine.config);
    let mut extra: Vec<(String, IpAddr)> = record
        .host
        .extra_hosts
        .iter()
        .filter_map(|entry| hosts::parse_extra_host(entry))
        .flat_map(|(host, address)| {
            let addresses =
                if address == "host-gateway" { gateways.clone() } else { address.parse().into_iter().collect() };
            addresses.into_iter().map(|address| (host.to_owned(), address))
        })
        .collect();
    extra.extend(links::hosts(engine, record));
    // In the host's network the host's names are the right ones.
    let text = match (&record.host.network_mode, extra.as_slice()) {
        (NetworkMode::Host, []) => std::fs::read_to_string("/etc/hosts").ok(),
        _ => None,
    };
    let text = text.unwrap_or_else(|| skep_dns::hosts::hosts_file(hostname, &record.config.domainname, own, &extra));
    write(&record.files.hosts, &text)
}

/// Not synced: these files are written anew at each start.
fn write(path: &str, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|e| Error::system(format!("writing {path}"), e))
}

/// The mounts with the sources as they are now; missing directories of `-v` are made, as Docker does.
fn sources(engine: &Inner, record: &Record) -> Result<Vec<Mount>> {
    let mut mounts = record.mounts.clone();
    for mount in &mut mounts {
        match mount.point.kind {
            MountKind::Volume => mount.point.source = engine.volumes.find(&mount.point.name)?.mountpoint,
            MountKind::Bind => {
                let path = Path::new(&mount.point.source);
                if mount.create_source && std::fs::symlink_metadata(path).is_err() {
                    std::fs::create_dir_all(path).map_err(|e| {
                        Error::system(format!("error while creating mount source path '{}'", path.display()), e)
                    })?;
                }
                if std::fs::metadata(path).is_err() {
                    return Err(Error::Invalid(format!(
                        "invalid mount config for type \"bind\": bind source path does not exist: {}",
                        path.display()
                    )));
                }
            }
            MountKind::Tmpfs => {}
        }
    }
    Ok(mounts)
}

fn joined_pid_namespace(engine: &Inner, record: &Record) -> Result<Option<i32>> {
    match &record.host.pid_mode {
        NamespaceMode::Container(name) => {
            let other = engine.containers.find(name)?;
            let pid = other
                .live()
                .map_err(|_| Error::Conflict(format!("cannot join PID of a non running container: {}", other.id)))?;
            Ok(Some(pid.pid))
        }
        _ => Ok(None),
    }
}

/// Whoever shares a namespace with another container needs rights over it, which only those in its user namespace have.
fn joined_user_namespace(engine: &Inner, record: &Record) -> Result<Option<PathBuf>> {
    let ((NamespaceMode::Container(name), _) | (_, NetworkMode::Container(name))) =
        (&record.host.pid_mode, &record.host.network_mode)
    else {
        return Ok(None);
    };
    if userns::maps(&engine.config, &record.host).is_none() {
        return Ok(None);
    }
    let other = engine.containers.find(name)?;
    let running = other
        .live()
        .map_err(|_| Error::Conflict(format!("cannot join namespaces of a non running container: {}", other.id)))?;
    let found = userns::of_process(running.pid)?;
    found.map(Some).ok_or_else(|| {
        Error::Invalid(format!(
            "container {name} lives in the host's user namespace: only a container with --userns=host can share its namespaces"
        ))
    })
}

fn log_config(record: &Record) -> Result<Option<LogConfig>> {
    if record.files.log.is_empty() {
        return Ok(None);
    }
    let mut log = LogConfig::new(PathBuf::from(&record.files.log));
    for (key, value) in &record.host.log.options {
        let invalid = |why: String| Error::Invalid(format!("invalid value for log option {key}: {why}"));
        match key.as_str() {
            "max-size" if value == "-1" => log.max_size = None,
            "max-size" => {
                let size = skep_types::parse_bytes(value).map_err(|e| invalid(e.to_string()))?;
                log.max_size = Some(u64::try_from(size).map_err(|_| invalid(value.clone()))?).filter(|&size| size > 0);
            }
            "max-file" => {
                let count: u32 = value.parse().map_err(|_| invalid(format!("\"{value}\" is not a number")))?;
                if count == 0 {
                    return Err(invalid("max-file cannot be less than 1".to_owned()));
                }
                log.max_files = count;
            }
            "compress" => log.compress = value == "true",
            "labels" => pick(&mut log.attrs, value, |name| record.config.labels.get(name).cloned()),
            "env" => pick(&mut log.attrs, value, |name| {
                let prefix = format!("{name}=");
                record.config.env.iter().find_map(|entry| entry.strip_prefix(&prefix)).map(str::to_owned)
            }),
            _ => return Err(Error::Invalid(format!("unknown log opt '{key}' for json-file log driver"))),
        }
    }
    Ok(Some(log))
}

fn pick(
    attributes: &mut std::collections::BTreeMap<String, String>,
    names: &str,
    value: impl Fn(&str) -> Option<String>,
) {
    attributes.extend(names.split(',').filter_map(|name| value(name).map(|value| (name.to_owned(), value))));
}

/// Checks log driver and options when a container is made.
pub(super) fn check_log(record: &Record) -> Result<()> {
    match record.host.log.driver.as_str() {
        "json-file" => log_config(record).map(drop),
        "none" => Ok(()),
        other => {
            Err(Error::NotImplemented(format!("error looking up logging plugin {other}: plugin \"{other}\" not found")))
        }
    }
}

/// Removes the files of a bundle.
pub(super) fn delete(bundle: &Path) -> Result<()> {
    match std::fs::remove_dir_all(bundle) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::system(format!("removing {}", bundle.display()), error))
        }
        _ => Ok(()),
    }
}

/// Ends processes that a container without a shim left behind, and removes its cgroup.
pub(crate) fn end_leftovers(cgroup: &Path) -> Result<()> {
    let Ok(cgroup) = open_cgroup(cgroup) else { return Ok(()) };
    // Frozen processes don't die on version 1 before they are thawed.
    let _ = cgroup.thaw();
    cgroup.kill_all().and_then(|()| cgroup.remove()).map_err(|e| Error::system("ending what is left of a container", e))
}

/// Takes a container that does not run out of the database, then deletes its files. Blocking.
pub(super) fn remove(engine: &Inner, record: &Record) -> Result<()> {
    engine.storage.delete_container(record.id)?;
    let directory = directory(engine, record.id);
    if let Err(error) = engine.storage.trash(&directory) {
        // The record is gone, and with it the container; the next start of the engine finds what is left of the files.
        tracing::warn!(container = %record.id, %error, "deleting its files");
    }
    Ok(())
}

/// What `inspect` and `ps` show.
pub(super) fn view(
    engine: &Inner,
    record: &Record,
    status: &Status,
    running: Option<&Running>,
    rootfs: &OverlayDirs,
) -> ContainerView {
    let mut ports: std::collections::BTreeMap<_, _> =
        record.config.exposed_ports.iter().map(|port| (*port, Vec::new())).collect();
    ports.extend(record.ports.clone());
    ContainerView {
        id: record.id,
        name: record.name.clone(),
        created: record.created,
        image_id: record.image_id,
        platform: record.platform.clone(),
        config: record.config.clone(),
        host: HostConfig { links: links::shown(engine, record), ..record.host.clone() },
        argv: record.argv.clone(),
        status: status.clone(),
        last_exit: record.last_exit.clone(),
        restart_count: record.restart_count,
        mounts: record.mounts.iter().filter(|m| m.point.kind != MountKind::Tmpfs).map(|m| m.point.clone()).collect(),
        endpoints: record.endpoints.clone(),
        ports: if running.is_some() { ports } else { Default::default() },
        sandbox_key: running.map(|running| format!("/proc/{}/ns/net", running.facts.pid)).unwrap_or_default(),
        sandbox_id: record.sandbox.clone(),
        exec_ids: engine.execs.running_in(record.id),
        files: record.files.clone(),
        rootfs: rootfs.clone(),
    }
}
