//! What is told while a build goes on: the material of progress displays.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use skep_types::Digest;
use tokio::sync::mpsc;

use crate::error::Location;

/// Names one step of one build, or something else that is shown as a line of its own. Stable for the same step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VertexId(pub Digest);

/// Where events go. Nobody has to listen; a listener that is slow slows the build down.
pub type Events = mpsc::Sender<BuildEvent>;

/// Something happened.
#[derive(Debug, Clone)]
pub enum BuildEvent {
    /// A vertex that there is, or news of it.
    Vertex(Vertex),
    /// Progress inside a vertex: a layer, a context.
    Status(Status),
    /// Output of a step.
    Log {
        /// The step.
        vertex: VertexId,
        /// 1 for standard output, 2 for standard error.
        stream: u8,
        /// What it wrote.
        data: Bytes,
        /// When.
        at: DateTime<Utc>,
    },
    /// The Dockerfile could be better.
    Warning(Warning),
    /// What the classic builder's text stream tells, in its order.
    Classic(Classic),
}

/// News of a classic build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Classic {
    /// `Step 1/5 : RUN make`.
    Step {
        /// The number of the instruction, from 1.
        number: usize,
        /// How many there are.
        total: usize,
        /// The instruction.
        text: String,
    },
    /// `# Executing 2 build triggers`.
    Triggers {
        /// How many.
        count: usize,
    },
    /// ` ---> Using cache`.
    Cached,
    /// ` ---> Running in 0123456789ab`.
    Running {
        /// What stands for the container: there is none.
        container: String,
    },
    /// ` ---> Removed intermediate container 0123456789ab`.
    Removed {
        /// As in [`Classic::Running`].
        container: String,
    },
    /// ` ---> 0123456789ab`.
    Image {
        /// The image after the instruction; none for `FROM scratch`.
        id: Option<Digest>,
    },
    /// `[Warning] One or more build-args [A B] were not consumed`.
    Unconsumed {
        /// Their names, sorted.
        names: Vec<String>,
    },
}

/// One line of a progress display, whole each time something of it changes.
#[derive(Debug, Clone)]
pub struct Vertex {
    /// Its id.
    pub id: VertexId,
    /// As it is shown: `[build 2/5] RUN make`.
    pub name: String,
    /// What it waits for.
    pub inputs: Vec<VertexId>,
    /// When it began.
    pub started: Option<DateTime<Utc>>,
    /// When it ended.
    pub completed: Option<DateTime<Utc>>,
    /// Whether the result was there already.
    pub cached: bool,
    /// Why it failed.
    pub error: Option<String>,
}

/// Progress inside a vertex.
#[derive(Debug, Clone)]
pub struct Status {
    /// Its name: `transferring context:`, `sha256:… `.
    pub id: String,
    /// Of which vertex.
    pub vertex: VertexId,
    /// What is done, in bytes.
    pub current: u64,
    /// Of how much, if that is known; 0 if not.
    pub total: u64,
    /// When it began.
    pub started: Option<DateTime<Utc>>,
    /// When it ended.
    pub completed: Option<DateTime<Utc>>,
}

/// What a check of the Dockerfile found.
#[derive(Debug, Clone)]
pub struct Warning {
    /// The vertex that it is shown with.
    pub vertex: VertexId,
    /// The rule and what is wrong: `JSONArgsRecommended: JSON arguments recommended for CMD …`.
    pub short: String,
    /// What the rule is about.
    pub detail: Vec<String>,
    /// Where it is explained.
    pub url: String,
    /// Where it is.
    pub location: Option<Location>,
}
