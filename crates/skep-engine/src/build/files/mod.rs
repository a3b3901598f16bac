//! Files made and copied on top of a tree: `COPY`, `ADD`, `WORKDIR`, and files whose content is in the Dockerfile.
//!
//! The base and the new layer's directory are put together as an overlay that is mounted nowhere: the kernel knows what a change of
//! it means for the layer. Sources are read below their own roots; a link never leads out of a tree.

mod actions;
mod copy;
mod glob;
mod mode;
mod owner;
mod unpack;

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use skep_build::BuildError;
use skep_build::graph::{self, Copy, Fetched, FileAction, Files, Unpack};
use skep_build::worker::{Layer, Stack, Tree};
use skep_dockerfile::ignore::Matcher;
use skep_fs::Root;
use skep_store::UpperDir;
use skep_types::ErrorKind;
use tokio_util::sync::CancellationToken;

use super::error::{cancelled, failed, store};
use super::paths::{Located, is_dir, locate, locate_itself};
use super::{step, tree};
use crate::engine::Inner;
use copy::{Copier, CopyError, Wishes};
pub(super) use copy::{Existing, Place, names, open_dir, stat_at};
pub(super) use glob::{expand, is_pattern};
use owner::Owned;

/// Does what a step says, and makes a layer of it, unless `stop` is cancelled before. `inputs` are the trees of its copies, in order.
/// Blocking.
pub(super) fn run(
    engine: &Arc<Inner>,
    files: &Files,
    base: Stack,
    inputs: &[Tree],
    stop: CancellationToken,
) -> Result<Layer, BuildError> {
    let layers = engine.storage.store().layers();
    let lease = layers.lease();
    base.iter().for_each(|top| lease.hold(top));
    let upper = layers.stage_upper(base.as_ref()).map_err(store)?;
    let empty = super::empty_directory(engine)?;
    let target = Target {
        root: writable(&upper, &empty)?,
        base: tree::merged(upper.lower(), &empty)?,
        stop,
        time: files.time.map(|time| time.timestamp()),
    };
    let mut inputs = inputs.iter();
    for action in &files.actions {
        let source = match action {
            FileAction::Copy(_) => {
                let missing = || BuildError::new(ErrorKind::System, "a copy without its source");
                Some(tree::open(layers, inputs.next().ok_or_else(missing)?, &empty)?)
            }
            _ => None,
        };
        target.act(action, source.as_ref())?;
    }
    drop(target);
    step::commit(engine, base, upper)
}

/// Fills `into`, an empty directory of the engine, with what the directory `path` of a tree has.
pub(super) fn copy_directory(from: &Root, path: &Path, into: &Path) -> Result<(), BuildError> {
    let wishes = Wishes::verbatim();
    let top = open_top(&Root::open(into).map_err(failed("open a directory"))?)?;
    let source = directory_of(from, &located(from, path)?)?;
    let (dot, place) = (OsStr::new("."), |dir| Place { dir, name: OsStr::new(".") });
    let mut copier = Copier::new(&wishes, &top);
    let copied =
        copier.copy(place(&source), Place { dir: &top, name: dot }, (Path::new(""), Path::new("")), Existing::Kept);
    copied.map_err(copy_failed)
}

/// A copy that changes nothing of what it copies.
pub(super) struct Copying(Wishes);

impl Copying {
    pub(super) fn verbatim() -> Self {
        Copying(Wishes::verbatim())
    }

    /// Copies into the tree whose root is `top`.
    pub(super) fn copier<'a>(&'a self, top: &'a OwnedFd) -> Copier<'a> {
        Copier::new(&self.0, top)
    }
}

/// Where files go.
struct Target {
    /// The base with the new layer on top.
    root: Root,
    /// The base alone, where names of users are looked up.
    base: Root,
    stop: CancellationToken,
    /// Seconds since 1970 that everything gets that is made here; what is copied keeps its time.
    time: Option<i64>,
}

/// The base with what is written on top of it, mounted nowhere.
pub(super) fn writable(upper: &UpperDir, empty: &Path) -> Result<Root, BuildError> {
    let lower: Vec<&Path> = match upper.lower() {
        [] => vec![empty],
        lower => lower.iter().map(PathBuf::as_path).collect(),
    };
    let (written, work) = (upper.path(), upper.work());
    let overlay = skep_sys::overlay::Overlay {
        lower: &lower,
        upper: Some(skep_sys::overlay::Writable { upper: &written, work: &work }),
        options: &[("index", "off"), ("redirect_dir", "off"), ("metacopy", "off")],
        flags: &["volatile"],
    };
    skep_sys::overlay::mount(&overlay).map(Root::from_fd).map_err(failed("mount the layers that files are copied to"))
}

impl Target {
    fn act(&self, action: &FileAction, source: Option<&Root>) -> Result<(), BuildError> {
        let owned = |owner| owner::resolve(owner, &self.base);
        match action {
            FileAction::MakeDir { path, parents: true, mode, owner } => {
                self.make_dirs(path, *mode, owned(owner).or_root()).map(drop)
            }
            FileAction::MakeDir { path, parents: false, mode, owner } => self.make_dir(path, *mode, owned(owner)),
            FileAction::Write { path, name, data, mode, owner } => self.write(path, name, data, mode, owned(owner)),
            FileAction::MakeFile { path, data, mode, owner } => self.make_file(path, data, *mode, owned(owner)),
            FileAction::MakeLink { path, target, owner } => self.make_link(path, target, owned(owner)),
            FileAction::Remove { path, wildcards, required } => self.remove(path, *wildcards, *required),
            FileAction::Copy(copy) => source.map_or(Ok(()), |source| self.copy(copy, source)),
        }
    }

    /// Where a path leads, of which some may not be there.
    fn located(&self, path: &Path) -> Result<Located, BuildError> {
        let failure = match locate(&self.root, path) {
            Ok(found) => return Ok(found),
            Err(failure) if failure.kind() == std::io::ErrorKind::NotADirectory => failure,
            Err(failure) => return Err(failed(&path.to_string_lossy())(failure)),
        };
        let mut above: Vec<&Path> = path.ancestors().collect();
        above.reverse();
        let file = above.into_iter().filter_map(|above| locate(&self.root, above).ok());
        let file = file.into_iter().find(|found| found.stat.is_some() && !found.is_dir());
        Err(file.map_or_else(|| failed(&path.to_string_lossy())(failure), |found| in_the_way(&found.real)))
    }

    /// Makes a directory and those above it; those that are there stay as they are. Returns its real path.
    fn make_dirs(&self, path: &Path, mode: u32, (uid, gid): (u32, u32)) -> Result<PathBuf, BuildError> {
        let found = self.located(path)?.real;
        let mut so_far = PathBuf::new();
        let mut dir = open_top(&self.root)?;
        for name in &found {
            so_far.push(name);
            let place = Place { dir: &dir, name };
            let made = match rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(mode)) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(error) => return Err(at(&so_far, error)),
            };
            let next = copy::open_dir(place).map_err(|error| match error {
                Errno::NOTDIR | Errno::LOOP => in_the_way(&so_far),
                error => at(&so_far, error),
            })?;
            if made {
                rustix::fs::fchown(&next, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                    .and_then(|()| rustix::fs::fchmod(&next, Mode::from_raw_mode(mode)))
                    .and_then(|()| self.time.map_or(Ok(()), |time| rustix::fs::futimens(&next, &copy::times_at(time))))
                    .map_err(|error| at(&so_far, error))?;
            }
            dir = next;
        }
        Ok(found)
    }

    /// A file whose content is in the Dockerfile.
    fn write(&self, path: &str, name: &str, data: &[u8], mode: &graph::Mode, owner: Owned) -> Result<(), BuildError> {
        let is_dir = path.ends_with('/') || locate(&self.root, Path::new(path)).is_ok_and(|found| found.is_dir());
        let full = if is_dir { Path::new(path).join(name) } else { PathBuf::from(path) };
        let parent = self.make_dirs(full.parent().unwrap_or(Path::new("/")), 0o755, owner.or_root())?;
        let target = located(&self.root, &full)?;
        let (dir, leaf) = (directory_of(&self.root, target.parent().unwrap_or(&parent))?, target.file_name());
        let leaf = leaf.ok_or_else(|| BuildError::invalid(format!("{path} is not the name of a file")))?;
        let (uid, gid) = owner.or_root();
        let bits = match mode {
            graph::Mode::Keep => 0o644,
            graph::Mode::Octal(bits) => *bits,
            graph::Mode::Symbolic(text) => {
                mode::apply(text, 0o644, false).map_err(|error| BuildError::invalid(error.to_string()))?
            }
        };
        let write = || -> std::io::Result<()> {
            match rustix::fs::unlinkat(&dir, leaf, rustix::fs::AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(rustix::fs::openat(&dir, leaf, flags, Mode::from_raw_mode(0o600))?);
            std::io::Write::write_all(&mut file, data)?;
            rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
            rustix::fs::fchmod(&file, Mode::from_raw_mode(bits & 0o7777))?;
            Ok(self.time.map_or(Ok(()), |time| rustix::fs::futimens(&file, &copy::times_at(time)))?)
        };
        write().map_err(failed(path))
    }

    fn copy(&self, copy: &Copy, source: &Root) -> Result<(), BuildError> {
        let wishes = Wishes {
            owner: owner::resolve(&copy.owner, &self.base),
            mode: copy.mode.clone(),
            exclude: exclusion(&copy.exclude)?,
            stop: self.stop.clone(),
        };
        let top = open_top(&self.root)?;
        for pattern in &copy.sources {
            if copy.parents {
                self.copy_with_parents(pattern, &copy.dest, source, &wishes, &top)?;
                continue;
            }
            let found = expand(source, pattern).map_err(failed(pattern))?;
            if found.is_empty() && copy.rules.some {
                return Err(BuildError::new(ErrorKind::NotFound, format!("{pattern} not found")));
            }
            for path in found {
                self.copy_one(copy, &path, source, &wishes, &top)?;
            }
        }
        Ok(())
    }

    /// One source: the contents of a directory, or a file.
    fn copy_one(
        &self,
        copy: &Copy,
        path: &Path,
        source: &Root,
        wishes: &Wishes,
        top: &OwnedFd,
    ) -> Result<(), BuildError> {
        let owner = wishes.owner.or_root();
        // `--chmod` is also for the directories that have to be made.
        let mode = match wishes.mode {
            graph::Mode::Octal(mode) => mode & 0o777,
            graph::Mode::Keep | graph::Mode::Symbolic(_) => 0o755,
        };
        let found = match copy.rules.links {
            true => locate_itself(source, path),
            false => locate(source, path),
        };
        let found = found.map_err(failed(&path.to_string_lossy()))?;
        let stat = found.stat.ok_or_else(|| not_found(path))?;
        let into = copy.dest.ends_with('/') || copy.dest.ends_with("/.");
        if into {
            self.make_dirs(Path::new(&copy.dest), mode, owner)?;
        }
        if copy.unpack == Unpack::Archives
            && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && unpack::is_archive(source, &found.real)?
        {
            let dir = self.make_dirs(Path::new(&copy.dest), mode, owner)?;
            let named = matches!(copy.owner, graph::Owner::Named(_));
            let owner = if named { wishes.owner } else { Owned::AsBefore };
            return unpack::unpack(source, &found.real, &self.root, &dir, owner);
        }
        let mut existing = self.located(Path::new(&copy.dest))?;
        if is_dir(&stat) {
            if copy.rules.whole && existing.stat.is_some() {
                existing = self.located(&existing.real.join(path.file_name().unwrap_or_default()))?;
            }
            let from = directory_of(source, &found.real)?;
            let (above, name) = split(&existing.real);
            match (&existing.stat, copy.fetched) {
                (Some(_), _) => {}
                (None, Fetched::Commit) => drop(self.make_dirs(above, 0o755, owner)?),
                (None, Fetched::No | Fetched::File) => drop(self.make_dirs(&existing.real, 0o755, owner)?),
            }
            let dir = directory_of(&self.root, above)?;
            let dot = Place { dir: &from, name: OsStr::new(".") };
            let paths = (Path::new(""), existing.real.as_path());
            return Copier::new(wishes, top)
                .copy(dot, Place { dir: &dir, name }, paths, Existing::Kept)
                .map_err(copy_failed);
        }
        let base = path.file_name().unwrap_or_default();
        let target = if existing.is_dir() { located(&self.root, &existing.real.join(base))? } else { existing.real };
        let (above, name) = split(&target);
        self.make_dirs(above, mode, owner)?;
        let dir = directory_of(&self.root, above)?;
        let (source_above, source_name) = split(&found.real);
        let from = directory_of(source, source_above)?;
        let (from, to) = (Place { dir: &from, name: source_name }, Place { dir: &dir, name });
        Copier::new(wishes, top).copy(from, to, (Path::new(base), &target), Existing::Kept).map_err(copy_failed)
    }

    /// `--parents`: the directories above a source are made too, those before `/./` not.
    fn copy_with_parents(
        &self,
        pattern: &str,
        dest: &str,
        source: &Root,
        wishes: &Wishes,
        top: &OwnedFd,
    ) -> Result<(), BuildError> {
        let (pivot, _) = pattern.split_once("/./").unwrap_or(("", pattern));
        let pivot = located(source, Path::new(pivot))?;
        let dest = self.make_dirs(Path::new(dest), 0o755, wishes.owner.or_root())?;
        let mut copier = Copier::new(wishes, top);
        for path in expand(source, pattern).map_err(failed(pattern))? {
            let real = located(source, &path)?;
            if locate(source, &path).map_err(failed(pattern))?.stat.is_none() {
                return Err(not_found(&path));
            }
            let below = real.strip_prefix(&pivot).unwrap_or(&real).to_owned();
            let (mut from, mut to) = (directory_of(source, &pivot)?, directory_of(&self.root, &dest)?);
            let (above, name) = split(&below);
            let mut so_far = PathBuf::new();
            for part in above {
                so_far.push(part);
                let places = (Place { dir: &from, name: part }, Place { dir: &to, name: part });
                let made = rustix::fs::mkdirat(&to, part, Mode::from_raw_mode(0o755));
                let next = (copy::open_dir(places.0), copy::open_dir(places.1));
                let next = (next.0.map_err(|e| at(&so_far, e))?, next.1.map_err(|e| at(&so_far, e))?);
                if made.is_ok() {
                    let stat = copy::stat_at(places.0).map_err(|error| at(&so_far, error))?;
                    let dir = File::from(next.1.try_clone().map_err(failed("duplicate a descriptor"))?);
                    copier.describe(places.0, places.1, Some(&dir), &stat, &so_far).map_err(copy_failed)?;
                }
                (from, to) = next;
            }
            let target = dest.join(&below);
            let (from, to) = (Place { dir: &from, name }, Place { dir: &to, name });
            copier.copy(from, to, (&below, &target), Existing::Overwritten).map_err(copy_failed)?;
        }
        Ok(())
    }
}

/// Patterns of what is left out.
pub(super) fn exclusion(patterns: &[String]) -> Result<Matcher, BuildError> {
    Matcher::new(patterns).map_err(|error| BuildError::invalid(error.to_string()))
}

/// The real path of what may be there or not.
fn located(root: &Root, path: &Path) -> Result<PathBuf, BuildError> {
    Ok(locate(root, path).map_err(failed(&path.to_string_lossy()))?.real)
}

/// A real path's parent and last name.
fn split(real: &Path) -> (&Path, &OsStr) {
    (real.parent().unwrap_or(Path::new("")), real.file_name().unwrap_or(OsStr::new(".")))
}

fn open_top(root: &Root) -> Result<OwnedFd, BuildError> {
    directory_of(root, Path::new(""))
}

fn directory_of(root: &Root, real: &Path) -> Result<OwnedFd, BuildError> {
    let real = if real.as_os_str().is_empty() { Path::new(".") } else { real };
    root.open_at(real, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, 0)
        .map_err(|error| at(real, Errno::from_io_error(&error).unwrap_or(Errno::IO)))
}

/// BuildKit's words for a file where a directory has to be.
fn in_the_way(path: &Path) -> BuildError {
    BuildError::invalid(format!("mkdir {}: not a directory", Path::new("/").join(path).display()))
}

fn at(path: &Path, error: Errno) -> BuildError {
    let path = Path::new("/").join(path);
    if error == Errno::NOTDIR || error == Errno::LOOP {
        return BuildError::invalid(format!("{}: not a directory", path.display()));
    }
    failed(&path.to_string_lossy())(error.into())
}

/// BuildKit's words for a source that isn't there.
pub(super) fn not_found(path: &Path) -> BuildError {
    let path = Path::new("/").join(path.strip_prefix("/").unwrap_or(path));
    BuildError::new(ErrorKind::NotFound, format!("{:?}: not found", path.display().to_string()))
}

pub(super) fn copy_failed(error: CopyError) -> BuildError {
    match &error {
        CopyError::NotADirectory(_) | CopyError::Directory(_) | CopyError::Mode(_) => {
            BuildError::invalid(error.to_string())
        }
        CopyError::Cancelled => cancelled(),
        CopyError::Io { path, .. } => {
            let shown = path.display().to_string();
            match error {
                CopyError::Io { source, .. } => failed(&format!("copy {shown}"))(source),
                other => BuildError::invalid(other.to_string()),
            }
        }
    }
}
