//! `state`.

use serde::Serialize;
use skep_runtime::container::{Result, State};

use super::args::{Args, only};
use super::store::{Entry, Record};
use super::{Global, print_json, words};

/// The specification's state with what runc adds to it.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    #[serde(flatten)]
    pub(crate) state: State,
    rootfs: std::path::PathBuf,
    pub(crate) created: String,
    pub(crate) owner: String,
}

impl Shown {
    /// Of a container.
    pub(crate) fn of(entry: &Entry, record: &Record) -> Result<Self> {
        Ok(Self {
            state: entry.state(record, &entry.spec()?),
            rootfs: record.rootfs.clone(),
            created: record.created.clone(),
            owner: if record.owner == 0 { "root".to_owned() } else { record.owner.to_string() },
        })
    }
}

/// Runs the command.
pub(crate) fn run(global: &Global, args: Args) -> Result<u8> {
    let id = only(words(args)?, "the container's id")?;
    let entry = Entry::open(&global.root, &id)?;
    let record = entry.made()?;
    print_json(&Shown::of(&entry, &record)?)?;
    Ok(0)
}
