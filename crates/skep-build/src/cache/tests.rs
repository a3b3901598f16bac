//! Records come back after a restart, and only then what was saved.

use skep_store::{Db, DbError};
use skep_types::Digest;

use super::*;
use crate::worker::{Held, Layer};

fn digest(number: u8) -> Digest {
    Digest::from_bytes([number; 32])
}

fn record(number: u8) -> Record {
    let stack = ChainId::of(None, &digest(number));
    Record::of_layer(
        digest(number),
        "a step".to_owned(),
        &Layer { stack, diff_id: digest(number), size: 7, held: Held::default() },
        Vec::new(),
    )
}

#[test]
fn what_is_committed_is_there_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("db");
    let open = || Cache::open(Db::open(&path).expect("a database")).expect("a cache");
    let cache = open();
    cache.put(record(1));
    cache.put(record(2));
    cache.put_selection(digest(8), digest(9));
    cache.commit().expect("stored");
    cache.put(record(3));
    assert_eq!(cache.remove(&[digest(2)]).len(), 1);
    drop(cache);

    let cache = open();
    assert_eq!(cache.get(&digest(1)).and_then(|found| found.layer()), record(1).layer());
    assert!(cache.get(&digest(2)).is_some(), "the removal was not committed");
    assert!(cache.get(&digest(3)).is_none(), "never committed");
    assert_eq!(cache.selection(&digest(8)), Some(digest(9)));
    assert_eq!(cache.roots(), [1, 2].map(|number| ChainId::of(None, &digest(number))).into());
}

#[test]
fn a_failed_transaction_is_tried_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = Db::open(&dir.path().join("db")).expect("a database");
    let cache = Cache::open(db.clone()).expect("a cache");
    cache.put(record(1));
    let mut unsaved = Unsaved::default();
    let failed: Result<(), DbError> = db.write(|tx| {
        unsaved = cache.save(tx)?;
        Err(DbError::InUse(dir.path().to_owned()))
    });
    assert!(failed.is_err());
    assert!(!cache.has_changed());
    cache.again(unsaved);
    cache.commit().expect("stored");
    assert!(Cache::open(db).expect("a cache").get(&digest(1)).is_some());
}

#[test]
fn what_is_in_use_is_not_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    let cache = Cache::open(Db::open(&dir.path().join("db")).expect("a database")).expect("a cache");
    cache.put(record(1));
    let (first, second) = (cache.touch(&digest(1)), cache.hold(&digest(1)));
    assert!(cache.list(|_| false)[0].in_use);
    drop(first);
    assert!(cache.remove(&[digest(1)]).is_empty());
    assert!(cache.prune(&Prune::default(), DiskUse::default(), |_| false).is_empty());
    drop(second);
    assert!(!cache.list(|_| true)[0].in_use);
    assert!(cache.prune(&Prune::default(), DiskUse::default(), |_| true).is_empty(), "an image has the layer");
    assert_eq!(cache.prune(&Prune::default(), DiskUse::default(), |_| false).len(), 1);
    assert!(cache.list(|_| false).is_empty());
}
