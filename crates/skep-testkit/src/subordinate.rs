//! Ranges of ids for user namespaces.

use std::fs::OpenOptions;
use std::io::{Read, Write};

/// What is written down for a user that has no range.
const FIRST: u32 = 165_536;
const COUNT: u32 = 65_536;

/// The first of a user's subordinate ids (subuid(5)). A user without any is given some, as dockerd does with its own; that stays.
#[track_caller]
pub fn subordinate_ids(user: &str) -> u32 {
    let [uid, gid] = ["/etc/subuid", "/etc/subgid"].map(|path| {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).expect("a file of ranges");
        // Another test may be about to do the same.
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).expect("a lock");
        let mut text = String::new();
        file.read_to_string(&mut text).expect("text");
        let known = text.lines().find_map(|line| {
            let (first, count) = line.strip_prefix(user)?.strip_prefix(':')?.split_once(':')?;
            (count.parse() == Ok(COUNT)).then(|| first.parse().ok())?
        });
        known.unwrap_or_else(|| {
            let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
            file.write_all(format!("{newline}{user}:{FIRST}:{COUNT}\n").as_bytes()).expect("written");
            FIRST
        })
    });
    assert_eq!(uid, gid, "{user} has the same ranges of both");
    uid
}
