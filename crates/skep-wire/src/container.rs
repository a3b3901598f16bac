//! One container: inspect, wait, top, changes, update.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::null::{if_empty, is_zero};
use crate::{ContainerConfig, Descriptor, HostConfig, MountPoint, NetworkSettings, RestartPolicy, Timestamp};

/// Answer of GET /containers/{id}/json.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct ContainerInspect {
    pub id: String,
    pub created: Timestamp,
    pub path: String,
    pub args: Vec<String>,
    pub state: ContainerState,
    /// The image's id; `config.image` holds the name it was asked for by.
    pub image: String,
    pub resolv_conf_path: String,
    pub hostname_path: String,
    pub hosts_path: String,
    pub log_path: String,
    /// With a leading slash.
    pub name: String,
    pub restart_count: i64,
    pub driver: String,
    pub platform: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_manifest_descriptor: Option<Descriptor>,
    pub mount_label: String,
    pub process_label: String,
    pub app_armor_profile: String,
    #[serde(rename = "ExecIDs", serialize_with = "if_empty")]
    pub exec_ids: Vec<String>,
    pub host_config: HostConfig,
    pub graph_driver: GraphDriver,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<i64>,
    pub mounts: Vec<MountPoint>,
    pub config: ContainerConfig,
    pub network_settings: NetworkSettings,
}

/// `State` of inspect. `status` is one of created, running, paused, restarting, removing, exited, dead.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct ContainerState {
    pub status: String,
    pub running: bool,
    pub paused: bool,
    pub restarting: bool,
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    pub dead: bool,
    pub pid: i64,
    pub exit_code: i64,
    pub error: String,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

/// What health checks have found. `status` is one of none, starting, healthy, unhealthy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct Health {
    pub status: String,
    pub failing_streak: i64,
    pub log: Vec<HealthResult>,
}

/// One run of a health check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct HealthResult {
    pub start: Timestamp,
    pub end: Timestamp,
    pub exit_code: i64,
    pub output: String,
}

/// Which storage driver holds a container or an image, and where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct GraphDriver {
    #[serde(serialize_with = "if_empty")]
    pub data: BTreeMap<String, String>,
    pub name: String,
}

/// Answer of GET /containers/{id}/top.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct ContainerTop {
    pub processes: Vec<Vec<String>>,
    pub titles: Vec<String>,
}

/// One line of GET /containers/{id}/changes. Kinds: 0 modified, 1 added, 2 deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct FilesystemChange {
    pub path: String,
    pub kind: u8,
}

/// Answer of POST /containers/{id}/wait.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct WaitResponse {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<WaitError>,
    pub status_code: i64,
}

/// Why there is no exit status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct WaitError {
    #[serde(skip_serializing_if = "is_zero")]
    pub message: String,
}

/// Body of POST /containers/{id}/update: the resource fields of [`HostConfig`] (all else in it is ignored), and the restart
/// policy.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContainerUpdateRequest {
    /// Resources and restart policy; a zero means "leave".
    pub resources: HostConfig,
}

impl ContainerUpdateRequest {
    /// The new restart policy, if one was given.
    pub fn restart_policy(&self) -> Option<&RestartPolicy> {
        Some(&self.resources.restart_policy).filter(|policy| !policy.name.is_empty())
    }
}

/// Answer of POST /containers/{id}/update.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct ContainerUpdateResponse {
    #[serde(serialize_with = "if_empty")]
    pub warnings: Vec<String>,
}

/// A file inside a container: the header X-Docker-Container-Path-Stat, as base64 of this JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PathStat {
    /// Last component of the path.
    pub name: String,
    /// Bytes.
    pub size: i64,
    /// Go's `fs.FileMode`: permissions in the low nine bits, the type in Go's own high bits (directory is bit 31, symbolic
    /// link bit 27).
    pub mode: u32,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Where a symbolic link leads.
    #[serde(rename = "linkTarget")]
    pub link_target: String,
}

impl PathStat {
    /// Go's bit for a directory.
    pub const DIRECTORY: u32 = 1 << 31;
    /// Go's bit for a symbolic link.
    pub const SYMLINK: u32 = 1 << 27;
    /// Go's bit for a device.
    pub const DEVICE: u32 = 1 << 26;
    /// Go's bit for a named pipe.
    pub const NAMED_PIPE: u32 = 1 << 25;
    /// Go's bit for a socket.
    pub const SOCKET: u32 = 1 << 24;
    /// Go's bit for set-user-id.
    pub const SETUID: u32 = 1 << 23;
    /// Go's bit for set-group-id.
    pub const SETGID: u32 = 1 << 22;
    /// Go's bit for a character device, beside [`PathStat::DEVICE`].
    pub const CHARACTER_DEVICE: u32 = 1 << 21;
    /// Go's sticky bit.
    pub const STICKY: u32 = 1 << 20;

    /// Go's form of a Unix `st_mode`.
    pub fn go_mode(st_mode: u32) -> u32 {
        let kind = match st_mode & 0o170_000 {
            0o040_000 => Self::DIRECTORY,
            0o120_000 => Self::SYMLINK,
            0o060_000 => Self::DEVICE,
            0o020_000 => Self::DEVICE | Self::CHARACTER_DEVICE,
            0o010_000 => Self::NAMED_PIPE,
            0o140_000 => Self::SOCKET,
            _ => 0,
        };
        let special = [(0o4000, Self::SETUID), (0o2000, Self::SETGID), (0o1000, Self::STICKY)];
        let special = special.iter().filter(|(unix, _)| st_mode & unix != 0).map(|(_, go)| go).sum::<u32>();
        kind | special | (st_mode & 0o777)
    }

    /// The value for X-Docker-Container-Path-Stat.
    pub fn to_header(&self) -> String {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads X-Docker-Container-Path-Stat.
    pub fn from_header(value: &str) -> Result<Self, crate::AuthError> {
        use base64::Engine;
        Ok(crate::from_slice(&base64::engine::general_purpose::STANDARD.decode(value)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_gos() {
        assert_eq!(PathStat::go_mode(0o040_755), 2_147_484_141);
        assert_eq!(PathStat::go_mode(0o100_644), 0o644);
        assert_eq!(PathStat::go_mode(0o120_777), 134_218_239);
        assert_eq!(PathStat::go_mode(0o041_777), 2_148_532_735);
    }

    #[test]
    fn a_stat_goes_through_a_header() {
        let stat =
            PathStat { name: "etc".into(), size: 4096, mode: PathStat::DIRECTORY | 0o755, ..PathStat::default() };
        assert_eq!(PathStat::from_header(&stat.to_header()).expect("header"), stat);
    }
}
