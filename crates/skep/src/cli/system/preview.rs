//! `--dry-run` of the prunes.

use skep_client::Method;
use skep_wire::{BuildCache, ImageDeleted, PrunePreview};

use crate::cli::value::Filter;
use crate::cli::{Cli, Failure};
use crate::ui::human;

/// Asks what prunes of these kinds would remove.
pub(crate) async fn preview(cli: &Cli, kinds: &[&str], all: bool, filter: &Filter) -> Result<PrunePreview, Failure> {
    let mut filter = filter.clone();
    filter.0.retain(|(key, _)| key != "dangling");
    let mut request = cli.client().await?.request(Method::GET, "/skep/prune").query_opt("filters", filter.to_query());
    for kind in kinds {
        request = request.query("type", kind);
    }
    if all {
        request = request.query("all", "1");
    }
    Ok(request.send().await?.json().await?)
}

/// Asks what a prune of the builder's cache would remove.
pub(crate) async fn caches(cli: &Cli, all: bool, filter: &Filter) -> Result<Vec<BuildCache>, Failure> {
    let request = cli.client().await?.request(Method::GET, "/skep/build/prune");
    let request = request.query_opt("filters", filter.to_query()).query_flag("all", all);
    Ok(request.send().await?.json().await?)
}

/// What would go.
pub(crate) fn report(found: &PrunePreview) -> String {
    report_with(found, &[])
}

/// What would go, of the builder's cache too.
pub(crate) fn report_with(found: &PrunePreview, caches: &[BuildCache]) -> String {
    let caches_size: i64 = caches.iter().map(|cache| cache.size).sum();
    let caches: Vec<String> = caches.iter().map(|cache| cache.id.clone()).collect();
    let mut text = String::new();
    for (kind, names) in [
        ("Containers", &found.containers_deleted),
        ("Networks", &found.networks_deleted),
        ("Volumes", &found.volumes_deleted),
        ("Images", &image_lines(&found.images_deleted)),
        ("build cache objects", &caches),
    ] {
        if !names.is_empty() {
            text.push_str(&format!("Would delete {kind}:\n{}\n\n", names.join("\n")));
        }
    }
    let reclaimed = i64::try_from(found.space_reclaimed).unwrap_or(i64::MAX);
    text + &format!("Total reclaimable space: {}\n", human::fine_size(reclaimed.saturating_add(caches_size)))
}

/// A line for each reference and each image or layer.
pub(crate) fn image_lines(deleted: &[ImageDeleted]) -> Vec<String> {
    let line = |image: &ImageDeleted| match image.untagged.is_empty() {
        false => format!("untagged: {}", image.untagged),
        true => format!("deleted: {}", image.deleted),
    };
    deleted.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_go_is_listed_by_kind() {
        let found = PrunePreview {
            containers_deleted: vec!["c1".into()],
            networks_deleted: vec!["lan".into()],
            images_deleted: vec![
                ImageDeleted { untagged: "a:1".into(), ..ImageDeleted::default() },
                ImageDeleted { deleted: "sha256:1".into(), ..ImageDeleted::default() },
            ],
            space_reclaimed: 12345,
            ..PrunePreview::default()
        };
        let caches = [BuildCache { id: "abc".into(), size: 5, ..BuildCache::default() }];
        assert!(report_with(&found, &caches).contains("Would delete build cache objects:\nabc\n"));
        insta::assert_snapshot!(report(&found), @r"
        Would delete Containers:
        c1

        Would delete Networks:
        lan

        Would delete Images:
        untagged: a:1
        deleted: sha256:1

        Total reclaimable space: 12.35kB
        ");
    }
}
