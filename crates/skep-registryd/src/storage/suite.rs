//! What every driver has to do, as checks that a driver's tests call.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::digest::{Algorithm, ContentDigest};
use crate::storage::{Storage, StorageError, read_all};

/// Runs all checks against an empty driver. `staging` is a directory that the driver can adopt files from. Panics at the first
/// deviation; the driver is empty again at the end.
pub async fn run(storage: &dyn Storage, staging: &Path) {
    content_comes_whole(storage, staging).await;
    parts_can_be_read(storage, staging).await;
    what_is_missing_is_said_to_be(storage).await;
    removal_is_final_and_repeatable(storage, staging).await;
    everything_is_listed(storage, staging).await;
    large_content_is_exact(storage, staging).await;
    assert_eq!(storage.list().await.expect("a list"), [], "something was left behind");
}

fn staged(staging: &Path, bytes: &[u8]) -> (ContentDigest, PathBuf) {
    let path = staging.join(skep_fs::atomic::random_name());
    std::fs::write(&path, bytes).expect("a staged file");
    (ContentDigest::of(Algorithm::Sha256, bytes), path)
}

async fn add(storage: &dyn Storage, staging: &Path, bytes: &[u8]) -> ContentDigest {
    let (digest, path) = staged(staging, bytes);
    storage.adopt(&digest, &path).await.expect("adopted");
    digest
}

async fn content_comes_whole(storage: &dyn Storage, staging: &Path) {
    for bytes in [&b""[..], b"x", b"some content"] {
        let digest = add(storage, staging, bytes).await;
        // A second time is no error and changes nothing.
        assert_eq!(add(storage, staging, bytes).await, digest);
        let size = bytes.len() as u64;
        assert_eq!(storage.size(&digest).await.expect("a size"), Some(size));
        assert_eq!(read_all(storage, &digest, size).await.expect("content"), Bytes::copy_from_slice(bytes));
        storage.remove(&digest).await.expect("removed");
    }
    let bytes = b"under a longer name";
    let (_, path) = staged(staging, bytes);
    let long = ContentDigest::of(Algorithm::Sha512, bytes);
    storage.adopt(&long, &path).await.expect("adopted");
    assert_eq!(storage.size(&long).await.expect("a size"), Some(bytes.len() as u64));
    storage.remove(&long).await.expect("removed");
}

async fn parts_can_be_read(storage: &dyn Storage, staging: &Path) {
    let digest = add(storage, staging, b"0123456789").await;
    for (range, expected) in [(0..10, "0123456789"), (0..1, "0"), (9..10, "9"), (3..7, "3456"), (4..4, "")] {
        use futures_util::TryStreamExt;
        let parts = storage.read(&digest, range).await.expect("a reader");
        let bytes: Vec<Bytes> = parts.try_collect().await.expect("content");
        assert_eq!(bytes.concat(), expected.as_bytes());
    }
    storage.remove(&digest).await.expect("removed");
}

async fn what_is_missing_is_said_to_be(storage: &dyn Storage) {
    let digest = ContentDigest::of(Algorithm::Sha256, b"never stored");
    assert_eq!(storage.size(&digest).await.expect("an answer"), None);
    let read = read_all(storage, &digest, 1).await;
    assert!(matches!(read, Err(StorageError::Missing(missing)) if missing == digest), "{read:?}");
}

async fn removal_is_final_and_repeatable(storage: &dyn Storage, staging: &Path) {
    let digest = add(storage, staging, b"short-lived").await;
    storage.remove(&digest).await.expect("removed");
    storage.remove(&digest).await.expect("removed again");
    assert_eq!(storage.size(&digest).await.expect("an answer"), None);
    // What was removed can come again.
    assert_eq!(add(storage, staging, b"short-lived").await, digest);
    assert_eq!(storage.size(&digest).await.expect("a size"), Some(11));
    storage.remove(&digest).await.expect("removed");
}

async fn everything_is_listed(storage: &dyn Storage, staging: &Path) {
    let mut expected = Vec::new();
    for number in 0..20_u64 {
        expected.push((add(storage, staging, number.to_string().as_bytes()).await, number.to_string().len() as u64));
    }
    let listed = storage.list().await.expect("a list");
    let mut found: Vec<_> = listed.iter().map(|stored| (stored.digest, stored.size)).collect();
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected);
    assert!(listed.iter().all(|stored| stored.since > 0), "content has no age");
    for (digest, _) in expected {
        storage.remove(&digest).await.expect("removed");
    }
}

async fn large_content_is_exact(storage: &dyn Storage, staging: &Path) {
    // Larger than any buffer on the way, and of no round size.
    let bytes: Vec<u8> = (0..36_345_678_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let digest = add(storage, staging, &bytes).await;
    let read = read_all(storage, &digest, bytes.len() as u64).await.expect("content");
    assert_eq!(ContentDigest::of(Algorithm::Sha256, &read), digest);
    let part = storage.read(&digest, 5_000_000..21_000_001).await.expect("a reader");
    let part: Vec<Bytes> = futures_util::TryStreamExt::try_collect(part).await.expect("content");
    assert!(part.concat() == bytes[5_000_000..21_000_001], "a part differs");
    storage.remove(&digest).await.expect("removed");
}
