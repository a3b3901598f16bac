//! From options and configuration file to what the engine and its listeners need.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use skep_api::TlsFiles;
use skep_engine::images::PolicyFile;
use skep_engine::model::host::Ulimit;
use skep_engine::{EngineConfig, HostFirewall, Limits};

use super::file::{File, FileGc};
use super::registries::Registries;
use crate::cli::Failure;
use crate::cli::daemon::DaemonFlags;

pub(crate) const DATA_ROOT: &str = "/var/lib/skep";
pub(crate) const EXEC_ROOT: &str = "/run/skep";
const CONFIG_FILE: &str = "/etc/skep/daemon.json";
const SIGNATURE_POLICY: &str = "/etc/skep/policy.json";

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Unix(PathBuf),
    Tcp(SocketAddr),
    /// Sockets passed in by the service manager.
    Inherited,
}

/// Everything the daemon needs to know.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) engine: EngineConfig,
    pub(crate) addresses: Vec<Address>,
    pub(crate) group: String,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) log_level: String,
    pub(crate) pidfile: PathBuf,
    /// End when idle for so long.
    pub(crate) idle: Option<Duration>,
}

/// Takes a value from the option or the file; both at once is an error.
pub(super) fn either<T>(name: &str, option: Option<T>, file: Option<T>, clashes: &mut Vec<String>) -> Option<T> {
    if option.is_some() && file.is_some() {
        clashes.push(name.to_owned());
    }
    option.or(file)
}

pub(super) fn list(values: Vec<String>) -> Option<Vec<String>> {
    (!values.is_empty()).then_some(values)
}

fn switch(on: bool) -> Option<bool> {
    on.then_some(true)
}

impl Settings {
    /// Reads the file and puts both together.
    pub(crate) fn new(flags: DaemonFlags) -> Result<Self, Failure> {
        let path = flags.config_file.clone().unwrap_or_else(|| CONFIG_FILE.to_owned());
        let file = File::read(Path::new(&path), flags.config_file.is_some())?;
        Self::merge(flags, file, &path)
    }

    fn merge(mut flags: DaemonFlags, mut file: File, path: &str) -> Result<Self, Failure> {
        let mut clashes = Vec::new();
        let c = &mut clashes;
        let registries = Registries::take(&mut flags, &mut file, c)?;
        let networks = super::networks::take(&mut flags, &mut file, c)?;
        let data_root = either("data-root", flags.data_root, file.data_root, c);
        let exec_root = either("exec-root", flags.exec_root, file.exec_root, c);
        let exec_root = PathBuf::from(exec_root.unwrap_or_else(|| EXEC_ROOT.to_owned()));
        let pidfile = either("pidfile", flags.pidfile, file.pidfile, c);
        let hosts = either("hosts", list(flags.hosts), file.hosts, c);
        let runtime = match flags.runtime {
            Some(path) => PathBuf::from(path),
            None => runtime_beside_this()?,
        };
        let mut engine = EngineConfig::new(
            PathBuf::from(data_root.unwrap_or_else(|| DATA_ROOT.to_owned())),
            exec_root.clone(),
            runtime,
        );
        networks.apply(&mut engine);
        engine.host_firewall = match either("host-firewall", flags.host_firewall, file.host_firewall, c).as_deref() {
            None | Some("respect") => HostFirewall::Respect,
            Some("bypass") => HostFirewall::Bypass,
            Some(other) => {
                return Err(Failure::message(format!("invalid host-firewall {other:?}: it is respect or bypass")));
            }
        };
        engine.cgroup_parent = either("cgroup-parent", flags.cgroup_parent, file.cgroup_parent, c);
        if let Some(directories) = either("cdi-spec-dirs", list(flags.cdi_spec_dirs), file.cdi_spec_dirs, c) {
            engine.cdi_spec_dirs = directories.into_iter().filter(|path| !path.is_empty()).map(Into::into).collect();
        }
        engine.dns = either("dns", list(flags.dns), file.dns, c).unwrap_or_default();
        engine.dns_options = either("dns-opts", list(flags.dns_options), file.dns_opts, c).unwrap_or_default();
        engine.dns_search = either("dns-search", list(flags.dns_search), file.dns_search, c).unwrap_or_default();
        let gateways = file.host_gateway_ips.or_else(|| file.host_gateway_ip.map(|address| vec![address]));
        let gateways = either("host-gateway-ips", list(flags.host_gateway_ips), gateways, c).unwrap_or_default();
        engine.host_gateways = host_gateways(&gateways)?;
        engine.labels = either("labels", list(flags.labels), file.labels, c).unwrap_or_default();
        registries.apply(&mut engine);
        engine.init = either("init", switch(flags.init), file.init, c).unwrap_or(false);
        engine.no_new_privileges =
            either("no-new-privileges", switch(flags.no_new_privileges), file.no_new_privileges, c).unwrap_or(false);
        let remap = either("userns-remap", flags.userns_remap, file.userns_remap, c).unwrap_or_default();
        engine.userns_remap = super::remap::maps(&remap)?;
        if let Some(driver) = either("log-driver", flags.log_driver, file.log_driver, c) {
            engine.log.driver = driver;
        }
        let log_options = list(flags.log_opts).map(|words| pairs("log-opt", &words)).transpose()?;
        engine.log.options = either("log-opts", log_options, file.log_opts, c).unwrap_or_default();
        let ulimits =
            list(flags.default_ulimits).map(|words| words.iter().map(|word| ulimit(word)).collect()).transpose()?;
        let file_ulimits = file.default_ulimits.map(|limits| {
            limits.into_iter().map(|(name, limit)| Ulimit { name, soft: limit.soft, hard: limit.hard }).collect()
        });
        engine.default_ulimits = either("default-ulimits", ulimits, file_ulimits, c).unwrap_or_default();
        if let Some(size) = either("default-shm-size", flags.default_shm_size, file.default_shm_size, c) {
            engine.default_shm_size = skep_types::parse_bytes(&size)
                .ok()
                .and_then(|bytes| u64::try_from(bytes).ok())
                .ok_or_else(|| Failure::message(format!("invalid default-shm-size: {size}")))?;
        }
        let gc_flags = FileGc {
            enabled: flags.gc,
            free_space_high: flags.gc_high,
            free_space_low: flags.gc_low,
            interval: flags.gc_interval,
            keep: list(flags.gc_keep),
            min_age: flags.gc_min_age,
            tagged: flags.gc_tagged,
        };
        let builder = file.builder.unwrap_or_default();
        engine.entitlements = builder.entitlements.over(engine.entitlements);
        let builds = super::gc::builds(builder.gc)?;
        engine.gc = super::gc::settings(gc_flags, file.gc.unwrap_or_default(), builds, c)?;
        let limits = list(flags.unpack_limits).map(|words| pairs("unpack-limit", &words)).transpose()?;
        engine.unpack_limits =
            unpack_limits(&either("unpack-limits", limits, file.unpack_limits, c).unwrap_or_default())?;
        engine.signature_policy = match either("signature-policy", flags.signature_policy, file.signature_policy, c) {
            Some(path) if !path.starts_with('/') => {
                return Err(Failure::message(format!("invalid signature-policy: {path}: want an absolute path")));
            }
            Some(path) => PolicyFile::Required(PathBuf::from(path)),
            None => PolicyFile::IfPresent(PathBuf::from(SIGNATURE_POLICY)),
        };
        let verify = either("tlsverify", switch(flags.tls_verify), file.tlsverify, c).unwrap_or(false);
        let tls = either("tls", switch(flags.tls), file.tls, c).unwrap_or(false) || verify;
        let files = (
            either("tlscert", flags.tls_cert, file.tlscert, c),
            either("tlskey", flags.tls_key, file.tlskey, c),
            either("tlscacert", flags.tls_ca, file.tlscacert, c),
        );
        let debug = either("debug", switch(flags.debug), file.debug, c).unwrap_or(false);
        let log_level = either("log-level", flags.log_level, file.log_level, c).unwrap_or_else(|| "info".to_owned());
        let group = either("group", flags.group, file.group, c).unwrap_or_else(|| "docker".to_owned());
        if !clashes.is_empty() {
            return Err(Failure::message(format!(
                "unable to configure the daemon with file {path}: the following directives are specified both as a flag and in \
                 the configuration file: {}",
                clashes.join(", ")
            )));
        }
        let default_host = vec![format!("unix://{}", exec_root.join("skep.sock").display())];
        let addresses =
            hosts.unwrap_or(default_host).iter().map(|host| address(host, tls)).collect::<Result<_, _>>()?;
        Ok(Settings {
            engine,
            addresses,
            group,
            tls: tls.then(|| tls_files(files, verify)),
            log_level: if debug { "debug".to_owned() } else { log_level },
            pidfile: pidfile.map_or_else(|| exec_root.join("skep.pid"), PathBuf::from),
            idle: flags.idle_timeout.map(|idle| idle.0),
        })
    }
}

fn tls_files((cert, key, ca): (Option<String>, Option<String>, Option<String>), verify: bool) -> TlsFiles {
    let path =
        |given: Option<String>, name: &str| given.map_or_else(|| Path::new("/etc/skep").join(name), PathBuf::from);
    TlsFiles {
        certificate: path(cert, "cert.pem"),
        key: path(key, "key.pem"),
        client_authorities: verify.then(|| path(ca, "ca.pem")),
    }
}

/// The runtime is installed in the same folder.
fn runtime_beside_this() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().map_err(|e| Failure::message(format!("where this program is: {e}")))?;
    let beside = own.with_file_name("skep-runtime");
    if beside.exists() {
        return Ok(beside);
    }
    Err(Failure::message(format!("{} is missing; name another place with --runtime-path", beside.display())))
}

fn host_gateways(words: &[String]) -> Result<Vec<IpAddr>, Failure> {
    let parse = |word: &String| word.parse().map_err(|_| Failure::message(format!("invalid host-gateway-ip: {word}")));
    let addresses: Vec<IpAddr> = words.iter().map(parse).collect::<Result<_, _>>()?;
    if addresses.iter().filter(|address| address.is_ipv4()).count() > 1 {
        return Err(Failure::message("only one IPv4 host gateway IP address can be specified"));
    }
    if addresses.iter().filter(|address| address.is_ipv6()).count() > 1 {
        return Err(Failure::message("only one IPv6 host gateway IP address can be specified"));
    }
    Ok(addresses)
}

pub(super) fn pairs(option: &str, words: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    words
        .iter()
        .map(|word| match word.split_once('=') {
            Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
            None => Err(Failure::message(format!("invalid {option}: {word}: want key=value"))),
        })
        .collect()
}

/// `nofile=1024:2048`, `core=0`.
fn ulimit(text: &str) -> Result<Ulimit, Failure> {
    let invalid = || Failure::message(format!("invalid ulimit argument: {text}"));
    let (name, values) = text.split_once('=').ok_or_else(invalid)?;
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    Ok(Ulimit {
        name: name.to_owned(),
        soft: soft.parse().map_err(|_| invalid())?,
        hard: hard.parse().map_err(|_| invalid())?,
    })
}

/// What unpacking a layer may cost.
fn unpack_limits(wanted: &BTreeMap<String, String>) -> Result<Limits, Failure> {
    let mut limits = Limits::default();
    for (name, text) in wanted {
        let invalid = || Failure::message(format!("invalid unpack-limit: {name}={text}"));
        let value = match name.as_str() {
            "size" => skep_types::parse_bytes(text).ok().and_then(|bytes| u64::try_from(bytes).ok()),
            _ => text.parse().ok(),
        };
        let value = value.filter(|value| *value > 0).ok_or_else(invalid)?;
        match name.as_str() {
            "entries" => limits.entries = value,
            "size" => limits.bytes = value,
            "ratio" => limits.ratio = value,
            _ => return Err(Failure::message(format!("unknown unpack-limit: {name}: want entries, size or ratio"))),
        }
    }
    Ok(limits)
}

fn address(host: &str, tls: bool) -> Result<Address, Failure> {
    let invalid = |why: &str| Failure::message(format!("failed to load listeners: invalid -H {host}: {why}"));
    if let Some(path) = host.strip_prefix("unix://") {
        return if path.starts_with('/') {
            Ok(Address::Unix(path.into()))
        } else {
            Err(invalid("want an absolute path"))
        };
    }
    if host.strip_prefix("fd://").is_some() {
        return Ok(Address::Inherited);
    }
    let Some(place) = host.strip_prefix("tcp://") else { return Err(invalid("want unix://, tcp:// or fd://")) };
    let port = if tls { 2376 } else { 2375 };
    let place = match place.trim_end_matches('/') {
        "" => format!("127.0.0.1:{port}"),
        text if text.starts_with(':') => format!("0.0.0.0{text}"),
        text if text.contains("]:") || (text.contains(':') && !text.contains('[')) => text.to_owned(),
        text => format!("{text}:{port}"),
    };
    let mut found = place.to_socket_addrs().map_err(|e| invalid(&e.to_string()))?;
    found.next().map(Address::Tcp).ok_or_else(|| invalid("no such host"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags() -> DaemonFlags {
        DaemonFlags { runtime: Some("/bin/true".to_owned()), ..DaemonFlags::default() }
    }

    #[test]
    fn options_and_file_must_not_say_the_same() {
        let file = File { data_root: Some("/b".to_owned()), ..File::default() };
        let both = DaemonFlags { data_root: Some("/a".to_owned()), ..flags() };
        let error = Settings::merge(both, file, "/x.json").expect_err("twice");
        assert!(
            error.text.ends_with("specified both as a flag and in the configuration file: data-root"),
            "{}",
            error.text
        );
        let file = File { data_root: Some("/b".to_owned()), ..File::default() };
        assert_eq!(Settings::merge(flags(), file, "/x").expect("good").engine.data_root, Path::new("/b"));
    }

    #[test]
    fn addresses_are_read() {
        assert_eq!(address("unix:///x", false).expect("good"), Address::Unix("/x".into()));
        assert_eq!(
            address("tcp://127.0.0.1:99", false).expect("good"),
            Address::Tcp("127.0.0.1:99".parse().expect("good"))
        );
        assert_eq!(address("tcp://", true).expect("good"), Address::Tcp("127.0.0.1:2376".parse().expect("good")));
        for bad in ["x", "unix://x", "http://x", "tcp://no such host"] {
            assert!(address(bad, false).is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_of_layers_are_read() {
        let with = |word: &str| {
            let flags = DaemonFlags { unpack_limits: vec![word.to_owned()], ..flags() };
            Settings::merge(flags, File::default(), "/x").map(|settings| settings.engine.unpack_limits)
        };
        let default = Limits::default();
        assert_eq!(with("size=2g").expect("good"), Limits { bytes: 2 << 30, ..default });
        assert_eq!(with("entries=5").expect("good"), Limits { entries: 5, ..default });
        assert_eq!(with("ratio=9").expect("good"), Limits { ratio: 9, ..default });
        for bad in ["size", "size=0", "size=-1", "entries=x", "other=1"] {
            assert!(with(bad).is_err(), "{bad}");
        }
    }
}
