//! Docker's archive: `manifest.json` names configurations, layers and tags.

use serde::Deserialize;
use skep_types::Reference;

use super::super::config::MAX_CONFIG_SIZE;
use super::super::{ImageError, Result};
use super::tarball::{Slice, Tarball};
use super::{ArchivedImage, MAX_IMAGES};

const MAX_MANIFEST: u64 = 16 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

pub(super) fn read(tarball: &Tarball) -> Result<Vec<ArchivedImage>> {
    let bytes = tarball.read("manifest.json", MAX_MANIFEST)?;
    let items: Vec<Item> = serde_json::from_slice(&bytes)
        .map_err(|e| ImageError::Invalid(format!("invalid archive: manifest.json: {e}")))?;
    if items.len() > MAX_IMAGES {
        return Err(ImageError::Invalid(format!("invalid archive: more than {MAX_IMAGES} images")));
    }
    items.into_iter().map(|item| image(tarball, item)).collect()
}

fn image(tarball: &Tarball, item: Item) -> Result<ArchivedImage> {
    let config = tarball.read(&item.config, MAX_CONFIG_SIZE)?;
    let layers: Vec<Slice> = item.layers.unwrap_or_default().iter().map(|l| tarball.open(l)).collect::<Result<_>>()?;
    let tags = item.repo_tags.unwrap_or_default();
    let tags: Vec<Reference> = tags.iter().map(|tag| parse_tag(tag)).collect::<Result<_>>()?;
    ArchivedImage::new(config, layers, tags)
}

/// A name with a tag; a digest is nothing that an archive may claim.
pub(super) fn parse_tag(text: &str) -> Result<Reference> {
    let reference: Reference = text.parse().map_err(|e| ImageError::Invalid(format!("invalid tag {text:?}: {e}")))?;
    match reference.digest() {
        None => Ok(reference.or_latest()),
        Some(_) => Err(ImageError::Invalid(format!("invalid tag {text:?}"))),
    }
}
