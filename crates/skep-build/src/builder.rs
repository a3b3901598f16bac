//! The builder of a daemon; what a build is given besides its request, and what comes of it.
//!
//! ```text
//! Builder::new ──▶ solve, as often as there is something to build, also at the same time
//!              └─▶ finish, after each: layers made durable, cache records stored
//! ```

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use skep_store::ChainId;
use skep_types::{Digest, ErrorKind, Platform, Reference};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::cache::Cache;
use crate::error::{BuildError, Result};
use crate::event::{Events, VertexId};
use crate::frontend::Frontend;
pub use crate::frontend::{Definition, Subject};
use crate::graph::{Graph, StepId};
use crate::request::BuildRequest;
use crate::services::Services;
use crate::solve::{Flights, Memo, Solve, Solver};
use crate::worker::{Context, Stack, Tree, Worker};

/// How many steps run at once unless somebody says something else.
pub const DEFAULT_PARALLEL: usize = 16;

/// Builds, with one cache. Clones share it.
#[derive(Debug, Clone)]
pub struct Builder<W> {
    pub(crate) solver: Arc<Solver<W>>,
}

/// What a step of a graph has made. It stays as long as this lives.
#[derive(Debug)]
pub struct Solved {
    /// The files.
    pub tree: Tree,
    /// Its layers, the lowest first; none of a directory.
    pub diff_ids: Vec<Digest>,
    /// Whether nothing had to be done for it.
    pub cached: bool,
    /// What keeps it here.
    pub guards: Vec<Arc<dyn Any + Send + Sync>>,
}

impl<W: Worker> Builder<W> {
    /// A builder that runs at most `parallel` steps at once.
    pub fn new(worker: Arc<W>, cache: Cache, parallel: usize) -> Self {
        let slots = Semaphore::new(parallel.max(1));
        Builder { solver: Arc::new(Solver { worker, cache, flights: Flights::default(), slots }) }
    }

    /// The cache.
    pub fn cache(&self) -> &Cache {
        &self.solver.cache
    }

    /// Builds what a request asks for. Exporting it is up to the caller; the layers stay as long as the result lives.
    ///
    /// # Errors
    /// The request, the Dockerfile, an image that isn't found, the first step that fails; with vertex and place where there is one.
    pub async fn build(&self, request: &BuildRequest, job: &Job) -> Result<Built> {
        let frontend = Frontend { solver: &self.solver, request, job, memo: Memo::default() };
        tokio::select! {
            biased;
            () = job.cancel.cancelled() => Err(BuildError::new(ErrorKind::Cancelled, "context canceled")),
            result = frontend.build() => result,
        }
    }

    /// Says something of a Dockerfile without building it: the JSON of BuildKit's subrequest.
    ///
    /// # Errors
    /// As [`Builder::build`], as far as it gets. For [`Subject::Checks`] what is wrong with the Dockerfile is in the answer.
    pub async fn describe(&self, request: &BuildRequest, job: &Job, subject: Subject) -> Result<Vec<u8>> {
        let frontend = Frontend { solver: &self.solver, request, job, memo: Memo::default() };
        tokio::select! {
            biased;
            () = job.cancel.cancelled() => Err(BuildError::new(ErrorKind::Cancelled, "context canceled")),
            result = frontend.describe(subject) => result,
        }
    }

    /// Makes what a client's own steps are. Of the request, only what belongs to every build counts: exports, caches, times.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub async fn define(&self, definition: &Definition, request: &BuildRequest, job: &Job) -> Result<Built> {
        let frontend = Frontend { solver: &self.solver, request, job, memo: Memo::default() };
        tokio::select! {
            biased;
            () = job.cancel.cancelled() => Err(BuildError::new(ErrorKind::Cancelled, "context canceled")),
            result = frontend.define(definition) => result,
        }
    }

    /// Makes what one step of a graph is; its layers are here then.
    ///
    /// # Errors
    /// The first step that fails, with its vertex and its place in the Dockerfile.
    pub async fn solve(&self, graph: &Graph, target: StepId, job: &Job) -> Result<Solved> {
        if target.0 >= graph.steps.len() || !graph.is_ordered() {
            return Err(BuildError::invalid("the steps of the graph are not in order"));
        }
        let memo = Memo::default();
        let solve = Solve::new(graph, job, &memo);
        let values = self.solver.solve(&solve, &[target]).await?;
        let value = values.into_iter().next().ok_or_else(|| BuildError::invalid("there is no such step"))?;
        self.solver.ensure(&solve, target, &value).await?;
        let diff_ids = value.layers.iter().map(|layer| layer.diff_id).collect();
        Ok(Solved { diff_ids, cached: value.cached, guards: value.held(), tree: value.tree })
    }

    /// Makes durable what was built, then stores the cache records of it. Not called, or cut short by a crash, it costs nothing but
    /// the work: what was built is built again. A caller that has a transaction of its own takes [`Worker::flush`] and
    /// [`Cache::save`] instead.
    ///
    /// # Errors
    /// The disk or the database fails.
    pub async fn finish(&self) -> Result<()> {
        if !self.cache().has_changed() {
            return Ok(());
        }
        self.solver.worker.flush().await?;
        let cache = self.cache().clone();
        let stored = tokio::task::spawn_blocking(move || cache.commit()).await;
        let stored = stored.map_err(|error| BuildError::new(ErrorKind::System, error.to_string()))?;
        stored.map_err(|error| BuildError::new(error.kind(), error.to_string()))
    }
}

/// What belongs to one build while it goes on.
#[derive(Clone)]
pub struct Job {
    /// The client.
    pub services: Arc<dyn Services>,
    /// Who hears how it goes.
    pub events: Events,
    /// Ends the build. Dropping the build's future does too.
    pub cancel: CancellationToken,
    /// Results of other builds, which [`NamedContext::Result`](crate::request::NamedContext::Result) names.
    pub inputs: BTreeMap<String, Arc<Built>>,
}

impl Job {
    /// What a step of this build is run with.
    pub(crate) fn context(&self, vertex: VertexId, platform: &Platform) -> Context {
        Context {
            services: Arc::clone(&self.services),
            events: self.events.clone(),
            vertex,
            platform: platform.clone(),
            cancel: self.cancel.clone(),
        }
    }
}

/// What a build made. The layers stay as long as it lives.
#[derive(Debug, Default)]
pub struct Built {
    /// One for each platform, in the order of the request.
    pub images: Vec<BuiltImage>,
    /// Whether the result is a list of platforms, even if it has only one.
    pub multi: bool,
    /// The time that everything got (`SOURCE_DATE_EPOCH`).
    pub epoch: Option<DateTime<Utc>>,
    /// How it was made, for the history of builds.
    pub provenance: Option<Attestation>,
    /// What the cache has of it, if it is to be written elsewhere.
    pub cache: Vec<CacheEntry>,
    /// What keeps the layers of `cache` here.
    pub guards: Vec<Arc<dyn Any + Send + Sync>>,
}

impl Built {
    /// The same with configurations of its client's own, by platform: one without a platform is for all.
    ///
    /// # Errors
    /// One is no configuration.
    pub fn configured(self: Arc<Self>, own: impl Fn(&Platform) -> Option<Vec<u8>>) -> Result<Arc<Built>> {
        let one = |image: &BuiltImage| -> Result<BuiltImage> {
            let config = match own(&image.platform) {
                Some(config) => crate::image::with_layers(&config, &image.config)?,
                None => image.config.clone(),
            };
            Ok(BuiltImage {
                platform: image.platform.clone(),
                stack: image.stack,
                diff_ids: image.diff_ids.clone(),
                base_layers: image.base_layers,
                config,
                base: image.base.clone(),
                attestations: image.attestations.clone(),
                intermediate: image.intermediate.clone(),
                guard: vec![Box::new(Arc::clone(&self))],
            })
        };
        let images = self.images.iter().map(one).collect::<Result<_>>()?;
        let (cache, guards) = (self.cache.clone(), self.guards.clone());
        Ok(Arc::new(Built {
            images,
            multi: self.multi,
            epoch: self.epoch,
            provenance: self.provenance.clone(),
            cache,
            guards,
        }))
    }
}

/// A result that goes into a cache elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheEntry {
    /// What it is the result of.
    pub key: Digest,
    /// Its layers.
    pub stack: ChainId,
    /// When it was made.
    pub created: DateTime<Utc>,
    /// Keys of the results that it stands on.
    pub parents: Vec<Digest>,
    /// Whether it is part of what was built (`mode=min`), or of another stage.
    pub minimal: bool,
}

/// An image, not yet stored or sent anywhere.
#[derive(Debug)]
pub struct BuiltImage {
    /// What it is for.
    pub platform: Platform,
    /// Its layers, all of which are here; none for an image without files.
    pub stack: Stack,
    /// The same one by one, the lowest first: as in `config`.
    pub diff_ids: Vec<Digest>,
    /// How many of them are those of the image that it begins with.
    pub base_layers: usize,
    /// The bytes of its configuration.
    pub config: Vec<u8>,
    /// The image that the last stage begins with, and its manifest's digest where it came from a registry.
    pub base: Option<(Reference, Option<Digest>)>,
    /// Statements about it.
    pub attestations: Vec<Attestation>,
    /// The configurations of the classic builder's intermediate images, the first first; none of other builds.
    pub intermediate: Vec<Intermediate>,
    /// What keeps the layers here.
    pub guard: Vec<Box<dyn Any + Send + Sync>>,
}

/// An in-toto statement without its subject, which is known when the image has a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    /// Its type: `https://slsa.dev/provenance/v0.2`, `https://spdx.dev/Document`.
    pub predicate_type: String,
    /// The JSON of its predicate.
    pub predicate: Vec<u8>,
    /// The file that it is beside exported files: `provenance.json`.
    pub file: String,
    /// Whether it goes into images only (`inline-only`), not beside files.
    pub inline_only: bool,
}

/// An image that the classic builder made after an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intermediate {
    /// Digest of `config`: its id.
    pub id: Digest,
    /// The image that it was made from.
    pub parent: Option<Digest>,
    /// Its layers.
    pub stack: Stack,
    /// The bytes of its configuration.
    pub config: Vec<u8>,
}
