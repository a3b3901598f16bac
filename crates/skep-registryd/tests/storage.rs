//! The drivers against the suite.

use skep_registryd::storage::{Directory, suite};

#[tokio::test]
async fn a_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let staging = dir.path().join("staging");
    std::fs::create_dir(&staging).expect("a directory");
    let storage = Directory::open(dir.path().join("content")).expect("a driver");
    suite::run(&storage, &staging).await;
}
