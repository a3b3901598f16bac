//! What builds need of the machine: the engine's half of the builder, behind [`skep_build::Worker`].
//!
//! | module | what it owns |
//! |---|---|
//! | [`worker`] | the trait's implementation: one line for each of its operations |
//! | [`step`] | `RUN`: a program in a container that no one else knows of, and the layer that it leaves |
//! | [`files`] | `COPY`, `ADD`, `WORKDIR`: files made and copied |
//! | [`restack`] | layers put on other layers, and made one |
//! | [`sources`] | files and images from elsewhere |
//! | [`digest`] | what stands for the files that a step reads |
//! | [`export`], [`usage`] | what becomes of a result; what the cache holds, and what goes |
//! | [`look`] | files of results, looked at from outside |
//! | [`tree`], [`paths`] | the files of a step's input, opened; where a path leads in them |
//! | [`history`] | builds that have ended |
//! | [`cachedirs`], [`cachemounts`] | directories of `RUN --mount=type=cache`, as steps take them and as objects of their own |
//!
//! A step's upper directory is made in the store's staging area, so that whatever ends a build, its remains are where the store
//! throws things away. Layers become durable together, at the end of a build.

mod cachedirs;
mod cachemounts;
mod digest;
mod error;
mod export;
mod files;
mod history;
mod look;
mod paths;
mod restack;
mod sources;
mod step;
mod tree;
mod usage;
mod worker;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use skep_build::Cache;
use skep_build::VertexId;
use skep_build::builder::{Builder, DEFAULT_PARALLEL};
use skep_build::cache::{Listed, Prune};
use skep_build::graph::{GitSource, HttpSource, ImageSource};
use skep_build::worker::{Context, ResolvedImage};
use skep_store::ChainId;
use skep_types::Platform;

use crate::engine::Inner;

pub use cachemounts::{CacheMount, NewCacheMount};
pub use export::Exported;
pub use history::{BuildRecord, RecordFile};
pub use look::{FileStat, Files};
pub use sources::git::refs::GitFacts;
pub use sources::http::{Algorithm, Checksum, HttpFacts};
pub use step::{BuildContainer, BuildProcess, Pieces, Place, Process, ProcessControl, ProcessEnd};
pub use worker::Machine;

/// What operations of builds return.
type Outcome<T> = Result<T, skep_build::BuildError>;

/// What builds share.
pub(crate) struct Builds {
    cache: Cache,
    builder: OnceLock<Builder<Machine>>,
    sandboxes: step::Sandboxes,
    caches: cachedirs::CacheDirs,
    digests: digest::Digests,
    /// Directories of clients, fetched files, repositories, and what was checked out of them.
    contexts: sources::Slots,
    downloads: sources::Slots,
    repositories: sources::Slots,
    checkouts: sources::Slots,
    /// Whether anything was built since the cache was last collected.
    built: AtomicBool,
}

impl Builds {
    /// With the cache of a data root.
    pub(crate) fn new(cache: Cache) -> Self {
        Builds {
            cache,
            builder: OnceLock::new(),
            sandboxes: step::Sandboxes::default(),
            caches: cachedirs::CacheDirs::default(),
            digests: digest::Digests::default(),
            contexts: sources::Slots::default(),
            downloads: sources::Slots::default(),
            repositories: sources::Slots::default(),
            checkouts: sources::Slots::default(),
            built: AtomicBool::new(false),
        }
    }
}

impl Builds {
    /// Something was built.
    pub(crate) fn note_built(&self) {
        self.built.store(true, Ordering::Relaxed);
    }

    /// Whether anything was built since this was last asked.
    pub(crate) fn take_built(&self) -> bool {
        self.built.swap(false, Ordering::Relaxed)
    }

    /// The topmost layers that builds may use again.
    pub(crate) fn roots(&self) -> std::collections::BTreeSet<ChainId> {
        self.cache.roots()
    }
}

/// The builder of an engine.
pub(crate) fn builder(engine: &Arc<Inner>) -> &Builder<Machine> {
    let make = || Builder::new(Arc::new(Machine::of(engine)), engine.builds.cache.clone(), DEFAULT_PARALLEL);
    engine.builds.builder.get_or_init(make)
}

/// Ends what steps of an earlier daemon left. Blocking.
pub(crate) fn sweep(engine: &Inner) {
    step::sweep(engine);
    if let Err(error) = cachedirs::sweep(&engine.config.data_root.join("build/cache")) {
        tracing::warn!(%error, "removing unfinished cache directories");
    }
    history::sweep(engine);
}

/// Gives back what is kept ready for the next step.
pub(crate) async fn close(engine: &Arc<Inner>) {
    step::close(engine).await;
}

/// A directory without anything in it. It is no one's data, so it is in the exec root.
fn empty_directory(engine: &Inner) -> Result<std::path::PathBuf, skep_build::BuildError> {
    let path = engine.config.exec_root.join("empty");
    crate::storage::make_dir(&path, 0o755).map_err(error::engine)?;
    Ok(path)
}

/// Does what is asked for with a result.
pub(crate) async fn export(
    engine: &Arc<Inner>,
    built: &skep_build::Built,
    request: &skep_build::BuildRequest,
    job: &skep_build::Job,
) -> Result<Exported, skep_build::BuildError> {
    export::export(engine, built, request, job).await
}

/// Refuses exports and caches that can't be made as it is said.
pub(crate) fn check_exports(request: &skep_build::BuildRequest) -> Result<(), skep_build::BuildError> {
    export::check(request)
}

/// A container for a client of a build; nothing runs in it yet.
pub(crate) fn container(engine: &Arc<Inner>, place: Place, job: &skep_build::Job) -> BuildContainer {
    BuildContainer::new(engine, place, outside(job, &Platform::host()))
}

/// Finds an image for a client of a build.
pub(crate) async fn resolve(
    engine: &Arc<Inner>,
    image: &ImageSource,
    platform: &Platform,
    job: &skep_build::Job,
) -> Outcome<ResolvedImage> {
    Box::pin(sources::image::resolve(engine, image, &outside(job, platform))).await
}

/// Says what a repository's reference leads to.
pub(crate) async fn look_at_git(
    engine: &Arc<Inner>,
    source: &GitSource,
    with_objects: bool,
    job: &skep_build::Job,
) -> Outcome<GitFacts> {
    Box::pin(sources::git::refs::look(engine, source, with_objects, &outside(job, &Platform::host()))).await
}

/// Says what a file of a web server is.
pub(crate) async fn look_at_http(
    engine: &Arc<Inner>,
    source: &HttpSource,
    checksum: Option<Checksum>,
    job: &skep_build::Job,
) -> Outcome<HttpFacts> {
    Box::pin(sources::http::look(engine, source, checksum, &outside(job, &Platform::host()))).await
}

/// What belongs to no step.
fn outside(job: &skep_build::Job, platform: &Platform) -> Context {
    Context {
        services: Arc::clone(&job.services),
        events: job.events.clone(),
        vertex: VertexId(skep_types::Digest::from_bytes([0; 32])),
        platform: platform.clone(),
        cancel: job.cancel.clone(),
    }
}

/// The first `limit` bytes of a file.
pub(crate) async fn read_file(engine: &Arc<Inner>, files: &Files, path: &str, limit: u64) -> Outcome<Vec<u8>> {
    look::read(engine, files, path, limit).await
}

/// What a path leads to.
pub(crate) async fn stat_file(engine: &Arc<Inner>, files: &Files, path: &str) -> Outcome<FileStat> {
    look::stat(engine, files, path).await
}

/// What is in a directory.
pub(crate) async fn list_files(
    engine: &Arc<Inner>,
    files: &Files,
    path: &str,
    pattern: &str,
) -> Outcome<Vec<FileStat>> {
    look::list(engine, files, path, pattern).await
}

pub(crate) use history::{all as records, file as record_file, put as put_record, remove as remove_record};

/// All that builds keep.
pub(crate) async fn list_cache(engine: &Arc<Inner>) -> Result<Vec<Listed>, skep_build::BuildError> {
    usage::list(engine).await
}

/// Removes what is picked of it; returns what went.
pub(crate) async fn prune_cache(engine: &Arc<Inner>, prune: Prune) -> Result<Vec<Listed>, skep_build::BuildError> {
    usage::prune(engine, prune).await
}

/// What a prune would remove now.
pub(crate) async fn preview_prune(engine: &Arc<Inner>, prune: Prune) -> Result<Vec<Listed>, skep_build::BuildError> {
    usage::preview(engine, prune).await
}

pub(crate) use cachemounts::{fill as fill_cache, hold as hold_cache, list as list_caches, remove as remove_cache};

/// The platforms that steps can run for: the machine's own, and those that the kernel has an interpreter for (binfmt_misc).
pub(crate) fn platforms() -> Vec<Platform> {
    const KNOWN: [(&str, &str, &str); 8] = [
        ("qemu-aarch64", "arm64", ""),
        ("qemu-arm", "arm", "v7"),
        ("qemu-x86_64", "amd64", ""),
        ("qemu-i386", "386", ""),
        ("qemu-riscv64", "riscv64", ""),
        ("qemu-ppc64le", "ppc64le", ""),
        ("qemu-s390x", "s390x", ""),
        ("qemu-loongarch64", "loong64", ""),
    ];
    let own = Platform::host();
    let registered = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/fs/binfmt_misc/{name}"));
        text.is_ok_and(|text| text.starts_with("enabled"))
    };
    let others =
        KNOWN.into_iter().filter(|(name, architecture, _)| *architecture != own.architecture && registered(name));
    let platform = |(_, architecture, variant): (&str, &str, &str)| Platform {
        os: "linux".to_owned(),
        architecture: architecture.to_owned(),
        variant: variant.to_owned(),
    };
    std::iter::once(own.clone()).chain(others.map(platform)).collect()
}
