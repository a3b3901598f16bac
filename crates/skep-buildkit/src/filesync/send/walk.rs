//! A walk over a tree, in the order that receivers expect.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::super::{Stat, SyncError, mode};

/// What is done with one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// It is sent; of a directory, what is below it is asked for.
    Yes,
    /// It isn't, unless something below it is.
    Below,
    /// Neither it nor anything below it is.
    No,
}

/// Says what of a tree is sent.
pub trait Choose: Send {
    /// Asked of every entry, parents first. `path` is below the root.
    fn want(&mut self, path: &str, is_directory: bool) -> Want;
}

/// All of it.
pub struct All;

impl Choose for All {
    fn want(&mut self, _: &str, _: bool) -> Want {
        Want::Yes
    }
}

/// A directory on the way down.
struct Level {
    dir: OwnedFd,
    path: String,
    left: std::vec::IntoIter<OsString>,
    /// The directory itself, as long as it is not known whether anything below it is sent.
    unsent: Option<Stat>,
}

/// Tells `each` of every entry that `choose` wants, with its number.
pub(super) fn walk(
    root: &OwnedFd,
    choose: &mut dyn Choose,
    owner: Option<(u32, u32)>,
    mut each: impl FnMut(u32, Stat) -> Result<(), SyncError>,
) -> Result<(), SyncError> {
    let mut next = 0;
    let mut tell = |stat| {
        let number = next;
        next += 1;
        each(number, stat)
    };
    let mut first_names = HashMap::new();
    let mut levels = vec![Level::open(root, OsStr::new("."), String::new(), None)?];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.left.next() else {
            levels.pop();
            continue;
        };
        let path = join(&level.path, &name)?;
        let stat = match rustix::fs::statat(&level.dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue, // removed since the directory was read
            Err(errno) => return Err(SyncError::file("stat", &path)(errno)),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let want = choose.want(&path, kind == FileType::Directory);
        if want == Want::No || kind == FileType::Socket || (want == Want::Below && kind != FileType::Directory) {
            continue;
        }
        let wire = describe(&level.dir, &name, path.clone(), &stat, owner, &mut first_names)?;
        if kind != FileType::Directory {
            send_parents(&mut levels, &mut tell)?;
            tell(wire)?;
            continue;
        }
        let unsent = Level::open(&level.dir, &name, path, Some(wire))?;
        levels.push(unsent);
        if want == Want::Yes {
            send_parents(&mut levels, &mut tell)?;
        }
    }
    Ok(())
}

/// Directories above the present place that are needed after all.
fn send_parents(levels: &mut [Level], tell: &mut impl FnMut(Stat) -> Result<(), SyncError>) -> Result<(), SyncError> {
    levels.iter_mut().filter_map(|level| level.unsent.take()).try_for_each(tell)
}

impl Level {
    fn open(parent: impl AsFd, name: &OsStr, path: String, unsent: Option<Stat>) -> Result<Level, SyncError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(SyncError::file("open", &path))?;
        let left = names(&dir).map_err(SyncError::file("list", &path))?.into_iter();
        Ok(Level { dir, path, left, unsent })
    }
}

fn names(dir: &OwnedFd) -> Result<Vec<OsString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The path of an entry. Names that are not UTF-8 have no form on the wire.
fn join(path: &str, name: &OsStr) -> Result<String, SyncError> {
    let Some(name) = name.to_str() else {
        let shown =
            if path.is_empty() { name.to_owned() } else { OsString::from(format!("{path}/{}", name.display())) };
        return Err(SyncError::protocol(format!(
            "{shown:?}: the name is not UTF-8, which BuildKit's protocol can't send"
        )));
    };
    Ok(if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") })
}

fn describe(
    dir: &OwnedFd,
    name: &OsStr,
    path: String,
    stat: &rustix::fs::Stat,
    owner: Option<(u32, u32)>,
    first_names: &mut HashMap<(u64, u64), String>,
) -> Result<Stat, SyncError> {
    let kind = FileType::from_raw_mode(stat.st_mode);
    let (uid, gid) = owner.unwrap_or((stat.st_uid, stat.st_gid));
    let mut wire = Stat {
        mode: mode::to_wire(stat.st_mode),
        uid,
        gid,
        mod_time: stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(stat.st_mtime_nsec.cast_signed()),
        ..Stat::default()
    };
    match kind {
        FileType::Directory => {}
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(dir, name, Vec::new()).map_err(SyncError::file("read link", &path))?;
            wire.size = stat.st_size;
            wire.linkname = target.into_string().map_err(|_| {
                SyncError::protocol(format!(
                    "{path:?}: the link's target is not UTF-8, which BuildKit's protocol can't send"
                ))
            })?;
        }
        FileType::CharacterDevice | FileType::BlockDevice => {
            wire.devmajor = i64::from(rustix::fs::major(stat.st_rdev));
            wire.devminor = i64::from(rustix::fs::minor(stat.st_rdev));
        }
        _ => wire.size = stat.st_size,
    }
    if kind == FileType::RegularFile && stat.st_nlink > 1 {
        match first_names.entry((stat.st_dev, stat.st_ino)) {
            std::collections::hash_map::Entry::Occupied(first) => wire.linkname.clone_from(first.get()),
            std::collections::hash_map::Entry::Vacant(none) => {
                none.insert(path.clone());
            }
        }
    }
    if matches!(kind, FileType::RegularFile | FileType::Directory) {
        for key in skep_sys::xattr::list_at(dir, name).unwrap_or_default() {
            let value = skep_sys::xattr::get_at(dir, OsStr::new(name), OsStr::from_bytes(key.to_bytes()));
            if let (Ok(key), Ok(Some(value))) = (key.into_string(), value) {
                wire.xattrs.insert(key, value);
            }
        }
    }
    wire.path = path;
    Ok(wire)
}
