//! Which images to show, in which order.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use skep_store::ChainId;
use skep_types::Reference;

use super::artifact::Artifact;
use super::catalog::{Catalog, ImageRecord};
use super::target::Target;
use super::{ImageError, Result, pattern};
use crate::model::image::{ImageFilters, ImageId, ImageSummary, ListImages};

/// The images that the options leave, newest first.
pub(super) fn list(catalog: &Catalog, options: &ListImages) -> Result<Vec<ImageSummary>> {
    let bounds = Bounds::of(catalog, &options.filters)?;
    let usage = options.shared_size.then(|| layer_usage(catalog));
    let mut found = Vec::new();
    for (id, record) in catalog.images() {
        if catalog.is_secondary(id) || !bounds.admit(record) || !labels_match(&options.filters, record) {
            continue;
        }
        let Some((repo_tags, repo_digests)) = shown_names(catalog, id, options)? else { continue };
        let shared = usage.as_ref().map(|usage| {
            let layers = record.chain_ids.iter().zip(&record.layer_sizes);
            layers.filter(|(chain, _)| usage.get(*chain).is_some_and(|n| *n > 1)).map(|(_, size)| size).sum()
        });
        found.push(ImageSummary {
            id: *id,
            parent: record.parent,
            repo_tags,
            repo_digests,
            created: record.created.map_or(0, |time| time.timestamp()),
            size: size_of_family(catalog, id, record),
            shared_size: shared,
            labels: record.labels.clone(),
            platform: record.platform.clone(),
            descriptor: meant(catalog, id).find_map(|target| target.descriptor.clone()),
            family: meant(catalog, id).flat_map(|target| &target.images).map(|member| member.id).chain([*id]).collect(),
            manifests: Vec::new(),
        });
    }
    // Images made within one second have an order, too: what was made from another comes before it.
    let exactly = |image: &ImageSummary| catalog.image(&image.id).map(|record| record.created_at());
    found.sort_by_cached_key(|image| (std::cmp::Reverse(exactly(image)), image.id));
    Ok(found)
}

/// What the names lead to that mean this image.
fn meant<'a>(catalog: &'a Catalog, id: &'a ImageId) -> impl Iterator<Item = &'a Target> {
    catalog.targets_of(id).map(|(_, target)| Arc::as_ref(target)).filter(|target| target.first() == Some(*id))
}

/// Bytes of the image and of those for other platforms under its names; what they share counts once.
fn size_of_family(catalog: &Catalog, id: &ImageId, record: &ImageRecord) -> u64 {
    let others = meant(catalog, id).flat_map(|target| &target.images).filter_map(|member| catalog.image(&member.id));
    let layers = |record: &ImageRecord| -> Vec<(ChainId, u64)> {
        record.chain_ids.iter().copied().zip(record.layer_sizes.iter().copied()).collect()
    };
    let all: BTreeMap<ChainId, u64> = others.flat_map(|other| layers(other)).chain(layers(record)).collect();
    all.values().sum::<u64>() + record.artifact.as_ref().map_or(0, Artifact::size)
}

/// Tags and digests to show; nothing when the image is not to be shown.
fn shown_names(catalog: &Catalog, id: &ImageId, options: &ListImages) -> Result<Option<(Vec<String>, Vec<String>)>> {
    let filters = &options.filters;
    let (mut tags, mut digests) = (Vec::new(), Vec::new());
    let means = |target: &Target| target.first() == Some(*id);
    for reference in catalog.targets_of(id).filter(|(_, target)| means(target)).map(|(reference, _)| reference) {
        if reference_matches(&filters.references, reference)? {
            let list = if reference.digest().is_some() { &mut digests } else { &mut tags };
            list.push(reference.familiar());
        }
    }
    let has_tag = catalog.references_of(id).any(|r| r.digest().is_none());
    let is_step = !has_tag && catalog.has_children(id);
    let shown = match filters.dangling {
        Some(true) => !has_tag && !catalog.has_children(id),
        Some(false) => has_tag || !digests.is_empty(),
        None => true,
    };
    let nameless = tags.is_empty() && digests.is_empty();
    let hidden = nameless && (!filters.references.is_empty() || (is_step && !options.all));
    Ok((shown && !hidden).then_some((tags, digests)))
}

fn reference_matches(patterns: &[String], reference: &Reference) -> Result<bool> {
    for pattern in patterns {
        let bad = |_| ImageError::Invalid("syntax error in pattern".to_owned());
        if pattern::matches(pattern, &reference.familiar()).map_err(bad)?
            || pattern::matches(pattern, &reference.familiar_name()).map_err(bad)?
        {
            return Ok(true);
        }
    }
    Ok(patterns.is_empty())
}

/// Whether an image has the labels that are asked for, and none of the others.
pub(super) fn labels_match(filters: &ImageFilters, record: &ImageRecord) -> bool {
    let has = |wanted: &String| {
        let (key, value) = wanted.split_once('=').map_or((wanted.as_str(), None), |(k, v)| (k, Some(v)));
        let found = record.labels.as_ref().and_then(|labels| labels.get(key));
        found.is_some_and(|found| value.is_none_or(|value| value == found))
    };
    filters.labels.iter().all(has) && !filters.without_labels.iter().any(has)
}

/// Times between which an image must have been made.
struct Bounds {
    before: Option<DateTime<Utc>>,
    since: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
}

impl Bounds {
    fn of(catalog: &Catalog, filters: &ImageFilters) -> Result<Self> {
        let time = |name: &String| -> Result<DateTime<Utc>> {
            let id = catalog.resolve(name)?;
            Ok(catalog.image(&id).map_or(DateTime::<Utc>::MIN_UTC, |record| record.created_at()))
        };
        let times = |names: &[String]| names.iter().map(time).collect::<Result<Vec<_>>>();
        Ok(Bounds {
            before: times(&filters.before)?.into_iter().min(),
            since: times(&filters.since)?.into_iter().max(),
            until: filters.until,
        })
    }

    fn admit(&self, record: &ImageRecord) -> bool {
        let time = record.created_at();
        self.before.is_none_or(|before| time < before)
            && self.since.is_none_or(|since| time > since)
            && self.until.is_none_or(|until| time <= until)
    }
}

/// How many images need each layer.
fn layer_usage(catalog: &Catalog) -> BTreeMap<ChainId, usize> {
    let mut usage = BTreeMap::new();
    for chain in catalog.images().flat_map(|(_, record)| &record.chain_ids) {
        *usage.entry(*chain).or_default() += 1;
    }
    usage
}

/// Images that a prune looks at: not steps of others, old enough, with the right labels.
pub(super) fn prunable(catalog: &Catalog, filters: &ImageFilters) -> Vec<ImageId> {
    let all = filters.dangling == Some(false);
    let candidates = catalog.images().filter(|(id, record)| {
        let named = catalog.references_of(id).next().is_some();
        let tagged = catalog.references_of(id).any(|r| r.digest().is_none());
        let head = !catalog.has_children(id);
        let wanted = if all { named || head } else { head && !tagged };
        let old = filters.until.is_none_or(|until| record.created_at() <= until);
        wanted && old && labels_match(filters, record)
    });
    candidates.map(|(id, _)| *id).collect()
}

#[cfg(test)]
mod tests {
    use super::super::catalog::tests::{id, record};
    use super::super::draft::Draft;
    use super::*;

    fn catalog() -> Catalog {
        let mut draft = Draft::of(&Catalog::default());
        for (n, (prefix, parent, names, labels)) in [
            ("a1", None, &["busybox:1", "reg:5000/team/box:1"][..], "role=base"),
            ("a2", Some("a1"), &[], ""),
            ("a3", Some("a2"), &["app"], "role=app"),
            ("a4", None, &[], "role=lost"),
            ("a5", None, &["old@sha256:7777777777777777777777777777777777777777777777777777777777777777"], ""),
        ]
        .into_iter()
        .enumerate()
        {
            let mut image = record(&[prefix, "ff"]);
            let time = DateTime::from_timestamp(1000 + i64::try_from(n).expect("small"), 0).expect("a time");
            image.created = Some(time.fixed_offset());
            image.parent = parent.map(id);
            image.labels = labels.split_once('=').map(|(k, v)| [(k.to_owned(), v.to_owned())].into());
            draft.put_image(id(prefix), image);
            for name in names {
                draft.put_reference(&name.parse().expect("a name"), Target::of_image(id(prefix)), Some(time));
            }
        }
        draft.catalog
    }

    fn shown(change: impl FnOnce(&mut ListImages)) -> Vec<String> {
        let mut options = ListImages::default();
        change(&mut options);
        match list(&catalog(), &options) {
            Ok(list) => list.into_iter().map(|i| i.id.short()[..2].to_owned()).collect(),
            Err(e) => vec![e.to_string()],
        }
    }

    #[test]
    fn filters() {
        assert_eq!(shown(|_| {}), ["a5", "a4", "a3", "a1"], "steps are hidden, newest first");
        assert_eq!(shown(|o| o.all = true), ["a5", "a4", "a3", "a2", "a1"]);
        assert_eq!(shown(|o| o.filters.dangling = Some(true)), ["a5", "a4"]);
        assert_eq!(shown(|o| o.filters.dangling = Some(false)), ["a5", "a3", "a1"]);
        assert_eq!(shown(|o| o.filters.labels = vec!["role".into()]), ["a4", "a3", "a1"]);
        assert_eq!(shown(|o| o.filters.labels = vec!["role=app".into()]), ["a3"]);
        assert_eq!(shown(|o| o.filters.without_labels = vec!["role=app".into()]), ["a5", "a4", "a1"]);
        assert_eq!(shown(|o| o.filters.before = vec!["app".into()]), ["a1"]);
        assert_eq!(shown(|o| o.filters.since = vec!["app".into()]), ["a5", "a4"]);
        assert_eq!(shown(|o| o.filters.since = vec!["nope".into()]), ["No such image: nope:latest"]);
        assert_eq!(shown(|o| o.filters.references = vec!["busy*".into()]), ["a1"]);
        assert_eq!(shown(|o| o.filters.references = vec!["*:5000/*/box:*".into()]), ["a1"]);
        assert_eq!(shown(|o| o.filters.references = vec!["nothing".into()]), [""; 0]);
        assert_eq!(shown(|o| o.filters.references = vec!["[".into()]), ["syntax error in pattern"]);
        assert_eq!(shown(|o| o.filters.until = DateTime::from_timestamp(1002, 0)), ["a3", "a1"]);
    }

    #[test]
    fn only_names_that_match_are_shown() {
        let mut options = ListImages { shared_size: true, ..ListImages::default() };
        options.filters.references = vec!["busybox".into()];
        let found = list(&catalog(), &options).expect("a list");
        assert_eq!(found[0].repo_tags, ["busybox:1"]);
        assert_eq!((found[0].size, found[0].shared_size), (20, Some(10)));
    }

    #[test]
    fn what_a_prune_looks_at() {
        let pruned = |dangling| prunable(&catalog(), &ImageFilters { dangling, ..ImageFilters::default() });
        assert_eq!(pruned(None), [id("a4"), id("a5")]);
        assert_eq!(pruned(Some(true)), [id("a4"), id("a5")]);
        assert_eq!(pruned(Some(false)), [id("a1"), id("a3"), id("a4"), id("a5")]);
    }
}
