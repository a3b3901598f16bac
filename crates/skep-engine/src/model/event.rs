//! Events: what happened to which object.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

/// The kind of object an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventType {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A volume.
    Volume,
    /// A network.
    Network,
    /// The daemon.
    Daemon,
}

impl EventType {
    /// Docker's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            EventType::Container => "container",
            EventType::Image => "image",
            EventType::Volume => "volume",
            EventType::Network => "network",
            EventType::Daemon => "daemon",
        }
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What it is about.
    pub kind: EventType,
    /// `create`, `start`, `exec_create: sh`, …
    pub action: String,
    /// The object's id (a name, for images and volumes).
    pub actor: String,
    /// Name, image, labels and what belongs to the action (`exitCode`, `signal`).
    pub attributes: BTreeMap<String, String>,
    /// When.
    pub time: DateTime<Utc>,
}

/// Which events to show. Values of one key are alternatives, keys are all needed, as in Docker.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Past events from then on come first.
    pub since: Option<DateTime<Utc>>,
    /// The stream ends then; at once if that is past.
    pub until: Option<DateTime<Utc>>,
    /// `type`, `event`, `container`, `image`, `volume`, `network`, `label`, `daemon`, `scope`.
    pub filters: BTreeMap<String, Vec<String>>,
}
