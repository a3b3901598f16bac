//! Options of the engine's operations.

use std::collections::BTreeMap;
use std::pin::Pin;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::Stream;
use skep_types::Port;
use tokio::io::{AsyncRead, AsyncWrite};

use super::host::PortBinding;
use super::image::{ImageFilters, PrunedImages};
use crate::Error;

/// Bytes that come piece by piece.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>;
/// Log lines that come one by one.
pub type LogStream = Pin<Box<dyn Stream<Item = Result<LogEntry, Error>> + Send>>;

/// Whether an operation had anything to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It did something.
    Done,
    /// The object already was as asked for.
    Already,
}

/// What `create` answers.
#[derive(Debug, Clone)]
pub struct Created<T> {
    /// The new object.
    pub id: T,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Options of `rm`.
#[derive(Debug, Clone, Copy, Default)]
pub struct RemoveContainer {
    /// Kill it first if it runs.
    pub force: bool,
    /// Remove its anonymous volumes too.
    pub volumes: bool,
}

/// What `wait` waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WaitCondition {
    /// Until it does not run; answers at once when that is so already.
    #[default]
    NotRunning,
    /// Until its next end.
    NextExit,
    /// Until it is removed.
    Removed,
}

/// What `ps` lists.
#[derive(Debug, Clone, Default)]
pub struct ListContainers {
    /// Those that don't run, too.
    pub all: bool,
    /// The newest so many; whatever their state.
    pub limit: Option<usize>,
    /// Docker's filter keys. Unknown keys are an error.
    pub filters: BTreeMap<String, Vec<String>>,
}

/// Options of `logs`.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// Go on as lines come.
    pub follow: bool,
    /// Lines of stdout.
    pub stdout: bool,
    /// Lines of stderr.
    pub stderr: bool,
    /// Not before.
    pub since: Option<DateTime<Utc>>,
    /// Not after.
    pub until: Option<DateTime<Utc>>,
    /// The last so many lines; all when absent.
    pub tail: Option<usize>,
}

/// The stream that a piece of output belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output, and everything of a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line of a log, with its line end if it had one.
#[derive(Debug, Clone)]
pub struct LogEntry {
    /// Which stream it came on.
    pub stream: OutputStream,
    /// When it was read.
    pub time: DateTime<Utc>,
    /// The line.
    pub line: Bytes,
    /// Attributes chosen by log options (`--details`).
    pub attributes: BTreeMap<String, String>,
}

/// Options of `attach`.
#[derive(Debug, Clone, Default)]
pub struct AttachOptions {
    /// Connect stdin.
    pub stdin: bool,
    /// Connect stdout.
    pub stdout: bool,
    /// Connect stderr.
    pub stderr: bool,
    /// What was written to the log so far comes first.
    pub logs: bool,
    /// Go on with what comes; without it only `logs` is answered.
    pub stream: bool,
    /// Keys that detach, as written (`ctrl-p,ctrl-q`); that default when absent.
    pub detach_keys: Option<String>,
}

/// The two directions of an attached process.
pub struct Attachment {
    /// The process has a terminal: `output` is raw. Else it is in frames of 8 bytes (stream 1 or 2, three zeros, length as a
    /// big-endian u32) and payload.
    pub tty: bool,
    /// Ends when the process ends or the client detaches.
    pub output: Pin<Box<dyn AsyncRead + Send>>,
    /// Shutting it down is the end of the process's input. Absent when stdin was not asked for.
    pub input: Option<Pin<Box<dyn AsyncWrite + Send>>>,
}

/// A table of processes, as `top` shows it.
#[derive(Debug, Clone)]
pub struct ProcessTable {
    /// Column names.
    pub titles: Vec<String>,
    /// One row per process.
    pub processes: Vec<Vec<String>>,
}

/// A path that differs from the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathChange {
    /// Absolute path in the container.
    pub path: String,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// How a path differs from the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// Its content or metadata.
    Modified,
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
}

/// What is known of a path in a container (`docker cp`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStat {
    /// Base name.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// st_mode of stat(2).
    pub mode: u32,
    /// Modification time.
    pub mtime: DateTime<Utc>,
    /// Where a symbolic link points to, within the container.
    pub link_target: String,
}

/// Options of copying an archive into a container.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExtractOptions {
    /// Refuse to replace a directory by something else, and the other way round.
    pub no_overwrite_dir_non_dir: bool,
    /// Keep the archive's owner instead of the container's user.
    pub copy_uid_gid: bool,
}

/// What a prune removed.
#[derive(Debug, Clone, Default)]
pub struct Pruned {
    /// Ids or names.
    pub removed: Vec<String>,
    /// Bytes.
    pub reclaimed: u64,
}

/// Prunes to be previewed: those that are there, with their filters.
#[derive(Debug, Clone, Default)]
pub struct PruneRequest {
    /// Of stopped containers.
    pub containers: Option<BTreeMap<String, Vec<String>>>,
    /// Of unused networks.
    pub networks: Option<BTreeMap<String, Vec<String>>>,
    /// Of unused volumes.
    pub volumes: Option<BTreeMap<String, Vec<String>>>,
    /// Of unused images.
    pub images: Option<ImageFilters>,
}

/// What they would remove.
#[derive(Debug, Clone, Default)]
pub struct PrunePreview {
    /// Containers.
    pub containers: Pruned,
    /// Networks.
    pub networks: Pruned,
    /// Volumes.
    pub volumes: Pruned,
    /// Images.
    pub images: PrunedImages,
}

/// Ports to publish and to take back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangePorts {
    /// Published from now on.
    pub publish: BTreeMap<Port, Vec<PortBinding>>,
    /// Published no more. What a binding does not say (address, port of the host) does not matter; a port without bindings is
    /// meant with all that it has.
    pub unpublish: BTreeMap<Port, Vec<PortBinding>>,
}
