//! Lines of GET /events.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::null::is_zero;

/// One event. The first three fields repeat later ones, for clients from before v1.22 that still read them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct Event {
    #[serde(skip_serializing_if = "is_zero")]
    pub status: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub id: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub from: String,
    /// `container`, `image`, `volume`, `network`, `daemon`...
    #[serde(rename = "Type")]
    pub kind: String,
    #[serde(rename = "Action")]
    pub action: String,
    #[serde(rename = "Actor")]
    pub actor: EventActor,
    /// `local`.
    #[serde(skip_serializing_if = "is_zero")]
    pub scope: String,
    /// Seconds since 1970.
    #[serde(skip_serializing_if = "is_zero")]
    pub time: i64,
    /// Nanoseconds since 1970.
    #[serde(rename = "timeNano", skip_serializing_if = "is_zero")]
    pub time_nano: i64,
}

/// What an event is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct EventActor {
    #[serde(rename = "ID")]
    pub id: String,
    pub attributes: BTreeMap<String, String>,
}
