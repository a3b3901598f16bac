//! Builds: the engine's door to the builder.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use skep_build::builder::Subject;
use skep_build::cache::{Listed, Prune};
use skep_build::graph::{GitSource, HttpSource, ImageSource};
use skep_build::worker::ResolvedImage;
use skep_build::{BuildError, BuildRequest, Built, Definition, Job};
use skep_types::{Digest, ErrorKind, Platform};

use super::Engine;
use super::archive::{archive, reader};
use crate::build::{
    self, BuildContainer, BuildRecord, CacheMount, Checksum, Exported, FileStat, Files, GitFacts, HttpFacts,
    NewCacheMount, Place,
};
use crate::config::Entitlements;
use crate::model::request::ByteStream;

/// The largest part of a result's file that is read at once, in bytes.
const READ_MAX: u64 = 64 << 20;

type Result<T> = std::result::Result<T, BuildError>;

impl Engine {
    /// Builds what a request asks for, and stores what the cache may use again. The result is not exported; its layers stay as long as
    /// it lives.
    pub async fn build(&self, request: &BuildRequest, job: &Job) -> Result<Arc<Built>> {
        build::check_exports(request)?;
        let builder = build::builder(&self.inner);
        let built = Box::pin(builder.build(request, job)).await;
        // Steps that were successful are of use to the next build, however this one ended.
        let finished = builder.finish().await;
        self.inner.builds.note_built();
        let built = built?;
        finished?;
        Ok(Arc::new(built))
    }

    /// The same of steps that the client wrote down itself.
    pub async fn define(&self, definition: &Definition, request: &BuildRequest, job: &Job) -> Result<Arc<Built>> {
        build::check_exports(request)?;
        let builder = build::builder(&self.inner);
        let built = Box::pin(builder.define(definition, request, job)).await;
        let finished = builder.finish().await;
        self.inner.builds.note_built();
        let built = built?;
        finished?;
        Ok(Arc::new(built))
    }

    /// Stores, sends, pushes what was built for a request, and its cache.
    pub async fn export_build(&self, built: &Built, request: &BuildRequest, job: &Job) -> Result<Exported> {
        Box::pin(build::export(&self.inner, built, request, job)).await
    }

    /// Says something of a Dockerfile without building it, as JSON.
    pub async fn describe_build(&self, request: &BuildRequest, job: &Job, subject: Subject) -> Result<Vec<u8>> {
        Box::pin(build::builder(&self.inner).describe(request, job, subject)).await
    }

    /// Reads a file of a result, or of a step that failed.
    pub async fn read_built(&self, files: &Files, path: &str) -> Result<Vec<u8>> {
        build::read_file(&self.inner, files, path, READ_MAX).await
    }

    /// What a path of a result leads to.
    pub async fn stat_built(&self, files: &Files, path: &str) -> Result<FileStat> {
        build::stat_file(&self.inner, files, path).await
    }

    /// What is in a directory of a result; only names that fit `pattern`, if there is one.
    pub async fn list_built(&self, files: &Files, path: &str, pattern: &str) -> Result<Vec<FileStat>> {
        build::list_files(&self.inner, files, path, pattern).await
    }

    /// Finds an image as a step would, and fetches its configuration, not its layers.
    pub async fn resolve_build_image(
        &self,
        image: &ImageSource,
        platform: &Platform,
        job: &Job,
    ) -> Result<ResolvedImage> {
        build::resolve(&self.inner, image, platform, job).await
    }

    /// Says what a repository's reference leads to, with the bytes of the objects if they are wanted.
    pub async fn look_at_git(&self, source: &GitSource, with_objects: bool, job: &Job) -> Result<GitFacts> {
        build::look_at_git(&self.inner, source, with_objects, job).await
    }

    /// Says what a file of a web server is, with another digest of it if one is wanted.
    pub async fn look_at_http(&self, source: &HttpSource, checksum: Option<Checksum>, job: &Job) -> Result<HttpFacts> {
        build::look_at_http(&self.inner, source, checksum, job).await
    }

    /// A container for a client of a build; nothing runs in it yet.
    pub fn build_container(&self, place: Place, job: &Job) -> BuildContainer {
        build::container(&self.inner, place, job)
    }

    /// Builds that have ended, the oldest first. Blocks.
    pub fn build_records(&self) -> Vec<BuildRecord> {
        build::records(&self.inner).unwrap_or_else(|error| {
            tracing::warn!(%error, "the history of builds can't be read");
            Vec::new()
        })
    }

    /// Keeps the record of a build and its files, behind the caller's back. `done` is told the names of the builds that went for it.
    pub fn keep_build_record(
        &self,
        record: BuildRecord,
        files: Vec<Vec<u8>>,
        done: impl FnOnce(Vec<String>) + Send + 'static,
    ) {
        let inner = Arc::clone(&self.inner);
        self.inner.tasks.spawn(async move {
            match build::put_record(&inner, record, files).await {
                Ok(gone) => done(gone),
                Err(error) => tracing::warn!(%error, "a build is missing in the history"),
            }
        });
    }

    /// Forgets a build, behind the caller's back.
    pub fn forget_build_record(&self, id: &str) {
        let (inner, id) = (Arc::clone(&self.inner), id.to_owned());
        self.inner.tasks.spawn(async move {
            if let Err(error) = build::remove_record(&inner, id).await {
                tracing::warn!(%error, "a build stays in the history");
            }
        });
    }

    /// A file of a build that has ended; none if no build has it.
    pub async fn build_record_file(&self, digest: Digest) -> Result<Option<Vec<u8>>> {
        build::record_file(&self.inner, digest).await
    }

    /// What builds keep: layers and directories.
    pub async fn build_cache(&self) -> Result<Vec<Listed>> {
        build::list_cache(&self.inner).await
    }

    /// Removes what is picked of it, and nothing that a build uses.
    pub async fn prune_build_cache(&self, prune: Prune) -> Result<Vec<Listed>> {
        build::prune_cache(&self.inner, prune).await
    }

    /// What a prune would remove now.
    pub async fn preview_build_prune(&self, prune: Prune) -> Result<Vec<Listed>> {
        build::preview_prune(&self.inner, prune).await
    }

    /// Directories of cache mounts, by name.
    pub async fn cache_mounts(&self) -> Result<Vec<CacheMount>> {
        build::list_caches(&self.inner).await
    }

    /// The files of a cache mount as a tar archive.
    pub async fn export_cache_mount(&self, wanted: &str) -> Result<ByteStream> {
        let (root, held) = build::hold_cache(&self.inner, wanted.to_owned()).await?;
        Ok(archive(move |out| {
            let _held = held;
            skep_fs::pack::write_tree(&root, Path::new("."), OsStr::new(""), out)
        }))
    }

    /// Fills a cache mount from a tar archive (plain, gzip, zstd). One that is not there is made as `new` says.
    pub async fn import_cache_mount(&self, wanted: &str, new: NewCacheMount, archive: ByteStream) -> Result<()> {
        let (inner, wanted) = (Arc::clone(&self.inner), wanted.to_owned());
        let reader = reader(archive);
        let filled = tokio::task::spawn_blocking(move || build::fill_cache(&inner, &wanted, new, reader)).await;
        filled.map_err(|error| BuildError::new(ErrorKind::System, format!("a worker thread of the engine: {error}")))?
    }

    /// Removes a cache mount that no build uses.
    pub async fn remove_cache_mount(&self, wanted: &str) -> Result<()> {
        build::remove_cache(&self.inner, wanted.to_owned()).await
    }

    /// The platforms that steps can run for, the machine's own first.
    pub fn build_platforms(&self) -> Vec<Platform> {
        build::platforms()
    }

    /// What clients may allow their builds.
    pub fn entitlements(&self) -> Entitlements {
        self.inner.config.entitlements
    }

    /// The address that stands for the host in `--add-host NAME:host-gateway`.
    pub fn host_gateway(&self) -> Option<std::net::IpAddr> {
        self.inner.networks.host_gateways(&self.inner.config).first().copied()
    }
}
