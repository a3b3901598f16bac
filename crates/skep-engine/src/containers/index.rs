//! All containers by id and by name, and what each published last.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::RwLock;
use skep_types::{ContainerId, ContainerName};
use tokio::sync::{mpsc, watch};

use super::task::Command;
use crate::model::view::ContainerView;
use crate::shim::ShimHandle;
use crate::{Error, Result};

/// How others reach a container.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) id: ContainerId,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) published: watch::Receiver<Published>,
}

/// What the owner task says of its container.
#[derive(Clone)]
pub(crate) struct Published {
    pub(crate) view: Arc<ContainerView>,
    /// How often it ended since this daemon looks after it.
    pub(crate) exits: u64,
    /// The way to its processes, while it runs.
    pub(crate) live: Option<Live>,
}

/// A container that runs.
#[derive(Clone)]
pub(crate) struct Live {
    pub(crate) shim: ShimHandle,
    pub(crate) pid: i32,
}

impl Handle {
    pub(crate) fn view(&self) -> Arc<ContainerView> {
        self.published.borrow().view.clone()
    }

    /// The way to its processes; refuses in Docker's words if there are none.
    pub(crate) fn live(&self) -> Result<Live> {
        let published = self.published.borrow();
        published.live.clone().ok_or_else(|| Error::Conflict(format!("container {} is not running", self.id)))
    }
}

#[derive(Default)]
pub(crate) struct Index {
    inner: RwLock<Inner>,
}

#[derive(Default)]
struct Inner {
    by_id: BTreeMap<ContainerId, Handle>,
    by_name: HashMap<ContainerName, ContainerId>,
}

impl Index {
    /// Keeps a name for a container that is being made. It is given back by [`Index::release_name`].
    pub(crate) fn reserve_name(&self, name: &ContainerName, id: ContainerId) -> Result<()> {
        let mut inner = self.inner.write();
        match inner.by_name.get(name) {
            Some(holder) => Err(Error::NameInUse { name: name.to_string(), holder: holder.to_string() }),
            None => {
                inner.by_name.insert(name.clone(), id);
                Ok(())
            }
        }
    }

    pub(crate) fn release_name(&self, name: &ContainerName) {
        self.inner.write().by_name.remove(name);
    }

    pub(crate) fn insert(&self, handle: Handle) {
        self.inner.write().by_id.insert(handle.id, handle);
    }

    pub(crate) fn remove(&self, id: ContainerId, name: &ContainerName) {
        let mut inner = self.inner.write();
        inner.by_id.remove(&id);
        if inner.by_name.get(name) == Some(&id) {
            inner.by_name.remove(name);
        }
    }

    pub(crate) fn all(&self) -> Vec<Handle> {
        self.inner.read().by_id.values().cloned().collect()
    }

    pub(crate) fn get(&self, id: ContainerId) -> Option<Handle> {
        self.inner.read().by_id.get(&id).cloned()
    }

    /// By full id, name, or a prefix of ids that fits only one.
    pub(crate) fn find(&self, text: &str) -> Result<Handle> {
        let missing = || Error::NoSuchContainer(text.to_owned());
        let inner = self.inner.read();
        if let Some(handle) = text.parse::<ContainerId>().ok().and_then(|id| inner.by_id.get(&id)) {
            return Ok(handle.clone());
        }
        let named = text.parse::<ContainerName>().ok().and_then(|name| inner.by_name.get(&name).copied());
        if let Some(id) = named {
            return inner.by_id.get(&id).cloned().ok_or_else(missing);
        }
        if text.is_empty() || !text.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(missing());
        }
        let mut fitting = inner.by_id.iter().filter(|(id, _)| id.to_string().starts_with(text));
        match (fitting.next(), fitting.next()) {
            (Some((_, handle)), None) => Ok(handle.clone()),
            (Some(_), Some(_)) => Err(Error::AmbiguousContainer(text.to_owned())),
            (None, _) => Err(missing()),
        }
    }
}
