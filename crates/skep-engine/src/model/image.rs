//! What the engine says of images, and what it is asked about them.
//!
//! An image's id is the digest of its configuration. A *reference* (`name:tag` or `name@digest`) points to an image; an image
//! without a tag is dangling.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, FixedOffset, Utc};
use serde::{Deserialize, Serialize};
use skep_registry::Descriptor;
use skep_types::{ContainerId, Digest, Platform, Port, Reference};

use crate::images::Freed;
pub use crate::images::ImageHold;
use crate::model::container::ContainerConfig;

/// An image's id: the digest of its configuration.
pub type ImageId = Digest;

/// An image that a name led to.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its id.
    pub id: ImageId,
    /// What it was made for.
    pub platform: Platform,
    /// Defaults for containers.
    pub config: ImageConfig,
    /// Digests of the uncompressed layers, base first.
    pub diff_ids: Vec<Digest>,
    /// Id of the whole stack of layers; absent for an image without layers.
    pub chain_id: Option<Digest>,
    /// Its tags, as people write them.
    pub repo_tags: Vec<String>,
    /// A sentence for the user when the image is for another platform than the host and none was asked for.
    pub platform_warning: Option<String>,
    /// Keeps its layers, also if it is removed meanwhile.
    pub hold: Option<ImageHold>,
}

/// What an image sets for its containers (`config` of the OCI image spec, with Docker's additions).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImageConfig {
    /// `user[:group]`.
    pub user: String,
    /// Ports it speaks of.
    pub exposed_ports: BTreeSet<Port>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Program that `cmd` is passed to.
    pub entrypoint: Option<Vec<String>>,
    /// Arguments, or command and arguments.
    pub cmd: Option<Vec<String>>,
    /// Paths that become anonymous volumes.
    pub volumes: BTreeSet<String>,
    /// Working directory.
    pub working_dir: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Signal that asks a container to end, as written.
    pub stop_signal: Option<String>,
    /// Seconds between that signal and SIGKILL.
    pub stop_timeout: Option<i64>,
    /// How to see that a container is well.
    pub healthcheck: Option<ImageHealthcheck>,
    /// Triggers for images built from this one.
    pub on_build: Vec<String>,
    /// Shell for the shell form of commands.
    pub shell: Option<Vec<String>>,
    /// The command line is escaped already (Windows).
    pub args_escaped: bool,
}

/// An image's health check. Durations in nanoseconds, 0 for the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageHealthcheck {
    /// `NONE`, or `CMD` or `CMD-SHELL` and what follows it.
    pub test: Option<Vec<String>>,
    /// Between two checks.
    pub interval: i64,
    /// Within which a check must answer.
    pub timeout: i64,
    /// In which failures don't count.
    pub start_period: i64,
    /// Between checks in the start period.
    pub start_interval: i64,
    /// Failures in a row that make a container unhealthy.
    pub retries: i64,
}

/// All that `image inspect` shows.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageDetails {
    /// Its id.
    pub id: ImageId,
    /// Tags, as people write them.
    pub repo_tags: Vec<String>,
    /// `name@digest`, as people write them.
    pub repo_digests: Vec<String>,
    /// The image it was built from, if that was here.
    pub parent: Option<ImageId>,
    /// Comment of the author.
    pub comment: String,
    /// When it was made, if it says so.
    pub created: Option<DateTime<FixedOffset>>,
    /// Version of the engine that built it.
    pub docker_version: String,
    /// Author.
    pub author: String,
    /// Defaults for containers.
    pub config: ImageConfig,
    /// What it was made for.
    pub platform: Platform,
    /// Version of the operating system (Windows).
    pub os_version: String,
    /// Bytes of all layers.
    pub size: u64,
    /// Name of the layer store (`overlay2`).
    pub graph_driver: &'static str,
    /// Directories of the layers: `LowerDir`, `MergedDir`, `UpperDir`, `WorkDir`.
    pub graph_driver_data: BTreeMap<String, String>,
    /// Digests of the uncompressed layers, base first.
    pub diff_ids: Vec<Digest>,
    /// When a tag was last put on it here.
    pub last_tag_time: Option<DateTime<Utc>>,
    /// The index or manifest that the name stands for; the image's manifest when a platform was asked for.
    pub descriptor: Option<Descriptor>,
}

/// A manifest behind a name.
#[derive(Debug, Clone, PartialEq)]
pub struct ManifestSummary {
    /// What points to it.
    pub descriptor: Descriptor,
    /// What it is of.
    pub kind: ManifestKind,
    /// Bytes of its blobs that are here. Layers are kept unpacked only.
    pub content: u64,
    /// Bytes of its layers.
    pub unpacked: u64,
}

/// What a manifest is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestKind {
    /// Of an image.
    Image {
        /// What it was made for.
        platform: Option<Platform>,
        /// The image, if it is here.
        id: Option<ImageId>,
    },
    /// Of a statement about an image.
    Attestation {
        /// Digest of that image's manifest.
        about: Option<Digest>,
    },
}

impl ManifestSummary {
    /// The image, if it is here.
    pub fn image(&self) -> Option<ImageId> {
        match &self.kind {
            ManifestKind::Image { id, .. } => *id,
            ManifestKind::Attestation { .. } => None,
        }
    }
}

/// A line of `images`.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageSummary {
    /// Its id.
    pub id: ImageId,
    /// The image it was built from, if that was here.
    pub parent: Option<ImageId>,
    /// Tags, as people write them.
    pub repo_tags: Vec<String>,
    /// `name@digest`, as people write them.
    pub repo_digests: Vec<String>,
    /// When it was made, in seconds since 1970; 0 for images that don't say.
    pub created: i64,
    /// Bytes of all layers.
    pub size: u64,
    /// Bytes of layers that other images have too; counted only on request.
    pub shared_size: Option<u64>,
    /// Labels; absent when the image sets no configuration at all.
    pub labels: Option<BTreeMap<String, String>>,
    /// What it was made for.
    pub platform: Platform,
    /// The index or manifest that its names stand for.
    pub descriptor: Option<Descriptor>,
    /// It and the images for other platforms that its names lead to.
    pub family: BTreeSet<ImageId>,
    /// All manifests behind its names; only on request.
    pub manifests: Vec<ManifestSummary>,
}

/// One step of an image's history, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The image that the step made, if it is here (else Docker writes `<missing>`).
    pub id: Option<ImageId>,
    /// When, in seconds since 1970; 0 when unknown.
    pub created: i64,
    /// The command.
    pub created_by: String,
    /// Tags of that image.
    pub tags: Vec<String>,
    /// Bytes of the step's layer.
    pub size: u64,
    /// Comment.
    pub comment: String,
}

/// Which images to list. Names in `before` and `since` must exist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageFilters {
    /// Only images without a tag, or only those with one.
    pub dangling: Option<bool>,
    /// `key` or `key=value`, all needed.
    pub labels: Vec<String>,
    /// `key` or `key=value`, none allowed (`label!=`).
    pub without_labels: Vec<String>,
    /// Made before this image.
    pub before: Vec<String>,
    /// Made after this image.
    pub since: Vec<String>,
    /// Patterns for references, with `*`, `?`, `[…]`; any of them.
    pub references: Vec<String>,
    /// Made before then.
    pub until: Option<DateTime<Utc>>,
}

/// Options of `images`.
#[derive(Debug, Clone, Default)]
pub struct ListImages {
    /// Also images that are only steps of others.
    pub all: bool,
    /// Which.
    pub filters: ImageFilters,
    /// Count the bytes that images share.
    pub shared_size: bool,
    /// Show the manifests.
    pub manifests: bool,
}

/// What removing an image did, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// A reference is gone; as people write it.
    Untagged(String),
    /// An image, or a layer of it (chain id), is gone.
    Deleted(Digest),
}

/// A container that needs an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageUser {
    /// The container.
    pub container: ContainerId,
    /// It has a process.
    pub running: bool,
}

/// Options of removing an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemoveImage {
    /// Only the images for these platforms; none for the whole.
    pub platforms: Vec<Platform>,
    /// Also when stopped containers use it or several tags point to it.
    pub force: bool,
    /// Keep parents that nothing else needs.
    pub no_prune: bool,
}

/// What a prune of images did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrunedImages {
    /// In order.
    pub removed: Vec<Removal>,
    /// Bytes.
    pub reclaimed: u64,
}

impl PrunedImages {
    /// Removed references and images, and then the layers that went with them, with their bytes.
    pub(crate) fn new(mut removed: Vec<Removal>, freed: Freed) -> Self {
        let reclaimed = freed.layers.iter().map(|(_, size)| size).sum::<u64>() + freed.blobs;
        removed.extend(freed.layers.into_iter().map(|(chain, _)| Removal::Deleted(*chain.digest())));
        PrunedImages { removed, reclaimed }
    }
}

/// Options of a pull.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PullImage {
    /// For this platform rather than the host's.
    pub platform: Option<Platform>,
    /// Also what the registry has that says something about the image: signatures, lists of contents, attestations.
    pub referrers: bool,
}

/// One message of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullProgress {
    /// `Pulling from library/busybox`; shown with the tag as id.
    Started {
        /// The tag or digest.
        tag: String,
        /// Path of the repository.
        repository: String,
    },
    /// A layer's state changed.
    Layer {
        /// Short digest of the layer's blob.
        id: String,
        /// Its state.
        state: LayerState,
    },
    /// `Digest: sha256:…`.
    Digest(Digest),
    /// `Status: Downloaded newer image for busybox:latest`.
    Downloaded(String),
    /// `Status: Image is up to date for busybox:latest`.
    UpToDate(String),
    /// A sentence for the user.
    Notice(String),
}

/// The state of one layer in a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerState {
    /// Known, nothing done yet.
    Pulling,
    /// Others go first.
    Waiting,
    /// The blob comes in.
    Downloading {
        /// Bytes so far.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The connection broke and is tried again in so many seconds.
    Retrying(u64),
    /// The digest is compared.
    Verifying,
    /// The blob is here.
    Downloaded,
    /// Files are written.
    Extracting {
        /// Compressed bytes so far.
        current: u64,
        /// Compressed bytes in all.
        total: u64,
    },
    /// The layer can be used.
    Complete,
    /// It was here before.
    Exists,
}

/// How layers are compressed on their way to a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LayerCompression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// Options of a push.
#[derive(Debug, Clone, Default)]
pub struct PushImage {
    /// Only the image for this platform, without an index.
    pub platform: Option<Platform>,
    /// How layers are compressed that the registry doesn't have, and which blobs of theirs will do; as the image has it, else
    /// gzip, when absent.
    pub compression: Option<LayerCompression>,
}

/// One message of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushProgress {
    /// `The push refers to repository [docker.io/library/busybox]`.
    Started {
        /// The repository in full.
        repository: String,
    },
    /// A layer's state changed.
    Layer {
        /// Short diff id.
        id: String,
        /// Its state.
        state: PushState,
    },
    /// Only one image of an index is here and was pushed.
    OnlyOne {
        /// What the name stands for.
        index: Box<Descriptor>,
        /// What was pushed.
        selected: Box<Descriptor>,
    },
    /// A sentence for the user.
    Notice(String),
    /// `latest: digest: sha256:… size: 527`.
    Pushed {
        /// The tag.
        tag: String,
        /// Of the manifest or index.
        digest: Digest,
        /// Bytes of the manifest or index.
        size: u64,
    },
    /// The same, for programs.
    Result {
        /// The tag.
        tag: String,
        /// Of the manifest or index.
        digest: Digest,
        /// Bytes of the manifest or index.
        size: u64,
    },
}

/// The state of one layer in a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushState {
    /// Known, nothing done yet.
    Preparing,
    /// Others go first.
    Waiting,
    /// The archive goes out.
    Pushing {
        /// Bytes of the archive so far.
        current: u64,
        /// Bytes of the archive in all.
        total: u64,
    },
    /// The connection broke and is tried again in so many seconds.
    Retrying(u64),
    /// The repository had it.
    Exists,
    /// It came from that repository.
    Mounted(String),
    /// All of it is there.
    Pushed,
}

/// One message of a load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadProgress {
    /// A layer is read.
    Layer {
        /// Short diff id.
        id: String,
        /// Bytes so far.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// A tag moved from the image of that id, which stays without it.
    Renamed {
        /// The tag.
        tag: String,
        /// The image that had it.
        old: ImageId,
    },
    /// An image is here.
    Loaded(Loaded),
}

/// An image that `load` read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its id.
    pub id: ImageId,
    /// The tag it got, if the archive names one.
    pub tag: Option<String>,
}

/// Options of `import`.
#[derive(Debug, Clone, Default)]
pub struct ImportImage {
    /// The tag to put on the image.
    pub reference: Option<Reference>,
    /// Dockerfile instructions: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR.
    pub changes: Vec<String>,
    /// Comment; `Imported from -` when empty.
    pub message: String,
    /// Platform; the host's when absent.
    pub platform: Option<Platform>,
}

/// One message of an import from a web server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportProgress {
    /// The server answers.
    Downloading(String),
    /// The archive is read.
    Reading {
        /// Bytes so far.
        current: u64,
        /// Bytes in all; 0 when the server doesn't say.
        total: u64,
    },
}

/// Options of `commit`.
#[derive(Debug, Clone, Default)]
pub struct CommitImage {
    /// The tag to put on the image.
    pub reference: Option<Reference>,
    /// Author.
    pub author: String,
    /// Comment.
    pub comment: String,
    /// Dockerfile instructions, as `import` takes them.
    pub changes: Vec<String>,
    /// Settings to begin with instead of the container's; what they leave open is the container's.
    pub config: Option<ContainerConfig>,
    /// The command that made the changes, for the history.
    pub created_by: String,
    /// Freeze the container's processes meanwhile.
    pub pause: bool,
}
