//! What a finished build is told by: the image's id, a file of metadata.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value};

use crate::cli::Failure;
use crate::cli::failure::go_path_error;

/// Keys of the engine's answer.
const CONFIG: &str = "containerimage.config.digest";
const DIGEST: &str = "containerimage.digest";

/// The id of the image that was built, if one was.
pub(super) fn image_id(answer: &HashMap<String, String>) -> Option<&str> {
    answer.get(CONFIG).or_else(|| answer.get(DIGEST)).map(String::as_str)
}

/// Writes the id of the image to a file.
pub(super) fn write_id(path: &str, answer: &HashMap<String, String>) -> Result<(), Failure> {
    write(Path::new(path), image_id(answer).unwrap_or_default().as_bytes())
}

/// Writes all that the engine answered, as JSON. What is JSON in base64 already stands there as it is.
pub(super) fn write_metadata(path: &str, answer: &HashMap<String, String>, build: &str) -> Result<(), Failure> {
    let mut document = Map::new();
    document.insert("buildx.build.ref".to_owned(), format!("default/default/{build}").into());
    for (key, value) in answer {
        document.insert(key.clone(), decoded(value));
    }
    let mut text = serde_json::to_vec_pretty(&Value::Object(document))?;
    text.push(b'\n');
    write(Path::new(path), &text)
}

/// What is JSON, in base64 or as it is; anything else as a text.
pub(super) fn decoded(value: &str) -> Value {
    use base64::Engine;
    let bytes = match value.starts_with('{') {
        true => Some(value.as_bytes().to_vec()),
        false => base64::engine::general_purpose::STANDARD.decode(value).ok(),
    };
    let object = bytes.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok()).filter(Value::is_object);
    object.unwrap_or_else(|| value.into())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    skep_fs::atomic::write_file(path, bytes, 0o644)
        .map_err(|error| Failure::message(go_path_error("open", path, &error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_readable() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("m.json").display().to_string();
        let answer: HashMap<String, String> = [
            (CONFIG.to_owned(), "sha256:c".to_owned()),
            (DIGEST.to_owned(), "sha256:d".to_owned()),
            ("containerimage.descriptor".to_owned(), "eyJzaXplIjozfQ==".to_owned()),
        ]
        .into();
        write_metadata(&path, &answer, "abc").expect("written");
        let found: Value = serde_json::from_slice(&std::fs::read(&path).expect("read")).expect("json");
        assert_eq!(found["containerimage.descriptor"]["size"], 3);
        assert_eq!(found["buildx.build.ref"], "default/default/abc");
        assert_eq!(image_id(&answer), Some("sha256:c"));
    }
}
