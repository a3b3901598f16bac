//! Caches elsewhere: `--cache-from`, and what `--cache-to` takes of a build.
//!
//! What a cache or an image elsewhere has is known without its layers; these come when a step really runs on them. A cache that
//! can't be read fails its own line of the progress and not the build.

use std::any::Any;
use std::sync::Arc;

use skep_store::ChainId;
use skep_types::{Digest, ErrorKind, Platform, Reference};

use crate::attest::is_true;
use crate::builder::CacheEntry;
use crate::cache::{Elsewhere, read};
use crate::error::{BuildError, Result};
use crate::image::ImageConfig;
use crate::request::CacheRef;
use crate::solve::{Image, Report, Solve};
use crate::worker::{Imported, ImportedResult, Origin, ResolvedImage, Worker};

use super::Frontend;

impl<W: Worker> Frontend<'_, W> {
    /// Whether the image carries its cache.
    pub(super) fn is_inline(&self) -> bool {
        let asked = self.request.args.get("BUILDKIT_INLINE_CACHE").is_some_and(|value| is_true(value));
        asked || self.request.cache_to.iter().any(|cache| cache.kind == "inline")
    }

    /// What of this build goes into caches elsewhere, all of it here, and what keeps it here. `tops` are the keys of the result.
    pub(super) async fn to_export(
        &self,
        solve: &Solve<'_>,
        tops: Vec<Digest>,
    ) -> Result<(Vec<CacheEntry>, Vec<Arc<dyn Any + Send + Sync>>)> {
        let elsewhere: Vec<&CacheRef> = self.request.cache_to.iter().filter(|cache| cache.kind != "inline").collect();
        if elsewhere.is_empty() {
            return Ok(Default::default());
        }
        let whole = elsewhere.iter().any(|cache| cache.attributes.get("mode").is_some_and(|mode| mode == "max"));
        let mut guards = Vec::new();
        let mut keys = tops.clone();
        for (id, value) in solve.values().into_iter().filter(|(_, value)| !value.records.is_empty()) {
            let result = value.records.iter().any(|key| tops.contains(key));
            if whole || result {
                self.solver.ensure(solve, id, &value).await?;
                guards.extend(value.held());
                keys.extend(&value.records);
            }
        }
        self.keep_imported().await?;
        Ok((self.solver.cache.entries(&keys, &tops), guards))
    }

    /// Reads what other caches have.
    pub(super) async fn import(&self) -> Result<()> {
        for cache in &self.request.cache_from {
            let shown = cache.attributes.get("ref").or_else(|| cache.attributes.get("src")).unwrap_or(&cache.kind);
            let mut report =
                Report::internal(self.job.events.clone(), &format!("importing cache manifest from {shown}"));
            let id = report.id();
            match report.during(self.import_one(cache, id)).await {
                Err(error) if error.kind == ErrorKind::Cancelled => return Err(error),
                Ok(()) | Err(_) => {} // the vertex has said it
            }
        }
        Ok(())
    }

    async fn import_one(&self, cache: &CacheRef, vertex: crate::event::VertexId) -> Result<()> {
        check_import(cache)?;
        for platform in self.platforms() {
            let context = self.job.context(vertex, &platform);
            match self.solver.worker.import(cache, &context).await? {
                Imported::Results(results) => {
                    for result in results {
                        let ImportedResult { key, diff_ids, created, origin } = result;
                        let layers = diff_ids.len();
                        let image = self.stand_in(&platform, diff_ids, origin)?;
                        self.memo.import(&Arc::new(image), vec![Elsewhere { key, layers, created }]);
                    }
                    return Ok(()); // of all platforms
                }
                Imported::Image(resolved) => {
                    let results = read(&ImageConfig::parse(&resolved.config)?);
                    if results.is_empty() {
                        let text = format!("{} has no cache of this builder", resolved.reference.familiar());
                        return Err(BuildError::new(ErrorKind::NotFound, text));
                    }
                    self.memo.import(&Arc::new(Image::new(*resolved)), results);
                }
            }
        }
        Ok(())
    }

    /// Layers of a cache, as if they were those of an image.
    fn stand_in(&self, platform: &Platform, diff_ids: Vec<Digest>, origin: Origin) -> Result<Image> {
        let mut config = ImageConfig::empty(platform);
        let stack = ChainId::chain(&diff_ids).last().copied();
        config.rootfs.diff_ids = diff_ids;
        let reference = "cache".parse::<Reference>().map_err(|error| BuildError::invalid(error.to_string()))?;
        let (platform, config) = (platform.clone(), config.to_bytes()?.into());
        Ok(Image::new(ResolvedImage { reference, platform, digest: None, config, stack, here: false, origin }))
    }

    /// Imported results whose layers are here now are like one's own.
    pub(super) async fn keep_imported(&self) -> Result<()> {
        for record in self.memo.taken() {
            let stack = record.layer().map(|layer| layer.stack);
            if self.solver.worker.hold(stack).await?.is_some() {
                self.solver.cache.put(record);
            }
        }
        Ok(())
    }
}

/// Whether a cache can be read from there.
fn check_import(cache: &CacheRef) -> Result<()> {
    let needed: &[&str] = match cache.kind.as_str() {
        "registry" => &["ref"],
        "local" => &["src", "digest"],
        other => {
            let text = format!("unknown cache importer: {other}: only registry and local are known");
            return Err(BuildError::new(ErrorKind::NotImplemented, text));
        }
    };
    let missing = needed.iter().find(|name| cache.attributes.get(**name).is_none_or(String::is_empty));
    missing.map_or(Ok(()), |name| Err(BuildError::invalid(format!("{} cache importer requires {name}", cache.kind))))
}

/// Whether caches can be written there, and as it is said.
pub(super) fn check_caches(caches: &[CacheRef]) -> Result<()> {
    const OF_ALL: [&str; 7] = [
        "mode",
        "compression",
        "compression-level",
        "force-compression",
        "oci-mediatypes",
        "image-manifest",
        "ignore-error",
    ];
    for cache in caches {
        let (own, needed): (&[&str], &str) = match cache.kind.as_str() {
            "inline" => continue,
            "registry" => (&["ref", "registry.insecure"], "ref"),
            "local" => (&["dest", "tag"], "dest"),
            other => {
                let text = format!("unknown cache exporter: {other:?}: only inline, registry and local are known");
                return Err(BuildError::new(ErrorKind::NotImplemented, text));
            }
        };
        let kind = &cache.kind;
        if cache.attributes.get(needed).is_none_or(String::is_empty) {
            return Err(BuildError::invalid(format!("{kind} cache exporter requires {needed}")));
        }
        let unknown = |name: &&String| !OF_ALL.contains(&name.as_str()) && !own.contains(&name.as_str());
        if let Some(name) = cache.attributes.keys().find(unknown) {
            return Err(BuildError::invalid(format!("the {kind} cache exporter has no option {name:?}")));
        }
        if let Some(mode) = cache.attributes.get("mode").filter(|mode| !matches!(mode.as_str(), "min" | "max")) {
            return Err(BuildError::invalid(format!("invalid cache mode {mode:?}: it is min or max")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(kind: &str, pairs: &[(&str, &str)]) -> CacheRef {
        let attributes = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        CacheRef { kind: kind.to_owned(), attributes }
    }

    #[test]
    fn caches_that_are_not_are_refused_by_name() {
        let import = |kind, pairs: &[_]| check_import(&cache(kind, pairs)).err().map(|error| error.message);
        assert_eq!(import("registry", &[("ref", "x")]), None);
        assert_eq!(import("local", &[("src", "x")]).as_deref(), Some("local cache importer requires digest"));
        let text = "unknown cache importer: gha: only registry and local are known";
        assert_eq!(import("gha", &[]).as_deref(), Some(text));
        let export = |kind, pairs: &[_]| check_caches(&[cache(kind, pairs)]).err().map(|error| error.message);
        assert_eq!(export("inline", &[]), None);
        assert_eq!(export("local", &[("dest", "x"), ("mode", "max"), ("tag", "t")]), None);
        assert_eq!(export("registry", &[]).as_deref(), Some("registry cache exporter requires ref"));
        for (kind, name, value, text) in [
            ("s3", "a", "b", "unknown cache exporter: \"s3\": only inline, registry and local are known"),
            ("registry", "mode", "all", "invalid cache mode \"all\": it is min or max"),
            ("registry", "modes", "max", "the registry cache exporter has no option \"modes\""),
        ] {
            assert_eq!(export(kind, &[("ref", "x"), (name, value)]).as_deref(), Some(text));
        }
    }
}
