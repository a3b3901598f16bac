//! What the solver needs of the engine: everything that touches the machine.

use std::any::Any;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use skep_store::ChainId;
use skep_types::{Digest, Platform, Reference};
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::event::{Events, VertexId};
use crate::graph::{Files, GitSource, HttpSource, ImageSource, LocalSource, Run};
use crate::request::CacheRef;
use crate::services::Services;

/// A stack of layers; none for an empty tree.
pub type Stack = Option<ChainId>;

/// Files that a step has made or fetched.
#[derive(Debug, Clone)]
pub enum Tree {
    /// Layers of the store.
    Layers(Stack),
    /// A directory of the engine.
    Dir(Arc<Dir>),
}

/// A directory of the engine: a context, a fetched file, a checkout.
#[derive(Debug)]
pub struct Dir {
    /// Where its root is.
    pub path: PathBuf,
    /// Stands for all of its content, where that is known without reading it (a commit, a checksum).
    pub identity: Option<Digest>,
    /// What keeps it from being changed or deleted.
    pub guard: Box<dyn Any + Send + Sync>,
}

/// What is known of an image without its layers.
#[derive(Debug, Clone)]
pub struct ResolvedImage {
    /// Its name, as it was asked for.
    pub reference: Reference,
    /// Its platform.
    pub platform: Platform,
    /// Its manifest (or index), if it has one.
    pub digest: Option<Digest>,
    /// The bytes of its configuration.
    pub config: Arc<[u8]>,
    /// Its layers, whether they are here or not.
    pub stack: Stack,
    /// Whether all layers are here.
    pub here: bool,
    /// Where the worker gets them from if not.
    pub origin: Origin,
}

/// What a worker remembers of where layers are.
pub type Origin = Option<Arc<dyn Any + Send + Sync>>;

/// What a cache elsewhere is.
#[derive(Debug, Clone)]
pub enum Imported {
    /// Results, each with its layers.
    Results(Vec<ImportedResult>),
    /// An image, which may carry its cache in its configuration.
    Image(Box<ResolvedImage>),
}

/// A result of a cache elsewhere.
#[derive(Debug, Clone)]
pub struct ImportedResult {
    /// What it is the result of.
    pub key: Digest,
    /// Its layers, the lowest first.
    pub diff_ids: Vec<Digest>,
    /// When it was made.
    pub created: Option<DateTime<Utc>>,
    /// Where its layers are.
    pub origin: Origin,
}

/// A layer that a step made. There always is one, as in BuildKit: that of a step that changed nothing is [`EMPTY_LAYER`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The stack with it on top.
    pub stack: ChainId,
    /// What the layer is.
    pub diff_id: Digest,
    /// Bytes of its files.
    pub size: u64,
    /// What keeps a new one from being collected until somebody holds it.
    pub held: Held,
}

/// What keeps something, whatever it is. It says nothing about what is kept, so any two are equal.
#[derive(Clone, Default)]
pub struct Held(Option<Arc<dyn Any + Send + Sync>>);

impl Held {
    /// Kept as long as `guard` lives.
    pub fn by(guard: impl Any + Send + Sync) -> Self {
        Held(Some(Arc::new(guard)))
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Held" } else { "NotHeld" })
    }
}

impl PartialEq for Held {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Held {}

/// The diff id of a layer without an entry: the archive of 1024 zero bytes.
pub const EMPTY_LAYER: Digest = Digest::from_bytes([
    0x5f, 0x70, 0xbf, 0x18, 0xa0, 0x86, 0x00, 0x70, 0x16, 0xe9, 0x48, 0xb0, 0x4a, 0xed, 0x3b, 0x82, 0x10, 0x3a, 0x36,
    0xbe, 0xa4, 0x17, 0x55, 0xb6, 0xcd, 0xdf, 0xaf, 0x10, 0xac, 0xe3, 0xc6, 0xef,
]);

/// What a step is run with.
#[derive(Clone)]
pub struct Context {
    /// The client.
    pub services: Arc<dyn Services>,
    /// Where progress goes.
    pub events: Events,
    /// The step.
    pub vertex: VertexId,
    /// Its platform.
    pub platform: Platform,
    /// Cancelled when nobody wants the result any more.
    pub cancel: CancellationToken,
}

/// A file mounted or copied from a tree.
#[derive(Debug, Clone)]
pub struct Selection {
    /// Patterns below the root; all if there are none.
    pub paths: Vec<String>,
    /// Patterns of what is left out.
    pub exclude: Vec<String>,
    /// Whether a path that is a link is followed.
    pub follow: bool,
    /// Whether `paths` may have wildcards.
    pub wildcards: bool,
}

/// Does what steps say. All of it can be cancelled by dropping the future or through the context; then nothing is left behind.
pub trait Worker: Send + Sync + 'static {
    /// Finds an image, and fetches its configuration, not its layers.
    fn resolve(&self, image: &ImageSource, context: &Context) -> impl Future<Output = Result<ResolvedImage>> + Send;

    /// Brings the layers of an image here.
    fn fetch(&self, image: &ResolvedImage, context: &Context) -> impl Future<Output = Result<()>> + Send;

    /// Reads what a cache elsewhere has, without its layers; for `platform` of the context if it is an image.
    fn import(&self, cache: &CacheRef, context: &Context) -> impl Future<Output = Result<Imported>> + Send;

    /// Brings a directory of the client here.
    fn local(&self, source: &LocalSource, context: &Context) -> impl Future<Output = Result<Tree>> + Send;

    /// Fetches a file.
    fn http(&self, source: &HttpSource, context: &Context) -> impl Future<Output = Result<Tree>> + Send;

    /// Fetches a commit. The identity of the result is the commit's.
    fn git(&self, source: &GitSource, context: &Context) -> impl Future<Output = Result<Tree>> + Send;

    /// The digest of what is selected of a tree: paths, types, modes, owners, extended attributes, link targets, contents; no times.
    /// Fails with `"/x": not found` for a path without a wildcard that leads nowhere.
    fn digest(&self, tree: &Tree, selection: &Selection) -> impl Future<Output = Result<Digest>> + Send;

    /// A file of at most `limit` bytes of a tree, following links inside it; none if there is no such.
    fn read(&self, tree: &Tree, path: &str, limit: u64) -> impl Future<Output = Result<Option<Vec<u8>>>> + Send;

    /// The first `limit` bytes of a file of a tree.
    fn read_start(&self, tree: &Tree, path: &str, limit: u64) -> impl Future<Output = Result<Option<Vec<u8>>>> + Send;

    /// Runs a program on `base`, whose layers are here. A program that fails is an error with an `exit_code` and BuildKit's text
    /// (`process "/bin/sh -c false" did not complete successfully: exit code: 1`), and with what it wrote. `inputs` are the trees of `run.mounts`, in the order in which they name steps.
    fn run(
        &self,
        run: &Run,
        base: Stack,
        inputs: &[Tree],
        context: &Context,
    ) -> impl Future<Output = Result<Layer>> + Send;

    /// Makes and copies files on top of `base`. `inputs` are the trees of the copies, in their order.
    fn files(
        &self,
        files: &Files,
        base: Stack,
        inputs: &[Tree],
        context: &Context,
    ) -> impl Future<Output = Result<Layer>> + Send;

    /// The same layer on top of another stack (`COPY --link`), whose layers are here.
    fn rebase(&self, layer: &Layer, base: Stack) -> impl Future<Output = Result<Layer>> + Send;

    /// All layers of `stack` above `base` as one layer on top of `base` (`--squash`).
    fn squash(&self, stack: Stack, base: Stack) -> impl Future<Output = Result<Layer>> + Send;

    /// Makes the layers durable that were made so far: one `syncfs`. Cache records of them are stored after it.
    fn flush(&self) -> impl Future<Output = Result<()>> + Send;

    /// Whether the engine has an image with this id: the cache of the classic builder, whose intermediate images are stored.
    fn is_stored(&self, image: &Digest) -> impl Future<Output = Result<bool>> + Send {
        let _ = image;
        async { Ok(false) }
    }

    /// Keeps a stack from being collected as long as the result lives; none if it isn't here.
    fn hold(&self, stack: Stack) -> impl Future<Output = Result<Option<Box<dyn Any + Send + Sync>>>> + Send;
}
