//! Images: pulled, loaded, imported, listed, tagged, removed. Owns the records of images and of the references that point to
//! them; blobs and layers are the store's.

mod error;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use skep_registry::{Credentials, RegistryConfig};
use skep_types::{Platform, Reference};
use tokio::io::AsyncRead;
use tokio::sync::mpsc;

pub use error::ImageError;

use crate::model::event::Event;
use crate::model::image::{
    HistoryEntry, Image, ImageDetails, ImageFilters, ImageId, ImageSummary, ImageUser, ImportImage, ListImages,
    LoadProgress, Loaded, PrunedImages, PullProgress, Removal, RemoveImage,
};

/// What operations on images return.
pub type Result<T, E = ImageError> = std::result::Result<T, E>;

/// Where events about images go.
pub type EventSink = Arc<dyn Fn(Event) + Send + Sync>;

/// All images of one engine. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Images {
    events: EventSink,
}

fn missing<T>() -> Result<T> {
    Err(ImageError::NotImplemented("not there yet".to_owned()))
}

impl Images {
    /// The images in `store`.
    pub fn open(registry: RegistryConfig, events: EventSink) -> Result<Self> {
        let _ = registry;
        Ok(Images { events })
    }

    /// Fetches an image from its registry. `progress` may be dropped by the receiver; dropping the future cancels the pull,
    /// which then leaves nothing but whole layers that another pull waits for.
    pub async fn pull(
        &self,
        _reference: &Reference,
        _platform: Option<&Platform>,
        _credentials: Option<&Credentials>,
        _progress: mpsc::Sender<PullProgress>,
    ) -> Result<ImageId> {
        let _ = &self.events;
        missing()
    }

    /// Reads images from an archive of `docker save` or in OCI layout, plain or compressed.
    pub async fn load(
        &self,
        _archive: impl AsyncRead + Send + Unpin + 'static,
        _platform: Option<&Platform>,
        _progress: mpsc::Sender<LoadProgress>,
    ) -> Result<Vec<Loaded>> {
        missing()
    }

    /// Writes images as one archive. All names are resolved before this returns.
    pub async fn save(
        &self,
        _names: &[String],
        _platform: Option<&Platform>,
    ) -> Result<impl Stream<Item = Result<Bytes>> + Send + Unpin + use<>> {
        let (_, receiver) = mpsc::channel(1);
        missing::<()>()?;
        Ok(tokio_stream::wrappers::ReceiverStream::new(receiver))
    }

    /// Makes an image of one layer from an archive of files.
    pub async fn import(
        &self,
        _archive: impl AsyncRead + Send + Unpin + 'static,
        _options: ImportImage,
    ) -> Result<ImageId> {
        missing()
    }

    /// The images that the filters leave, newest first.
    pub fn list(&self, _options: &ListImages) -> Result<Vec<ImageSummary>> {
        missing()
    }

    /// How many images there are.
    pub fn count(&self) -> Result<usize> {
        missing()
    }

    /// The image of a name (`name[:tag]`, `name@digest`), an id or a unique id prefix.
    pub fn resolve(&self, _name: &str) -> Result<Image> {
        missing()
    }

    /// As [`resolve`](Self::resolve), for a container: refuses an image of another platform than `platform`, and warns
    /// (`platform_warning`) if none was asked for and the host is another.
    pub fn resolve_for_run(&self, _name: &str, _platform: Option<&Platform>) -> Result<Image> {
        missing()
    }

    /// The layers' directories, topmost first, for an overlay.
    pub fn lower_dirs(&self, _id: &ImageId) -> Result<Vec<PathBuf>> {
        missing()
    }

    /// Everything about one image.
    pub fn inspect(&self, _name: &str) -> Result<ImageDetails> {
        missing()
    }

    /// How it was made, newest step first.
    pub fn history(&self, _name: &str) -> Result<Vec<HistoryEntry>> {
        missing()
    }

    /// Puts the tag `target` (with `latest` if it has none) on the image `source`.
    pub async fn tag(&self, _source: &str, _target: &Reference) -> Result<()> {
        missing()
    }

    /// Removes a reference, and the image with its last one. `users` tells which containers need an image.
    pub async fn remove(
        &self,
        _name: &str,
        _options: RemoveImage,
        _users: &(dyn Fn(&ImageId) -> Vec<ImageUser> + Sync),
    ) -> Result<Vec<Removal>> {
        missing()
    }

    /// Removes images that no container uses: dangling ones, or (`dangling: Some(false)`) all.
    pub async fn prune(
        &self,
        _filters: &ImageFilters,
        _users: &(dyn Fn(&ImageId) -> Vec<ImageUser> + Sync),
    ) -> Result<PrunedImages> {
        missing()
    }
}
