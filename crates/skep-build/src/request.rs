//! What a user asks for.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use skep_types::{Platform, Reference};

use crate::error::{BuildError, Result};
use crate::graph::{Limits, Names, Network};

/// A build.
#[derive(Debug, Clone, Default)]
pub struct BuildRequest {
    /// Where the files come from.
    pub context: Context,
    /// Where the Dockerfile comes from.
    pub dockerfile: Dockerfile,
    /// The stage to build; the last one if none is named.
    pub target: Option<String>,
    /// For which platforms; the host's if there is none.
    pub platforms: Vec<Platform>,
    /// `--build-arg`.
    pub args: Names,
    /// `--label`.
    pub labels: Names,
    /// `--build-context NAME=…`.
    pub contexts: BTreeMap<String, NamedContext>,
    /// Steps that run although their result is known.
    pub no_cache: NoCache,
    /// Whether to ask registries for images that are here.
    pub pull: PullMode,
    /// Network of `RUN` steps that don't say.
    pub network: Network,
    /// What may be asked for by steps.
    pub allow: Allow,
    /// What holds for all steps.
    pub limits: Limits,
    /// Host name of the steps.
    pub hostname: Option<String>,
    /// The time that all files and the image get.
    pub source_date_epoch: Option<DateTime<Utc>>,
    /// Caches of others to look at.
    pub cache_from: Vec<CacheRef>,
    /// Where to put the cache.
    pub cache_to: Vec<CacheRef>,
    /// Attestations by type (`sbom`, `provenance`), each with its attributes.
    pub attestations: BTreeMap<String, Names>,
    /// What to make of the result.
    pub exports: Vec<Export>,
    /// Merge all layers of the last stage into one.
    pub squash: bool,
    /// Steps one after the other, each an image: what the classic builder did.
    pub classic: bool,
    /// Credentials that came with the request, by host: the classic API's `X-Registry-Config`. Others are asked of the client.
    pub credentials_in_request: bool,
}

impl BuildRequest {
    /// The time that everything gets: that of the request, or of the build argument of this name.
    ///
    /// # Errors
    /// The argument is no time.
    pub fn epoch(&self) -> Result<Option<DateTime<Utc>>> {
        let argument = self.args.get("SOURCE_DATE_EPOCH").filter(|text| !text.is_empty());
        match (self.source_date_epoch, argument) {
            (Some(time), _) => Ok(Some(time)),
            (None, None) => Ok(None),
            (None, Some(text)) => {
                let time = text.parse().ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
                time.map(Some).ok_or_else(|| BuildError::invalid(format!("invalid SOURCE_DATE_EPOCH: {text}")))
            }
        }
    }
}

/// Where the files of a build come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Context {
    /// A directory of the client, of this name.
    Local(String),
    /// A git repository: `https://host/repo.git#ref:subdir`.
    Git(String),
    /// An archive or a Dockerfile of a web server.
    Http(String),
    /// The result of another build: its name among [`Job::inputs`](crate::builder::Job::inputs).
    Result(String),
    /// No files.
    Empty,
}

impl Default for Context {
    fn default() -> Self {
        Context::Local("context".to_owned())
    }
}

/// Where the Dockerfile comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dockerfile {
    /// A file below a directory of the client.
    Local {
        /// The client's name of the directory: `dockerfile`.
        name: String,
        /// The file.
        path: String,
    },
    /// A file of another build's result.
    Result {
        /// Its name among [`Job::inputs`](crate::builder::Job::inputs).
        name: String,
        /// The file.
        path: String,
    },
    /// A file of the context.
    InContext(String),
    /// The text itself.
    Text(String),
}

impl Default for Dockerfile {
    fn default() -> Self {
        Dockerfile::Local { name: "dockerfile".to_owned(), path: "Dockerfile".to_owned() }
    }
}

/// A further context, which `FROM` and `--from` name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// A directory of the client.
    Local(String),
    /// An image: `docker-image://`.
    Image(Reference),
    /// A git repository.
    Git(String),
    /// A web server's file.
    Http(String),
    /// An OCI layout of the client: the name of its content store, and what in it.
    OciLayout {
        /// The store.
        store: String,
        /// `name@sha256:…`.
        reference: String,
    },
    /// The result of another build: its name among [`Job::inputs`](crate::builder::Job::inputs).
    Result(String),
}

/// Steps that run although their result is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NoCache {
    /// None.
    #[default]
    No,
    /// All.
    All,
    /// Those of these stages.
    Stages(Vec<String>),
}

/// Whether to ask the registry for an image that is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum PullMode {
    /// No.
    #[default]
    Missing,
    /// Yes: `--pull`.
    Always,
}

/// What steps may ask for: `--allow`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allow {
    /// `network.host`.
    pub network_host: bool,
    /// `security.insecure`.
    pub insecure: bool,
    /// `device`.
    pub devices: Devices,
}

/// Which devices steps may ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Devices {
    /// All that there are.
    pub all: bool,
    /// Those of these names, or of these kinds; one that stands for another by its value.
    pub names: BTreeMap<String, Option<String>>,
}

impl Devices {
    /// The device that a step may have for the one it names; none if it may have none.
    pub fn grant<'a>(&'a self, wanted: &'a str) -> Option<&'a str> {
        if let Some(other) = self.names.get(wanted) {
            return Some(other.as_deref().unwrap_or(wanted));
        }
        let kind = wanted.split_once('=').and_then(|(kind, _)| self.names.get(kind));
        (self.all || kind.is_some_and(Option::is_none)).then_some(wanted)
    }
}

/// A cache elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheRef {
    /// `inline`, `registry`, `local`.
    pub kind: String,
    /// What else was said: `ref`, `mode`, `dest`, `src`, …
    pub attributes: Names,
}

/// What to make of the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Its kind.
    pub kind: ExportKind,
    /// What else was said: `name`, `push`, `compression`, `annotation.*`, …
    pub attributes: Names,
}

/// Kinds of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExportKind {
    /// An image of this engine (also `moby`); pushed too if `push` says so.
    Image,
    /// An archive of `docker save`, to the client.
    Docker,
    /// An OCI archive, to the client.
    Oci,
    /// The files, to a directory of the client.
    Local,
    /// The files as an archive, to the client.
    Tar,
    /// Nothing but the cache.
    CacheOnly,
}
