//! Results of steps while a build goes on.

use std::any::Any;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use skep_store::ChainId;
use skep_types::Digest;
use tokio::sync::OnceCell;

use crate::error::{BuildError, Result};
use crate::graph::Given;
use crate::worker::{Context, ResolvedImage, Stack, Tree, Worker};

use super::key::sha256;
use super::report::Report;

/// The result of a step.
#[derive(Debug, Clone)]
pub(crate) struct Value {
    /// Its files.
    pub(crate) tree: Tree,
    /// Its layers, the lowest first; none of a directory.
    pub(crate) layers: Arc<[LayerMade]>,
    /// Keys of the cache records that it is made from: its own one, or those of its inputs.
    pub(crate) records: Vec<Digest>,
    /// The image whose layers may not be here yet.
    pub(crate) image: Option<Arc<Image>>,
    /// What keeps it from being deleted.
    pub(crate) guards: Vec<Guard>,
    /// Whether it was known before.
    pub(crate) cached: bool,
}

/// A layer, and when it was made; no time for a layer of a base, whose history has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LayerMade {
    pub(crate) diff_id: Digest,
    pub(crate) created: Option<DateTime<Utc>>,
}

/// What keeps something from being deleted, shared.
pub(crate) type Guard = Arc<dyn Any + Send + Sync>;

/// An image whose layers are fetched when they are needed.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) resolved: ResolvedImage,
    fetched: OnceCell<Option<Guard>>,
}

impl Image {
    pub(crate) fn new(resolved: ResolvedImage) -> Self {
        Image { resolved, fetched: OnceCell::new() }
    }
}

impl Value {
    /// An empty tree.
    pub(crate) fn scratch() -> Self {
        Value {
            tree: Tree::Layers(None),
            layers: Arc::new([]),
            records: Vec::new(),
            image: None,
            guards: Vec::new(),
            cached: true,
        }
    }

    /// Layers, or an error for a directory: only layers can be stood on.
    pub(crate) fn stack(&self) -> Result<Stack> {
        match &self.tree {
            Tree::Layers(stack) => Ok(*stack),
            Tree::Dir(_) => Err(BuildError::invalid("a directory of the client can't be the base of a stage")),
        }
    }

    /// The id of the image that this is.
    pub(crate) fn image_id(&self) -> Option<Digest> {
        self.image.as_ref().map(|image| sha256(&image.resolved.config))
    }

    /// The layers as a source of another graph.
    pub(crate) fn given(&self) -> Result<Given> {
        let diff_ids = self.layers.iter().map(|layer| layer.diff_id).collect();
        Ok(Given { stack: self.stack()?, diff_ids })
    }

    /// What stands for all of the content, where the content never changes.
    pub(crate) fn identity(&self) -> Option<Digest> {
        match &self.tree {
            Tree::Layers(stack) => Some(stack.map_or(Digest::from_bytes([0; 32]), |chain: ChainId| *chain.digest())),
            Tree::Dir(dir) => dir.identity,
        }
    }

    /// What keeps it here.
    pub(crate) fn held(&self) -> Vec<Guard> {
        let image = self.image.as_ref().and_then(|image| image.fetched.get().cloned().flatten());
        self.guards.iter().cloned().chain(image).collect()
    }

    /// Brings the layers here, if they are not. The vertex of the image shows the progress, or that they were here: as for BuildKit,
    /// an image whose layers nothing wanted is not one from the cache.
    pub(crate) async fn ensure<W: Worker>(&self, worker: &W, context: &Context, name: &str) -> Result<()> {
        let Some(image) = &self.image else { return Ok(()) };
        let fetch = async {
            let held = worker.hold(image.resolved.stack).await?;
            let mut report = Report::new(context.events.clone(), context.vertex, name.to_owned(), Vec::new());
            if let Some(held) = held {
                report.cached().await;
                return Ok(Some(Guard::from(held)));
            }
            report.during(worker.fetch(&image.resolved, context)).await?;
            let held = worker.hold(image.resolved.stack).await?;
            held.map(Guard::from).map(Some).ok_or_else(|| {
                let what = image.resolved.reference.familiar();
                BuildError::new(
                    skep_types::ErrorKind::Unavailable,
                    format!("the layers of {what} were removed while it was used"),
                )
            })
        };
        image.fetched.get_or_try_init(|| fetch).await.map(drop)
    }
}
