//! `shim.json`: what the shim needs to know beyond the OCI specification.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use skep_types::ContainerId;

/// The contents of `shim.json`.
///
/// What the OCI specification already says is not repeated here: `process.terminal` and `process.consoleSize` decide about a
/// terminal, `linux.cgroupsPath` names the cgroup, `root.readonly` holds for both kinds of [`Rootfs`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShimConfig {
    /// [`VERSION`](super::VERSION) of the writer.
    pub version: u32,
    /// The container.
    pub id: ContainerId,
    /// Where the root file system comes from.
    pub rootfs: Rootfs,
    /// What becomes of the init process's standard input.
    pub stdin: StdinMode,
    /// The descriptor of the network namespace that the shim inherits; `ShimHandle::spawn` fills it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns_fd: Option<i32>,
    /// The file ([`skep_dns::Client`]) that the container's name server answers from; none if missing. It may change at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<PathBuf>,
    /// Where the output is logged; nowhere if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogConfig>,
    /// How long the shim waits for what might never come.
    #[serde(default)]
    pub grace: Grace,
    /// Whether the container outlives the engine.
    #[serde(default)]
    pub lifetime: Lifetime,
    /// What the first process is.
    #[serde(default)]
    pub first: FirstProcess,
}

/// What a container's first process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirstProcess {
    /// Some program.
    #[default]
    Program,
    /// The runtime's own init ([`crate::init`]). It is executed with all signals blocked: the kernel would drop those that come before
    /// it takes them over, and a container that has just started could not be stopped.
    Init,
}

/// How long a container runs at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lifetime {
    /// As long as its init.
    #[default]
    Own,
    /// Until the control connection closes, also when the engine is killed: a step of a build, of which nobody else would know.
    Engine,
}

/// Where the root file system comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rootfs {
    /// The directory named by `root.path` of the specification.
    Spec,
    /// An overlay, mounted inside the container's own mount namespace only.
    Overlay {
        /// Read-only directories, topmost first.
        lower: Vec<PathBuf>,
        /// The writable directory.
        upper: PathBuf,
        /// Overlay's own directory, on the file system of `upper`.
        work: PathBuf,
        /// What becomes of a program's wish to have its data on the disk.
        #[serde(default)]
        sync: OverlaySync,
        /// Who the files belong to.
        #[serde(default)]
        owners: OverlayOwners,
    },
}

/// Who the files of an overlay belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverlayOwners {
    /// Whom the layers say.
    #[default]
    Stored,
    /// Those who have the same ids in the container's user namespace.
    Mapped,
}

/// What becomes of a program's wish to have its data on the disk (`fsync(2)` and the like).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverlaySync {
    /// It is fulfilled.
    #[default]
    Fulfilled,
    /// Nothing is done: after a crash nobody looks at the upper directory, or whoever made it has it written out himself.
    Omitted,
}

/// What becomes of the standard input of the container's init.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StdinMode {
    /// It reads `/dev/null`; with a terminal, input of attached clients is dropped (Docker without `-i`).
    Closed,
    /// It stays open whoever comes and goes (Docker's `OpenStdin`).
    Open,
    /// It closes when the first client that attached to it ends its input (Docker's `OpenStdin` and `StdinOnce`).
    Once,
}

/// A log in Docker's json-file format: one JSON object for each line of output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// The file that is written now; older ones are `path.1`, `path.2`, ... Its directory exists.
    pub path: PathBuf,
    /// A file that has reached this many bytes is rotated before the next write; `None` never rotates.
    #[serde(default = "LogConfig::default_max_size")]
    pub max_size: Option<u64>,
    /// How many files are kept, the current one included; at least 1. With 1, a full file is emptied.
    #[serde(default = "LogConfig::default_max_files")]
    pub max_files: u32,
    /// Whether rotated files are to be compressed, to `path.1.gz` and so on. The shim does not do that itself, but moves files of
    /// both forms on when it rotates.
    #[serde(default)]
    pub compress: bool,
    /// Attributes put into every entry (Docker's `labels`, `env` and `tag` options, resolved by the engine).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attrs: BTreeMap<String, String>,
}

impl LogConfig {
    /// A log with the limits that hold if the user chooses none: 20 MB in each of 5 files.
    pub fn new(path: PathBuf) -> Self {
        LogConfig {
            path,
            max_size: Self::default_max_size(),
            max_files: Self::default_max_files(),
            compress: false,
            attrs: BTreeMap::new(),
        }
    }

    /// 20 MB.
    pub const fn default_max_size() -> Option<u64> {
        Some(20_000_000)
    }

    /// 5 files.
    pub const fn default_max_files() -> u32 {
        5
    }
}

/// How long the shim waits for what might never come, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grace {
    /// After the end of the init or of an exec: for the end of its output, which a process that was left behind can hold open.
    pub output_ms: u64,
    /// For an attached client that takes nothing while output for it waits.
    pub slow_client_ms: u64,
}

impl Default for Grace {
    fn default() -> Self {
        Grace { output_ms: 2_000, slow_client_ms: 60_000 }
    }
}
