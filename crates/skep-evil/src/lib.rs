//! Hostile layers, archives, manifests and configurations, made by code, each with what has to become of it.
//!
//! | module | what it owns |
//! |---|---|
//! | [`tar`] | archives that no honest program writes |
//! | [`layers`] | layers and archives of files, small ones |
//! | [`bombs`] | streams that are small only until they are unpacked |
//! | [`archives`] | archives of images: for `load` |
//! | [`documents`] | manifests and image configurations |
//! | [`canary`] | a tree beside the target that nothing may touch |
//!
//! Whoever unpacks, loads, pulls, imports or copies in takes the whole corpus: for each case an error or the harmless thing, the canary
//! unchanged, nothing left. The crate uses no other of this project, so that it can't share their mistakes.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "makes test data")]

pub mod archives;
pub mod bombs;
pub mod canary;
pub mod documents;
pub mod layers;
pub mod tar;

/// What has to become of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// An error.
    Refused,
    /// It goes through, and does nothing outside of where it belongs.
    Harmless,
    /// One or the other: file systems differ.
    Either,
}

impl Fate {
    /// Fails the test if something else became of the case.
    #[track_caller]
    pub fn check<T, E: std::fmt::Display>(self, name: &str, result: &Result<T, E>) {
        match (self, result) {
            (Fate::Refused, Ok(_)) => panic!("{name}: it was let in"),
            (Fate::Harmless, Err(error)) => panic!("{name}: it was refused: {error}"),
            (_, Err(error)) => {
                let text = error.to_string();
                assert!(!text.is_empty() && text.len() < 2000, "{name}: an error of {} bytes", text.len());
                assert!(!text.contains(['\0', '\u{1b}', '\n']), "{name}: an error that steers the terminal: {text:?}");
            }
            (_, Ok(_)) => {}
        }
    }
}

/// The sha256 of some bytes, as `sha256:HEX`.
pub fn digest(bytes: &[u8]) -> String {
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let hex: String = sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
