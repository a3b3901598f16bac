//! Lines of the calls that take long: pull, import, load.

use serde::{Deserialize, Serialize};

use crate::null::is_zero;

/// One line of progress. An error at the end of a stream that began well comes as a line too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Progress {
    /// Text to print as it is.
    #[serde(skip_serializing_if = "is_zero")]
    pub stream: String,
    /// What goes on: `Downloading`.
    #[serde(skip_serializing_if = "is_zero")]
    pub status: String,
    /// How far it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress_detail: Option<ProgressDetail>,
    /// The same, drawn: `[==>   ] 1MB/3MB`.
    #[serde(skip_serializing_if = "is_zero")]
    pub progress: String,
    /// Of what: a layer's short digest.
    #[serde(skip_serializing_if = "is_zero")]
    pub id: String,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<ErrorDetail>,
    /// The same as text.
    #[serde(skip_serializing_if = "is_zero")]
    pub error: String,
    /// Data for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<serde_json::Value>,
}

impl Progress {
    /// A line with a status for one thing, or for the whole when `id` is empty.
    pub fn status(id: impl Into<String>, status: impl Into<String>) -> Self {
        Progress { id: id.into(), status: status.into(), ..Progress::default() }
    }

    /// The last line of a stream that failed.
    pub fn failure(message: impl Into<String>) -> Self {
        let message = message.into();
        Progress {
            error_detail: Some(ErrorDetail { code: 0, message: message.clone() }),
            error: message,
            ..Progress::default()
        }
    }
}

/// How far something is, in bytes where nothing else is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgressDetail {
    /// Done.
    #[serde(skip_serializing_if = "is_zero")]
    pub current: i64,
    /// Of this.
    #[serde(skip_serializing_if = "is_zero")]
    pub total: i64,
    /// What is counted; bytes when empty.
    #[serde(skip_serializing_if = "is_zero")]
    pub units: String,
}

/// What went wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorDetail {
    /// An HTTP status, or nothing.
    #[serde(skip_serializing_if = "is_zero")]
    pub code: i64,
    /// The error's text.
    pub message: String,
}
