//! The cache of a build for others, in BuildKit's form: layers, and a configuration that says what they are the results of.
//!
//! ```text
//! manifest (or index) ─┬─ configuration, application/vnd.buildkit.cacheconfig.v0: results by key, each with its layers
//!                      └─ layers, each with its diff id as an annotation
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use chrono::SecondsFormat;
use serde_json::json;
use skep_build::builder::CacheEntry;
use skep_build::cache::write_config;
use skep_build::request::CacheRef;
use skep_build::{BuildError, Built, Job, Parts, Report};
use skep_registry::{Descriptor, digest_of, media_type};
use skep_store::ChainId;
use skep_types::{Digest, Reference};

use super::super::error::{engine as engine_error, store};
use super::super::sources;
use super::super::sources::caches::UNCOMPRESSED;
use super::options::{compression, level, switch};
use super::{Metadata, system};
use crate::engine::Inner;
use crate::images::base::CACHE_CONFIG;
use crate::images::built::{Coding, Content, PushCache};
use crate::model::image::LayerCompression;

/// When a layer was made.
const CREATED: &str = "buildkit/createdat";

/// What is said of a cache.
#[derive(Debug)]
pub(super) struct Options {
    /// All stages, or what ended up in the result.
    whole: bool,
    coding: Option<Coding>,
    force: bool,
    oci_types: bool,
    /// A manifest, or an index as long ago.
    as_image: bool,
    ignore_error: bool,
    to: To,
}

#[derive(Debug)]
enum To {
    Registry {
        name: Reference,
        insecure: bool,
    },
    /// A directory of the client.
    Local(String),
}

impl Options {
    /// Reads them.
    ///
    /// # Errors
    /// A value that there is not.
    pub(super) fn read(cache: &CacheRef) -> Result<Self, BuildError> {
        let get = |name: &str| cache.attributes.get(name);
        let flag = |name: &str, usual: bool| get(name).map_or(Ok(usual), |value| switch(name, value));
        let text = |name: &str| get(name).map(String::as_str).unwrap_or_default();
        let wished = get("compression").map_or(Ok(None), |value| compression(value))?;
        let level = get("compression-level").map(|value| level(value)).transpose()?;
        let to = match cache.kind.as_str() {
            "registry" => {
                let name = text("ref").parse::<Reference>();
                let name =
                    name.map_err(|error| BuildError::invalid(format!("failed to parse {}: {error}", text("ref"))))?;
                To::Registry { name: name.or_latest(), insecure: flag("registry.insecure", false)? }
            }
            _ => To::Local(text("dest").to_owned()),
        };
        Ok(Options {
            whole: text("mode") == "max",
            coding: (wished.is_some() || level.is_some())
                .then_some(Coding { compression: wished.unwrap_or(LayerCompression::Gzip), level }),
            force: flag("force-compression", false)?,
            oci_types: flag("oci-mediatypes", true)?,
            as_image: flag("image-manifest", true)?,
            ignore_error: flag("ignore-error", false)?,
            to,
        })
    }
}

/// Writes the cache of a build.
pub(super) async fn export(
    engine: &Arc<Inner>,
    built: &Built,
    cache: &CacheRef,
    job: &Job,
) -> Result<Metadata, BuildError> {
    let options = Options::read(cache)?;
    let name = match options.to {
        To::Registry { .. } => "exporting cache to registry",
        To::Local(_) => "exporting cache to client directory",
    };
    let mut report = Report::numbered(job.events.clone(), name, 0);
    let parts = report.parts();
    let exporting = Exporting { engine, built, options: &options, job, parts: &parts };
    match report.during(exporting.run()).await {
        // The vertex has said it.
        Err(_) if options.ignore_error && !job.cancel.is_cancelled() => Ok(Metadata::new()),
        done => done,
    }
}

struct Exporting<'a> {
    engine: &'a Arc<Inner>,
    built: &'a Built,
    options: &'a Options,
    job: &'a Job,
    parts: &'a Parts,
}

/// A layer on its stack.
#[derive(Clone, Copy)]
struct Placed {
    diff_id: Digest,
    chain: ChainId,
}

impl Exporting<'_> {
    async fn run(&self) -> Result<Metadata, BuildError> {
        let wanted = self.built.cache.iter().filter(|entry| self.options.whole || entry.minimal);
        let mut entries: Vec<(CacheEntry, Vec<Placed>)> = Vec::new();
        for entry in wanted {
            entries.push((entry.clone(), self.layers(entry.stack)?));
        }
        // A layer may stand on several others; its blob is the same.
        let mut layers: BTreeMap<Digest, ChainId> = BTreeMap::new();
        for placed in entries.iter().flat_map(|(_, layers)| layers) {
            layers.entry(placed.diff_id).or_insert(placed.chain);
        }
        let layers: Vec<(Digest, ChainId)> = layers.into_iter().collect();
        match &self.options.to {
            To::Registry { name, insecure } => self.to_registry(name, *insecure, &entries, layers).await,
            To::Local(directory) => self.to_directory(directory, &entries, &layers).await,
        }
    }

    /// The layers of a stack, the lowest first.
    fn layers(&self, top: ChainId) -> Result<Vec<Placed>, BuildError> {
        let all = self.engine.storage.store().layers();
        let (mut found, mut next) = (Vec::new(), Some(top));
        while let Some(chain) = next {
            let info = all.get(&chain).and_then(|info| info.ok_or(skep_store::StoreError::NoLayer(chain)));
            let info = info.map_err(store)?;
            found.push(Placed { diff_id: info.diff_id, chain });
            next = info.parent;
        }
        found.reverse();
        Ok(found)
    }

    async fn to_registry(
        &self,
        name: &Reference,
        insecure: bool,
        entries: &[(CacheEntry, Vec<Placed>)],
        layers: Vec<(Digest, ChainId)>,
    ) -> Result<Metadata, BuildError> {
        let login = sources::image::login(&*self.job.services, name).await?;
        let (progress, mut told) = tokio::sync::mpsc::channel(16);
        let Options { coding, force, .. } = *self.options;
        let push = PushCache { name, layers: layers.clone(), coding, force, insecure };
        let pushing = self.engine.images.push_cache(push, login.as_ref(), progress, |blobs| {
            let cache = self.documents(entries, &layers, blobs).map_err(|error| error.message)?;
            Ok((vec![cache.config], cache.media_type.to_owned(), cache.manifest))
        });
        let listening = async { while told.recv().await.is_some() {} };
        let (pushed, ()) = tokio::join!(
            self.parts.during("preparing build cache for export", async {
                pushing.await.map_err(|error| engine_error(error.into()))
            }),
            listening
        );
        let pushed = pushed?;
        for blob in &pushed.layers {
            self.parts.done(&format!("writing layer {}", blob.digest)).await;
        }
        self.told(&pushed.manifest).await;
        self.metadata(&pushed.manifest)
    }

    async fn to_directory(
        &self,
        directory: &str,
        entries: &[(CacheEntry, Vec<Placed>)],
        layers: &[(Digest, ChainId)],
    ) -> Result<Metadata, BuildError> {
        let usual = Coding { compression: LayerCompression::Gzip, level: None };
        let coding = self.options.coding.unwrap_or(usual);
        let preparing = async {
            let described = self.engine.images.describe_stacked(layers, coding).await;
            described.map_err(|error| engine_error(error.into()))
        };
        let blobs = self.parts.during("preparing build cache for export", preparing).await?;
        let cache = self.documents(entries, layers, &blobs)?;
        let store = format!("local:{directory}");
        for (blob, (_, chain)) in blobs.iter().zip(layers) {
            let content = Content::Layer { chain: *chain, coding, size: blob.size };
            let from = self.engine.images.read_content(blob.digest, content);
            let writing = self.job.services.put_blob(&store, &blob.digest, blob.size, from);
            self.parts.during(&format!("writing layer {}", blob.digest), writing).await?;
        }
        let media_type = cache.media_type.to_owned();
        let (digest, size) = (digest_of(&cache.manifest), cache.manifest.len() as u64);
        for bytes in [cache.config, cache.manifest] {
            let digest = digest_of(&bytes);
            let size = bytes.len() as u64;
            let from = Box::new(std::io::Cursor::new(bytes));
            self.job.services.put_blob(&store, &digest, size, from).await?;
        }
        let manifest = Descriptor { media_type, digest, size, platform: None, annotations: BTreeMap::new() };
        self.told(&manifest).await;
        self.metadata(&manifest)
    }

    async fn told(&self, manifest: &Descriptor) {
        let kind = if self.options.as_image { "cache image manifest" } else { "cache manifest" };
        self.parts.done(&format!("writing {kind} {}", manifest.digest)).await;
    }

    /// What clients write into the index of their directory.
    fn metadata(&self, manifest: &Descriptor) -> Result<Metadata, BuildError> {
        let json = serde_json::to_string(manifest).map_err(|error| system(&error))?;
        Ok([("cache.manifest".to_owned(), json)].into())
    }

    /// Configuration and manifest of a cache whose layers are these blobs.
    fn documents(
        &self,
        entries: &[(CacheEntry, Vec<Placed>)],
        layers: &[(Digest, ChainId)],
        blobs: &[Descriptor],
    ) -> Result<Cache, BuildError> {
        let of: BTreeMap<Digest, Digest> =
            layers.iter().zip(blobs).map(|((diff_id, _), blob)| (*diff_id, blob.digest)).collect();
        let made: BTreeMap<Digest, String> = entries
            .iter()
            .filter_map(|(entry, layers)| {
                Some((layers.last()?.diff_id, entry.created.to_rfc3339_opts(SecondsFormat::AutoSi, true)))
            })
            .collect();
        let described = entries.iter().map(|(entry, layers)| {
            let blobs = layers.iter().filter_map(|placed| of.get(&placed.diff_id).copied()).collect();
            (entry.clone(), blobs)
        });
        let config = write_config(&described.collect::<Vec<_>>()).map_err(|error| system(&error))?;
        let annotated = layers.iter().zip(blobs).map(|((diff_id, _), blob)| {
            let mut blob = blob.clone();
            blob.media_type = crate::images::built::layer_type(&blob.media_type, !self.options.oci_types);
            blob.annotations.insert(UNCOMPRESSED.to_owned(), diff_id.to_string());
            blob.annotations.extend(made.get(diff_id).map(|made| (CREATED.to_owned(), made.clone())));
            blob
        });
        let mut listed: Vec<Descriptor> = annotated.collect();
        let configuration = Descriptor {
            media_type: CACHE_CONFIG.to_owned(),
            digest: digest_of(&config),
            size: config.len() as u64,
            platform: None,
            annotations: BTreeMap::new(),
        };
        let (media_type, manifest) = match (self.options.as_image, self.options.oci_types) {
            (true, oci) => {
                let kind = if oci { media_type::OCI_MANIFEST } else { media_type::DOCKER_MANIFEST };
                (kind, json!({"schemaVersion": 2, "mediaType": kind, "config": configuration, "layers": listed}))
            }
            (false, oci) => {
                let kind = if oci { media_type::OCI_INDEX } else { media_type::DOCKER_LIST };
                listed.push(configuration);
                (kind, json!({"schemaVersion": 2, "mediaType": kind, "manifests": listed}))
            }
        };
        let manifest = serde_json::to_vec(&manifest).map_err(|error| system(&error))?;
        Ok(Cache { config: config.into(), manifest: manifest.into(), media_type })
    }
}

/// The documents of a cache.
struct Cache {
    config: Bytes,
    manifest: Bytes,
    media_type: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &str, pairs: &[(&str, &str)]) -> Result<Options, String> {
        let attributes = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Options::read(&CacheRef { kind: kind.to_owned(), attributes }).map_err(|error| error.message)
    }

    #[test]
    fn what_is_said_of_a_cache() {
        let options = read("registry", &[("ref", "localhost:5000/c"), ("mode", "max")]).expect("options");
        assert!(options.whole && options.as_image && options.oci_types && options.coding.is_none());
        let options = read("local", &[("dest", "d"), ("compression", "zstd"), ("image-manifest", "false")]);
        let options = options.expect("options");
        assert_eq!(options.coding.expect("one").compression, LayerCompression::Zstd);
        assert!(!options.as_image && !options.whole);
        let bad = read("registry", &[("ref", "x"), ("compression", "estargz")]).expect_err("refused");
        assert_eq!(bad, "compression=estargz is not supported by skep");
        assert!(read("registry", &[("ref", "X:")]).expect_err("no reference").starts_with("failed to parse X:"));
    }
}
