//! Docker's archive: `manifest.json` names configurations, layers and tags.

use serde::Deserialize;
use skep_types::{Platform, Reference};

use super::super::config::MAX_CONFIG_SIZE;
use super::super::target::Target;
use super::super::{ImageError, Result, platform};
use super::tarball::{Slice, Tarball};
use super::{Archived, ArchivedEntry, ArchivedImage};

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

pub(super) fn read(tarball: &Tarball, wished: Option<&Platform>) -> Result<Archived> {
    let bytes = tarball.read("manifest.json", MAX_MANIFEST)?;
    let items: Vec<Item> = serde_json::from_slice(&bytes)
        .map_err(|e| ImageError::Invalid(format!("invalid archive: manifest.json: {e}")))?;
    let mut archived = Archived::default();
    let mut refused = None;
    for item in items {
        let tags = item.repo_tags.clone().unwrap_or_default();
        let tags: Vec<Reference> = tags.iter().map(|tag| parse_tag(tag)).collect::<Result<_>>()?;
        let image = image(tarball, item)?;
        if let Some(wished) = wished.filter(|wished| !platform::suits(wished, &image.parsed.platform())) {
            let name = tags.first().map_or_else(|| image.id.to_string(), Reference::familiar);
            refused = refused.or(Some(ImageError::OtherPlatform { name, platform: wished.clone() }));
            continue;
        }
        let target = Target::of_image(image.id);
        let named = tags.into_iter().map(Some);
        let mut entries: Vec<_> = named.map(|tag| ArchivedEntry { tag, target: target.clone() }).collect();
        if entries.is_empty() {
            entries.push(ArchivedEntry { tag: None, target });
        }
        archived.entries.extend(entries);
        archived.add(image)?;
    }
    match refused.filter(|_| archived.images.is_empty()) {
        Some(error) => Err(error),
        None => Ok(archived),
    }
}

fn image(tarball: &Tarball, item: Item) -> Result<ArchivedImage> {
    let config = tarball.read(&item.config, MAX_CONFIG_SIZE)?;
    let layers: Vec<Slice> = item.layers.unwrap_or_default().iter().map(|l| tarball.open(l)).collect::<Result<_>>()?;
    ArchivedImage::new(config, layers)
}

/// A name with a tag; a digest is nothing that an archive may claim.
pub(super) fn parse_tag(text: &str) -> Result<Reference> {
    let reference: Reference = text.parse().map_err(|e| ImageError::Invalid(format!("invalid tag {text:?}: {e}")))?;
    match reference.digest() {
        None => Ok(reference.or_latest()),
        Some(_) => Err(ImageError::Invalid(format!("invalid tag {text:?}"))),
    }
}
