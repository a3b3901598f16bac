//! The keys of a configuration. They are read as Go reads them, letters large or small, because images that rely on it are about; but which
//! of two spellings counts, if both are there, is not for a reader to guess.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A document without its plain values. Unlike serde_json's own form it knows when a key is there twice.
pub(super) enum Tree {
    Object(Vec<(String, Tree)>),
    Array(Vec<Tree>),
    Plain,
}

impl Tree {
    /// A key of the document, or of the parts whose keys have a meaning, that is there twice, perhaps in other letters.
    pub(super) fn key_twice(&self) -> Option<&str> {
        let parts = ["config", "rootfs"].into_iter().flat_map(|part| self.all(part));
        let steps = self.all("history").flat_map(|history| match history {
            Tree::Array(steps) => steps.as_slice(),
            Tree::Object(_) | Tree::Plain => &[],
        });
        [self].into_iter().chain(parts).chain(steps).find_map(Tree::own_key_twice)
    }

    fn own_key_twice(&self) -> Option<&str> {
        let Tree::Object(entries) = self else { return None };
        let mut seen = BTreeSet::new();
        // Go folds letters like the long s, too.
        entries.iter().map(|(key, _)| key.as_str()).find(|key| !seen.insert(key.to_lowercase().to_uppercase()))
    }

    fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a Tree> {
        let entries = match self {
            Tree::Object(entries) => entries.as_slice(),
            Tree::Array(_) | Tree::Plain => &[],
        };
        entries.iter().filter(move |(found, _)| found.eq_ignore_ascii_case(key)).map(|(_, value)| value)
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Shape)
    }
}

struct Shape;

impl<'de> Visitor<'de> for Shape {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
        Ok(Tree::Plain)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
        Ok(Tree::Plain)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
        Ok(Tree::Plain)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
        Ok(Tree::Plain)
    }

    fn visit_str<E>(self, _: &str) -> Result<Tree, E> {
        Ok(Tree::Plain)
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Plain)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(Tree::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut all = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            all.push(entry);
        }
        Ok(Tree::Object(all))
    }
}
