//! The flags of `build` that are attributes of BuildKit's Dockerfile frontend.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::request::BuildFlags;
use crate::cli::config::Proxy;
use crate::cli::csv;

/// Attributes by name.
pub(super) type Attributes = BTreeMap<String, String>;

/// The build argument by which all files get one time.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// Stands for the address of the host, which the engine knows.
const HOST_GATEWAY: &str = "host-gateway";

impl BuildFlags {
    /// All of them, given what the client's config file says of proxies.
    pub(super) fn attributes(&self, proxy: &Proxy) -> Result<Attributes, String> {
        let mut attributes = Attributes::new();
        self.describe(&mut attributes)?;
        self.arguments(proxy, &mut attributes);
        self.limits(&mut attributes);
        self.attestations(&mut attributes)?;
        Ok(attributes)
    }

    fn describe(&self, attributes: &mut Attributes) -> Result<(), String> {
        let mut put = |key: &str, value: &str| {
            if !value.is_empty() {
                attributes.insert(key.to_owned(), value.to_owned());
            }
        };
        put("target", &self.target);
        let default = std::env::var("DOCKER_DEFAULT_PLATFORM").unwrap_or_default();
        put("platform", &if self.platform.is_empty() { default } else { self.platform.join(",") });
        put("cgroup-parent", &self.cgroup_parent);
        put("no-cache", &self.no_cache_filter.join(","));
        put("image-resolve-mode", if self.pull { "pull" } else { "" });
        put("skep.squash", if self.squash { "true" } else { "" });
        put("add-hosts", &hosts(&self.add_host)?);
        match self.network.as_str() {
            "default" | "" => {}
            mode @ ("none" | "host") => put("force-network-mode", mode),
            other => {
                return Err(format!(
                    "network mode {other:?} not supported by the builder: it is one of default, none, host"
                ));
            }
        }
        if self.no_cache && !self.no_cache_filter.is_empty() {
            return Err("no-cache and no-cache-filter cannot currently be used together".to_owned());
        }
        if self.no_cache {
            // Without names it means all stages.
            attributes.insert("no-cache".to_owned(), String::new());
        }
        for text in &self.label {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            attributes.insert(format!("label:{name}"), value.to_owned());
        }
        Ok(())
    }

    /// Build arguments: those given, then proxies, then the time.
    fn arguments(&self, proxy: &Proxy, attributes: &mut Attributes) {
        for text in &self.build_arg {
            // A name alone takes the value that the variable has here, if it has one.
            match text.split_once('=') {
                Some((name, value)) => attributes.insert(format!("build-arg:{name}"), value.to_owned()),
                None => {
                    std::env::var(text).ok().and_then(|value| attributes.insert(format!("build-arg:{text}"), value))
                }
            };
        }
        for (name, value) in proxy.variables() {
            // A name without a value that is not set here still says that the proxy is not wanted.
            let given = self.build_arg.iter().any(|text| text.split('=').next() == Some(name.as_str()));
            if !given {
                attributes.insert(format!("build-arg:{name}"), value);
            }
        }
        if let Some(time) = std::env::var(EPOCH).ok().filter(|time| !time.is_empty()) {
            attributes.entry(format!("build-arg:{EPOCH}")).or_insert(time);
        }
    }

    fn attestations(&self, attributes: &mut Attributes) -> Result<(), String> {
        for text in &self.attest {
            let (mut kind, mut rest) = (None, Vec::new());
            for field in csv::fields(text)? {
                match field.split_once('=') {
                    Some(("type", value)) => kind = Some(value.to_owned()),
                    _ => rest.push(field),
                }
            }
            let kind = kind.ok_or("attestation type not specified")?;
            attributes.insert(format!("attest:{kind}"), rest.join(","));
        }
        for (kind, value) in [("provenance", &self.provenance), ("sbom", &self.sbom)] {
            match value.as_deref() {
                None => {}
                Some("true" | "") => drop(attributes.insert(format!("attest:{kind}"), String::new())),
                Some("false") => drop(attributes.insert(format!("attest:{kind}"), "disabled=true".to_owned())),
                Some(value) => drop(attributes.insert(format!("attest:{kind}"), value.to_owned())),
            }
        }
        Ok(())
    }

    fn limits(&self, attributes: &mut Attributes) {
        let numbers = [
            ("shm-size", self.shm_size.0),
            ("skep.memory", self.memory.0),
            ("skep.memory-swap", self.memory_swap.0),
            ("skep.cpu-shares", self.cpu_shares),
            ("skep.cpu-period", self.cpu_period),
            ("skep.cpu-quota", self.cpu_quota),
        ];
        for (key, value) in numbers.into_iter().filter(|(_, value)| *value != 0) {
            attributes.insert(key.to_owned(), value.to_string());
        }
        for (key, value) in [("skep.cpuset-cpus", &self.cpuset_cpus), ("skep.cpuset-mems", &self.cpuset_mems)] {
            if !value.is_empty() {
                attributes.insert(key.to_owned(), value.clone());
            }
        }
        let limits: Vec<String> =
            self.ulimit.0.values().map(|limit| format!("{}={}:{}", limit.name, limit.soft, limit.hard)).collect();
        if !limits.is_empty() {
            attributes.insert("ulimit".to_owned(), limits.join(","));
        }
    }
}

/// `NAME:ADDRESS` or `NAME=ADDRESS`, several separated by commas, as `NAME=ADDRESS,…`.
fn hosts(given: &[String]) -> Result<String, String> {
    let mut hosts = Vec::new();
    for text in given.iter().flat_map(|list| list.split(',')) {
        let invalid = || format!("invalid host {text}");
        let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(invalid)?;
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
        let known = bare == HOST_GATEWAY || bare.parse::<IpAddr>().is_ok();
        if name.is_empty() || !known {
            return Err(invalid());
        }
        hosts.push(format!("{name}={bare}"));
    }
    Ok(hosts.join(","))
}
