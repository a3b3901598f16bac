//! The OCI runtime specification's `config.json`, version 1.2, as our own types.
//!
//! Only what a Linux container needs is here; fields that are not known are ignored, as the specification asks. Producers
//! written in Go may send `null` for an empty list or map: [`Spec::from_slice`] takes that as missing. Nothing here checks
//! meaning: the part that uses a value refuses it and says why.
//!
//! Source: `config.md` and `config-linux.md` of opencontainers/runtime-spec v1.2.

mod hooks;
mod linux;
mod process;
mod resources;
mod seccomp;
mod template;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use hooks::{Hook, Hooks};
pub use linux::{Device, IdMapping, IntelRdt, Linux, Namespace, NamespaceKind, NetDevice, Personality, TimeOffset};
pub use process::{Capabilities, ConsoleSize, ExecCpuAffinity, IoPriority, Process, Rlimit, Scheduler, User};
pub use resources::{
    BlockIo, Cpu, DeviceRule, HugepageLimit, InterfacePriority, Memory, NetworkPriority, Pids, Rdma, Resources,
    ThrottleDevice, WeightDevice,
};
pub use seccomp::{Seccomp, SeccompArg, SeccompRule};

/// The version of the specification that this runtime implements.
pub const VERSION: &str = "1.2.1";

/// A whole `config.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// The specification's version the file was written for, as semver text.
    pub oci_version: String,
    /// The first process. May be missing only until `start`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// The root file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// The host name inside the UTS namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The NIS domain name inside the UTS namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    /// The mounts below the root, in the order in which they are made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Programs run at points of the container's life.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// Everything that only Linux has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linux: Option<Linux>,
    /// Free text of the caller; `state` shows it again.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Where the root file system is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Root {
    /// Absolute, or relative to the bundle.
    pub path: PathBuf,
    /// Whether the container sees it read-only.
    pub readonly: bool,
}

/// One mount below the root.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mount {
    /// Where, seen from inside the container; taken as absolute.
    pub destination: PathBuf,
    /// The file system type; `bind`, `none` or empty with the option `bind` for a bind mount.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// What is mounted; relative paths of bind mounts start at the bundle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<PathBuf>,
    /// Options as in fstab(5), and those of bind mounts (`rbind`, `rro`, `rprivate`, ...).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// User ids of a mount whose owners are mapped: the ids on the disk, and those that are shown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<IdMapping>,
    /// Group ids of an id-mapped mount.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<IdMapping>,
    /// Not of the specification: what below the source is mounted; with the type `overlay`, what of the layers that the options
    /// `lowerdir+=`, `upperdir=` and `workdir=` name. Links on the way don't lead out of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subpath: Option<PathBuf>,
}

/// A `config.json` that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The file could not be read.
    #[error("open {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The text is no specification.
    #[error("invalid {what}: {source}")]
    Parse {
        /// What was read.
        what: &'static str,
        /// Where and why.
        source: serde_json::Error,
    },
}

impl Spec {
    /// Reads `config.json` of a bundle.
    pub fn load(bundle: &Path) -> Result<Self, SpecError> {
        let path = bundle.join("config.json");
        let text = std::fs::read(&path).map_err(|source| SpecError::Read { path, source })?;
        Self::from_slice(&text)
    }

    /// Reads the text of a `config.json`.
    pub fn from_slice(text: &[u8]) -> Result<Self, SpecError> {
        parse(text).map_err(|source| SpecError::Parse { what: "config.json", source })
    }

    /// The Linux part; an empty one if there is none.
    pub fn linux(&self) -> &Linux {
        static EMPTY: std::sync::LazyLock<Linux> = std::sync::LazyLock::new(Linux::default);
        self.linux.as_ref().unwrap_or(&EMPTY)
    }

    /// The namespace of that kind, if the container gets its own or joins one.
    pub fn namespace(&self, kind: NamespaceKind) -> Option<&Namespace> {
        self.linux().namespaces.iter().find(|namespace| namespace.kind == kind)
    }
}

impl Process {
    /// Reads the text of a `process.json`, as `exec --process` takes it.
    pub fn from_slice(text: &[u8]) -> Result<Self, SpecError> {
        parse(text).map_err(|source| SpecError::Parse { what: "process.json", source })
    }
}

/// Parses at once, and a second time without the nulls only if there were some.
fn parse<T: serde::de::DeserializeOwned>(text: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(text).or_else(|first| {
        let mut value: Value = serde_json::from_slice(text)?;
        if drop_nulls(&mut value) { serde_json::from_value(value) } else { Err(first) }
    })
}

/// Removes all null members; tells whether there were any.
fn drop_nulls(value: &mut Value) -> bool {
    match value {
        Value::Object(members) => {
            let before = members.len();
            members.retain(|_, member| !member.is_null());
            let dropped = members.len() != before;
            members.values_mut().fold(dropped, |dropped, member| drop_nulls(member) | dropped)
        }
        Value::Array(items) => items.iter_mut().fold(false, |dropped, item| drop_nulls(item) | dropped),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
