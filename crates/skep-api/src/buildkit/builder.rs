//! What the protocol needs of the engine.

use std::sync::Arc;

use skep_build::builder::Subject;
use skep_build::cache::{Listed, Prune};
use skep_build::graph::{GitSource, HttpSource, ImageSource};
use skep_build::services::Later;
use skep_build::worker::ResolvedImage;
use skep_build::{BuildError, BuildRequest, Built, Definition, Job};
use skep_engine::build::{
    BuildContainer, BuildRecord, Checksum, Exported, FileStat, Files, GitFacts, HttpFacts, Place,
};
use skep_engine::{Engine, Entitlements};
use skep_types::{Digest, Platform};

use super::history::WhenKept;

/// The engine, as a builder.
pub(crate) trait Builder: Send + Sync + 'static {
    /// Builds an image for each platform, and stores none.
    fn build(&self, request: BuildRequest, job: Job) -> Later<'_, Arc<Built>>;

    /// Makes what a client's own steps are, and stores nothing.
    fn define(&self, definition: Definition, request: BuildRequest, job: Job) -> Later<'_, Arc<Built>>;

    /// Stores, sends, pushes what was built for a request.
    fn export<'a>(&'a self, built: &'a Built, request: &'a BuildRequest, job: &'a Job) -> Later<'a, Exported>;

    /// Says something of a Dockerfile without building it, as JSON.
    fn describe(&self, request: BuildRequest, job: Job, subject: Subject) -> Later<'_, Vec<u8>>;

    /// Reads a file.
    fn read<'a>(&'a self, files: &'a Files, path: &'a str) -> Later<'a, Vec<u8>>;

    /// What a path leads to.
    fn stat<'a>(&'a self, files: &'a Files, path: &'a str) -> Later<'a, FileStat>;

    /// What is in a directory, of the names that fit `pattern`.
    fn list<'a>(&'a self, files: &'a Files, path: &'a str, pattern: &'a str) -> Later<'a, Vec<FileStat>>;

    /// Finds an image.
    fn resolve<'a>(&'a self, image: &'a ImageSource, platform: &'a Platform, job: &'a Job) -> Later<'a, ResolvedImage>;

    /// Says what a repository's reference leads to.
    fn look_at_git<'a>(&'a self, source: &'a GitSource, with_objects: bool, job: &'a Job) -> Later<'a, GitFacts>;

    /// Says what a file of a web server is.
    fn look_at_http<'a>(
        &'a self,
        source: &'a HttpSource,
        checksum: Option<Checksum>,
        job: &'a Job,
    ) -> Later<'a, HttpFacts>;

    /// A container for a client; nothing runs in it yet.
    fn container(&self, place: Place, job: &Job) -> Result<BuildContainer, BuildError>;

    /// What the cache holds.
    fn usage(&self) -> Later<'_, Vec<Listed>>;

    /// Deletes of the cache what is picked; what went.
    fn prune(&self, prune: Prune) -> Later<'_, Vec<Listed>>;

    /// Builds that have ended, the oldest first.
    fn records(&self) -> Vec<BuildRecord>;

    /// Keeps a build that has ended, with its files. Returns at once.
    fn keep_record(&self, record: BuildRecord, files: Vec<Vec<u8>>, done: WhenKept);

    /// Forgets one. Returns at once.
    fn forget_record(&self, id: &str);

    /// A file of such a build.
    fn record_file(&self, digest: Digest) -> Later<'_, Option<Vec<u8>>>;

    /// The platforms that steps can run for, the machine's own first.
    fn platforms(&self) -> Vec<Platform>;

    /// What clients may allow their builds.
    fn entitlements(&self) -> Entitlements;

    /// The address that stands for the host in `--add-host NAME:host-gateway`.
    fn host_gateway(&self) -> Option<String>;
}

impl Builder for Engine {
    fn build(&self, request: BuildRequest, job: Job) -> Later<'_, Arc<Built>> {
        Box::pin(async move { Engine::build(self, &request, &job).await })
    }

    fn define(&self, definition: Definition, request: BuildRequest, job: Job) -> Later<'_, Arc<Built>> {
        Box::pin(async move { Engine::define(self, &definition, &request, &job).await })
    }

    fn export<'a>(&'a self, built: &'a Built, request: &'a BuildRequest, job: &'a Job) -> Later<'a, Exported> {
        Box::pin(self.export_build(built, request, job))
    }

    fn describe(&self, request: BuildRequest, job: Job, subject: Subject) -> Later<'_, Vec<u8>> {
        Box::pin(async move { self.describe_build(&request, &job, subject).await })
    }

    fn read<'a>(&'a self, files: &'a Files, path: &'a str) -> Later<'a, Vec<u8>> {
        Box::pin(self.read_built(files, path))
    }

    fn stat<'a>(&'a self, files: &'a Files, path: &'a str) -> Later<'a, FileStat> {
        Box::pin(self.stat_built(files, path))
    }

    fn list<'a>(&'a self, files: &'a Files, path: &'a str, pattern: &'a str) -> Later<'a, Vec<FileStat>> {
        Box::pin(self.list_built(files, path, pattern))
    }

    fn resolve<'a>(&'a self, image: &'a ImageSource, platform: &'a Platform, job: &'a Job) -> Later<'a, ResolvedImage> {
        Box::pin(self.resolve_build_image(image, platform, job))
    }

    fn look_at_git<'a>(&'a self, source: &'a GitSource, with_objects: bool, job: &'a Job) -> Later<'a, GitFacts> {
        Box::pin(Engine::look_at_git(self, source, with_objects, job))
    }

    fn look_at_http<'a>(
        &'a self,
        source: &'a HttpSource,
        checksum: Option<Checksum>,
        job: &'a Job,
    ) -> Later<'a, HttpFacts> {
        Box::pin(Engine::look_at_http(self, source, checksum, job))
    }

    fn container(&self, place: Place, job: &Job) -> Result<BuildContainer, BuildError> {
        Ok(self.build_container(place, job))
    }

    fn usage(&self) -> Later<'_, Vec<Listed>> {
        Box::pin(self.build_cache())
    }

    fn prune(&self, prune: Prune) -> Later<'_, Vec<Listed>> {
        Box::pin(self.prune_build_cache(prune))
    }

    fn records(&self) -> Vec<BuildRecord> {
        self.build_records()
    }

    fn keep_record(&self, record: BuildRecord, files: Vec<Vec<u8>>, done: WhenKept) {
        self.keep_build_record(record, files, done);
    }

    fn forget_record(&self, id: &str) {
        self.forget_build_record(id);
    }

    fn record_file(&self, digest: Digest) -> Later<'_, Option<Vec<u8>>> {
        Box::pin(self.build_record_file(digest))
    }

    fn platforms(&self) -> Vec<Platform> {
        self.build_platforms()
    }

    fn entitlements(&self) -> Entitlements {
        Engine::entitlements(self)
    }

    fn host_gateway(&self) -> Option<String> {
        Engine::host_gateway(self).map(|address| address.to_string())
    }
}
