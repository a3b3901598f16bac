//! OCI layouts in directories of the user, as far as the client itself reads and writes them: which manifest a tag means. The blobs are
//! the engine's business, which gets and puts them through the session.

use std::path::Path;

use serde_json::{Value, json};

/// The annotation that says which tag an entry has (OCI image spec, `annotations.md`).
const TAG: &str = "org.opencontainers.image.ref.name";
const INDEX: &str = "index.json";

/// The digest that a tag means.
pub(super) fn digest(directory: &Path, tag: &str) -> Result<String, String> {
    let path = directory.join(INDEX);
    let index = read(&path).map_err(|error| format!("open {}: {error}", path.display()))?;
    let entries = index["manifests"].as_array().cloned().unwrap_or_default();
    let entry = entries.iter().find(|entry| entry["annotations"][TAG] == tag);
    let digest = entry.and_then(|entry| entry["digest"].as_str());
    digest.map(str::to_owned).ok_or_else(|| format!("{} has nothing with the tag {tag:?}", path.display()))
}

/// Makes a tag mean what a descriptor says.
pub(super) fn put(directory: &Path, descriptor: &Value, tag: &str) -> std::io::Result<()> {
    let path = directory.join(INDEX);
    let mut index = match read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []})
        }
        other => other?,
    };
    let mut entry = descriptor.clone();
    entry["annotations"][TAG] = tag.into();
    let mut entries = index["manifests"].as_array().cloned().unwrap_or_default();
    entries.retain(|known| known["annotations"][TAG] != tag);
    entries.push(entry);
    index["manifests"] = entries.into();
    skep_fs::atomic::write_file(&directory.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)?;
    skep_fs::atomic::write_file(&path, &serde_json::to_vec(&index)?, 0o644)
}

fn read(path: &Path) -> std::io::Result<Value> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_means_what_was_put_last() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(digest(dir.path(), "latest").expect_err("nothing is there").starts_with("open "));
        for number in ["sha256:1", "sha256:2"] {
            put(dir.path(), &json!({"digest": number, "size": 3}), "latest").expect("written");
        }
        put(dir.path(), &json!({"digest": "sha256:3", "annotations": {"a": "b"}}), "other").expect("written");
        assert_eq!(digest(dir.path(), "latest"), Ok("sha256:2".to_owned()));
        assert_eq!(digest(dir.path(), "other"), Ok("sha256:3".to_owned()));
        let text = std::fs::read_to_string(dir.path().join(INDEX)).expect("an index");
        assert!(!text.contains("sha256:1") && text.contains(r#""a":"b""#), "{text}");
        assert!(digest(dir.path(), "none").is_err());
    }
}
