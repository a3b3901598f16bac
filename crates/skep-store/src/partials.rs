//! Blobs of which a part is here: what a pull that was cut short had already got, one file per digest, so that the next pull asks its
//! registry for the rest only.
//!
//! A file is nothing but the blob's first bytes. No hash state is kept beside it, and nothing is flushed: whoever continues reads the
//! bytes anyway, to unpack them, and hashes them on the way. That costs a sixth of the inflating that happens at the same time, and finds
//! what a power cut or a bad disk did to the file, which a stored state would vouch for unseen.
//!
//! One owner at a time: [`Partials::take`] gives a file to one download, and nobody else, until the [`Partial`] is dropped.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Condvar, Mutex};
use skep_types::Digest;

use crate::error::StoreError;
use crate::trash::children;

/// The partial blobs of a data root; clones share it.
#[derive(Debug, Clone)]
pub struct Partials {
    dir: PathBuf,
    taken: Arc<Taken>,
}

/// Whose file a download has.
#[derive(Debug, Default)]
struct Taken {
    digests: Mutex<HashSet<Digest>>,
    given_back: Condvar,
}

/// What is known of a partial blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartialInfo {
    /// The digest that the whole will have.
    pub digest: Digest,
    /// Bytes that are here.
    pub size: u64,
    /// When the last of them came.
    pub modified: SystemTime,
    /// A download goes on with it now.
    pub in_use: bool,
}

/// A partial blob in the hands of a download. Write what comes to it. Dropped, what it has stays for the next download.
#[derive(Debug)]
pub struct Partial {
    file: File,
    path: PathBuf,
    digest: Digest,
    size: u64,
    taken: Arc<Taken>,
}

impl Partials {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Partials { dir, taken: Arc::default() }
    }

    /// Takes the blob's file, making an empty one if there is none. `None` while another download has it.
    pub fn take(&self, digest: &Digest) -> Result<Option<Partial>, StoreError> {
        self.take_within(digest, Duration::ZERO)
    }

    /// As [`take`](Self::take), waiting a while for a download that is about to give it back.
    pub fn take_within(&self, digest: &Digest, patience: Duration) -> Result<Option<Partial>, StoreError> {
        let mut taken = self.taken.digests.lock();
        let until = Instant::now() + patience;
        while taken.contains(digest) {
            if self.taken.given_back.wait_until(&mut taken, until).timed_out() {
                return Ok(None);
            }
        }
        taken.insert(*digest);
        drop(taken);
        let path = self.path(digest);
        let opened = File::options().append(true).create(true).truncate(false).open(&path);
        match opened.and_then(|file| Ok((file.metadata()?.len(), file))) {
            Ok((size, file)) => Ok(Some(Partial { file, path, digest: *digest, size, taken: Arc::clone(&self.taken) })),
            Err(source) => {
                self.taken.digests.lock().remove(digest);
                Err(StoreError::io("open", &path, source))
            }
        }
    }

    /// All partial blobs.
    pub fn list(&self) -> Result<Vec<PartialInfo>, StoreError> {
        let mut list = Vec::new();
        for path in children(&self.dir)? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Ok(digest) = Digest::from_hex(name) else { continue };
            match path.metadata().and_then(|metadata| Ok((metadata.len(), metadata.modified()?))) {
                Ok((size, modified)) => {
                    let in_use = self.taken.digests.lock().contains(&digest);
                    list.push(PartialInfo { digest, size, modified, in_use });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(StoreError::io("stat", &path, source)),
            }
        }
        Ok(list)
    }

    /// Deletes a partial blob, unless a download has it. Returns whether it is gone.
    pub fn remove(&self, digest: &Digest) -> Result<bool, StoreError> {
        let taken = self.taken.digests.lock();
        if taken.contains(digest) {
            return Ok(false);
        }
        let path = self.path(digest);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("delete", &path, error)),
            _ => Ok(true),
        }
    }

    /// Deletes those that got nothing for so long. Returns the bytes that they had.
    pub fn expire(&self, age: Duration) -> Result<u64, StoreError> {
        let mut freed = 0;
        for info in self.list()? {
            // A time in the future is a clock that was set back: then it waits.
            let old = info.modified.elapsed().is_ok_and(|elapsed| elapsed >= age);
            if old && !info.in_use && self.remove(&info.digest)? {
                freed += info.size;
            }
        }
        Ok(freed)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.hex())
    }
}

impl Partial {
    /// Bytes that are here.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The bytes that are here now, from the first on.
    pub fn reader(&self) -> Result<impl Read + Send + use<>, StoreError> {
        let file = File::open(&self.path).map_err(|source| StoreError::io("open", &self.path, source))?;
        Ok(file.take(self.size))
    }

    /// Appends the next bytes.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Forgets all bytes.
    pub fn clear(&mut self) -> Result<(), StoreError> {
        self.file.set_len(0).map_err(|source| StoreError::io("truncate", &self.path, source))?;
        self.size = 0;
        Ok(())
    }

    /// Deletes it: the blob is here whole, or can't be used.
    pub fn discard(mut self) {
        self.size = 0;
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let mut taken = self.taken.digests.lock();
        if self.size == 0 {
            // One that stays is found by the next download, or expires.
            let _ = std::fs::remove_file(&self.path);
        }
        taken.remove(&self.digest);
        self.taken.given_back.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partials() -> (tempfile::TempDir, Partials, Digest) {
        let dir = tempfile::tempdir().expect("tempdir");
        let partials = Partials::new(dir.path().to_owned());
        (dir, partials, crate::chain::sha256(b"whole"))
    }

    #[test]
    fn what_came_is_there_for_the_next_one() {
        let (_dir, partials, digest) = partials();
        let mut first = partials.take(&digest).expect("take").expect("free");
        first.append(b"wh").expect("append");
        assert!(partials.take(&digest).expect("take").is_none(), "one owner at a time");
        assert!(!partials.remove(&digest).expect("remove"), "not under its owner");
        assert!(partials.list().expect("list")[0].in_use);
        drop(first);
        let mut second = partials.take(&digest).expect("take").expect("free");
        second.append(b"ole").expect("append");
        let mut all = String::new();
        second.reader().expect("reader").read_to_string(&mut all).expect("read");
        assert_eq!((all.as_str(), second.size()), ("whole", 5));
        second.discard();
        assert!(partials.list().expect("list").is_empty());
    }

    #[test]
    fn nothing_is_left_of_nothing_and_of_what_is_old() {
        let (_dir, partials, digest) = partials();
        drop(partials.take(&digest).expect("take"));
        assert!(partials.list().expect("list").is_empty());
        partials.take(&digest).expect("take").expect("free").append(b"old").expect("append");
        assert_eq!(partials.expire(Duration::from_secs(3600)).expect("expire"), 0);
        assert_eq!(partials.expire(Duration::ZERO).expect("expire"), 3);
        assert!(partials.list().expect("list").is_empty());
    }
}
