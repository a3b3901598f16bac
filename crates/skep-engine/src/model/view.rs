//! What `ps` and `inspect` show of a container: facts published by its owner task, read without waiting for it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use skep_types::{ContainerId, ContainerName, Digest, ExecId, Platform, Port};

use super::container::ContainerConfig;
use super::host::{HostConfig, PortBinding};
use super::network::Endpoint;
use super::status::Status;

/// Everything there is to say about one container.
#[derive(Debug, Clone)]
pub struct ContainerView {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: ContainerName,
    /// When it was made.
    pub created: DateTime<Utc>,
    /// The image's id.
    pub image_id: Digest,
    /// The platform of the image.
    pub platform: Platform,
    /// What runs, with the image's settings filled in.
    pub config: ContainerConfig,
    /// Where and within which bounds.
    pub host: HostConfig,
    /// Program and arguments after entrypoint and command are put together: never empty.
    pub argv: Vec<String>,
    /// What it is doing.
    pub status: Status,
    /// How it ended the last time, even if it runs again.
    pub last_exit: Option<super::status::Exited>,
    /// How often the restart policy started it again.
    pub restart_count: u32,
    /// Mounts of volumes and host paths, and tmpfs mounts.
    pub mounts: Vec<MountPoint>,
    /// Networks it belongs to, by name.
    pub endpoints: BTreeMap<String, Endpoint>,
    /// Published ports as they really are. Exposed ports that are not published have an empty list.
    pub ports: BTreeMap<Port, Vec<PortBinding>>,
    /// Path that names its network namespace while it runs, else empty.
    pub sandbox_key: String,
    /// The network sandbox's id, empty when it never had one.
    pub sandbox_id: String,
    /// Processes exec'd that still run.
    pub exec_ids: Vec<ExecId>,
    /// Files the engine wrote for it.
    pub files: EngineFiles,
    /// The root file system's parts.
    pub rootfs: OverlayDirs,
}

/// Paths of files that the engine writes for a container; empty where it has none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineFiles {
    /// Mounted on /etc/resolv.conf.
    pub resolv_conf: String,
    /// Mounted on /etc/hostname.
    pub hostname: String,
    /// Mounted on /etc/hosts.
    pub hosts: String,
    /// The log of the json-file driver.
    pub log: String,
}

/// The directories of the overlay that is the root file system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OverlayDirs {
    /// The image's layers, topmost first.
    pub lower: Vec<String>,
    /// The writable layer.
    pub upper: String,
    /// overlayfs's scratch directory.
    pub work: String,
}

/// A volume or host path in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    /// What kind it is.
    pub kind: MountKind,
    /// The volume's name, else empty.
    pub name: String,
    /// Path on the host, empty for memory.
    pub source: String,
    /// What of the source is mounted: a path below it, or empty for all.
    #[serde(default)]
    pub subpath: String,
    /// Path in the container.
    pub destination: String,
    /// The volume driver, else empty.
    pub driver: String,
    /// The options as written (`ro`, `z`, …).
    pub mode: String,
    /// It can be written through.
    pub writable: bool,
    /// `rprivate`, …; empty for volumes and memory.
    pub propagation: String,
}

/// The kinds of [`MountPoint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// A path of the host.
    Bind,
    /// A volume.
    Volume,
    /// Memory.
    Tmpfs,
}

impl MountKind {
    /// Docker's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            MountKind::Bind => "bind",
            MountKind::Volume => "volume",
            MountKind::Tmpfs => "tmpfs",
        }
    }
}

/// Sizes of a container's root file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContainerSize {
    /// The writable layer.
    pub writable: u64,
    /// Writable layer and image together.
    pub root: u64,
}
