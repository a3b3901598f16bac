//! Garbage collection while the registry takes pushes.
//!
//! ```text
//!  uploads     nobody wrote to for long ─────────────▶ gone
//!  tags        no retention rule keeps ──────────────▶ gone
//!  manifests   nothing leads to any more ────────────▶ gone, repository by repository
//!  links       blobs that no manifest there needs ───▶ gone, in the same transaction
//!  content     that no repository holds ─────────────▶ gone, stripe by stripe
//!  leftovers   of a crash: stored, but never noted ──▶ gone, likewise
//! ```
//! What is garbage in a repository is worked out on a snapshot ([`plan`]). The transaction that removes it looks whether the
//! repository has changed since, and works it out again if so; so a manifest that was pushed meanwhile keeps all it needs.
//! Whatever came, lost its tag or was asked for within the grace stays: a client that was told that a blob is there finds it there
//! when its manifest comes. Content is removed under the lock that a push of the same content takes, so that one of them is done
//! before the other begins. Nobody waits longer than for one such step.

pub(crate) mod pattern;
mod plan;
pub(crate) mod retention;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::content::tables::{CONTENT, HOLDERS, LINKS, MANIFESTS, Moment, REPOSITORIES, Rows, TAGS, key, now};
use crate::content::{Content, drop_tag, erase, forget, stripe_of, unlink};
use crate::digest::ContentDigest;
use crate::error::Result;
use crate::name::{RepositoryName, Tag};
use plan::{Plan, View, plan};
pub use retention::{Retention, RetentionError};

/// What becomes of manifests that never had a tag, and that nothing else leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Untagged {
    /// Who pushed one by its digest pulls it by its digest.
    #[default]
    Keep,
    /// They are garbage, too.
    Remove,
}

/// Whether anything is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// What is found.
    #[default]
    Remove,
    /// Nothing: only tell.
    DryRun,
}

/// How to collect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Collection {
    /// What is younger stays in any case.
    pub grace: Duration,
    /// Uploads that nobody wrote to for so long are given up.
    pub upload_age: Duration,
    /// What becomes of manifests that never had a tag.
    pub untagged: Untagged,
    /// Whether anything is removed.
    pub mode: Mode,
}

impl Default for Collection {
    fn default() -> Self {
        Collection {
            grace: Duration::from_secs(3600),
            upload_age: Duration::from_secs(24 * 3600),
            untagged: Untagged::Keep,
            mode: Mode::Remove,
        }
    }
}

/// What a collection found, and removed unless it was a dry run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Tags that no rule keeps, as `repository:tag`.
    pub tags: Vec<String>,
    /// Manifests, as `repository@digest`.
    pub manifests: Vec<String>,
    /// Blobs that repositories no longer show, as `repository@digest`.
    pub blobs: Vec<String>,
    /// How many contents were removed from the storage.
    pub contents: u64,
    /// Uploads that were given up.
    pub uploads: u64,
    /// How much space all that took.
    pub bytes: u64,
    /// Contents that the metadata speak of and the storage lacks: damage.
    pub missing: Vec<String>,
}

fn milliseconds(duration: Duration) -> Moment {
    Moment::try_from(duration.as_millis()).unwrap_or(Moment::MAX)
}

impl Content {
    /// Collects garbage. Collections follow one another.
    pub async fn collect(&self, how: &Collection, retention: &Retention) -> Result<Report> {
        let _alone = self.collecting.lock().await;
        let cutoff = now().saturating_sub(milliseconds(how.grace));
        let mut report = Report::default();
        if how.mode == Mode::Remove
            && let Some(before) = SystemTime::now().checked_sub(how.upload_age)
        {
            let (uploads, bytes) = self.uploads.expire(before).await?;
            report.uploads = uploads as u64;
            report.bytes += bytes;
        }
        let mut released = HashSet::new();
        for repository in self.all_repositories().await? {
            self.collect_repository(&repository, how, retention, cutoff, &mut report, &mut released).await?;
        }
        self.collect_content(how.mode, &released, &mut report).await?;
        self.leases.forget(cutoff);
        Ok(report)
    }

    async fn all_repositories(&self) -> Result<Vec<RepositoryName>> {
        let rows = self.read(|tx| Ok(tx.rows(&REPOSITORIES, "")?)).await?;
        Ok(rows.into_iter().filter_map(|(name, _)| name.parse().ok()).collect())
    }

    async fn collect_repository(
        &self,
        repository: &RepositoryName,
        how: &Collection,
        retention: &Retention,
        cutoff: Moment,
        report: &mut Report,
        released: &mut HashSet<String>,
    ) -> Result<()> {
        let view = View {
            repository: repository.clone(),
            cutoff,
            grace: !how.grace.is_zero(),
            untagged: how.untagged,
            retention: retention.clone(),
            leases: self.leases.clone(),
            // Who was told what before that is not known any more.
            all_leased: self.started > cutoff,
        };
        let planned = {
            let view = view.clone();
            self.read(move |tx| plan(tx, &view)).await?
        };
        let done = match how.mode {
            Mode::DryRun => planned,
            Mode::Remove if planned.is_empty() => return Ok(()),
            Mode::Remove => self.change(move |tx| apply(tx, &view, planned)).await?,
        };
        report.tags.extend(done.tags.iter().map(|tag| format!("{repository}:{tag}")));
        report.manifests.extend(done.manifests.iter().map(|digest| format!("{repository}@{digest}")));
        report.blobs.extend(done.links.iter().map(|digest| format!("{repository}@{digest}")));
        released.extend(done.manifests.iter().chain(&done.links).map(|digest| key(repository, digest)));
        Ok(())
    }

    /// Removes content that nobody holds; in a dry run, what nobody would hold without `released`.
    async fn collect_content(&self, mode: Mode, released: &HashSet<String>, report: &mut Report) -> Result<()> {
        let stored = self.storage.list().await?;
        let rows = self.read(|tx| Ok((tx.rows(&CONTENT, "")?, tx.rows(&HOLDERS, "")?))).await?;
        let mut held = HashSet::new();
        for (holder, ()) in &rows.1 {
            if let Some((digest, repository)) = holder.split_once('\0')
                && (mode == Mode::Remove || !released.contains(&format!("{repository}\0{digest}")))
            {
                held.insert(digest);
            }
        }
        let mut garbage: HashMap<ContentDigest, u64> = stored
            .iter()
            .filter(|stored| !held.contains(stored.digest.to_string().as_str()))
            .map(|stored| (stored.digest, stored.size))
            .collect();
        let known: HashSet<ContentDigest> = stored.iter().map(|stored| stored.digest).collect();
        for (name, record) in &rows.0 {
            let Ok(digest) = name.parse::<ContentDigest>() else { continue };
            if !held.contains(name.as_str()) {
                garbage.entry(digest).or_insert(record.size);
            } else if !known.contains(&digest) && self.storage.size(&digest).await?.is_none() {
                report.missing.push(name.clone());
            }
        }
        let mut stripes: HashMap<usize, Vec<(ContentDigest, u64)>> = HashMap::new();
        for (digest, size) in garbage {
            stripes.entry(stripe_of(&digest)).or_default().push((digest, size));
        }
        for garbage in stripes.into_values() {
            let removed = match mode {
                Mode::DryRun => garbage,
                Mode::Remove => self.sweep(garbage).await?,
            };
            report.contents += removed.len() as u64;
            report.bytes += removed.iter().map(|(_, size)| size).sum::<u64>();
        }
        Ok(())
    }

    /// Removes contents of one stripe that still nobody holds; those that are gone.
    async fn sweep(&self, garbage: Vec<(ContentDigest, u64)>) -> Result<Vec<(ContentDigest, u64)>> {
        let Some((first, _)) = garbage.first() else { return Ok(garbage) };
        let _stripe = self.stripe(first).await;
        let dead = self
            .change(move |tx| {
                let mut dead = Vec::new();
                for entry in garbage {
                    if forget(tx, &entry.0)? {
                        dead.push(entry);
                    }
                }
                Ok(dead)
            })
            .await?;
        for (digest, _) in &dead {
            self.storage.remove(digest).await?;
        }
        Ok(dead)
    }
}

/// Removes what is garbage; works it out again if the repository has changed since. What was removed.
fn apply(tx: &skep_store::WriteTx, view: &View, planned: Plan) -> Result<Plan> {
    let name = &view.repository;
    let generation = tx.row(&REPOSITORIES, name.as_str())?.map(|record| record.generation);
    let mut plan = if generation == Some(planned.generation) { planned } else { plan(tx, view)? };
    for tag in &plan.tags {
        drop_tag(tx, name, tag)?;
    }
    for digest in &plan.manifests {
        erase(tx, name, digest)?;
    }
    // A link does not count as a change of its repository: it may be younger than the plan.
    let mut dead = Vec::new();
    for digest in std::mem::take(&mut plan.links) {
        let link = tx.row(&LINKS, &key(name, &digest))?;
        if link.is_some_and(|link| link.touched < view.cutoff && !view.is_leased(&digest)) {
            unlink(tx, name, &digest)?;
            dead.push(digest);
        }
    }
    plan.links = dead;
    let prefix = format!("{name}\0");
    let empty = tx.rows_after(&LINKS, &prefix, "", 1)?.is_empty()
        && tx.rows_after(&MANIFESTS, &prefix, "", 1)?.is_empty()
        && tx.rows_after(&TAGS, &prefix, "", 1)?.is_empty();
    if empty {
        tx.remove(&REPOSITORIES, &name.to_string())?;
    } else if let Some(mut record) = tx.row(&REPOSITORIES, name.as_str())? {
        record.generation += 1;
        tx.put(&REPOSITORIES, &name.to_string(), &record)?;
    }
    Ok(plan)
}

/// Tags with when they were set, as retention sees them.
pub(crate) type Dated = (Tag, Moment);
