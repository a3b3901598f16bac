//! What becomes of a build's result: an image here or in a registry, an archive or files for the client, a cache.
//!
//! | module | what it owns |
//! |---|---|
//! | [`options`] | what may be said of an export |
//! | [`image`] | images that stay here, and that go to registries |
//! | [`archive`] | OCI layouts and archives of `docker load` |
//! | [`files`] | the files themselves |
//! | [`cache`] | the cache of a build, in a registry or a directory of the client |
//! | [`rewrite`] | layers whose files are no younger than the epoch |
//!
//! Each export is a vertex of its own, whose parts are called as in BuildKit.

mod archive;
mod cache;
mod files;
mod image;
mod options;
mod rewrite;

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use skep_build::request::{BuildRequest, Export, ExportKind};
use skep_build::{BuildError, Built, Job, Parts, Report};
use skep_registry::{Descriptor, digest_of};
use skep_types::{ErrorKind, Reference};

use super::error::cancelled;
use crate::engine::Inner;
use crate::images::built::{Documents, Made, Said, Terms};
use options::Options;

/// What `--metadata-file` has, by its key.
type Metadata = BTreeMap<String, String>;

/// What there is to say of exports.
#[derive(Debug, Default)]
pub struct Exported {
    /// What `--metadata-file` has, by its key.
    pub metadata: Metadata,
    /// Manifests and indexes that were written, with their media types.
    pub documents: Vec<(String, Bytes)>,
}

/// Larger documents are not told of: some statements list all files of an image.
const TOLD_MAX: usize = 1 << 20;

impl Exported {
    fn of(metadata: Metadata) -> Self {
        Exported { metadata, documents: Vec::new() }
    }

    fn with(metadata: Metadata, documents: &Documents) -> Self {
        let told = documents.told().filter(|(_, bytes)| bytes.len() <= TOLD_MAX);
        Exported { metadata, documents: told.collect() }
    }
}

/// Whether a request's exports can be done as it is said.
///
/// # Errors
/// An option that there is not, or that has no such value.
pub(super) fn check(request: &BuildRequest) -> Result<(), BuildError> {
    for export in &request.exports {
        Options::read(export)?;
    }
    request
        .cache_to
        .iter()
        .filter(|cache| cache.kind != "inline")
        .try_for_each(|cache| cache::Options::read(cache).map(drop))
}

/// Does what is asked for with a result.
pub(super) async fn export(
    engine: &Arc<Inner>,
    built: &Built,
    request: &BuildRequest,
    job: &Job,
) -> Result<Exported, BuildError> {
    let mut all = Exported::default();
    let cancel = || async { Err(cancelled()) };
    for (number, export) in request.exports.iter().enumerate() {
        let done = one(engine, built, (number, export), job);
        let done = tokio::select! {
            done = Box::pin(done) => done?,
            () = job.cancel.cancelled() => return cancel().await,
        };
        all.metadata.extend(done.metadata);
        all.documents.extend(done.documents);
    }
    for to in request.cache_to.iter().filter(|cache| cache.kind != "inline") {
        all.metadata.extend(tokio::select! {
            done = Box::pin(cache::export(engine, built, to, job)) => done?,
            () = job.cancel.cancelled() => return cancel().await,
        });
    }
    Ok(all)
}

async fn one(
    engine: &Arc<Inner>,
    built: &Built,
    (number, export): (usize, &Export),
    job: &Job,
) -> Result<Exported, BuildError> {
    let name = match export.kind {
        ExportKind::CacheOnly => return Ok(Exported::default()),
        ExportKind::Image => "exporting to image",
        ExportKind::Docker => "exporting to docker image format",
        ExportKind::Oci => "exporting to oci image format",
        ExportKind::Local => "exporting to client directory",
        ExportKind::Tar => "exporting to client tarball",
    };
    let mut report = Report::numbered(job.events.clone(), name, number);
    let options = Options::read(export)?;
    let parts = report.parts();
    let exporting = Exporting { engine, built, kind: export.kind, options: &options, number, job, parts: &parts };
    report.during(exporting.run()).await
}

struct Exporting<'a> {
    engine: &'a Arc<Inner>,
    built: &'a Built,
    kind: ExportKind,
    options: &'a Options,
    number: usize,
    job: &'a Job,
    parts: &'a Parts,
}

/// Images that are ready to be exported.
struct Images {
    made: Vec<Made>,
    /// What keeps layers here that only this export has.
    _guards: Vec<Box<dyn Any + Send + Sync>>,
}

impl Exporting<'_> {
    async fn run(&self) -> Result<Exported, BuildError> {
        match self.kind {
            ExportKind::Image => self.image().await,
            ExportKind::Docker | ExportKind::Oci => self.archive().await,
            ExportKind::Local => self.local().await.map(Exported::of),
            ExportKind::Tar => self.tar().await.map(Exported::of),
            ExportKind::CacheOnly => Ok(Exported::default()),
        }
    }

    /// The moment that everything is said to be from.
    fn epoch(&self) -> Option<DateTime<Utc>> {
        self.options.epoch.or(self.built.epoch)
    }

    fn created(&self) -> String {
        self.epoch().unwrap_or_else(Utc::now).to_rfc3339_opts(SecondsFormat::Secs, true)
    }

    /// The images with what is said of them; statements that go into images only if those are taken at all.
    async fn images(&self, inline_only: bool) -> Result<Images, BuildError> {
        let said = |attestations: &[skep_build::builder::Attestation]| {
            let taken = attestations.iter().filter(|one| inline_only || !one.inline_only);
            taken
                .map(|one| Said { predicate_type: one.predicate_type.clone(), predicate: one.predicate.clone() })
                .collect()
        };
        let made = self.built.images.iter().map(|image| Made {
            config: image.config.clone(),
            platform: image.platform.clone(),
            diff_ids: image.diff_ids.clone(),
            said: said(&image.attestations),
        });
        let mut images = Images { made: made.collect(), _guards: Vec::new() };
        if let Some(epoch) = self.epoch().filter(|_| self.options.rewrite) {
            for (made, image) in images.made.iter_mut().zip(&self.built.images) {
                let name = "rewriting layers with source-date-epoch";
                let kept = rewrite::rewrite(self.engine, made, image.base_layers, epoch);
                images._guards.push(self.parts.during(name, kept).await?);
            }
        }
        Ok(images)
    }

    fn terms(&self) -> Terms {
        Terms {
            names: self.options.names.clone(),
            oci: self.options.oci_types.unwrap_or(self.kind == ExportKind::Oci),
            index: self.built.multi,
            artifact: self.options.artifact,
            annotations: self.options.annotations.clone(),
        }
    }

    /// Tells of the documents that were written.
    async fn tell_documents(&self, documents: &Documents, made: &[Made]) {
        for (manifest, made) in documents.manifests.iter().zip(made) {
            self.parts.done(&format!("exporting manifest {}", manifest.descriptor.digest)).await;
            self.parts.done(&format!("exporting config {}", digest_of(&made.config))).await;
        }
        for one in &documents.attestations {
            self.parts.done(&format!("exporting attestation manifest {}", one.manifest.descriptor.digest)).await;
        }
        if let Some(index) = documents.index() {
            self.parts.done(&format!("exporting manifest list {}", index.descriptor.digest)).await;
        }
    }

    /// Digests and names, as clients expect them. `top` is what names lead to where that is no configuration.
    fn metadata(&self, made: &[Made], top: Option<&Descriptor>) -> Result<Metadata, BuildError> {
        let mut metadata = Metadata::new();
        let mut set = |key: &str, value: String| drop(metadata.insert(key.to_owned(), value));
        let config = made.first().map(|made| digest_of(&made.config).to_string());
        match (top, config) {
            (Some(top), config) => {
                set("containerimage.digest", top.digest.to_string());
                let json = serde_json::to_vec(top).map_err(|error| system(&error))?;
                set("containerimage.descriptor", base64::engine::general_purpose::STANDARD.encode(json));
                // One image is known by its configuration here, whatever else was made for a registry.
                if let Some(config) = config.filter(|_| made.len() == 1) {
                    set("containerimage.config.digest", config);
                }
            }
            (None, Some(config)) => {
                set("containerimage.digest", config.clone());
                set("containerimage.config.digest", config);
            }
            (None, None) => {}
        }
        if !self.options.names.is_empty() {
            let names: Vec<String> = self.options.names.iter().map(Reference::to_string).collect();
            set("image.name", names.join(","));
        }
        Ok(metadata)
    }
}

fn system(error: &dyn std::fmt::Display) -> BuildError {
    BuildError::new(ErrorKind::System, error.to_string())
}
