//! The hosts that one repository is read from, each connected to when it is needed first.
//!
//! Hosts are asked in their order. One that can't be reached, or that gave wrong bytes, is not asked again by this repository; one
//! that merely lacks something is. What the last one says is what the caller is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use skep_types::Reference;
use tokio::sync::OnceCell;

use crate::hosts::{Host, Role, hosts};
use crate::repository::{Access, Inner};
use crate::{Credentials, RegistryConfig, RegistryError, Result};

/// All hosts of one repository.
#[derive(Debug)]
pub(crate) struct Sources {
    config: RegistryConfig,
    reference: Reference,
    credentials: Credentials,
    access: Access,
    list: Vec<Source>,
}

#[derive(Debug)]
struct Source {
    host: Host,
    connection: OnceCell<Arc<Inner>>,
    given_up: AtomicBool,
}

/// What is wanted of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The digest of a tag, and what has it.
    Tag,
    /// Something with a digest.
    Content,
}

impl Sources {
    pub(crate) fn new(
        config: &RegistryConfig,
        reference: &Reference,
        credentials: Option<&Credentials>,
        access: Access,
    ) -> Result<Self> {
        let list = hosts(config, reference.registry(), access)?
            .into_iter()
            .map(|host| Source { host, connection: OnceCell::new(), given_up: AtomicBool::new(false) })
            .collect();
        let credentials = credentials.cloned().unwrap_or_default();
        Ok(Sources { config: config.clone(), reference: reference.clone(), credentials, access, list })
    }

    /// The first host from number `from` on that is worth asking.
    pub(crate) fn next(&self, from: usize, wanted: Wanted) -> Option<usize> {
        let suits = |source: &Source| match wanted {
            Wanted::Tag => source.host.resolves,
            Wanted::Content => source.host.pulls,
        };
        let good = |source: &Source| suits(source) && !source.given_up.load(Ordering::Relaxed);
        (from..self.list.len()).find(|number| good(&self.list[*number]))
    }

    /// Asks this host no more.
    pub(crate) fn give_up(&self, number: usize) {
        self.list[number].given_up.store(true, Ordering::Relaxed);
    }

    /// The connection to a host.
    pub(crate) async fn connection(&self, number: usize) -> Result<Arc<Inner>> {
        let source = &self.list[number];
        source.connection.get_or_try_init(|| self.connect(&source.host)).await.cloned()
    }

    async fn connect(&self, host: &Host) -> Result<Arc<Inner>> {
        let credentials = match host.role {
            Role::Registry => self.credentials.clone(),
            Role::Mirror => Credentials::default(),
        };
        Inner::connect(&self.config, host, &self.reference, &credentials, self.access).await.map(Arc::new)
    }

    /// How long a host wants to be left alone.
    pub(crate) fn pause(&self, number: usize) -> Duration {
        self.list[number].connection.get().map_or(Duration::ZERO, |inner| inner.pause())
    }

    /// The first host that answers. What else could be asked is found when it is needed.
    pub(crate) async fn first(&self) -> Result<Arc<Inner>> {
        let mut last = None;
        for number in 0..self.list.len() {
            match self.connection(number).await {
                Ok(inner) => return Ok(inner),
                Err(error) => last = Some(self.failed(number, error)),
            }
        }
        Err(last.unwrap_or_else(|| self.nobody()))
    }

    /// Notes that a host failed, and gives the error back.
    pub(crate) fn failed(&self, number: usize, error: RegistryError) -> RegistryError {
        if self.next(number + 1, Wanted::Content).is_some() {
            let host = &self.list[number].host.address;
            tracing::info!(registry = self.reference.registry(), ?host, %error, "a mirror failed, asking the next host");
        }
        if matches!(error, RegistryError::Transport { .. } | RegistryError::Setup(_)) && number + 1 < self.list.len() {
            self.give_up(number);
        }
        error
    }

    /// What is told when no host is left to ask.
    pub(crate) fn nobody(&self) -> RegistryError {
        RegistryError::Setup(format!("no endpoints found for {}", self.reference))
    }
}
