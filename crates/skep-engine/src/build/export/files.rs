//! The files of a result, in a directory of the client or as an archive, with what is said of them beside them.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use skep_build::builder::Attestation;
use skep_build::worker::Stack;
use skep_build::{BuildError, BuiltImage};
use skep_fs::Root;
use skep_store::{Sha256, UpperDir};
use tokio::io::AsyncWriteExt;
use tokio_util::io::SyncIoBridge;

use super::super::error::{blocking, engine as engine_error, failed, store};
use super::super::{empty_directory, files, tree};
use super::{Exporting, Metadata};
use crate::engine::Inner;
use crate::images::built::{Said, statement};

/// Bytes that wait between making an archive and sending it.
const PIPE: usize = 256 * 1024;

/// The files of one platform.
struct Wanted {
    stack: Stack,
    /// Their directory, if they have one of their own.
    directory: Option<String>,
    /// Statements, each with the name of its file.
    said: Vec<(String, Attestation)>,
}

impl Exporting<'_> {
    /// The files of all platforms, each below a directory of its own if there are several.
    pub(super) async fn local(&self) -> Result<Metadata, BuildError> {
        let copying = async {
            let staged = self.stage().await?;
            self.job.services.send_tree(self.number, &staged.path()).await
        };
        self.parts.during("copying files", copying).await?;
        Ok(Metadata::new())
    }

    pub(super) async fn tar(&self) -> Result<Metadata, BuildError> {
        self.parts.during("sending tarball", self.send_tar()).await?;
        Ok(Metadata::new())
    }

    async fn send_tar(&self) -> Result<(), BuildError> {
        let wanted = self.wanted();
        // One platform as it is needs no copy.
        let single = match wanted.as_slice() {
            [one] if one.directory.is_none() && one.said.is_empty() && self.epoch().is_none() => Some(one.stack),
            _ => None,
        };
        let staged = if single.is_none() { Some(self.stage().await?) } else { None };
        let engine = Arc::clone(self.engine);
        let (reader, writer) = tokio::io::duplex(PIPE);
        let mut writer = SyncIoBridge::new(writer);
        let packing = blocking(move || {
            let root = match (&staged, single) {
                (Some(staged), _) => Root::open(&staged.path()).map_err(failed("open the files"))?,
                (None, stack) => {
                    let directories = tree::directories(engine.storage.store().layers(), stack.flatten())?;
                    tree::merged(&directories, &empty_directory(&engine)?)?
                }
            };
            let mut buffered = io::BufWriter::with_capacity(PIPE / 4, &mut writer);
            let written = skep_fs::pack::write_tree(&root, Path::new("."), OsStr::new(""), &mut buffered);
            let written = written.and_then(|()| buffered.flush());
            drop(buffered);
            written.and_then(|()| writer.shutdown()).map_err(failed("pack the files"))
        });
        let mut out = self.job.services.send_file(self.number, None).await?;
        let sending = async {
            let mut reader = reader;
            tokio::io::copy(&mut reader, &mut out).await?;
            out.shutdown().await
        };
        let (packed, sent) = tokio::join!(packing, sending);
        packed?;
        sent.map_err(failed("send the archive"))
    }

    fn wanted(&self) -> Vec<Wanted> {
        let several = self.built.multi || self.built.images.len() > 1;
        let split = self.options.split.unwrap_or(several);
        let one = |image: &BuiltImage| {
            let platform = image.platform.to_string().replace('/', "_");
            let name = |file: &str| match several && !split {
                true => of_platform(file, &platform),
                false => file.to_owned(),
            };
            // What is meant for images only stays away.
            let said = image.attestations.iter().filter(|said| !said.inline_only);
            let said = said.map(|said| (format!("{}{}", self.options.prefix, name(&said.file)), said.clone()));
            Wanted { stack: image.stack, said: said.collect(), directory: split.then_some(platform) }
        };
        self.built.images.iter().map(one).collect()
    }

    /// Everything in one directory.
    async fn stage(&self) -> Result<UpperDir, BuildError> {
        let (engine, wanted, epoch) = (Arc::clone(self.engine), self.wanted(), self.epoch());
        blocking(move || {
            let upper = engine.storage.store().layers().stage_upper(None).map_err(store)?;
            for one in &wanted {
                place(&engine, &upper.path(), one)?;
            }
            if let Some(epoch) = epoch {
                retime(&upper.path(), epoch).map_err(failed("set the times of files"))?;
            }
            Ok(upper)
        })
        .await
    }
}

/// Copies the files of a platform to their place, and says what there is to say of them.
fn place(engine: &Inner, top: &Path, wanted: &Wanted) -> Result<(), BuildError> {
    let target = wanted.directory.as_ref().map_or_else(|| top.to_owned(), |name| top.join(name));
    std::fs::create_dir_all(&target).map_err(failed("make a directory for the files"))?;
    let directories = tree::directories(engine.storage.store().layers(), wanted.stack)?;
    let root = tree::merged(&directories, &empty_directory(engine)?)?;
    files::copy_directory(&root, Path::new("/"), &target)?;
    if wanted.said.is_empty() {
        return Ok(());
    }
    let mut subjects = Vec::new();
    digests(&target, Path::new(""), &mut subjects).map_err(failed("read the files"))?;
    for (name, said) in &wanted.said {
        let said = Said { predicate_type: said.predicate_type.clone(), predicate: said.predicate.clone() };
        let bytes = statement(&said, &subjects).map_err(|error| engine_error(error.into()))?;
        write_new(&target.join(name), &bytes).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => BuildError::invalid(format!("duplicate attestation path name {name}")),
            _ => failed("write an attestation")(error),
        })?;
    }
    Ok(())
}

/// `provenance.linux_arm64.json`.
fn of_platform(file: &str, platform: &str) -> String {
    match file.rsplit_once('.') {
        Some((stem, extension)) => format!("{stem}.{platform}.{extension}"),
        None => format!("{file}.{platform}"),
    }
}

/// A file for its owner, indented for people.
fn write_new(path: &Path, statement: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let value: serde_json::Value = serde_json::from_slice(statement)?;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&serde_json::to_vec_pretty(&value)?)
}

/// Paths of the files below a directory, in their order, with their digests in hexadecimal digits.
fn digests(top: &Path, path: &Path, out: &mut Vec<(String, String)>) -> io::Result<()> {
    let mut entries = std::fs::read_dir(top.join(path))?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let below = path.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            digests(top, &below, out)?;
        } else if kind.is_file() {
            let (mut file, mut hasher) = (std::fs::File::open(entry.path())?, Sha256::default());
            let mut buffer = vec![0; 64 << 10];
            loop {
                let count = file.read(&mut buffer)?;
                if count == 0 {
                    break;
                }
                hasher.update(&buffer[..count]);
            }
            out.push((below.to_string_lossy().into_owned(), hasher.finish().hex()));
        }
    }
    Ok(())
}

/// Gives a tree, without its top, the time.
fn retime(top: &Path, time: DateTime<Utc>) -> io::Result<()> {
    let time = Timespec { tv_sec: time.timestamp(), tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    let mut open: Vec<PathBuf> = vec![top.to_owned()];
    let mut directories = Vec::new();
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
                directories.push(entry.path());
            } else {
                rustix::fs::utimensat(CWD, entry.path(), &times, AtFlags::SYMLINK_NOFOLLOW)?;
            }
        }
    }
    directories.iter().try_for_each(|path| Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_with_statements() {
        assert_eq!(of_platform("sbom.spdx.json", "linux_amd64"), "sbom.spdx.linux_amd64.json");
        assert_eq!(of_platform("said", "linux_amd64"), "said.linux_amd64");
    }

    #[test]
    fn files_are_named_with_their_digests() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("b")).expect("a directory");
        std::fs::write(dir.path().join("b/file"), "").expect("a file");
        std::fs::write(dir.path().join("a"), "").expect("a file");
        std::os::unix::fs::symlink("a", dir.path().join("c")).expect("a link");
        let mut found = Vec::new();
        digests(dir.path(), Path::new(""), &mut found).expect("digests");
        assert_eq!(found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "b/file"]);
        assert!(found[0].1.starts_with("e3b0c442"));
        retime(dir.path(), DateTime::UNIX_EPOCH).expect("times");
        let modified = std::fs::symlink_metadata(dir.path().join("c")).expect("a link").modified().expect("a time");
        assert_eq!(modified, std::time::UNIX_EPOCH);
    }
}
