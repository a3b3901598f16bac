//! Annotations of what a build makes.

use std::collections::BTreeMap;

use skep_types::Platform;

/// What an annotation is put on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// An image's manifest.
    Manifest,
    /// What points to a manifest in an index.
    ManifestDescriptor,
    /// The index.
    Index,
    /// What points to the index: a line of a layout's `index.json`.
    IndexDescriptor,
}

/// All of an export.
#[derive(Debug, Clone, Default)]
pub(crate) struct Annotations(Vec<(Scope, Option<Platform>, String, String)>);

impl Annotations {
    /// Adds one; without a platform it is for all.
    pub(crate) fn add(&mut self, scope: Scope, platform: Option<Platform>, key: &str, value: &str) {
        self.0.push((scope, platform, key.to_owned(), value.to_owned()));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those of a place. What is said of the platform counts more than what is said of all.
    pub(crate) fn on(&self, scope: Scope, platform: Option<&Platform>) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        for named in [false, true] {
            let here = self.0.iter().filter(|(own, of, ..)| {
                *own == scope && of.is_some() == named && of.as_ref().is_none_or(|of| Some(of) == platform)
            });
            found.extend(here.map(|(_, _, key, value)| (key.clone(), value.clone())));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_counts_more_than_all() {
        let platform = |text: &str| text.parse::<Platform>().expect("a platform");
        let (amd, arm) = (platform("linux/amd64"), platform("linux/arm64"));
        let mut all = Annotations::default();
        all.add(Scope::Manifest, Some(amd.clone()), "a", "amd");
        all.add(Scope::Manifest, None, "a", "all");
        all.add(Scope::Index, None, "b", "index");
        assert_eq!(all.on(Scope::Manifest, Some(&amd))["a"], "amd");
        assert_eq!(all.on(Scope::Manifest, Some(&arm))["a"], "all");
        assert_eq!(all.on(Scope::Index, None).len(), 1);
        assert!(all.on(Scope::IndexDescriptor, None).is_empty());
    }
}
