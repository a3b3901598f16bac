//! Processes started inside running containers.

use serde::{Deserialize, Serialize};

use crate::null::{if_empty, is_zero, words};

/// Body of POST /containers/{id}/exec.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase", rename(deserialize = "ExecOptions"))]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct ExecCreateRequest {
    pub user: String,
    pub privileged: bool,
    pub tty: bool,
    /// Height and width.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<[u64; 2]>,
    pub attach_stdin: bool,
    pub attach_stderr: bool,
    pub attach_stdout: bool,
    #[serde(skip_serializing_if = "is_zero")]
    pub detach: bool,
    pub detach_keys: String,
    #[serde(serialize_with = "if_empty")]
    pub env: Vec<String>,
    pub working_dir: String,
    #[serde(deserialize_with = "words")]
    pub cmd: Option<Vec<String>>,
}

/// Answer of the calls that make something and return only its id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct IdResponse {
    pub id: String,
}

/// Body of POST /exec/{id}/start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase", rename(deserialize = "ExecStartOptions"))]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct ExecStartRequest {
    pub detach: bool,
    pub tty: bool,
    /// Height and width.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<[u64; 2]>,
}

/// Answer of GET /exec/{id}/json.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct ExecInspect {
    #[serde(rename = "ID")]
    pub id: String,
    pub running: bool,
    /// None until it has ended.
    pub exit_code: Option<i64>,
    pub process_config: ExecProcess,
    pub open_stdin: bool,
    pub open_stderr: bool,
    pub open_stdout: bool,
    pub can_remove: bool,
    #[serde(rename = "ContainerID")]
    pub container_id: String,
    /// The key sequence's bytes, in base64.
    pub detach_keys: String,
    pub pid: i64,
}

/// What an exec runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct ExecProcess {
    pub tty: bool,
    pub entrypoint: String,
    pub arguments: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
    #[serde(skip_serializing_if = "is_zero")]
    pub user: String,
}
