//! Images: pulled, loaded, imported, listed, tagged, removed.
//!
//! [`Images`] owns the records of images and of the references that point to them. Blobs (configurations and manifests, as they
//! came) and layers are the store's; this is the only part of the engine that puts blobs there and removes them.
//!
//! | module | what it owns |
//! |---|---|
//! | [`catalog`], [`target`], [`draft`], [`records`], [`change`] | the records: in memory, in the database, and the one way to change them |
//! | [`pull`], [`download`], [`load`], [`import`], [`commit`], [`save`] | images coming and going; [`archive`] knows the formats, [`build`] what they share |
//! | [`base`], [`built`] | images that builds begin with, and that they make |
//! | [`list`], [`inspect`], [`remove`] | what users ask for; pure functions of a catalog |
//! | [`artifact`], [`attach`] | what is no image, and what is said about images |
//! | [`platform`] | which image of an index, and is it for this machine |
//! | [`guards`] | the signature policy and limits: what an image has to get past |
//! | [`inflight`], [`holds`], [`turns`] | what goes on at the same time |
//! | [`check`], [`mend`] | finding damage, and fetching again what is damaged |
//! | [`uses`], [`inventory`] | what the garbage collection has to know |
//!
//! Invariants: an image is in the catalog only with all its layers and blobs in the store; a layer that no image needs, no
//! container's image needed, and no operation claims, is gone.

mod archive;
mod artifact;
mod attach;
pub(crate) mod base;
mod bridge;
mod build;
pub(crate) mod built;
mod catalog;
mod change;
mod changes;
mod check;
mod commit;
mod config;
mod copy;
mod download;
mod draft;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod guards;
mod holds;
mod import;
mod inflight;
mod inspect;
mod inventory;
mod list;
mod load;
mod manifests;
mod mend;
pub(crate) mod pattern;
mod platform;
mod pull;
mod push;
mod records;
mod remote;
mod remove;
mod save;
mod sources;
mod target;
mod turns;
mod uses;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use parking_lot::{Mutex, RwLock};
use skep_registry::{Credentials, Descriptor, RegistryConfig, digest_of};
use skep_store::{ChainId, DbError, Store};
use skep_types::{Digest, Platform, Reference};
use tokio::io::AsyncRead;
use tokio::sync::{Notify, mpsc};

pub(crate) use base::{Kept, Remote};
pub(crate) use change::Freed;
pub(crate) use check::ContainerTop;
pub(crate) use commit::WriteLayer;
pub use error::ImageError;
pub use guards::{Guards, PolicyFile};
pub use holds::ImageHold;
pub(crate) use platform::choose as choose_platform;
pub use remote::RemoteImage;

use crate::model::container::ContainerConfig;
use crate::model::event::{Event, EventType};
use crate::model::image::{
    CommitImage, HistoryEntry, Image, ImageDetails, ImageFilters, ImageId, ImageSummary, ImageUser, ImportImage,
    ImportProgress, ListImages, LoadProgress, Loaded, ManifestSummary, PrunedImages, PullImage, PullProgress,
    PushImage, PushProgress, Removal, RemoveImage,
};
use catalog::Catalog;
use config::ConfigFile;
use remove::{Needs, RemovalEvent};

/// The settings of an image that is made from a container.
pub(crate) struct CommitSettings(config::ContainerDefaults);

/// What operations on images return.
pub type Result<T, E = ImageError> = std::result::Result<T, E>;

/// Where events about images go.
pub type EventSink = Arc<dyn Fn(Event) + Send + Sync>;

/// Tells the topmost layers of all stored containers. They stay, whatever became of the images.
pub type ContainerLayers = Arc<dyn Fn() -> Result<Vec<ChainId>, DbError> + Send + Sync>;

/// Tells which containers use an image.
pub type ImageUsers<'a> = &'a (dyn Fn(&ImageId) -> Vec<ImageUser> + Sync);

/// All images of one engine. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Images {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    registry: RegistryConfig,
    guards: Guards,
    events: EventSink,
    /// Readers take the whole; only [`change`] puts another one here.
    catalog: RwLock<Arc<Catalog>>,
    writer: Arc<tokio::sync::Mutex<()>>,
    collecting: Mutex<()>,
    inflight: inflight::Inflight,
    holds: holds::Holds,
    container_layers: ContainerLayers,
    uses: uses::Uses,
    /// Rung when the catalog or the disk usage has changed.
    changed: Arc<Notify>,
    /// Layers that came from another engine and have no image yet.
    arrivals: copy::Arrivals,
    coded: built::Coded,
}

impl Images {
    /// The images in `store`. Takes away what an operation left that a crash cut short. Blocks.
    pub fn open(
        store: Store,
        registry: RegistryConfig,
        guards: Guards,
        events: EventSink,
        container_layers: ContainerLayers,
    ) -> Result<Self> {
        let catalog = records::load(store.db())?;
        let uses = uses::Uses::load(store.db())?;
        let inner = Inner {
            store,
            registry,
            guards,
            events,
            catalog: RwLock::new(Arc::new(catalog)),
            writer: Arc::default(),
            collecting: Mutex::default(),
            inflight: inflight::Inflight::default(),
            holds: holds::Holds::default(),
            container_layers,
            uses,
            changed: Arc::default(),
            arrivals: copy::Arrivals::default(),
            coded: built::Coded::default(),
        };
        inner.sweep()?;
        Ok(Images { inner: Arc::new(inner) })
    }

    /// Fetches an image from its registry, or all tags of a repository if `reference` names none. The receiver of `progress` may go
    /// away. Dropping the future cancels the pull, which takes back what it made.
    pub async fn pull(
        &self,
        reference: &Reference,
        options: &PullImage,
        credentials: Option<&Credentials>,
        progress: mpsc::Sender<PullProgress>,
    ) -> Result<Vec<ImageId>> {
        let (mut ids, mut news) = (Vec::new(), false);
        for one in pull::references(&self.inner, reference, credentials).await? {
            let pulled = pull::pull(&self.inner, &one, options, credentials, &progress).await?;
            self.inner.uses.touch(pulled.id);
            let name = target::stored_form(&one);
            self.inner.tell("pull", &pulled.id, name.familiar(), name.familiar_name());
            ids.push(pulled.id);
            news |= pulled.news;
        }
        let status = if news { PullProgress::Downloaded } else { PullProgress::UpToDate };
        let name = if reference.digest().is_some() { target::stored_form(reference) } else { reference.clone() };
        pull::tell(&progress, status(name.familiar())).await;
        Ok(ids)
    }

    /// Pushes the tag of `reference`, or all tags of its repository if it has none. The receiver of `progress` may go away. Dropping
    /// the future cancels the push; what the registry has got by then stays there.
    pub async fn push(
        &self,
        reference: &Reference,
        options: &PushImage,
        credentials: Option<&Credentials>,
        progress: mpsc::Sender<PushProgress>,
    ) -> Result<()> {
        for (tag, id) in push::push(&self.inner, reference, options, credentials, progress).await? {
            self.inner.tell("push", &id, tag.familiar(), tag.familiar_name());
        }
        Ok(())
    }

    /// Reads images from an archive of `docker save` or in OCI layout, plain or compressed. All become visible together,
    /// or none.
    pub async fn load(
        &self,
        archive: impl AsyncRead + Send + Unpin,
        platform: Option<&Platform>,
        progress: mpsc::Sender<LoadProgress>,
    ) -> Result<Vec<Loaded>> {
        let loaded = load::load(&self.inner, archive, platform.cloned(), progress).await?;
        for image in &loaded {
            self.inner.uses.touch(image.id);
            self.inner.tell("load", &image.id, image.id.to_string(), image.id.to_string());
        }
        Ok(loaded)
    }

    /// Writes images as one archive. All names are resolved before this returns.
    pub async fn save(
        &self,
        names: &[String],
        platform: Option<&Platform>,
    ) -> Result<impl Stream<Item = Result<Bytes>> + Send + Unpin + use<>> {
        let (ids, stream) = save::save(&self.inner, names, platform).await?;
        for id in ids {
            self.inner.tell("save", &id, id.to_string(), id.to_string());
        }
        Ok(stream)
    }

    /// As [`import`](Self::import), of an archive that a web server has.
    pub async fn import_from(
        &self,
        url: &str,
        options: ImportImage,
        progress: mpsc::Sender<ImportProgress>,
    ) -> Result<ImageId> {
        let id = import::fetch(&self.inner, url, options, progress).await?;
        self.inner.tell("import", &id, id.to_string(), id.to_string());
        Ok(id)
    }

    /// The images that a name leads to, on all platforms; none if there is no such name.
    pub fn behind(&self, name: &str) -> BTreeSet<ImageId> {
        let target = self.inner.catalog().target_named(name);
        target.map(|target| target.images.iter().map(|member| member.id).collect()).unwrap_or_default()
    }

    /// The images that a name leads to, on all platforms, or the one of an id, and those that were made here from them.
    pub fn descending_from(&self, name: &str) -> BTreeSet<ImageId> {
        let catalog = self.inner.catalog();
        let Ok(id) = catalog.resolve(name) else { return BTreeSet::new() };
        let mut all = if catalog::is_id_prefix(&id, name) { BTreeSet::from([id]) } else { self.behind(name) };
        let mut new: Vec<ImageId> = all.iter().copied().collect();
        while let Some(parent) = new.pop() {
            let children = catalog.images().filter(|(_, record)| record.parent == Some(parent)).map(|(id, _)| *id);
            new.extend(children.filter(|child| all.insert(*child)));
        }
        all
    }

    /// What points to the manifest of an image, if it came with one, and its platform.
    pub fn manifest_of(&self, id: &ImageId) -> Option<Descriptor> {
        let catalog = self.inner.catalog();
        let record = catalog.any_image(id)?;
        let (_, target) = catalog.targets_of(id).find(|(_, target)| target.descriptor.is_some())?;
        let member = target.images.iter().find(|member| member.id == *id)?;
        let platform = Some(member.platform(record));
        Some(Descriptor { platform, ..member.manifest.clone()? })
    }

    /// Makes an image of one layer from an archive of files.
    pub async fn import(&self, archive: impl AsyncRead + Send + Unpin, options: ImportImage) -> Result<ImageId> {
        let id = import::import(&self.inner, archive, options).await?;
        self.inner.uses.touch(id);
        self.inner.tell("import", &id, id.to_string(), id.to_string());
        Ok(id)
    }

    /// What `docker commit` is going to write as the settings of the image; refuses bad instructions before anything is done. `base`
    /// is the container's image, which may be removed meanwhile.
    pub(crate) fn commit_settings(
        &self,
        base: &ImageId,
        options: &CommitImage,
        container: &ContainerConfig,
    ) -> Result<CommitSettings> {
        let file = ConfigFile::parse(&self.inner.store.blobs().read(base)?)?;
        let check = file.config.and_then(|config| config.healthcheck);
        commit::settings(options, container, check).map(CommitSettings)
    }

    /// Makes an image of a container's image and of what `layer` writes.
    pub(crate) async fn commit(
        &self,
        base: ImageId,
        options: CommitImage,
        settings: CommitSettings,
        layer: Option<WriteLayer>,
    ) -> Result<ImageId> {
        let name = options.reference.as_ref().map(|reference| reference.or_latest().familiar());
        let id = commit::commit(&self.inner, base, options, settings.0, layer).await?;
        self.inner.tell("create", &id, id.to_string(), id.to_string());
        if let Some(name) = name {
            self.inner.tell("tag", &id, id.to_string(), name);
        }
        Ok(id)
    }

    /// The images that the filters leave, newest first.
    pub fn list(&self, options: &ListImages) -> Result<Vec<ImageSummary>> {
        let catalog = self.inner.catalog();
        let mut found = list::list(&catalog, options)?;
        for summary in found.iter_mut().filter(|_| options.manifests) {
            let targets = catalog.targets_of(&summary.id).filter(|(_, target)| target.first() == Some(summary.id));
            let mut seen = BTreeSet::new();
            for (_, target) in targets.filter(|(_, target)| seen.insert(target.digest())) {
                summary.manifests.extend(self.inner.manifests(&catalog, target));
            }
        }
        Ok(found)
    }

    /// What there is behind a name, on all platforms.
    pub fn manifests(&self, name: &str) -> Result<Vec<ManifestSummary>> {
        let catalog = self.inner.catalog();
        Ok(self.inner.manifests(&catalog, &catalog.target_named(name)?))
    }

    /// How many images there are.
    pub fn count(&self) -> Result<usize> {
        Ok(self.inner.catalog().len())
    }

    /// The image of a name (`name[:tag]`, `name@digest`), an id or a unique id prefix. Reads its configuration from disk.
    pub fn resolve(&self, name: &str) -> Result<Image> {
        let catalog = self.inner.catalog();
        self.inner.image(&catalog, catalog.resolve(name)?)
    }

    /// As [`resolve`](Self::resolve), for a container: the image for `platform`, and a warning (`platform_warning`) if none was
    /// asked for and the host is another. Keep the result until the container is registered
    /// as a user of the image: its `hold` keeps the layers till then.
    pub fn resolve_for_run(&self, name: &str, platform: Option<&Platform>) -> Result<Image> {
        loop {
            let catalog = self.inner.catalog();
            let id = catalog.resolve_for(name, platform)?;
            let lease = self.inner.store.layers().lease();
            if let Some(top) = catalog.any_image(&id).and_then(|record| record.chain_ids.last()) {
                lease.hold(top);
            }
            let hold = self.inner.holds.hold(id, lease);
            let catalog = self.inner.catalog();
            // The name may lead elsewhere by now.
            if catalog.resolve_for(name, platform)? == id {
                let image = self.inner.image(&catalog, id)?;
                let platform_warning = if platform.is_none() { platform::warning(&image.platform) } else { None };
                return Ok(Image { hold: Some(hold), platform_warning, ..image });
            }
        }
    }

    /// The layers' directories, topmost first, for an overlay. Also of an image that was removed while containers use it.
    pub fn lower_dirs(&self, id: &ImageId) -> Result<Vec<PathBuf>> {
        let catalog = self.inner.catalog();
        let record = catalog.any_image(id).ok_or_else(|| ImageError::NotFound(id.to_string()))?;
        match record.chain_ids.last() {
            Some(top) => Ok(self.inner.store.layers().lower_dirs(top)?),
            None => Ok(Vec::new()),
        }
    }

    /// Everything about one image.
    pub fn inspect(&self, name: &str, platform: Option<&Platform>) -> Result<ImageDetails> {
        let catalog = self.inner.catalog();
        let id = catalog.resolve_for(name, platform)?;
        let (record, file) = self.inner.open_any(&catalog, id)?;
        let mut details = inspect::details(&catalog, id, &record, file);
        let target = catalog.target_named(name)?;
        let manifest = target.images.iter().find(|member| member.id == id).and_then(|member| member.manifest.clone());
        details.descriptor = if platform.is_some() { manifest } else { target.descriptor };
        if let Some(top) = record.chain_ids.last() {
            let dirs = self.inner.store.layers().lower_dirs(top)?;
            details.graph_driver_data = inspect::graph_driver_data(&dirs);
        }
        Ok(details)
    }

    /// How it was made, newest step first.
    pub fn history(&self, name: &str, platform: Option<&Platform>) -> Result<Vec<HistoryEntry>> {
        let catalog = self.inner.catalog();
        let id = catalog.resolve_for(name, platform)?;
        let (record, file) = self.inner.open_image(&catalog, id)?;
        Ok(inspect::history(&catalog, id, &record, &file))
    }

    /// Puts the tag `target` (with `latest` if it has none) on the image `source`.
    pub async fn tag(&self, source: &str, target: &Reference) -> Result<()> {
        if target.digest().is_some() {
            return Err(ImageError::Invalid("refusing to create a tag with a digest reference".to_owned()));
        }
        let mut writer = self.inner.write().await;
        let id = writer.draft.catalog.resolve(source)?;
        let named = writer.draft.catalog.target_named(source)?;
        writer.draft.put_reference(target, named, Some(chrono::Utc::now()));
        writer.commit().await?;
        let name = target.or_latest().familiar();
        self.inner.tell("tag", &id, id.to_string(), name);
        Ok(())
    }

    /// Removes a reference, and the image with its last one.
    pub async fn remove(&self, name: &str, options: RemoveImage, users: ImageUsers<'_>) -> Result<Vec<Removal>> {
        let mut writer = self.inner.write().await;
        let inner = Arc::clone(&self.inner);
        let held = move |id: &ImageId| inner.holds.is_held(id);
        let removed = remove::remove(&mut writer.draft, name, &options, &Needs { users, held: &held })?;
        let before = self.inner.catalog();
        let freed = writer.commit().await?;
        self.inner.tell_removed(&before, &removed.events);
        let mut list = removed.list;
        list.extend(freed.layers.iter().map(|(chain, _)| Removal::Deleted(*chain.digest())));
        Ok(list)
    }

    /// Removes images that no container uses: dangling ones, or (`dangling: Some(false)`) all.
    pub async fn prune(&self, filters: &ImageFilters, users: ImageUsers<'_>) -> Result<PrunedImages> {
        let mut writer = self.inner.write().await;
        let removed = self.prune_draft(&mut writer, filters, users);
        let before = self.inner.catalog();
        let freed = writer.commit().await?;
        self.inner.tell_removed(&before, &removed.events);
        Ok(PrunedImages::new(removed.list, freed))
    }

    /// What [`prune`](Self::prune) would remove if `containers` were the topmost layers of all containers. Removes nothing.
    pub async fn preview_prune(
        &self,
        filters: &ImageFilters,
        users: ImageUsers<'_>,
        containers: &[ChainId],
    ) -> Result<PrunedImages> {
        let mut writer = self.inner.write().await;
        let removed = self.prune_draft(&mut writer, filters, users);
        let tops = [writer.draft.catalog.tops().as_slice(), containers].concat();
        let unused = self.inner.store.layers().unused(&tops)?;
        let freed = change::Freed {
            layers: unused.into_iter().map(|(chain, info)| (chain, info.size)).collect(),
            blobs: change::lost_bytes(&self.inner.catalog(), &writer.draft.catalog),
        };
        Ok(PrunedImages::new(removed.list, freed))
    }

    fn prune_draft(
        &self,
        writer: &mut change::Writer,
        filters: &ImageFilters,
        users: ImageUsers<'_>,
    ) -> remove::Removed {
        let inner = Arc::clone(&self.inner);
        let held = move |id: &ImageId| inner.holds.is_held(id);
        let needs = Needs { users, held: &held };
        let mut all = remove::Removed::default();
        for id in list::prunable(&writer.draft.catalog, filters) {
            // Images of several platforms under one name stay and go together.
            let family = writer.draft.catalog.family(&id);
            if family.iter().any(|id| held(id) || !users(id).is_empty()) {
                continue;
            }
            let removed = remove::remove_unused(&mut writer.draft, &id, &needs);
            all.list.extend(removed.list);
            all.events.extend(removed.events);
        }
        all
    }

    /// Bytes of all layers that are stored, and of blobs that are kept as they came, each counted once.
    pub fn layers_size(&self) -> Result<u64> {
        let layers: u64 = self.inner.store.layers().list()?.iter().map(|(_, layer)| layer.size).sum();
        Ok(layers + self.inner.catalog().kept_blobs().values().sum::<u64>())
    }

    /// Lets go of images that were removed by force while containers used them, and that none uses any more. To be called
    /// after containers were removed, and once all containers are known at the start.
    pub async fn release(&self, users: ImageUsers<'_>) -> Result<()> {
        let unused = |catalog: &Catalog| -> Vec<ImageId> {
            let free = |id: &&ImageId| !self.inner.holds.is_held(id) && users(id).is_empty();
            catalog.detached().filter(free).copied().collect()
        };
        if unused(&self.inner.catalog()).is_empty() {
            return Ok(());
        }
        let mut writer = self.inner.write().await;
        for id in unused(&writer.draft.catalog) {
            writer.draft.remove_detached(&id);
        }
        writer.commit().await.map(drop)
    }
}

impl Inner {
    fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.read())
    }

    /// Removes layers and blobs that no image needs.
    fn sweep(&self) -> Result<()> {
        let needed = self.catalog().blobs_in_use();
        for digest in self.store.blobs().list()?.iter().filter(|digest| !needed.contains(digest)) {
            self.store.blobs().remove(digest)?;
        }
        self.collect_layers()?;
        Ok(())
    }

    fn open_image(&self, catalog: &Catalog, id: ImageId) -> Result<(Arc<catalog::ImageRecord>, ConfigFile)> {
        let record = catalog.image(&id).cloned().ok_or_else(|| ImageError::NotFound(id.to_string()))?;
        if let Some(artifact) = &record.artifact {
            let name = catalog.names_of(&id).0.into_iter().next().unwrap_or_else(|| id.short());
            return Err(ImageError::Artifact { name, kind: artifact.kind.clone() });
        }
        let file = ConfigFile::parse(&self.store.blobs().read(&id)?)?;
        Ok((record, file))
    }

    /// As [`open_image`](Self::open_image); an artifact sets nothing.
    fn open_any(&self, catalog: &Catalog, id: ImageId) -> Result<(Arc<catalog::ImageRecord>, ConfigFile)> {
        match catalog.image(&id) {
            Some(record) if record.artifact.is_some() => {
                Ok((Arc::clone(record), ConfigFile { created: record.created, ..ConfigFile::default() }))
            }
            _ => self.open_image(catalog, id),
        }
    }

    fn image(&self, catalog: &Catalog, id: ImageId) -> Result<Image> {
        let (record, file) = self.open_image(catalog, id)?;
        Ok(Image {
            id,
            platform: record.platform.clone(),
            config: file.defaults(),
            diff_ids: record.diff_ids.clone(),
            chain_id: record.chain_ids.last().map(|chain| *chain.digest()),
            repo_tags: catalog.names_of(&id).0,
            platform_warning: None,
            hold: None,
        })
    }

    /// Sends an event with the image's labels, which never hide the event's own attributes.
    fn tell(&self, action: &str, id: &ImageId, actor: String, name: String) {
        self.tell_with(&self.catalog(), action, id, actor, name);
    }

    fn tell_with(&self, catalog: &Catalog, action: &str, id: &Digest, actor: String, name: String) {
        let record = catalog.any_image(id);
        let mut attributes = record.and_then(|record| record.labels.clone()).unwrap_or_default();
        attributes.insert("name".to_owned(), name);
        let time = chrono::Utc::now();
        (self.events)(Event { kind: EventType::Image, action: action.to_owned(), actor, attributes, time });
    }

    fn tell_removed(&self, before: &Catalog, events: &[(ImageId, RemovalEvent)]) {
        for (id, event) in events {
            let action = match event {
                RemovalEvent::Untag => "untag",
                RemovalEvent::Delete => "delete",
            };
            self.tell_with(before, action, id, id.to_string(), id.to_string());
        }
    }
}
