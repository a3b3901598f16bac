//! What the engine stores, on top of skep-store: which tables there are and what is in them. One commit per user action.

use std::collections::BTreeSet;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use skep_store::{ChainId, DbError, Store, StoreError, Table};
use skep_types::{ContainerId, Digest, VolumeName};

use crate::containers::record::Record;
use crate::model::volume::Volume;
use crate::networks::StoredNetwork;
use crate::{Error, Result};

const CONTAINERS: Table<ContainerId, Record> = Table::new("containers", 1);
const VOLUMES: Table<VolumeName, Volume> = Table::new("volumes", 1);
const NETWORKS: Table<String, StoredNetwork> = Table::new("networks", 1);
/// Single values: `id`.
const ENGINE: Table<String, String> = Table::new("engine", 1);

pub(crate) struct Storage {
    store: Store,
}

impl Storage {
    /// Opens the data root; fails when another daemon has it.
    pub(crate) fn open(data_root: &Path) -> Result<Self> {
        let store = Store::open(data_root).map_err(|e| Error::system("opening the data root", e))?;
        Ok(Storage { store })
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// An id that stays with the data root.
    pub(crate) fn engine_id(&self) -> Result<String> {
        let key = "id".to_owned();
        if let Some(id) = self.store.db().read(|tx| tx.get(&ENGINE, &key)).map_err(reading)? {
            return Ok(id);
        }
        let id = ContainerId::from_bytes(crate::random::bytes()).to_string();
        let id = format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..32]);
        self.store.db().write(|tx| tx.put(&ENGINE, &key, &id)).map_err(writing)?;
        Ok(id)
    }

    pub(crate) fn containers(&self) -> Result<Vec<Record>> {
        let all = self.store.db().read(|tx| tx.all(&CONTAINERS)).map_err(reading)?;
        Ok(all.into_iter().map(|(_, record)| record).collect())
    }

    pub(crate) fn container(&self, id: ContainerId) -> Result<Option<Record>> {
        self.store.db().read(|tx| tx.get(&CONTAINERS, &id)).map_err(reading)
    }

    /// The topmost layers of the stored containers that are `wanted`.
    pub(crate) fn container_layers(&self, wanted: impl Fn(&Record) -> bool) -> Result<Vec<ChainId>, DbError> {
        let all = self.store.db().read(|tx| tx.all(&CONTAINERS))?;
        let wanted = all.into_iter().map(|(_, record)| record).filter(wanted);
        // Chain ids were stored as digests, so they are well-formed.
        Ok(wanted.filter_map(|record| chain_id(record.chain_id.as_ref()?).ok()).collect())
    }

    /// The layers that processes run on now, with all below them.
    pub(crate) fn running_layers(&self) -> Result<BTreeSet<ChainId>, StoreError> {
        let mut layers = BTreeSet::new();
        for top in self.container_layers(|record| record.running.is_some())? {
            let mut next = Some(top);
            while let Some(chain) = next.filter(|chain| layers.insert(*chain)) {
                next = self.store.layers().get(&chain)?.and_then(|info| info.parent);
            }
        }
        Ok(layers)
    }

    pub(crate) fn put_container(&self, record: &Record) -> Result<()> {
        self.store.db().write(|tx| tx.put(&CONTAINERS, &record.id, record)).map_err(writing)
    }

    pub(crate) fn delete_container(&self, id: ContainerId) -> Result<()> {
        self.store.db().write(|tx| tx.remove(&CONTAINERS, &id)).map(drop).map_err(writing)
    }

    /// Makes a container's directory with its writable layer on top of the layers up to `chain`.
    pub(crate) fn make_container_dir(&self, id: ContainerId, chain: Option<&Digest>) -> Result<()> {
        let chain = chain.map(chain_id).transpose()?;
        self.store
            .containers()
            .create(&id, chain.as_ref())
            .map(drop)
            .map_err(|e| Error::system(format!("making the directory of container {id}"), e))
    }

    /// The layers' directories, topmost first.
    pub(crate) fn lower_dirs(&self, chain: Option<&Digest>) -> Result<Vec<PathBuf>> {
        match chain {
            None => Ok(Vec::new()),
            Some(chain) => self
                .store
                .layers()
                .lower_dirs(&chain_id(chain)?)
                .map_err(|e| Error::system("finding the layers of an image", e)),
        }
    }

    pub(crate) fn volumes(&self) -> Result<Vec<Volume>> {
        let all = self.store.db().read(|tx| tx.all(&VOLUMES)).map_err(reading)?;
        Ok(all.into_iter().map(|(_, volume)| volume).collect())
    }

    pub(crate) fn put_volume(&self, volume: &Volume) -> Result<()> {
        self.store.db().write(|tx| tx.put(&VOLUMES, &volume.name, volume)).map_err(writing)
    }

    pub(crate) fn delete_volume(&self, name: &VolumeName) -> Result<()> {
        self.store.db().write(|tx| tx.remove(&VOLUMES, name)).map(drop).map_err(writing)
    }

    pub(crate) fn networks(&self) -> Result<Vec<StoredNetwork>> {
        let all = self.store.db().read(|tx| tx.all(&NETWORKS)).map_err(reading)?;
        Ok(all.into_iter().map(|(_, network)| network).collect())
    }

    pub(crate) fn put_network(&self, network: &StoredNetwork) -> Result<()> {
        self.store.db().write(|tx| tx.put(&NETWORKS, &network.name, network)).map_err(writing)
    }

    pub(crate) fn delete_network(&self, name: &str) -> Result<()> {
        self.store.db().write(|tx| tx.remove(&NETWORKS, &name.to_owned())).map(drop).map_err(writing)
    }

    /// Takes a file or directory out of sight at once. [`Storage::empty_trash`] deletes it.
    pub(crate) fn trash(&self, path: &Path) -> Result<(), StoreError> {
        self.store.trash().discard(path)
    }

    /// Deletes what was thrown away. Slow: for a thread that nobody waits for.
    pub(crate) fn empty_trash(&self) {
        if let Err(error) = self.store.empty_trash() {
            tracing::warn!(%error, "deleting files that nobody needs");
        }
    }
}

fn chain_id(digest: &Digest) -> Result<ChainId> {
    digest.to_string().parse().map_err(|e: skep_types::DigestError| Error::system("reading a chain id", e))
}

fn reading(error: DbError) -> Error {
    Error::system("reading the database", error)
}

fn writing(error: DbError) -> Error {
    Error::system("writing the database", error)
}

/// Makes a directory with exactly these permissions; one that is there keeps its content.
pub(crate) fn make_dir(path: &Path, mode: u32) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)))
        .map_err(|e| Error::system(format!("making {}", path.display()), e))
}

/// Bytes of the files below a directory.
pub(crate) fn tree_size(path: &Path) -> u64 {
    skep_fs::Root::open(path).and_then(|root| skep_fs::tree::usage(&root)).map_or(0, |usage| usage.bytes)
}
