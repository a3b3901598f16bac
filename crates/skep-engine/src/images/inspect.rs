//! What is shown of one image.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::catalog::{Catalog, ImageRecord};
use super::config::ConfigFile;
use crate::model::image::{HistoryEntry, ImageDetails, ImageId};

/// All that `image inspect` shows but for the directories.
pub(super) fn details(catalog: &Catalog, id: ImageId, record: &ImageRecord, file: ConfigFile) -> ImageDetails {
    let (repo_tags, repo_digests) = catalog.names_of(&id);
    let last_step = file.history.last().map(|step| step.comment.clone()).unwrap_or_default();
    ImageDetails {
        id,
        repo_tags,
        repo_digests,
        parent: record.parent,
        config: file.defaults(),
        platform: if record.artifact.is_some() { record.platform.clone() } else { file.platform() },
        comment: if file.comment.is_empty() { last_step } else { file.comment },
        created: file.created,
        docker_version: file.docker_version,
        author: file.author,
        os_version: file.os_version,
        size: record.size(),
        graph_driver: "overlay2",
        graph_driver_data: Default::default(),
        diff_ids: record.diff_ids.clone(),
        last_tag_time: record.last_tagged,
        descriptor: None,
    }
}

/// The directories, as Docker's overlay2 names them. `dirs` is topmost first.
pub(super) fn graph_driver_data(dirs: &[PathBuf]) -> BTreeMap<String, String> {
    let Some((top, below)) = dirs.split_first() else { return BTreeMap::new() };
    let beside = |name: &str| top.with_file_name(name).display().to_string();
    let mut data = BTreeMap::from([
        ("MergedDir".to_owned(), beside("merged")),
        ("UpperDir".to_owned(), top.display().to_string()),
        ("WorkDir".to_owned(), beside("work")),
    ]);
    if !below.is_empty() {
        let lower: Vec<String> = below.iter().map(|dir| dir.display().to_string()).collect();
        data.insert("LowerDir".to_owned(), lower.join(":"));
    }
    data
}

/// The steps, newest first. Steps of images that were built here have the ids of those images.
pub(super) fn history(catalog: &Catalog, id: ImageId, record: &ImageRecord, file: &ConfigFile) -> Vec<HistoryEntry> {
    let mut sizes = record.layer_sizes.iter().copied();
    let mut entries: Vec<HistoryEntry> = file
        .history
        .iter()
        .map(|step| HistoryEntry {
            id: None,
            created: step.created.map_or(0, |time| time.timestamp()),
            created_by: step.created_by.clone(),
            tags: Vec::new(),
            size: if step.empty_layer { 0 } else { sizes.next().unwrap_or(0) },
            comment: step.comment.clone(),
        })
        .collect();
    entries.reverse();
    let mut next = Some(id);
    for entry in &mut entries {
        let Some(id) = next else { break };
        entry.id = Some(id);
        entry.tags = catalog.names_of(&id).0;
        next = catalog.image(&id).and_then(|record| record.parent);
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::super::catalog::tests::{catalog, id, record};
    use super::super::config::HistoryStep;
    use super::*;

    #[test]
    fn sizes_belong_to_the_steps_with_layers() {
        let step = |by: &str, empty_layer| HistoryStep { created_by: by.into(), empty_layer, ..HistoryStep::default() };
        let history_steps = vec![step("ADD", false), step("ENV", true), step("RUN", false), step("CMD", true)];
        let file = ConfigFile { history: history_steps, ..ConfigFile::default() };
        let mut image = record(&["a1", "a2"]);
        image.layer_sizes = vec![7, 3];
        let entries = history(&catalog(&[("aa", &["x:1"])]), id("aa"), &image, &file);
        let lines: Vec<_> = entries.iter().map(|e| (e.created_by.as_str(), e.size, e.id.is_some())).collect();
        assert_eq!(lines, [("CMD", 0, true), ("RUN", 3, false), ("ENV", 0, false), ("ADD", 7, false)]);
        assert_eq!(entries[0].tags, ["x:1"]);
    }
}
