//! Lists, always page by page: tags, repositories, referrers.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::content::Content;
use crate::content::tables::{MANIFESTS, REFERRERS, REPOSITORIES, Rows, TAGS, key, tag_key, tag_of, tag_order};
use crate::digest::ContentDigest;
use crate::error::{Code, Refusal, Result};
use crate::manifest::{Descriptor, MAX_MANIFEST_SIZE, Manifest};
use crate::name::{RepositoryName, Tag};
use crate::storage::read_all;

/// A part of a list.
#[derive(Debug)]
pub(crate) struct Page<T> {
    pub(crate) entries: Vec<T>,
    /// There are more behind them.
    pub(crate) more: bool,
}

impl<T> Page<T> {
    fn cut(mut entries: Vec<T>, limit: usize) -> Self {
        let more = entries.len() > limit;
        entries.truncate(limit);
        Page { entries, more }
    }
}

impl Content {
    /// Tags behind `last`, in case-insensitive order.
    pub(crate) async fn tags(&self, repository: &RepositoryName, last: &str, limit: usize) -> Result<Page<String>> {
        let (repository, after) =
            (repository.clone(), last.parse().map_or_else(|_| last.to_ascii_lowercase(), |tag| tag_order(&tag)));
        self.read(move |tx| {
            if tx.row(&REPOSITORIES, repository.as_str())?.is_none() {
                let detail = json!({"name": repository.as_str()});
                return Err(Refusal::new(Code::NameUnknown, "repository name not known to registry")
                    .with(detail)
                    .into());
            }
            let rows = tx.rows_after(&TAGS, &format!("{repository}\0"), &after, limit.saturating_add(1))?;
            let tags = rows.iter().map(|(order, _)| tag_of(order).to_owned()).collect();
            Ok(Page::cut(tags, limit))
        })
        .await
    }

    /// Repositories behind `last` that `seen` says yes to.
    pub(crate) async fn repositories(
        &self,
        last: &str,
        limit: usize,
        seen: impl Fn(&RepositoryName) -> bool + Send + 'static,
    ) -> Result<Page<RepositoryName>> {
        let last = last.to_owned();
        self.read(move |tx| {
            let (mut after, mut found) = (last, Vec::new());
            loop {
                let rows = tx.rows_after(&REPOSITORIES, "", &after, limit.saturating_add(1))?;
                let Some((end, _)) = rows.last() else { break };
                after.clone_from(end);
                found.extend(rows.into_iter().filter_map(|(name, _)| name.parse().ok()).filter(|name| seen(name)));
                if found.len() > limit {
                    break;
                }
            }
            Ok(Page::cut(found, limit))
        })
        .await
    }

    /// Manifests about `subject` behind `last`, of one type if that is asked for.
    pub(crate) async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &ContentDigest,
        artifact_type: Option<String>,
        last: &str,
        limit: usize,
    ) -> Result<Page<Descriptor>> {
        let (name, about, after) = (repository.clone(), *subject, last.to_owned());
        let rows = self.read(move |tx| Ok(tx.rows(&REFERRERS, &format!("{name}\0{about}\0"))?)).await?;
        let mut all: Vec<Descriptor> = rows.into_iter().map(|(_, record)| record.descriptor).collect();
        all.extend(self.fallback_referrers(repository, subject).await?);
        let mut seen = HashSet::new();
        all.retain(|entry| seen.insert(entry.digest));
        all.sort_by_key(|entry| entry.digest.to_string());
        all.retain(|entry| {
            artifact_type.as_ref().is_none_or(|wanted| entry.artifact_type.as_ref() == Some(wanted))
                && entry.digest.to_string() > after
        });
        Ok(Page::cut(all, limit))
    }

    /// What clients without the referrers API left: an index under the tag `ALGORITHM-HEX`.
    async fn fallback_referrers(
        &self,
        repository: &RepositoryName,
        subject: &ContentDigest,
    ) -> Result<Vec<Descriptor>> {
        let text: String = subject.to_string().replacen(':', "-", 1).chars().take(128).collect();
        let Ok(tag) = text.parse::<Tag>() else { return Ok(Vec::new()) };
        let name = repository.clone();
        let found = self
            .read(move |tx| match tx.row(&TAGS, &tag_key(&name, &tag))? {
                None => Ok(None),
                Some(record) => Ok(tx.row(&MANIFESTS, &key(&name, &record.digest))?.map(|row| (record.digest, row))),
            })
            .await?;
        let Some((digest, record)) = found else { return Ok(Vec::new()) };
        let bytes = read_all(&*self.storage, &digest, record.size).await?;
        let index = Manifest::parse(&bytes, &record.media_type);
        Ok(index.map(|index| index.manifests).unwrap_or_default())
    }
}

/// Referrers in the form of an index, which stays below the size of a manifest; how many of them fit.
pub(crate) fn referrers_index(entries: &[Descriptor]) -> (Value, usize) {
    let (mut room, mut taken) = (MAX_MANIFEST_SIZE - 1024, Vec::new());
    for entry in entries {
        let entry = json!(entry);
        match room.checked_sub(entry.to_string().len() + 1) {
            // The first comes in any case: an empty page would have no end.
            None if !taken.is_empty() => break,
            left => room = left.unwrap_or_default(),
        }
        taken.push(entry);
    }
    let count = taken.len();
    let index = json!({
        "schemaVersion": 2,
        "mediaType": crate::manifest::media_type::OCI_INDEX,
        "manifests": taken,
    });
    (index, count)
}
