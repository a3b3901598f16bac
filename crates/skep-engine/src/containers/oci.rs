//! The OCI specification of a container, written anew at each start.
//!
//! Image data never steers it beyond what Docker lets an image say (user, environment, working directory, command): labels
//! and annotations of an image are not looked at.

use std::path::{Path, PathBuf};

use skep_runtime::spec::{
    Capabilities, Linux, Mount, Namespace, NamespaceKind, Process, Rlimit, Root, Spec, User, VERSION,
};

use super::limits;
use super::mounts::Mount as ContainerMount;
use super::security;
use super::users::Identity;
use crate::config::EngineConfig;
use crate::model::container::ContainerConfig;
use crate::model::host::{HostConfig, NamespaceMode};
use crate::model::network::NetworkMode;
use crate::model::view::{EngineFiles, MountKind};
use crate::{Error, Result, userns};

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where the init of `--init` appears in the container.
const INIT: &str = "/sbin/docker-init";

const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const MASKED_MORE: [&str; 1] = ["/sys/devices/virtual/powercap"];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Everything a specification is made from.
pub(crate) struct Inputs<'a> {
    pub(crate) engine: &'a EngineConfig,
    pub(crate) config: &'a ContainerConfig,
    pub(crate) host: &'a HostConfig,
    pub(crate) argv: &'a [String],
    pub(crate) identity: &'a Identity,
    /// With `source` set for volumes.
    pub(crate) mounts: &'a [ContainerMount],
    pub(crate) files: &'a EngineFiles,
    pub(crate) cgroup: &'a Path,
    /// The process whose PID namespace is joined.
    pub(crate) pid_namespace_of: Option<i32>,
    /// The user namespace that is joined.
    pub(crate) user_namespace: Option<PathBuf>,
    /// The hostname, after defaults.
    pub(crate) hostname: &'a str,
    /// Variables of links.
    pub(crate) linked: &'a [String],
}

pub(crate) fn spec(inputs: &Inputs<'_>) -> Result<Spec> {
    let host = inputs.host;
    let capabilities = security::capabilities(host)?;
    let options = security::options(host, inputs.engine.no_new_privileges)?;
    let (devices, rules) = super::devices::devices(host)?;
    let unmasked = host.privileged || options.unmask_paths;
    let paths = |own: &Option<Vec<String>>, default: Vec<PathBuf>| match own {
        _ if unmasked => Vec::new(),
        Some(own) => own.iter().map(PathBuf::from).collect(),
        None => default,
    };
    let maps = userns::maps(inputs.engine, host).cloned();
    let masked = MASKED.iter().chain(&MASKED_MORE).map(PathBuf::from).collect();
    Ok(Spec {
        oci_version: VERSION.to_owned(),
        process: Some(process(inputs, &capabilities, options.no_new_privileges)),
        root: Some(Root { path: PathBuf::from("rootfs"), readonly: host.readonly_rootfs }),
        hostname: (host.uts_mode != NamespaceMode::Host).then(|| inputs.hostname.to_owned()),
        domainname: Some(inputs.config.domainname.clone()).filter(|name| !name.is_empty()),
        mounts: mounts(inputs)?,
        hooks: None,
        linux: Some(Linux {
            sysctl: host.sysctls.clone(),
            resources: Some(limits::resources(host, rules)),
            cgroups_path: Some(inputs.cgroup.to_owned()),
            namespaces: namespaces(inputs),
            uid_mappings: maps.as_ref().map(|maps| maps.uids.clone()).unwrap_or_default(),
            gid_mappings: maps.map(|maps| maps.gids).unwrap_or_default(),
            devices,
            seccomp: options.seccomp(host, &capabilities)?,
            rootfs_propagation: propagation(inputs.mounts),
            masked_paths: paths(&host.masked_paths, masked),
            readonly_paths: paths(&host.readonly_paths, READ_ONLY.iter().map(PathBuf::from).collect()),
            ..Linux::default()
        }),
        annotations: host.annotations.clone(),
    })
}

/// Whether the engine's init is the first process.
pub(crate) fn has_init(engine: &EngineConfig, host: &HostConfig) -> bool {
    host.init.unwrap_or(engine.init)
}

fn process(inputs: &Inputs<'_>, capabilities: &[String], no_new_privileges: bool) -> Process {
    let init = has_init(inputs.engine, inputs.host);
    let prefix = [INIT, "--"].iter().filter(|_| init).map(|&word| word.to_owned());
    let identity = inputs.identity;
    let cwd = if inputs.config.working_dir.is_empty() { "/" } else { &inputs.config.working_dir };
    let [height, width] = inputs.host.console_size;
    Process {
        terminal: inputs.config.tty,
        console_size: (inputs.config.tty && height > 0 && width > 0).then(|| skep_runtime::spec::ConsoleSize {
            height: u16::try_from(height).unwrap_or(u16::MAX),
            width: u16::try_from(width).unwrap_or(u16::MAX),
        }),
        user: user(identity),
        args: prefix.chain(inputs.argv.iter().cloned()).collect(),
        env: environment(inputs.config, inputs.linked, inputs.hostname, &identity.home),
        cwd: PathBuf::from(super::mounts::clean(cwd)),
        capabilities: Some(capability_sets(capabilities, identity.uid)),
        rlimits: rlimits(inputs.engine, inputs.host),
        no_new_privileges,
        oom_score_adj: Some(inputs.host.oom_score_adj),
        ..Process::default()
    }
}

pub(crate) fn user(identity: &Identity) -> User {
    User { uid: identity.uid, gid: identity.gid, umask: None, additional_gids: identity.groups.clone() }
}

/// A process of another user than root starts without effective capabilities, as with Docker: the bounding set alone
/// stays, so that set-user-ID programs work.
pub(crate) fn capability_sets(names: &[String], uid: u32) -> Capabilities {
    let held = if uid == 0 { names.to_vec() } else { Vec::new() };
    Capabilities { bounding: names.to_vec(), effective: held.clone(), permitted: held, ..Capabilities::default() }
}

/// Docker's defaults and what links say, then the container's own words; later ones win.
pub(crate) fn environment(config: &ContainerConfig, linked: &[String], hostname: &str, home: &str) -> Vec<String> {
    let mut env = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if config.tty {
        env.push("TERM=xterm".to_owned());
    }
    env.extend_from_slice(linked);
    merge_environment(&mut env, &config.env);
    if !env.iter().any(|entry| entry.starts_with("HOME=")) {
        env.push(format!("HOME={home}"));
    }
    env
}

/// Puts `own` over `env`: `NAME=value` sets, `NAME` alone takes away.
pub(crate) fn merge_environment(env: &mut Vec<String>, own: &[String]) {
    let name = |entry: &str| entry.split('=').next().unwrap_or("").to_owned();
    for entry in own {
        let position = env.iter().position(|old| name(old) == name(entry));
        match (position, entry.contains('=')) {
            (Some(at), true) => env[at].clone_from(entry),
            (Some(at), false) => drop(env.remove(at)),
            (None, true) => env.push(entry.clone()),
            (None, false) => {}
        }
    }
}

pub(crate) fn rlimits(engine: &EngineConfig, host: &HostConfig) -> Vec<Rlimit> {
    let own = &host.resources.ulimits;
    let inherited = engine.default_ulimits.iter().filter(|limit| own.iter().all(|mine| mine.name != limit.name));
    #[expect(clippy::cast_sign_loss, reason = "-1 is RLIM_INFINITY, all bits set")]
    let bits = |value: i64| value as u64;
    own.iter()
        .chain(inherited)
        .map(|limit| Rlimit {
            kind: format!("RLIMIT_{}", limit.name.to_ascii_uppercase()),
            hard: bits(limit.hard),
            soft: bits(limit.soft),
        })
        .collect()
}

fn namespaces(inputs: &Inputs<'_>) -> Vec<Namespace> {
    let host = inputs.host;
    let own = |kind| Namespace { kind, path: None };
    let mut namespaces = vec![own(NamespaceKind::Mount)];
    if host.network_mode != NetworkMode::Host {
        namespaces.push(own(NamespaceKind::Network));
    }
    if host.uts_mode != NamespaceMode::Host {
        namespaces.push(own(NamespaceKind::Uts));
    }
    if host.ipc_mode != NamespaceMode::Host {
        namespaces.push(own(NamespaceKind::Ipc));
    }
    if host.cgroupns_mode != NamespaceMode::Host {
        namespaces.push(own(NamespaceKind::Cgroup));
    }
    if host.pid_mode != NamespaceMode::Host {
        let path = inputs.pid_namespace_of.map(|pid| PathBuf::from(format!("/proc/{pid}/ns/pid")));
        namespaces.push(Namespace { kind: NamespaceKind::Pid, path });
    }
    if userns::maps(inputs.engine, host).is_some() {
        namespaces.push(Namespace { kind: NamespaceKind::User, path: inputs.user_namespace.clone() });
    }
    namespaces
}

/// A shared bind mount needs a root that shares; a slave one, a root that follows.
fn propagation(mounts: &[ContainerMount]) -> Option<String> {
    let any = |word: &str| mounts.iter().any(|mount| mount.point.propagation.trim_start_matches('r') == word);
    if any("shared") {
        Some("shared".to_owned())
    } else if any("slave") {
        Some("slave".to_owned())
    } else {
        None
    }
}

fn mounts(inputs: &Inputs<'_>) -> Result<Vec<Mount>> {
    let host = inputs.host;
    let sys = if host.privileged { "rw" } else { "ro" };
    let shm = format!(
        "size={}",
        host.shm_size.filter(|&size| size > 0).map_or(inputs.engine.default_shm_size, i64::unsigned_abs)
    );
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", sys]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &[sys, "nosuid", "noexec", "nodev"]),
        match host.ipc_mode {
            // Not every host mounts it.
            NamespaceMode::Host if Path::new("/dev/mqueue").is_dir() => bind("/dev/mqueue", "/dev/mqueue", &[]),
            _ => mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        },
    ];
    match host.ipc_mode {
        NamespaceMode::None => {}
        NamespaceMode::Host => mounts.push(bind("/dev/shm", "/dev/shm", &[])),
        NamespaceMode::Default | NamespaceMode::Private | NamespaceMode::Shareable | NamespaceMode::Container(_) => {
            mounts.push(mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &shm]));
        }
    }
    // What the user mounts takes the place of what is there by default.
    let taken = |path: &Path| inputs.mounts.iter().any(|own| Path::new(&own.point.destination) == path);
    mounts.retain(|default| !taken(&default.destination));
    let files = inputs.files;
    let mapped = userns::maps(inputs.engine, host).is_some();
    let mut options = if host.readonly_rootfs { vec!["ro"] } else { Vec::new() };
    options.extend(mapped.then_some("idmap"));
    for (source, target) in
        [(&files.resolv_conf, "/etc/resolv.conf"), (&files.hostname, "/etc/hostname"), (&files.hosts, "/etc/hosts")]
    {
        if !source.is_empty() && !taken(Path::new(target)) {
            mounts.push(bind(target, source, &options));
        }
    }
    if has_init(inputs.engine, host) {
        let runtime = inputs.engine.runtime.to_str().ok_or_else(|| {
            Error::Invalid(format!("the runtime's path is not UTF-8: {}", inputs.engine.runtime.display()))
        })?;
        mounts.push(bind(INIT, runtime, &["ro"]));
    }
    mounts.extend(inputs.mounts.iter().map(|own| user_mount(own, mapped)));
    Ok(mounts)
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: Some(kind.to_owned()),
        source: Some(source.into()),
        options: options.iter().map(|&option| option.to_owned()).collect(),
        ..Mount::default()
    }
}

fn bind(destination: &str, source: &str, more: &[&str]) -> Mount {
    let mut options = vec!["rbind", "rprivate"];
    options.extend(more);
    mount(destination, "bind", source, &options)
}

/// A volume is the engine's: its files belong to the ids that programs know. A path of the host's stays whose it is.
fn user_mount(own: &ContainerMount, mapped: bool) -> Mount {
    let point = &own.point;
    let access = if point.writable { "rw" } else { "ro" };
    match point.kind {
        MountKind::Bind | MountKind::Volume => {
            let recursion = if own.non_recursive { "bind" } else { "rbind" };
            let propagation = if point.propagation.is_empty() { "rprivate" } else { &point.propagation };
            let subpath = (!point.subpath.is_empty()).then(|| point.subpath.clone().into());
            let mut options = vec![recursion, propagation, access];
            options.extend((mapped && point.kind == MountKind::Volume).then_some("idmap"));
            Mount { subpath, ..mount(&point.destination, "bind", &point.source, &options) }
        }
        MountKind::Tmpfs => {
            let mut options = vec!["noexec", "nosuid", "nodev", "rprivate"];
            for option in own.tmpfs_options.split(',').filter(|option| !option.is_empty()) {
                // The opposite of a default takes its place.
                options.retain(|default| *default != option && default.trim_start_matches("no") != option);
                options.push(option);
            }
            if !own.tmpfs_options.split(',').any(|option| matches!(option, "ro" | "rw")) {
                options.push(access);
            }
            mount(&point.destination, "tmpfs", "tmpfs", &options)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_dockers() {
        let config = ContainerConfig {
            tty: true,
            env: vec!["A=1".to_owned(), "PATH=/bin".to_owned(), "A=2".to_owned(), "TERM".to_owned()],
            ..ContainerConfig::default()
        };
        assert_eq!(environment(&config, &[], "h", "/root"), ["PATH=/bin", "HOSTNAME=h", "A=2", "HOME=/root"]);
    }

    #[test]
    fn users_other_than_root_hold_nothing_at_the_start() {
        let sets = capability_sets(&["CAP_KILL".to_owned()], 1000);
        assert!(sets.effective.is_empty() && sets.permitted.is_empty() && sets.inheritable.is_empty());
        assert_eq!(sets.bounding, ["CAP_KILL"]);
    }
}
