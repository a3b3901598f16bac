//! What is garbage in a repository, worked out from one state of it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::collect::Untagged;
use crate::collect::retention::Retention;
use crate::content::all_tags;
use crate::content::leases::Leases;
use crate::content::tables::{LINKS, MANIFESTS, ManifestRecord, Moment, REPOSITORIES, Rows, now};
use crate::digest::ContentDigest;
use crate::error::Result;
use crate::name::{RepositoryName, Tag};

/// One repository, and what counts as garbage in it.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) repository: RepositoryName,
    /// What is younger stays.
    pub(crate) cutoff: Moment,
    /// There is a grace at all.
    pub(crate) grace: bool,
    pub(crate) untagged: Untagged,
    pub(crate) retention: Retention,
    pub(crate) leases: Arc<Leases>,
    /// Anything may have been asked for within the grace.
    pub(crate) all_leased: bool,
}

impl View {
    pub(crate) fn is_leased(&self, digest: &ContentDigest) -> bool {
        self.all_leased || self.leases.since(&self.repository, digest, self.cutoff)
    }
}

/// What is to go.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Of the repository when this was worked out.
    pub(crate) generation: u64,
    pub(crate) tags: Vec<Tag>,
    pub(crate) manifests: Vec<ContentDigest>,
    pub(crate) links: Vec<ContentDigest>,
}

impl Plan {
    pub(crate) fn is_empty(&self) -> bool {
        self.tags.is_empty() && self.manifests.is_empty() && self.links.is_empty()
    }
}

/// Marks from the roots, which are: manifests with a tag that stays, those that nothing ever led to, those within the grace.
/// A live index keeps its manifests alive, and a live manifest those that are about it.
pub(crate) fn plan(rows: &impl Rows, view: &View) -> Result<Plan> {
    let name = &view.repository;
    let Some(record) = rows.row(&REPOSITORIES, name.as_str())? else { return Ok(Plan::default()) };
    let prefix = format!("{name}\0");
    let tags = all_tags(rows, name)?;
    let dated = tags.iter().map(|(tag, record)| (tag.clone(), record.updated)).collect();
    let dropped: HashSet<Tag> = view.retention.dropped(name, dated, now()).into_iter().collect();
    let manifests: HashMap<ContentDigest, ManifestRecord> = rows
        .rows(&MANIFESTS, &prefix)?
        .into_iter()
        .filter_map(|(digest, record)| Some((digest.parse().ok()?, record)))
        .collect();
    let tagged: HashSet<ContentDigest> =
        tags.iter().filter(|(tag, _)| !dropped.contains(tag)).map(|(_, record)| record.digest).collect();
    // A tag that goes now leaves its manifest the grace, as one that a client removes.
    let untagged_now: HashSet<ContentDigest> =
        tags.iter().filter(|(tag, _)| dropped.contains(tag)).map(|(_, record)| record.digest).collect();
    let is_root = |digest: &ContentDigest, record: &ManifestRecord| {
        tagged.contains(digest)
            || (!record.claimed && view.untagged == Untagged::Keep)
            || record.touched >= view.cutoff
            || (untagged_now.contains(digest) && view.grace)
            || view.is_leased(digest)
    };
    let roots = manifests.iter().filter(|(digest, record)| is_root(digest, record)).map(|(digest, _)| *digest);
    let live = closure(roots.collect(), &manifests);
    let needed: HashSet<ContentDigest> = live
        .iter()
        .filter_map(|digest| manifests.get(digest))
        .flat_map(|record| record.blobs.iter().copied())
        .collect();
    let links = rows.rows(&LINKS, &prefix)?;
    let dead_link = |digest: &ContentDigest, touched: Moment| {
        !needed.contains(digest) && touched < view.cutoff && !view.is_leased(digest)
    };
    let mut plan = Plan {
        generation: record.generation,
        tags: dropped.into_iter().collect(),
        manifests: manifests.keys().filter(|digest| !live.contains(digest)).copied().collect(),
        links: links
            .into_iter()
            .filter_map(|(digest, link)| Some((digest.parse().ok()?, link.touched)))
            .filter(|(digest, touched)| dead_link(digest, *touched))
            .map(|(digest, _)| digest)
            .collect(),
    };
    plan.tags.sort_unstable();
    plan.manifests.sort_unstable();
    Ok(plan)
}

/// Everything that the roots keep alive.
fn closure(
    mut reached: Vec<ContentDigest>,
    manifests: &HashMap<ContentDigest, ManifestRecord>,
) -> HashSet<ContentDigest> {
    let mut about: HashMap<ContentDigest, Vec<ContentDigest>> = HashMap::new();
    for (digest, record) in manifests {
        if let Some(subject) = record.subject {
            about.entry(subject).or_default().push(*digest);
        }
    }
    let mut live = HashSet::new();
    while let Some(digest) = reached.pop() {
        if !live.insert(digest) {
            continue;
        }
        if let Some(record) = manifests.get(&digest) {
            reached.extend(&record.children);
        }
        reached.extend(about.get(&digest).into_iter().flatten());
    }
    live
}
