//! Image layers by chain id, each unpacked once into a directory that overlayfs can use as it is.
//!
//! ```text
//! stage ──unpack──▶ StagedLayer ──commit (in chain order)──▶ visible ──remove/collect──▶ trash
//!          any order, in parallel      implied directories get their metadata from below,
//!                                      syncfs, rename, one database commit
//! ```
//! A [`StagedLayer`] that is dropped is gone, and so is everything in staging when the store is opened. The database says
//! which layers there are; a directory that it doesn't name is left over from a crash between rename and commit.
//!
//! **The archive.** `save` and `push` have to give back each layer's tar archive with the same digest. Neither a second
//! copy of the data nor the compressed blob is kept for that, only the archive's headers (`split`, about 1% of its size);
//! the contents come from the unpacked files. Reading it verifies the digest at the end.
//!
//! **Durability.** One `syncfs` per [`Layers::commit`], so one for an image: an `fsync` per file of a 10 000 file layer
//! takes seconds, and a rename alone could leave empty files after a power cut. Layers of a build's steps wait for it together
//! ([`Layers::commit_pending`]).

mod commit;
mod pending;
mod repair;
mod restack;
mod tar_stream;
mod unpack;
mod upper;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use skep_fs::apply::{Applied, Limits};
use skep_types::Digest;

use crate::chain::ChainId;
use crate::crash::crash_point;
use crate::db::{Db, Table};
use crate::error::StoreError;
use crate::trash::Trash;

pub use tar_stream::LayerTar;
pub use upper::UpperDir;

const LAYERS: Table<ChainId, LayerInfo> = Table::new("layers", 1);
/// Directories that a mended layer had before, by name: containers that run since then still use them.
const RETIRED: Table<String, ChainId> = Table::new("retired_layers", 1);

/// What is known of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerInfo {
    /// The layer below.
    pub parent: Option<ChainId>,
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// Bytes of its files' contents.
    pub size: u64,
    /// Bytes of its archive.
    pub tar_size: u64,
    /// Name of its directory below `layers`.
    pub(crate) dir: String,
    /// Whether it hides all layers below.
    #[serde(default)]
    pub(crate) opaque: bool,
}

/// What a stream has to be, and may cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct UnpackOptions {
    /// Digest of the stream as it comes (compressed).
    pub digest: Option<Digest>,
    /// Length of the stream as it comes.
    pub size: Option<u64>,
    /// Digest of the archive when decompressed.
    pub diff_id: Option<Digest>,
    /// What unpacking may cost.
    pub limits: Limits,
}

/// The layers of a data root; clones share it.
#[derive(Debug, Clone)]
pub struct Layers {
    dir: PathBuf,
    staging: PathBuf,
    db: Db,
    trash: Trash,
    leases: Leases,
    /// One change of the set of layers at a time.
    changing: Arc<Mutex<()>>,
    pending: Arc<RwLock<pending::Pending>>,
    young: Arc<Mutex<pending::Young>>,
}

type Leases = Arc<Mutex<HashMap<u64, BTreeSet<ChainId>>>>;

/// A layer about to be unpacked, independently of the layers below it.
#[derive(Debug)]
pub struct Staging {
    dir: StagedDir,
}

/// A layer unpacked but not yet visible. Dropped, it is gone.
#[derive(Debug)]
pub struct StagedLayer {
    /// Digest of the stream as it came.
    pub digest: Digest,
    /// Length of the stream as it came.
    pub compressed_size: u64,
    /// Digest of the archive.
    pub diff_id: Digest,
    /// Length of the archive.
    pub tar_size: u64,
    /// Bytes of its files' contents.
    pub size: u64,
    dir: StagedDir,
    applied: Applied,
}

/// A directory below staging, which goes to the trash unless it was moved elsewhere.
#[derive(Debug)]
struct StagedDir {
    path: PathBuf,
    trash: Trash,
}

impl Drop for StagedDir {
    fn drop(&mut self) {
        if let Err(error) = self.trash.discard(&self.path) {
            tracing::warn!(%error, "an unfinished layer stays until the next start");
        }
    }
}

/// Keeps layers from being collected while it lives. Hold a layer *before* looking whether it is there or committing it.
#[derive(Debug)]
pub struct LayerLease {
    number: u64,
    leases: Leases,
}

impl LayerLease {
    /// Keeps this layer, and so all below it.
    pub fn hold(&self, chain: &ChainId) {
        self.leases.lock().entry(self.number).or_default().insert(*chain);
    }
}

impl Drop for LayerLease {
    fn drop(&mut self) {
        self.leases.lock().remove(&self.number);
    }
}

impl Layers {
    pub(crate) fn open(dir: PathBuf, staging: PathBuf, db: Db, trash: Trash) -> Result<Self, StoreError> {
        let layers = Layers {
            dir,
            staging,
            db,
            trash,
            leases: Leases::default(),
            changing: Arc::default(),
            pending: Arc::default(),
            young: Arc::default(),
        };
        for path in layers.strays()? {
            layers.trash.discard(&path)?;
        }
        Ok(layers)
    }

    /// What is known of a layer, `None` if there is no such layer.
    pub fn get(&self, chain: &ChainId) -> Result<Option<LayerInfo>, StoreError> {
        if let Some(info) = self.pending.read().get(chain) {
            return Ok(Some(info.clone()));
        }
        Ok(self.db.read(|tx| tx.get(&LAYERS, chain))?)
    }

    /// All layers.
    pub fn list(&self) -> Result<Vec<(ChainId, LayerInfo)>, StoreError> {
        // Pending first: a flush in between moves them to where is looked next.
        let mut all = self.pending.read().clone();
        all.extend(self.db.read(|tx| tx.all(&LAYERS))?);
        Ok(all.into_iter().collect())
    }

    /// The directories of a stack, topmost first, as overlayfs wants them.
    pub fn lower_dirs(&self, chain: &ChainId) -> Result<Vec<PathBuf>, StoreError> {
        // Pending first, as in `get`.
        let pending = self.pending.read().clone();
        self.db.read(|tx| {
            let (mut dirs, mut next) = (Vec::new(), Some(*chain));
            while let Some(chain) = next {
                let found = pending.get(&chain).cloned().map_or_else(|| tx.get(&LAYERS, &chain), |info| Ok(Some(info)));
                let info = found?.ok_or(StoreError::NoLayer(chain))?;
                dirs.push(self.dir.join(&info.dir).join("fs"));
                next = info.parent.filter(|_| !info.opaque);
            }
            Ok(dirs)
        })
    }

    /// Whether no operation holds layers.
    pub fn is_idle(&self) -> bool {
        self.leases.lock().is_empty()
    }

    /// A lease: layers that it holds stay until it is dropped, named by an image yet or not.
    pub fn lease(&self) -> LayerLease {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        LayerLease { number: NEXT.fetch_add(1, Ordering::Relaxed), leases: Arc::clone(&self.leases) }
    }

    /// Removes a layer. Refused while another layer stands on it.
    pub fn remove(&self, chain: &ChainId) -> Result<(), StoreError> {
        let _one_at_a_time = self.changing.lock();
        let info = self.get(chain)?.ok_or(StoreError::NoLayer(*chain))?;
        if let Some((above, _)) = self.list()?.iter().find(|(_, other)| other.parent.as_ref() == Some(chain)) {
            return Err(StoreError::LayerInUse(*chain, *above));
        }
        if self.pending.write().remove(chain).is_none() {
            self.db.write(|tx| tx.remove(&LAYERS, chain))?;
        }
        self.trash.discard(&self.dir.join(info.dir))
    }

    /// Layers that neither `used` (topmost layers of images and containers) nor a lease needs.
    pub fn unused(&self, used: &[ChainId]) -> Result<Vec<(ChainId, LayerInfo)>, StoreError> {
        self.unused_beside(used, &self.leases.lock())
    }

    fn unused_beside(
        &self,
        used: &[ChainId],
        leases: &HashMap<u64, BTreeSet<ChainId>>,
    ) -> Result<Vec<(ChainId, LayerInfo)>, StoreError> {
        let all: HashMap<ChainId, LayerInfo> = self.list()?.into_iter().collect();
        let mut kept = BTreeSet::new();
        let fresh: Vec<ChainId> = self.pending.read().keys().chain(self.young.lock().iter()).copied().collect();
        for top in used.iter().chain(leases.values().flatten()).chain(&fresh) {
            let mut next = Some(*top);
            while let Some(chain) = next.filter(|chain| kept.insert(*chain)) {
                next = all.get(&chain).and_then(|info| info.parent);
            }
        }
        Ok(all.into_iter().filter(|(chain, _)| !kept.contains(chain)).collect())
    }

    /// Removes all layers that neither `used` (topmost layers of images and containers) nor a lease needs; returns them.
    /// Their files go to the trash.
    pub fn collect(&self, used: &[ChainId]) -> Result<Vec<ChainId>, StoreError> {
        let _one_at_a_time = self.changing.lock();
        // Held to the end of the removal: whoever takes a lease in the meantime looks for the layer after it.
        let leases = self.leases.lock();
        let gone = self.unused_beside(used, &leases)?;
        if gone.is_empty() {
            return Ok(Vec::new());
        }
        self.db.write(|tx| gone.iter().try_for_each(|(chain, _)| tx.remove(&LAYERS, chain).map(drop)))?;
        crash_point("layers-forgotten");
        drop(leases);
        for (_, info) in &gone {
            self.trash.discard(&self.dir.join(&info.dir))?;
        }
        Ok(gone.into_iter().map(|(chain, _)| chain).collect())
    }
}
