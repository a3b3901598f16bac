//! Caches that travel: which layer is the result of what.
//!
//! The form is BuildKit's cache configuration, version 0: as a blob of its own it names the blobs of its layers; in the field
//! `moby.buildkit.cache.v0` of an image's configuration there are only the records, and the layers are the image's, by their place, so
//! that a compression of another registry changes nothing. BuildKit reads it without harm, and it is read what BuildKit wrote,
//! but keys are each builder's own: neither finds what the other made.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use skep_store::ChainId;
use skep_types::Digest;

use super::{Cache, Record};
use crate::builder::CacheEntry;
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
        let bytes = serde_json::to_vec(&records.collect::<Vec<_>>()).ok()?;
        Some(base64::engine::general_purpose::STANDARD.encode(bytes))
    }
}

impl Cache {
    /// What is known of `keys` and of all that they stand on; `tops` are the keys of the result.
    pub(crate) fn entries(&self, keys: &[Digest], tops: &[Digest]) -> Vec<CacheEntry> {
        let minimal = self.closure(tops);
        let all: BTreeSet<Digest> = self.closure(keys).union(&minimal).copied().collect();
        let entry = |key: &Digest| {
            let record = self.get(key)?;
            let (stack, created) = (record.layer()?.stack, record.created);
            let parents = record.parents.iter().filter(|parent| all.contains(parent)).copied().collect();
            Some(CacheEntry { key: *key, stack, created, parents, minimal: minimal.contains(key) })
        };
        all.iter().filter_map(entry).collect()
    }

    /// Keys with those that they stand on, as far as there are records.
    fn closure(&self, keys: &[Digest]) -> BTreeSet<Digest> {
        let mut found = BTreeSet::new();
        let mut open = keys.to_vec();
        while let Some(key) = open.pop() {
            let Some(record) = self.get(&key).filter(|_| !found.contains(&key)) else { continue };
            found.insert(key);
            open.extend(record.parents);
        }
        found
    }
}

/// The cache configuration of these results, each with the blobs of its layers, the lowest first.
///
/// # Errors
/// None that can happen.
pub fn write_config(entries: &[(CacheEntry, Vec<Digest>)]) -> Result<Vec<u8>, serde_json::Error> {
    let mut document = Document::default();
    let mut places: BTreeMap<(Digest, i64), i64> = BTreeMap::new();
    let numbers: BTreeMap<Digest, usize> =
        entries.iter().enumerate().map(|(number, (entry, _))| (entry.key, number)).collect();
    for (entry, blobs) in entries {
        let mut parent = -1;
        for blob in blobs {
            let next = i64::try_from(document.layers.len()).unwrap_or(i64::MAX);
            let place = *places.entry((*blob, parent)).or_insert(next);
            if place == next {
                document.layers.push(Layer { blob: *blob, parent });
            }
            parent = place;
        }
        let link = |parent: &Digest| Some(vec![Link { selector: String::new(), link: *numbers.get(parent)? }]);
        let layer = usize::try_from(parent).ok();
        document.records.push(Entry {
            digest: entry.key,
            inputs: entry.parents.iter().filter_map(link).collect(),
            layers: layer.map(|layer| Place { layer, created: Some(entry.created) }).into_iter().collect(),
        });
    }
    serde_json::to_vec(&document)
}

/// A result of a cache configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfiguredResult {
    /// What it is the result of.
    pub key: Digest,
    /// The blobs of its layers, the lowest first.
    pub blobs: Vec<Digest>,
    /// When it was made.
    pub created: Option<DateTime<Utc>>,
}

/// The results that a cache configuration has. What makes no sense is left out: it comes from elsewhere, and is only a hint.
///
/// # Errors
/// It is no such document.
pub fn read_config(bytes: &[u8]) -> Result<Vec<ConfiguredResult>, serde_json::Error> {
    let document: Document = serde_json::from_slice(bytes)?;
    let blobs = |mut layer: usize| {
        let mut blobs = Vec::new();
        while blobs.len() <= document.layers.len() {
            let found = document.layers.get(layer)?;
            blobs.push(found.blob);
            match usize::try_from(found.parent) {
                Ok(parent) => layer = parent,
                Err(_) => {
                    blobs.reverse();
                    return Some(blobs);
                }
            }
        }
        None // in a circle
    };
    let result = |entry: &Entry| {
        let place = entry.layers.first()?;
        Some(ConfiguredResult { key: entry.digest, blobs: blobs(place.layer)?, created: place.created })
    };
    Ok(document.records.iter().take(MAX_RECORDS).filter_map(result).collect())
}

/// What an image's configuration says of its layers. What makes no sense is left out: it comes from elsewhere, and is only a hint.
pub(crate) fn read(config: &ImageConfig) -> Vec<Elsewhere> {
    let Some(text) = config.others.get(FIELD).and_then(|field| field.as_str()) else { return Vec::new() };
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
    let records: Vec<Entry> = serde_json::from_slice(&bytes).unwrap_or_default();
    let count = config.rootfs.diff_ids.len();
    let entries = records.iter().take(MAX_RECORDS);
    entries
        .filter_map(|entry| {
            let place = entry.layers.iter().find(|place| place.layer < count)?;
            Some(Elsewhere { key: entry.digest, layers: place.layer + 1, created: place.created })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_names_each_layer_once() {
        let digest = |number: u8| Digest::from_bytes([number; 32]);
        let entry = |key: u8, parents: &[u8], blobs: &[u8]| {
            let stack = ChainId::of(None, &digest(key));
            let parents = parents.iter().map(|parent| digest(*parent)).collect();
            let entry = CacheEntry { key: digest(key), stack, created: DateTime::UNIX_EPOCH, parents, minimal: true };
            (entry, blobs.iter().map(|blob| digest(*blob)).collect::<Vec<_>>())
        };
        let entries = [entry(1, &[], &[11]), entry(2, &[1], &[11, 12]), entry(3, &[], &[12])];
        let bytes = write_config(&entries).expect("a document");
        let json: serde_json::Value = serde_json::from_slice(&bytes).expect("json");
        assert_eq!(json["layers"].as_array().map(Vec::len), Some(3), "12 stands on 11 and on nothing");
        assert_eq!(json["records"][1]["inputs"][0][0]["link"], 0);
        let found = read_config(&bytes).expect("results");
        assert_eq!(found.iter().map(|result| result.key).collect::<Vec<_>>(), [1, 2, 3].map(digest));
        assert_eq!(found[1].blobs, [11, 12].map(digest));
    }

    #[test]
    fn a_configuration_of_buildkit_is_read() {
        let (one, two) = (Digest::from_bytes([1; 32]), Digest::from_bytes([2; 32]));
        let text = format!(
            r#"{{"layers":[{{"blob":"{two}","parent":1,"annotations":{{"size":7}}}},{{"blob":"{one}","parent":-1}}],
               "records":[{{"layers":[{{"layer":0,"createdAt":"2026-01-02T03:04:05Z"}}],"digest":"{one}","inputs":[[{{"link":1}}]]}},
               {{"digest":"{two}"}},{{"layers":[{{"layer":9}}],"digest":"{two}"}}]}}"#
        );
        let found = read_config(text.as_bytes()).expect("results");
        assert_eq!(found.len(), 1, "what has no layers, or layers that there are not, is left out");
        assert_eq!(found[0].blobs, [one, two]);
        let circle = format!(
            r#"{{"layers":[{{"blob":"{one}","parent":0}}],"records":[{{"layers":[{{"layer":0}}],"digest":"{one}"}}]}}"#
        );
        assert!(read_config(circle.as_bytes()).expect("no results").is_empty());
        assert!(read_config(b"{").is_err());
    }

    #[test]
    fn what_comes_from_elsewhere_is_only_a_hint() {
        let config = |text: &str| {
            let mut config = ImageConfig::default();
            config.rootfs.diff_ids = vec![Digest::from_bytes([1; 32])];
            let text = base64::engine::general_purpose::STANDARD.encode(text);
            config.others.insert(FIELD.to_owned(), text.into());
            config
        };
        let two = Digest::from_bytes([2; 32]);
        let records = |layer: usize| format!(r#"[{{"digest":"{two}","layers":[{{"layer":{layer}}}]}}]"#);
        let expected = Elsewhere { key: two, layers: 1, created: None };
        assert_eq!(read(&config(&records(0))), [expected]);
        assert!(read(&config(&records(9))).is_empty(), "no such layer");
        assert!(read(&config("nonsense")).is_empty());
        assert!(read(&ImageConfig::default()).is_empty());
    }
}
