//! The metadata database.
#![allow(clippy::unwrap_used, reason = "tests")]

use skep_store::{Db, DbError, Table};
use skep_types::ErrorKind;

const NUMBERS: Table<String, u32> = Table::new("numbers", 1);
const NUMBERS_LATER: Table<String, u32> = Table::migrated("numbers", 2, |_, old| {
    old.as_u64().map(|number| (number * 10).into()).ok_or_else(|| "not a number".to_owned())
});

#[test]
fn a_failed_change_changes_nothing_and_a_done_one_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.redb");
    {
        let db = Db::open(&path).unwrap();
        assert!(matches!(Db::open(&path), Err(DbError::InUse(_))));
        db.write(|tx| tx.put(&NUMBERS, &"one".to_owned(), &1)).unwrap();
        let refused: Result<(), DbError> = db.write(|tx| {
            tx.put(&NUMBERS, &"two".to_owned(), &2)?;
            Err(DbError::Newer { table: "x", found: 2, known: 1 })
        });
        assert!(refused.is_err());
    }
    let db = Db::open(&path).unwrap();
    assert_eq!(db.read(|tx| tx.all(&NUMBERS)).unwrap(), [("one".to_owned(), 1)]);
    assert_eq!(db.read(|tx| tx.get(&NUMBERS_LATER, &"one".to_owned())).unwrap(), Some(10));
    db.write(|tx| tx.put(&NUMBERS_LATER, &"one".to_owned(), &5)).unwrap();
    let older = db.read(|tx| tx.get(&NUMBERS, &"one".to_owned()));
    assert!(matches!(older, Err(DbError::Newer { table: "numbers", found: 2, known: 1 })));
    assert!(db.write(|tx| tx.remove(&NUMBERS, &"one".to_owned())).unwrap());
    assert!(!db.write(|tx| tx.remove(&NUMBERS, &"one".to_owned())).unwrap());
}

#[test]
fn damage_is_an_error_that_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.redb");
    {
        let db = Db::open(&path).unwrap();
        db.write(|tx| (0..500).try_for_each(|n| tx.put(&NUMBERS, &format!("key{n}"), &n))).unwrap();
    }
    let good = std::fs::read(&path).unwrap();
    let mut refused = 0;
    for at in (0..good.len()).step_by(good.len() / 60) {
        let mut bad = good.clone();
        let end = (at + 3000).min(bad.len());
        bad[at..end].fill(0xa5);
        std::fs::write(&path, &bad).unwrap();
        // Damage in free pages goes unseen; all else is an error, never a panic.
        let read = Db::open(&path).and_then(|db| db.read(|tx| tx.all(&NUMBERS)));
        if let Err(error) = read {
            refused += 1;
            assert_eq!(error.kind(), ErrorKind::DataLoss, "{error}");
        }
    }
    assert_ne!(refused, 0);
    std::fs::write(&path, b"not a database").unwrap();
    let error = Db::open(&path).unwrap_err();
    assert!(error.to_string().contains("put back a copy"), "{error}");
}
