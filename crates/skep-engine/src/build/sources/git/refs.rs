//! What a repository's references lead to.

use std::path::Path;
use std::sync::Arc;

use skep_build::BuildError;
use skep_build::graph::GitSource;
use skep_build::worker::Context;

use super::super::super::error::{cancelled, unknown};
use super::{Fetching, is_commit};
use crate::engine::Inner;

/// What is known of a commit before its files are fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitFacts {
    /// What the reference leads to: a commit, or the object of an annotated tag.
    pub object: String,
    /// The reference's whole name; the commit's id if it is asked for by that.
    pub reference: String,
    /// The commit that an annotated tag is of.
    pub commit: Option<String>,
    /// The bytes of the commit, and of the tag, if they are asked for.
    pub objects: Option<(Vec<u8>, Option<Vec<u8>>)>,
}

/// Asks the server; fetches the commit, without its files, only if its bytes are wanted.
pub(in crate::build) async fn look(
    engine: &Arc<Inner>,
    source: &GitSource,
    with_objects: bool,
    context: &Context,
) -> Result<GitFacts, BuildError> {
    let fetching = Fetching::new(engine, source, context).await?;
    tokio::select! {
        facts = fetching.facts(with_objects) => facts,
        () = context.cancel.cancelled() => Err(cancelled()),
    }
}

impl Fetching<'_> {
    async fn facts(&self, with_objects: bool) -> Result<GitFacts, BuildError> {
        let repository = self.repository().await?;
        let bare = repository.path.as_path();
        let mut facts = self.found(bare).await?;
        let commit = facts.commit.as_ref().unwrap_or(&facts.object);
        self.check(commit)?;
        if with_objects {
            self.fetch_commit(bare, &facts.reference).await?;
            let tag = match &facts.commit {
                Some(_) => Some(self.git_bytes(bare, &["cat-file", "tag", &facts.object]).await?),
                None => None,
            };
            facts.objects = Some((self.git_bytes(bare, &["cat-file", "commit", commit]).await?, tag));
        }
        Ok(facts)
    }

    async fn found(&self, bare: &Path) -> Result<GitFacts, BuildError> {
        let reference = self.source.reference.as_deref().filter(|text| !text.is_empty()).unwrap_or("HEAD");
        if is_commit(reference) {
            let id = reference.to_owned();
            return Ok(GitFacts { object: id.clone(), reference: id, commit: None, objects: None });
        }
        let peeled = format!("{reference}^{{}}");
        let listed = self.git(bare, &["ls-remote", "--symref", "--", &self.remote, reference, &peeled]).await;
        let listed = listed.map_err(unknown)?;
        facts(&listed, reference).ok_or_else(|| {
            let text = format!("repository does not contain ref {reference}, output: {:?}", listed.trim());
            unknown(BuildError::invalid(text))
        })
    }
}

/// What `reference` means among the lines of `ls-remote --symref`.
fn facts(listed: &str, reference: &str) -> Option<GitFacts> {
    let name = choose(listed, reference)?;
    let of = |name: &str| listed.lines().filter_map(|line| line.split_once('\t')).find(|(_, have)| *have == name);
    let object = listed.lines().filter_map(|line| line.split_once('\t'));
    let object = object.filter(|(id, _)| is_commit(id)).find(|(_, have)| *have == name)?.0.to_owned();
    let commit = of(&format!("{name}^{{}}")).map(|(id, _)| id.to_owned());
    // HEAD is shown as the branch that it stands for.
    let branch = listed.lines().find_map(|line| line.strip_prefix("ref: ")?.strip_suffix(&format!("\t{name}")));
    let reference = branch.map_or(name, str::to_owned);
    Some(GitFacts { object, reference, commit, objects: None })
}

/// The full name of what `reference` means among the lines of `ls-remote`: itself, then a tag, then a branch.
pub(super) fn choose(listed: &str, reference: &str) -> Option<String> {
    let names: Vec<&str> = listed.lines().filter_map(|line| line.split_once('\t').map(|(_, name)| name)).collect();
    let candidates = [
        reference.to_owned(),
        format!("refs/{reference}"),
        format!("refs/tags/{reference}"),
        format!("refs/heads/{reference}"),
    ];
    candidates.into_iter().find(|name| names.contains(&name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_chosen_by_its_whole_name() {
        let listed = "1\trefs/heads/v1\n2\trefs/tags/v1\n3\trefs/tags/v1^{}\n4\trefs/heads/x/v1\n";
        assert_eq!(choose(listed, "v1").as_deref(), Some("refs/tags/v1"));
        assert_eq!(choose(listed, "heads/v1").as_deref(), Some("refs/heads/v1"));
        assert_eq!(choose(listed, "refs/heads/v1").as_deref(), Some("refs/heads/v1"));
        assert_eq!(choose(listed, "v2"), None);
    }

    #[test]
    fn tags_and_heads_lead_to_commits() {
        let (one, two) = ("1".repeat(40), "2".repeat(40));
        let tagged = format!("{one}\trefs/tags/v1\n{two}\trefs/tags/v1^{{}}\n");
        let found = facts(&tagged, "v1").expect("found");
        assert_eq!((found.object, found.commit), (one.clone(), Some(two)));
        assert_eq!(found.reference, "refs/tags/v1");
        let head = format!("ref: refs/heads/main\tHEAD\n{one}\tHEAD\n");
        let found = facts(&head, "HEAD").expect("found");
        assert_eq!((found.object, found.commit, found.reference.as_str()), (one, None, "refs/heads/main"));
        assert_eq!(facts("", "HEAD"), None);
    }
}
