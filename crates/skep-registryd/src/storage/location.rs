//! Which driver a root is for. It is written down at the first start, so that nobody later takes the content for lost because a flag was
//! forgotten.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::storage::{Directory, Objects, Storage, StorageError};

/// Where the content of a registry is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Location {
    /// `s3://BUCKET/PREFIX`; below the root without.
    pub url: Option<String>,
    /// The address of an S3-compatible store that is not Amazon's.
    pub endpoint: Option<String>,
    /// The store's region.
    pub region: Option<String>,
}

impl Location {
    /// Bucket and prefix.
    pub(super) fn bucket(&self) -> Result<(&str, &str), StorageError> {
        let url = self.url.as_deref().unwrap_or_default();
        let rest = url.strip_prefix("s3://").unwrap_or_default();
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() { Err(StorageError::Location(url.to_owned())) } else { Ok((bucket, prefix)) }
    }

    /// The driver for a root. `wanted` has to be where the root's content always was; without, it is taken from the root.
    pub(crate) fn open(root: &Path, wanted: Option<&Location>) -> Result<Arc<dyn Storage>, StorageError> {
        let path = root.join("storage.json");
        let file = |what, source| StorageError::File { what, path: path.clone(), source };
        let known: Option<Location> = match std::fs::read(&path) {
            Ok(bytes) => Some(serde_json::from_slice(&bytes).map_err(|error| file("read", error.into()))?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(file("read", error)),
        };
        if let (Some(known), Some(wanted)) = (&known, wanted)
            && known.url != wanted.url
        {
            let place = |location: &Location| location.url.clone().unwrap_or_else(|| "the root".to_owned());
            return Err(StorageError::Moved { known: place(known), wanted: place(wanted) });
        }
        let location = wanted.cloned().or(known.clone()).unwrap_or_default();
        let storage: Arc<dyn Storage> = match location.url {
            None => Arc::new(Directory::open(root.join("content"))?),
            Some(_) => Arc::new(Objects::open(&location)?),
        };
        if known.as_ref() != Some(&location) {
            let bytes = serde_json::to_vec(&location).map_err(|error| file("write", error.into()))?;
            skep_fs::atomic::write_file(&path, &bytes, 0o600).map_err(|error| file("write", error))?;
        }
        Ok(storage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_remembers_where_its_content_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let bucket = |url: &str| Location { url: Some(url.to_owned()), ..Location::default() };
        assert!(Location::open(dir.path(), Some(&bucket("gs://x"))).is_err());
        Location::open(dir.path(), None).map(drop).expect("a driver");
        Location::open(dir.path(), Some(&Location::default())).map(drop).expect("the same");
        let moved = Location::open(dir.path(), Some(&bucket("s3://other/place"))).map(drop);
        assert!(matches!(moved, Err(StorageError::Moved { .. })), "{moved:?}");
        assert_eq!(bucket("s3://b/p/q").bucket().ok(), Some(("b", "p/q")));
        assert_eq!(bucket("s3://b").bucket().ok(), Some(("b", "")));
        assert!(bucket("s3:///p").bucket().is_err());
    }
}
