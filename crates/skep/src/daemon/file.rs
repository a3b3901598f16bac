//! The configuration file: the keys of Docker's `daemon.json` that skep has. A key that it does not know, and one that is also given
//! as an option, are errors, in dockerd's words.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use skep_engine::Entitlements;

use super::networks::FilePool;
use crate::cli::Failure;

/// The file's contents.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct File {
    pub(crate) bip: Option<String>,
    pub(crate) bip6: Option<String>,
    pub(crate) bridge: Option<String>,
    pub(crate) builder: Option<FileBuilder>,
    pub(crate) cdi_spec_dirs: Option<Vec<String>>,
    pub(crate) certs_dirs: Option<Vec<String>>,
    pub(crate) cgroup_parent: Option<String>,
    pub(crate) data_root: Option<String>,
    pub(crate) debug: Option<bool>,
    pub(crate) default_address_pools: Option<Vec<FilePool>>,
    pub(crate) default_network_opts: Option<BTreeMap<String, BTreeMap<String, String>>>,
    pub(crate) default_shm_size: Option<String>,
    pub(crate) default_ulimits: Option<BTreeMap<String, FileUlimit>>,
    pub(crate) dns: Option<Vec<String>>,
    pub(crate) dns_opts: Option<Vec<String>>,
    pub(crate) dns_search: Option<Vec<String>>,
    pub(crate) exec_root: Option<String>,
    pub(crate) fixed_cidr: Option<String>,
    #[serde(rename = "fixed-cidr-v6")]
    pub(crate) fixed_cidr_v6: Option<String>,
    pub(crate) gc: Option<FileGc>,
    pub(crate) group: Option<String>,
    pub(crate) host_firewall: Option<String>,
    pub(crate) host_gateway_ip: Option<String>,
    pub(crate) host_gateway_ips: Option<Vec<String>>,
    pub(crate) hosts: Option<Vec<String>>,
    pub(crate) icc: Option<bool>,
    pub(crate) init: Option<bool>,
    pub(crate) insecure_registries: Option<Vec<String>>,
    pub(crate) ip: Option<String>,
    pub(crate) ip6tables: Option<bool>,
    pub(crate) ip_masq: Option<bool>,
    pub(crate) iptables: Option<bool>,
    pub(crate) ipv6: Option<bool>,
    pub(crate) labels: Option<Vec<String>>,
    pub(crate) log_driver: Option<String>,
    pub(crate) log_level: Option<String>,
    pub(crate) log_opts: Option<BTreeMap<String, String>>,
    pub(crate) max_concurrent_downloads: Option<usize>,
    pub(crate) max_concurrent_uploads: Option<usize>,
    pub(crate) max_download_attempts: Option<u32>,
    pub(crate) mtu: Option<u32>,
    pub(crate) no_new_privileges: Option<bool>,
    pub(crate) pidfile: Option<String>,
    pub(crate) proxies: Option<FileProxies>,
    pub(crate) registry_mirrors: Option<Vec<String>>,
    pub(crate) signature_policy: Option<String>,
    pub(crate) tls: Option<bool>,
    pub(crate) tlscacert: Option<String>,
    pub(crate) tlscert: Option<String>,
    pub(crate) tlskey: Option<String>,
    pub(crate) tlsverify: Option<bool>,
    pub(crate) unpack_limits: Option<BTreeMap<String, String>>,
    pub(crate) userland_proxy: Option<bool>,
    pub(crate) userns_remap: Option<String>,
}

/// Garbage collection; skep's own key.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct FileGc {
    pub(crate) enabled: Option<bool>,
    pub(crate) free_space_high: Option<String>,
    pub(crate) free_space_low: Option<String>,
    pub(crate) interval: Option<String>,
    pub(crate) keep: Option<Vec<String>>,
    pub(crate) min_age: Option<String>,
    pub(crate) tagged: Option<bool>,
}

/// `builder` as daemon.json writes it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FileBuilder {
    #[serde(alias = "Entitlements")]
    pub(crate) entitlements: FileEntitlements,
    #[serde(alias = "GC")]
    pub(crate) gc: FileBuilderGc,
}

/// `builder.entitlements` as daemon.json writes it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct FileEntitlements {
    pub(crate) network_host: Option<bool>,
    pub(crate) security_insecure: Option<bool>,
    pub(crate) device: Option<bool>,
}

impl FileEntitlements {
    /// What isn't said is as it is by default.
    pub(crate) fn over(&self, defaults: Entitlements) -> Entitlements {
        Entitlements {
            network_host: self.network_host.unwrap_or(defaults.network_host),
            security_insecure: self.security_insecure.unwrap_or(defaults.security_insecure),
            device: self.device.unwrap_or(defaults.device),
        }
    }
}

/// `builder.gc` as daemon.json writes it. `defaultKeepStorage` is the older name of `defaultReservedSpace`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct FileBuilderGc {
    pub(crate) enabled: Option<bool>,
    #[serde(alias = "defaultKeepStorage")]
    pub(crate) default_reserved_space: Option<String>,
    pub(crate) default_max_used_space: Option<String>,
    pub(crate) default_min_free_space: Option<String>,
    pub(crate) policy: Vec<FileBuilderPolicy>,
}

/// One of `builder.gc.policy`. `keepStorage` is the older name of `reservedSpace`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct FileBuilderPolicy {
    pub(crate) all: bool,
    pub(crate) filter: Vec<String>,
    #[serde(alias = "keepStorage")]
    pub(crate) reserved_space: Option<String>,
    pub(crate) max_used_space: Option<String>,
    pub(crate) min_free_space: Option<String>,
}

/// Proxies as daemon.json writes them.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct FileProxies {
    pub(crate) http_proxy: Option<String>,
    pub(crate) https_proxy: Option<String>,
    pub(crate) no_proxy: Option<String>,
}

/// A limit as daemon.json writes it.
#[derive(Debug, Deserialize)]
pub(crate) struct FileUlimit {
    #[serde(alias = "Name")]
    #[expect(dead_code, reason = "Docker's files repeat the name here")]
    name: Option<String>,
    #[serde(alias = "Hard", alias = "hard")]
    pub(crate) hard: i64,
    #[serde(alias = "Soft", alias = "soft")]
    pub(crate) soft: i64,
}

impl File {
    /// Reads the file. A missing one is an error only if the user named it.
    pub(crate) fn read(path: &Path, named: bool) -> Result<Self, Failure> {
        let failed = |why: String| {
            Failure::message(format!("unable to configure the daemon with file {}: {why}", path.display()))
        };
        let text = match std::fs::read_to_string(path) {
            Ok(text) if text.trim().is_empty() => return Ok(File::default()),
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !named => return Ok(File::default()),
            Err(error) => return Err(failed(crate::cli::failure::go_path_error("open", path, &error))),
        };
        serde_json::from_str(&text).map_err(|error| {
            let text = error.to_string();
            // serde's words for an unknown key, put into dockerd's.
            match text.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next()) {
                Some(key) => failed(format!("the following directives don't match any configuration option: {key}")),
                None => failed(text),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_get_dockerds_words() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("daemon.json");
        std::fs::write(&path, r#"{"data-root": "/x", "colour": true}"#).expect("written");
        let error = File::read(&path, true).expect_err("unknown key");
        assert!(
            error.text.ends_with("the following directives don't match any configuration option: colour"),
            "{}",
            error.text
        );
        std::fs::write(&path, r#"{"data-root": "/x", "log-opts": {"max-size": "10m"}}"#).expect("written");
        assert_eq!(File::read(&path, true).expect("good").data_root.as_deref(), Some("/x"));
        assert!(File::read(&folder.path().join("nope"), false).is_ok());
        assert!(File::read(&folder.path().join("nope"), true).is_err());
    }

    #[test]
    fn entitlements_that_are_not_named_are_dockerds() {
        for (text, network_host, security_insecure, device) in [
            ("{}", true, false, true),
            (r#"{"entitlements": {"security-insecure": true}}"#, true, true, true),
            (r#"{"Entitlements": {"network-host": false, "device": false}}"#, false, false, false),
        ] {
            let builder: FileBuilder = serde_json::from_str(text).expect("good");
            let found = builder.entitlements.over(Entitlements::default());
            assert_eq!(found, Entitlements { network_host, security_insecure, device }, "{text}");
        }
        assert!(serde_json::from_str::<FileBuilder>(r#"{"entitlements": {"colour": true}}"#).is_err());
    }
}
