//! A cache in front of other registries: what a client asks for is fetched once and served from then on.
//!
//! ```text
//!  tag ── known and young ──▶ served        ── not ──▶ asked upstream ── there ──▶ stored, served
//!                                                        ├── not there ──▶ 404
//!                                                        └── no answer ──▶ what was known, with a warning; else 503
//!  digest ── known ──▶ served               ── not ──▶ asked upstream, stored, served
//!  blob ── known ──▶ served                 ── not ──▶ one download for all who want it ([`flight`])
//! ```
//! Only registries of the configuration are ever asked: neither `ns` nor a repository's name makes the cache speak to another one.
//! A blob is fetched if a manifest that was served before names it; so its size is known before its first byte. What comes from
//! upstream is checked against its digest before it is stored. A download that broke off is gone on with, also after a restart.

mod config;
mod flight;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use skep_registry::{RegistryConfig, RegistryError, Repository};
use skep_types::{ErrorKind, Reference, Selector};
use tokio_util::task::TaskTracker;

pub use config::{CacheConfig, CacheError, Upstream};
pub(crate) use flight::{Flight, Joined};

use crate::content::{Content, Parts, StoredManifest};
use crate::digest::ContentDigest;
use crate::error::{Code, Error, Refusal, Result, refuse};
use crate::manifest::Manifest;
use crate::name::{ManifestReference, RepositoryName};

/// Upstreams, and what is under way.
#[derive(Debug)]
pub(crate) struct Cache {
    /// Replaced when its file is read again; what is under way goes on with the one that it began with.
    config: RwLock<Arc<CacheConfig>>,
    /// One question at a time for each manifest.
    asking: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    flights: Mutex<HashMap<(RepositoryName, ContentDigest), Arc<Flight>>>,
}

/// A manifest, and whether the upstream has been asked lately.
#[derive(Debug)]
pub(crate) enum Cached {
    Fresh(StoredManifest),
    /// The upstream did not answer.
    Stale(StoredManifest),
}

/// A repository here and the one upstream that it is a copy of.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    local: RepositoryName,
    reference: Reference,
    upstream: Upstream,
    client: RegistryConfig,
}

impl Source {
    async fn connect(&self) -> Result<Repository, RegistryError> {
        Repository::connect(&self.client, &self.reference, self.upstream.credentials.as_ref()).await
    }
}

impl Cache {
    pub(crate) fn new(config: CacheConfig) -> Self {
        Cache { config: RwLock::new(Arc::new(config)), asking: Mutex::default(), flights: Mutex::default() }
    }

    /// What counts now.
    pub(crate) fn config(&self) -> Arc<CacheConfig> {
        self.config.read().clone()
    }

    pub(crate) fn replace(&self, config: CacheConfig) {
        *self.config.write() = Arc::new(config);
    }

    /// The name here of a repository of the registry `namespace` (containerd's `ns`).
    pub(crate) fn local(&self, name: &RepositoryName, namespace: &str) -> Result<RepositoryName> {
        let config = self.config();
        let upstream = config.upstreams.iter().find(|upstream| upstream.registry == namespace);
        let local = upstream.and_then(|upstream| format!("{}{name}", upstream.prefix).parse().ok());
        local.map_or_else(|| refuse(Code::NameUnknown, "this registry caches nothing of that namespace"), Ok)
    }

    /// What a repository is a copy of; `None` if of nothing.
    pub(crate) fn source(&self, name: &RepositoryName) -> Option<Source> {
        let config = self.config();
        let (upstream, path) = config
            .upstreams
            .iter()
            .find_map(|upstream| Some((upstream, name.as_str().strip_prefix(upstream.prefix.as_str())?)))?;
        let reference = format!("{}/{path}", upstream.registry).parse().ok()?;
        let client = RegistryConfig { token_hosts: Some(upstream.token_hosts()), ..config.client.clone() };
        Some(Source { local: name.clone(), reference, upstream: upstream.clone(), client })
    }

    /// Finds a manifest here or upstream.
    pub(crate) async fn manifest(
        &self,
        content: &Content,
        source: &Source,
        wanted: &ManifestReference,
    ) -> Result<Cached> {
        if let Some(found) = self.known(content, source, wanted).await? {
            return Ok(Cached::Fresh(found));
        }
        let selector = match wanted {
            ManifestReference::Tag(tag) => Selector::Tag(tag.to_string()),
            ManifestReference::Digest(ContentDigest::Sha256(bytes)) => {
                Selector::Digest(skep_types::Digest::from_bytes(*bytes))
            }
            ManifestReference::Digest(ContentDigest::Sha512(_)) => {
                return refuse(Code::ManifestUnknown, "manifest unknown");
            }
        };
        let key = format!("{}\0{selector:?}", source.local);
        let turn = self.asking.lock().entry(key.clone()).or_default().clone();
        let alone = turn.lock().await;
        // Who waited for its turn finds what the one before it fetched.
        let answer = match self.known(content, source, wanted).await? {
            Some(found) => Ok(Cached::Fresh(found)),
            None => self.ask(content, source, wanted, &selector).await,
        };
        drop(alone);
        self.asking.lock().retain(|_, turn| Arc::strong_count(turn) > 1);
        answer
    }

    /// What is here and need not be asked for: everything by digest, a tag for a while.
    async fn known(
        &self,
        content: &Content,
        source: &Source,
        wanted: &ManifestReference,
    ) -> Result<Option<StoredManifest>> {
        if let ManifestReference::Tag(tag) = wanted {
            let age = content.tag_age(&source.local, tag).await?;
            if age.is_none_or(|age| age >= self.config().manifest_ttl) {
                return Ok(None);
            }
        }
        found(content.manifest(&source.local, wanted).await)
    }

    async fn ask(
        &self,
        content: &Content,
        source: &Source,
        wanted: &ManifestReference,
        selector: &Selector,
    ) -> Result<Cached> {
        let fetched = match source.connect().await {
            Ok(repository) => repository.manifest(selector).await,
            Err(error) => Err(error),
        };
        match fetched {
            Ok(fetched) => {
                let bytes = Bytes::from(fetched.raw);
                let manifest = Manifest::parse(&bytes, &fetched.media_type)
                    .map_err(|error| Refusal::new(Code::Unavailable, format!("upstream: {error}")))?;
                content.put_manifest(&source.local, wanted, bytes, manifest, Parts::Nothing).await?;
                content.manifest(&source.local, wanted).await.map(Cached::Fresh)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => refuse(Code::ManifestUnknown, "manifest unknown"),
            Err(error) => match found(content.manifest(&source.local, wanted).await)? {
                Some(known) => {
                    tracing::warn!(repository = %source.local, %error, "the upstream does not answer, serving what is known");
                    Ok(Cached::Stale(known))
                }
                None => {
                    tracing::warn!(repository = %source.local, %error, "the upstream does not answer");
                    refuse(Code::Unavailable, "the upstream registry does not answer")
                }
            },
        }
    }

    /// The download of a blob that is not here: the one under way, or a new one, which `tasks` owns.
    pub(crate) async fn blob(
        self: &Arc<Self>,
        content: &Arc<Content>,
        tasks: &TaskTracker,
        source: Source,
        digest: &ContentDigest,
    ) -> Result<Arc<Flight>> {
        let Some(descriptor) = content.descriptor(&source.local, digest).await? else {
            return refuse(Code::BlobUnknown, "blob unknown to registry");
        };
        let (key, digest) = ((source.local.clone(), *digest), *digest);
        let mut flights = self.flights.lock();
        flights.retain(|_, flight| !flight.is_over());
        if let Some(flight) = flights.get(&key) {
            return Ok(flight.clone());
        }
        let flight = Flight::begin(descriptor.size);
        flights.insert(key, flight.clone());
        let (cache, content, joined) = (self.clone(), content.clone(), flight.clone());
        tasks.spawn(async move { cache.fly(&content, &source, &digest, &flight).await });
        Ok(joined)
    }

    /// Fetches a blob for everybody who has joined its flight.
    async fn fly(&self, content: &Content, source: &Source, digest: &ContentDigest, flight: &Flight) {
        let result = match content.adopt_known(&source.local, digest, flight.size()).await {
            Ok(true) => Ok(()),
            Ok(false) => self.download(content, source, digest, flight).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &result {
            tracing::warn!(repository = %source.local, %digest, %error, "a blob could not be fetched");
        }
        flight.end(result.is_ok());
    }

    async fn download(
        &self,
        content: &Content,
        source: &Source,
        digest: &ContentDigest,
        flight: &Flight,
    ) -> Result<()> {
        let ContentDigest::Sha256(bytes) = digest else { return refuse(Code::BlobUnknown, "blob unknown to registry") };
        let unavailable = |error: RegistryError| match error.kind() {
            ErrorKind::NotFound => Error::from(Refusal::new(Code::BlobUnknown, "blob unknown to registry")),
            _ => Refusal::new(Code::Unavailable, format!("upstream: {error}")).into(),
        };
        let descriptor = skep_registry::Descriptor {
            media_type: "application/octet-stream".to_owned(),
            digest: skep_types::Digest::from_bytes(*bytes),
            size: flight.size(),
            platform: None,
            annotations: BTreeMap::new(),
        };
        let repository = source.connect().await.map_err(unavailable)?;
        let mut partial = content.uploads.partial(digest, flight.size()).await?;
        let mut blob = repository.blob_from(&descriptor, partial.size());
        flight.file(partial.reader()?);
        // What was here before is told of when the upstream has answered: without more bytes it is of no use.
        let mut told = 0;
        while let Some(part) = blob.next().await.map_err(unavailable)? {
            if let skep_registry::BlobPart::Data(data) = part {
                partial = partial.write(data).await?;
                flight.advance(partial.size() - told);
                told = partial.size();
            }
        }
        let staged = partial.finish(digest).await?;
        content.adopt_blob(&source.local, digest, flight.size(), staged).await
    }
}

/// Missing is no failure here.
fn found(result: Result<StoredManifest>) -> Result<Option<StoredManifest>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(Error::Refused(refusal)) if refusal.code == Code::ManifestUnknown => Ok(None),
        Err(error) => Err(error),
    }
}
