//! An archive put into a directory: a layer in overlayfs' own format, or a plain tree.
//!
//! Everything happens below open directories. The parent of each entry is resolved by the kernel inside the root
//! (symbolic links are followed, but can't lead out), then a single name is created in it, never through a link that is
//! there. Names with `..` that lead above the top and hard links to such names are refused, absolute names are taken as
//! below the root, as Docker does.
//!
//! | in a layer's archive | in the layer's directory |
//! |---|---|
//! | `dir/.wh.name` | `dir/name`, a character device 0/0 |
//! | `dir/.wh..wh..opq` | `dir` with `trusted.overlay.opaque=y` |
//! | `.wh.name` and `name` both, `name` a directory | `name`, opaque |
//! | a directory that no entry describes | mode 0755, and named in [`Applied::implied`] |
//! | `trusted.overlay.*`, `user.overlay.*` attributes | left out: they would steer the overlay |

pub(crate) mod below;
mod entry;
mod layer;
pub(crate) mod place;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, ResolveFlags, Timespec, Timestamps};
use rustix::io::Errno;
use skep_types::ErrorKind;

use crate::pack::CAPABILITY;
use crate::rooted::{Root, gid, resolve, uid};
use crate::tar::{Reader, TarError};

pub use below::{Below, below, is_opaque};
pub use layer::{Applied, LayerTarget, apply_layer};
pub use place::is_whiteout;

/// Bytes of a name that an error shows.
const NAME_SHOWN: usize = 256;

/// Bytes of an archive that are read at a time.
const BUFFER: usize = 64 * 1024;

/// The attribute by which overlayfs knows that a directory hides what is below it.
pub(crate) const OPAQUE: &str = "trusted.overlay.opaque";

/// What an archive may cost before it is refused. The defaults let through what is known to exist: layers of some hundred
/// gigabytes, with millions of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of all file contents together, holes included; also of the archive itself, decompressed.
    pub bytes: u64,
    /// How many times larger than its compressed form an archive may get...
    pub ratio: u64,
    /// ...once it is larger than this. Zeros compress well, and a disk image of them is nothing bad.
    pub ratio_from: u64,
    /// Bytes of memory for the names of directories, whose times are set last.
    pub directories: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { entries: 10_000_000, bytes: 1 << 40, ratio: 200, ratio_from: 16 << 30, directories: 256 << 20 }
    }
}

/// How a plain archive is put into a tree ([`extract`]).
#[derive(Debug, Clone, Copy, Default)]
pub struct ExtractOptions {
    /// Refuse to replace a directory by something else, or something else by a directory (`noOverwriteDirNonDir`).
    pub keep_directories: bool,
    /// Give everything this owner and group rather than those that the archive says.
    pub owner: Option<(u32, u32)>,
    /// What it may cost.
    pub limits: Limits,
}

/// Why an archive could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Reading the archive or writing a file failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, with the entry's name.
        what: String,
        /// The failure.
        source: io::Error,
    },
    /// The stream isn't a whole tar archive.
    #[error(transparent)]
    Archive(#[from] TarError),
    /// A name that leads out of the directory.
    #[error("invalid entry name {0:?}: it leads outside of the root")]
    Outside(String),
    /// A hard link whose target is outside.
    #[error("invalid hardlink {0:?} -> {1:?}: it leads outside of the root")]
    LinkOutside(String, String),
    /// An owner that the user namespace of the root does not have.
    #[error("there is no user {0} or no group {1} in the container's user namespace")]
    NoOwner(u32, u32),
    /// A whiteout of nothing, of `.` or of `..`.
    #[error("invalid whiteout {0:?}")]
    Whiteout(String),
    /// More entries than are allowed.
    #[error("the archive has more than {0} entries")]
    TooManyEntries(u64),
    /// Larger than is allowed.
    #[error("the archive unpacks to more than {0} bytes")]
    TooLarge(u64),
    /// More names of directories than are kept in memory.
    #[error("the names of the archive's directories take more than {0} bytes")]
    TooManyDirectories(u64),
    /// A directory would be replaced.
    #[error("cannot overwrite directory {0:?} with non-directory {1:?}")]
    DirectoryByOther(String, String),
    /// A directory would replace something else.
    #[error("cannot overwrite non-directory {0:?} with directory {1:?}")]
    OtherByDirectory(String, String),
}

impl ApplyError {
    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        let of_io = |source: &io::Error| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Exhausted,
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => ErrorKind::InvalidParameter,
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::System,
        };
        match self {
            ApplyError::Io { source, .. } | ApplyError::Archive(TarError::Io(source)) => of_io(source),
            ApplyError::Archive(_)
            | ApplyError::Outside(_)
            | ApplyError::LinkOutside(..)
            | ApplyError::NoOwner(..)
            | ApplyError::Whiteout(_)
            | ApplyError::TooManyEntries(_)
            | ApplyError::TooLarge(_)
            | ApplyError::TooManyDirectories(_)
            | ApplyError::DirectoryByOther(..)
            | ApplyError::OtherByDirectory(..) => ErrorKind::InvalidParameter,
        }
    }
}

/// Puts a plain archive (already decompressed) below `dir` of `root`, as `docker cp` into a container does. `dir` has to
/// exist; links on the way and in the archive are resolved inside `root`.
pub fn extract(archive: impl Read, root: &Root, dir: &Path, options: &ExtractOptions) -> Result<(), ApplyError> {
    let top = root
        .open_at(dir, OFlags::PATH | OFlags::DIRECTORY, 0)
        .map_err(|source| ApplyError::Io { what: format!("open {}", dir.display()), source })?;
    let base =
        real_path(root, &top).map_err(|source| ApplyError::Io { what: "read the root's name".into(), source })?;
    let owners = root.owners();
    let outside = |owner| match owners {
        Some(owners) => owners.outside(owner).ok_or(ApplyError::NoOwner(owner.0, owner.1)),
        None => Ok(owner),
    };
    let tree = Tree {
        keep_directories: options.keep_directories,
        owner: options.owner.map(outside).transpose()?,
        root_owner: outside((0, 0))?,
    };
    let mut applier = Applier::new(root, base, Target::Tree(tree), options.limits);
    let mut reader = Reader::new(io::BufReader::with_capacity(BUFFER, archive));
    while let Some(mut entry) = reader.next_entry()? {
        reader.take_raw();
        if let Some(owners) = owners {
            if tree.owner.is_none() {
                (entry.uid, entry.gid) = outside((entry.uid, entry.gid))?;
            }
            let capabilities = entry.xattrs.iter_mut().filter(|(key, _)| key == CAPABILITY);
            capabilities.for_each(|(_, value)| owners.capability_outside(value));
        }
        applier.apply(&entry, &mut reader)?;
    }
    while reader.drain().map_err(TarError::Io)? {
        reader.take_raw();
    }
    applier.finish()
}

/// Gives the directory `to` the mode, owner, attributes and times of the directory `from`.
pub fn copy_metadata(from: &Root, to: &Root) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let (from, to) = (from.open_at(Path::new("."), flags, 0)?, to.open_at(Path::new("."), flags, 0)?);
    let stat = rustix::fs::fstat(&from)?;
    rustix::fs::fchown(&to, Some(uid(stat.st_uid)), Some(gid(stat.st_gid)))?;
    for name in skep_sys::xattr::list_at(&from, OsStr::new(""))? {
        let name = OsStr::from_bytes(name.to_bytes());
        if steers_overlay(name.as_bytes()) {
            continue;
        }
        if let Some(value) = skep_sys::xattr::get_at(&from, OsStr::new(""), name)? {
            skep_sys::xattr::set_at(&to, OsStr::new(""), name, &value)?;
        }
    }
    rustix::fs::fchmod(&to, rustix::fs::Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let (seconds, nanoseconds) = crate::rooted::modified(&stat);
    Ok(rustix::fs::futimens(&to, &times((seconds, nanoseconds)))?)
}

/// Where entries go, and what that means for some of them.
enum Target<'a> {
    Layer(&'a mut LayerTarget),
    Tree(Tree),
}

/// A tree, with owners as the caller calls them.
#[derive(Clone, Copy)]
struct Tree {
    keep_directories: bool,
    /// Who gets everything.
    owner: Option<(u32, u32)>,
    /// Who gets what nobody is named for.
    root_owner: (u32, u32),
}

/// What a remembered directory takes besides its name.
const DIR_OVERHEAD: u64 = 96;

/// A directory of the tree, by its real path.
#[derive(Default)]
struct DirState {
    /// No entry described it.
    implied: bool,
    /// The time it gets when nothing is created in it any more.
    mtime: Option<(i64, u32)>,
}

/// An open directory and its real path below the root.
struct OpenDir {
    fd: OwnedFd,
    path: Vec<u8>,
}

/// One archive on its way into a tree.
struct Applier<'a> {
    root: &'a Root,
    /// Where in the root names start.
    base: Vec<u8>,
    target: Target<'a>,
    limits: Limits,
    entries: u64,
    bytes: u64,
    dirs: BTreeMap<Vec<u8>, DirState>,
    /// Bytes that `dirs` takes.
    dirs_size: u64,
    /// The directory of the entry before, which mostly is that of the next one too.
    last: Option<(Vec<u8>, OpenDir)>,
    opaque_root: bool,
}

impl<'a> Applier<'a> {
    fn new(root: &'a Root, base: Vec<u8>, target: Target<'a>, limits: Limits) -> Self {
        Applier {
            root,
            base,
            target,
            limits,
            entries: 0,
            bytes: 0,
            dirs: BTreeMap::new(),
            dirs_size: 0,
            last: None,
            opaque_root: false,
        }
    }

    /// Remembers a directory until the end.
    fn note_dir(&mut self, path: Vec<u8>, state: DirState) -> Result<(), ApplyError> {
        let size = DIR_OVERHEAD + path.len() as u64;
        if self.dirs.insert(path, state).is_none() {
            self.dirs_size += size;
        }
        if self.dirs_size > self.limits.directories {
            return Err(ApplyError::TooManyDirectories(self.limits.directories));
        }
        Ok(())
    }

    /// Sets the directories' times, which had to wait until all files were in them.
    fn finish(&mut self) -> Result<(), ApplyError> {
        for (path, state) in self.dirs.iter().rev() {
            let Some(mtime) = state.mtime else { continue };
            let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            match resolve(self.root.as_fd(), as_path(path), flags, 0, how) {
                Ok(dir) => {
                    rustix::fs::futimens(&dir, &times(mtime)).map_err(|error| failed("set times of", path, error))?
                }
                // Something else took its place since.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(failed("open", path, error)),
            }
        }
        Ok(())
    }
}

/// The components of a name; `None` when it leads above the top.
fn clean(name: &[u8]) -> Option<Vec<&[u8]>> {
    let mut parts = Vec::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts)
}

fn join(base: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut path = base.to_vec();
    for part in parts {
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(part);
    }
    path
}

/// Where an open directory is below `root`, as the kernel sees it.
fn real_path(root: &Root, dir: &OwnedFd) -> io::Result<Vec<u8>> {
    use std::os::fd::AsRawFd;
    let name = |fd: i32| rustix::fs::readlink(format!("/proc/self/fd/{fd}"), Vec::new());
    let (top, path) = (name(root.as_fd().as_raw_fd())?.into_bytes(), name(dir.as_raw_fd())?.into_bytes());
    let top = top.strip_suffix(b"/").unwrap_or(&top);
    Ok(path.strip_prefix(top).unwrap_or(&path).strip_prefix(b"/").unwrap_or(b"").to_vec())
}

pub(crate) fn times((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: i64::from(nanoseconds) };
    Timestamps { last_access: time, last_modification: time }
}

/// Attributes by which overlayfs keeps its books.
pub(crate) fn steers_overlay(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

fn as_path(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

/// A name as it can be shown: whoever made the archive chose it.
fn text(name: &[u8]) -> String {
    let shown = &name[..name.len().min(NAME_SHOWN)];
    let end = if shown.len() < name.len() { "..." } else { "" };
    let clean = String::from_utf8_lossy(shown).replace(|c: char| c.is_control(), "?");
    format!("{clean}{end}")
}

fn failed(action: &str, name: &[u8], error: impl Into<io::Error>) -> ApplyError {
    ApplyError::Io { what: format!("{action} {}", text(name)), source: error.into() }
}

fn to_path_buf(path: &[u8]) -> PathBuf {
    as_path(path).to_owned()
}
