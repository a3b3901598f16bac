//! One data root and what happened in it.

use std::path::Path;
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use skep_engine::images::{Guards, ImageError, Images, Result};
use skep_engine::model::image::{ImageId, LayerState, ListImages, LoadProgress, Loaded, PullImage, PullProgress};
use skep_registry::RegistryConfig;
use skep_store::Store;
use skep_types::{Platform, Reference};
use tempfile::TempDir;
use tokio::sync::mpsc;

pub(crate) struct World {
    pub(crate) images: Images,
    pub(crate) store: Store,
    pub(crate) dir: TempDir,
    events: Arc<Mutex<Vec<String>>>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::over(tempfile::tempdir().expect("a directory"))
    }

    fn over(dir: TempDir) -> Self {
        let events: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&events);
        let store = Store::open(dir.path()).expect("a store");
        let sink = Arc::new(move |event: skep_engine::model::event::Event| {
            let name = event.attributes.get("name").cloned().unwrap_or_default();
            seen.lock().expect("lock").push(format!("{} {} {name}", event.action, event.actor));
        });
        let config = RegistryConfig { max_download_attempts: 2, ..RegistryConfig::default() };
        let images =
            Images::open(store.clone(), config, Guards::default(), sink, Arc::new(|| Ok(Vec::new()))).expect("images");
        World { images, store, dir, events }
    }

    /// Ends and begins again over the same files.
    pub(crate) fn reopen(self) -> Self {
        let World { images, store, dir, .. } = self;
        drop((images, store));
        Self::over(dir)
    }

    pub(crate) async fn pull(&self, name: &str) -> (Result<ImageId>, Vec<PullProgress>) {
        self.pull_for(name, None).await
    }

    pub(crate) async fn pull_for(&self, name: &str, platform: Option<&str>) -> (Result<ImageId>, Vec<PullProgress>) {
        let (sender, mut receiver) = mpsc::channel(1024);
        let reference: Reference = name.parse().expect("a reference");
        let platform: Option<Platform> = platform.map(|text| text.parse().expect("a platform"));
        let options = PullImage { platform, ..PullImage::default() };
        let collect = async {
            let mut all = Vec::new();
            while let Some(message) = receiver.recv().await {
                all.push(message);
            }
            all
        };
        let (ids, messages) = tokio::join!(self.images.pull(&reference, &options, None, sender), collect);
        (ids.map(|ids| ids[0]), messages)
    }

    pub(crate) async fn load(&self, archive: &[u8]) -> (Result<Vec<Loaded>>, Vec<LoadProgress>) {
        self.load_for(archive, None).await
    }

    pub(crate) async fn load_for(
        &self,
        archive: &[u8],
        platform: Option<&Platform>,
    ) -> (Result<Vec<Loaded>>, Vec<LoadProgress>) {
        let (sender, mut receiver) = mpsc::channel(1024);
        let collect = async {
            let mut all = Vec::new();
            while let Some(message) = receiver.recv().await {
                all.push(message);
            }
            all
        };
        tokio::join!(self.images.load(std::io::Cursor::new(archive.to_vec()), platform, sender), collect)
    }

    pub(crate) async fn save(&self, names: &[&str]) -> Vec<u8> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.save_for(&names, None).await
    }

    pub(crate) async fn save_for(&self, names: &[String], platform: Option<&Platform>) -> Vec<u8> {
        let mut stream = self.images.save(names, platform).await.expect("save");
        let mut all = Vec::new();
        while let Some(chunk) = stream.next().await {
            all.extend_from_slice(&chunk.expect("a chunk"));
        }
        all
    }

    pub(crate) fn events(&self) -> Vec<String> {
        self.events.lock().expect("lock").clone()
    }

    pub(crate) fn tags(&self) -> Vec<String> {
        let all = ListImages { all: true, ..ListImages::default() };
        let mut tags: Vec<String> =
            self.images.list(&all).expect("a list").into_iter().flat_map(|image| image.repo_tags).collect();
        tags.sort();
        tags
    }

    /// The content of a file in an image, from its topmost layer.
    pub(crate) fn file(&self, id: &ImageId, path: &str) -> Option<Vec<u8>> {
        let dirs = self.images.lower_dirs(id).expect("layers");
        dirs.iter().find_map(|dir| std::fs::read(dir.join(path)).ok())
    }

    /// Waits until nothing is left on disk: no image, no blob, no layer, nothing unfinished.
    pub(crate) async fn assert_empty(&self) {
        assert_eq!(self.images.count().expect("a count"), 0);
        self.assert_no_more_than(0, 0).await;
    }

    pub(crate) async fn assert_no_more_than(&self, blobs: usize, layers: usize) {
        self.settles_as(&[(self.images.count().expect("a count"), blobs, layers)]).await;
    }

    /// Waits until there is one of these, and nothing unfinished: images, blobs, layers.
    pub(crate) async fn settles_as(&self, wanted: &[(usize, usize, usize)]) -> (usize, usize, usize) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        loop {
            let _ = self.store.empty_trash();
            let found = (
                self.images.count().expect("a count"),
                entries(&self.dir.path().join("blobs/sha256")),
                self.store.layers().list().expect("layers").len(),
            );
            let rest = (entries(&self.dir.path().join("layers")), entries(&self.dir.path().join("staging")));
            if wanted.contains(&found) && rest == (found.2, 0) {
                return found;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "(images, blobs, layers) {found:?}, (directories of layers, unfinished) {rest:?}, not {wanted:?}"
            );
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

fn entries(dir: &Path) -> usize {
    std::fs::read_dir(dir).map_or(0, Iterator::count)
}

/// The states of one layer, without repetitions, as words.
pub(crate) fn states(messages: &[PullProgress], layer: &str) -> Vec<&'static str> {
    let mut words: Vec<&'static str> = Vec::new();
    for message in messages {
        let PullProgress::Layer { id, state } = message else { continue };
        let word = match state {
            LayerState::Pulling => "pulling",
            LayerState::Waiting => "waiting",
            LayerState::Downloading { .. } => "downloading",
            LayerState::Retrying(_) => "retrying",
            LayerState::Verifying => "verifying",
            LayerState::Downloaded => "downloaded",
            LayerState::Extracting { .. } => "extracting",
            LayerState::Complete => "complete",
            LayerState::Exists => "exists",
        };
        if id == layer && words.last() != Some(&word) {
            words.push(word);
        }
    }
    words
}

/// The error's text.
pub(crate) fn text<T>(result: Result<T, ImageError>) -> String {
    match result {
        Ok(_) => panic!("it worked"),
        Err(error) => error.to_string(),
    }
}
