//! Caches that travel with images: `--cache-from`, `--cache-to type=inline`.
//!
//! An image elsewhere is found like any other, without its layers; its configuration says which of them is the result of what. A cache
//! that can't be read fails its own line of the progress and not the build.

use std::sync::Arc;

use skep_types::{ErrorKind, Reference};

use crate::attest::is_true;
use crate::cache::read;
use crate::error::{BuildError, Result};
use crate::graph::ImageSource;
use crate::image::ImageConfig;
use crate::request::{CacheRef, PullMode};
use crate::solve::Report;
use crate::worker::Worker;

use super::Frontend;

impl<W: Worker> Frontend<'_, W> {
    /// Whether the image carries its cache.
    pub(super) fn is_inline(&self) -> bool {
        let asked = self.request.args.get("BUILDKIT_INLINE_CACHE").is_some_and(|value| is_true(value));
        asked || self.request.cache_to.iter().any(|cache| cache.kind == "inline")
    }

    /// Whether a cache is to be written elsewhere.
    pub(super) fn is_exported(&self) -> bool {
        self.request.cache_to.iter().any(|cache| cache.kind != "inline")
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
        let source = image_of(cache)?;
        for platform in self.platforms() {
            let context = self.job.context(vertex, &platform);
            let image = self.memo.resolve(&*self.solver.worker, &source, &context).await?;
            let config = ImageConfig::parse(&image.resolved.config)?;
            let results = read(&config);
            if results.is_empty() {
                let text = format!("{} has no cache of this builder", source.reference.familiar());
                return Err(BuildError::new(ErrorKind::NotFound, text));
            }
            self.memo.import(&Arc::clone(&image), results);
        }
        Ok(())
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

/// The image that a cache is in.
fn image_of(cache: &CacheRef) -> Result<ImageSource> {
    let attribute = |name: &str| {
        let missing = || BuildError::invalid(format!("{} cache importer requires {name}", cache.kind));
        cache.attributes.get(name).map(String::as_str).ok_or_else(missing)
    };
    let parse = |text: &str| text.parse::<Reference>().map_err(|error| BuildError::invalid(error.to_string()));
    match cache.kind.as_str() {
        "registry" => {
            Ok(ImageSource { reference: parse(attribute("ref")?)?.or_latest(), layout: None, pull: PullMode::Always })
        }
        "local" => {
            let reference = parse(&format!("cache@{}", attribute("digest")?))?;
            let layout = Some(format!("local:{}", attribute("src")?));
            Ok(ImageSource { reference, layout, pull: PullMode::Always })
        }
        other => {
            let text = format!("unknown cache importer: {other}: only registry and local are known");
            Err(BuildError::new(ErrorKind::NotImplemented, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_cache_is() {
        let cache = |kind: &str, pairs: &[(&str, &str)]| CacheRef {
            kind: kind.to_owned(),
            attributes: pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        };
        let found = image_of(&cache("registry", &[("ref", "localhost:5000/x")])).expect("an image");
        assert_eq!(found.reference.to_string(), "localhost:5000/x:latest");
        let digest = format!("sha256:{}", "a".repeat(64));
        let found = image_of(&cache("local", &[("src", "/tmp/c"), ("digest", &digest)])).expect("an image");
        assert_eq!(found.layout.as_deref(), Some("local:/tmp/c"));
        assert!(image_of(&cache("registry", &[])).is_err());
        assert_eq!(image_of(&cache("gha", &[])).expect_err("unknown").kind, ErrorKind::NotImplemented);
    }
}
