//! The cache of an image that travels with it: which of its layers is the result of what.
//!
//! The form is BuildKit's cache configuration, version 0, in the field `moby.buildkit.cache.v0` of the image's configuration. Layers
//! are named by their diff ids, so that a compression of another registry changes nothing. BuildKit reads it without harm, but keys
//! are each builder's own: neither finds what the other made.

use std::collections::BTreeMap;

use base64::Engine;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use skep_store::ChainId;
use skep_types::Digest;

use super::{Cache, Record};
use crate::image::ImageConfig;

/// The field of an image's configuration.
pub(crate) const FIELD: &str = "moby.buildkit.cache.v0";
/// More records than this are not read: the configuration comes from elsewhere.
const MAX_RECORDS: usize = 10_000;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Document {
    #[serde(default)]
    layers: Vec<Layer>,
    #[serde(default)]
    records: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Layer {
    blob: Digest,
    /// The layer below, -1 for none.
    parent: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    digest: Digest,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    inputs: Vec<Vec<Link>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    layers: Vec<Place>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Link {
    #[serde(default)]
    selector: String,
    /// The record that was read.
    link: usize,
}

#[derive(Debug, Serialize, Deserialize)]
struct Place {
    layer: usize,
    #[serde(rename = "createdAt", default, skip_serializing_if = "Option::is_none")]
    created: Option<DateTime<Utc>>,
}

/// The result of something, among the layers of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Elsewhere {
    pub(crate) key: Digest,
    /// How many layers it has.
    pub(crate) layers: usize,
    pub(crate) created: Option<DateTime<Utc>>,
}

impl Cache {
    /// What the cache knows of the layers of an image, for the image's configuration; `top` are the keys that it ends with.
    pub(crate) fn inline(&self, diff_ids: &[Digest], top: &[Digest]) -> Option<String> {
        let heights: BTreeMap<ChainId, usize> =
            ChainId::chain(diff_ids).into_iter().enumerate().map(|(index, chain)| (chain, index)).collect();
        let mut numbers: BTreeMap<Digest, usize> = BTreeMap::new();
        let mut found: Vec<(Record, usize)> = Vec::new();
        let mut open = top.to_vec();
        while let Some(key) = open.pop() {
            let Some(record) = self.get(&key).filter(|_| !numbers.contains_key(&key)) else { continue };
            let Some(height) = record.layer().and_then(|layer| heights.get(&layer.stack).copied()) else { continue };
            numbers.insert(key, found.len());
            open.extend(&record.parents);
            found.push((record, height));
        }
        if found.is_empty() {
            return None;
        }
        let link = |parent: &Digest| Some(vec![Link { selector: String::new(), link: *numbers.get(parent)? }]);
        let records = found.iter().map(|(record, height)| Entry {
            digest: record.key,
            inputs: record.parents.iter().filter_map(link).collect(),
            layers: vec![Place { layer: *height, created: Some(record.created) }],
        });
        let layers = diff_ids.iter().zip(-1..).map(|(diff_id, parent)| Layer { blob: *diff_id, parent });
        let document = Document { layers: layers.collect(), records: records.collect() };
        let bytes = serde_json::to_vec(&document).ok()?;
        Some(base64::engine::general_purpose::STANDARD.encode(bytes))
    }
}

/// What an image's configuration says of its layers. What makes no sense is left out: it comes from elsewhere, and is only a hint.
pub(crate) fn read(config: &ImageConfig) -> Vec<Elsewhere> {
    let Some(text) = config.others.get(FIELD).and_then(|field| field.as_str()) else { return Vec::new() };
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
    let document: Document = serde_json::from_slice(&bytes).unwrap_or_default();
    let diff_ids = &config.rootfs.diff_ids;
    let fits = |place: &Place| {
        let layer = document.layers.get(place.layer);
        place.layer < diff_ids.len() && layer.is_some_and(|layer| layer.blob == diff_ids[place.layer])
    };
    let entries = document.records.iter().take(MAX_RECORDS);
    entries
        .filter_map(|entry| {
            let place = entry.layers.iter().find(|place| fits(place))?;
            Some(Elsewhere { key: entry.digest, layers: place.layer + 1, created: place.created })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_elsewhere_is_only_a_hint() {
        let config = |text: &str| {
            let mut config = ImageConfig::default();
            config.rootfs.diff_ids = vec![Digest::from_bytes([1; 32])];
            let text = base64::engine::general_purpose::STANDARD.encode(text);
            config.others.insert(FIELD.to_owned(), text.into());
            config
        };
        let (one, two) = (Digest::from_bytes([1; 32]), Digest::from_bytes([2; 32]));
        let document = |blob: &Digest, layer: usize| {
            format!(
                r#"{{"layers":[{{"blob":"{blob}","parent":-1}}],"records":[{{"digest":"{two}","layers":[{{"layer":{layer}}}]}}]}}"#
            )
        };
        let expected = Elsewhere { key: two, layers: 1, created: None };
        assert_eq!(read(&config(&document(&one, 0))), [expected]);
        assert!(read(&config(&document(&two, 0))).is_empty(), "another layer than the image has");
        assert!(read(&config(&document(&one, 9))).is_empty(), "no such layer");
        assert!(read(&config("nonsense")).is_empty());
        assert!(read(&ImageConfig::default()).is_empty());
    }
}
