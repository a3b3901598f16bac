//! [`skep_build::Worker`] on this machine.

use std::any::Any;
use std::path::Path;
use std::sync::{Arc, Weak};

use skep_build::BuildError;
use skep_build::graph::{Files, GitSource, HttpSource, ImageSource, LocalSource, Run};
use skep_build::request::CacheRef;
use skep_build::worker::{Context, Imported, Layer, ResolvedImage, Selection, Stack, Tree, Worker};
use skep_fs::Root;
use skep_types::ErrorKind;

use super::error::{blocking, cancelled, failed, store};
use super::{digest, empty_directory, files, restack, sources, step, tree};
use crate::engine::Inner;

type Result<T> = std::result::Result<T, BuildError>;

/// The machine that an engine runs on.
#[derive(Clone)]
pub struct Machine {
    /// The engine owns the builder, which owns this.
    engine: Weak<Inner>,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Machine")
    }
}

impl Machine {
    pub(crate) fn of(engine: &Arc<Inner>) -> Self {
        Machine { engine: Arc::downgrade(engine) }
    }

    /// What `read` has of a file of a tree; none if there is no such.
    async fn read_with(
        &self,
        tree: &Tree,
        path: &str,
        read: impl FnOnce(&Root, &Path) -> std::io::Result<Vec<u8>> + Send + 'static,
    ) -> Result<Option<Vec<u8>>> {
        let (engine, tree, path) = (self.engine()?, tree.clone(), path.to_owned());
        blocking(move || {
            let root = tree::open(engine.storage.store().layers(), &tree, &empty_directory(&engine)?)?;
            match read(&root, Path::new(&path)) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(failed(&path)(error)),
            }
        })
        .await
    }

    fn engine(&self) -> Result<Arc<Inner>> {
        self.engine.upgrade().ok_or_else(|| BuildError::new(ErrorKind::Unavailable, "the engine is closing"))
    }
}

// The bigger futures are on the heap: a build holds many of them inside one another, more than fits on a worker's stack.
impl Worker for Machine {
    async fn resolve(&self, image: &ImageSource, context: &Context) -> Result<ResolvedImage> {
        Box::pin(sources::image::resolve(&self.engine()?, image, context)).await
    }

    async fn fetch(&self, image: &ResolvedImage, context: &Context) -> Result<()> {
        Box::pin(sources::image::fetch(&self.engine()?, image, context)).await
    }

    async fn local(&self, source: &LocalSource, context: &Context) -> Result<Tree> {
        Box::pin(sources::local::bring(&self.engine()?, source, context)).await
    }

    async fn http(&self, source: &HttpSource, context: &Context) -> Result<Tree> {
        Box::pin(sources::http::fetch(&self.engine()?, source, context)).await
    }

    async fn git(&self, source: &GitSource, context: &Context) -> Result<Tree> {
        Box::pin(sources::git::fetch(&self.engine()?, source, context)).await
    }

    async fn digest(&self, tree: &Tree, selection: &Selection) -> Result<skep_types::Digest> {
        let (engine, tree, selection) = (self.engine()?, tree.clone(), selection.clone());
        blocking(move || {
            let root = tree::open(engine.storage.store().layers(), &tree, &empty_directory(&engine)?)?;
            digest::digest(&engine.builds.digests, &tree, &root, &selection)
        })
        .await
    }

    async fn read(&self, tree: &Tree, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        self.read_with(tree, path, move |root, path| root.read_file(path, limit)).await
    }

    async fn read_start(&self, tree: &Tree, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        self.read_with(tree, path, move |root, path| root.read_start(path, limit)).await
    }

    async fn run(&self, run: &Run, base: Stack, inputs: &[Tree], context: &Context) -> Result<Layer> {
        Box::pin(step::run(&self.engine()?, run, base, inputs, context)).await
    }

    async fn files(&self, files: &Files, base: Stack, inputs: &[Tree], context: &Context) -> Result<Layer> {
        let (engine, files, inputs) = (self.engine()?, files.clone(), inputs.to_vec());
        let stop = context.cancel.child_token();
        // Also when this future is dropped.
        let _stops = stop.clone().drop_guard();
        let copying = blocking(move || files::run(&engine, &files, base, &inputs, stop));
        tokio::select! {
            layer = copying => layer,
            () = context.cancel.cancelled() => Err(cancelled()),
        }
    }

    async fn import(&self, cache: &CacheRef, context: &Context) -> Result<Imported> {
        sources::caches::import(&self.engine()?, cache, context).await
    }

    async fn rebase(&self, layer: &Layer, base: Stack) -> Result<Layer> {
        let (engine, layer) = (self.engine()?, layer.clone());
        blocking(move || restack::rebase(&engine, &layer, base)).await
    }

    async fn squash(&self, stack: Stack, base: Stack) -> Result<Layer> {
        let engine = self.engine()?;
        blocking(move || restack::squash(&engine, stack, base)).await
    }

    async fn flush(&self) -> Result<()> {
        let engine = self.engine()?;
        blocking(move || engine.storage.store().layers().flush().map_err(store)).await
    }

    async fn is_stored(&self, image: &skep_types::Digest) -> Result<bool> {
        Ok(self.engine()?.images.has(image))
    }

    async fn hold(&self, stack: Stack) -> Result<Option<Box<dyn Any + Send + Sync>>> {
        let Some(top) = stack else { return Ok(Some(Box::new(()))) };
        let engine = self.engine()?;
        let layers = engine.storage.store().layers();
        let lease = layers.lease();
        lease.hold(&top);
        match layers.get(&top) {
            Ok(Some(_)) => Ok(Some(Box::new(lease))),
            Ok(None) => Ok(None),
            Err(error) => Err(BuildError::new(ErrorKind::System, error.to_string())),
        }
    }
}
