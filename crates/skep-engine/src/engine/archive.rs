//! Files of a container: cp, diff, export. Everything goes by descriptors below the container's root.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use chrono::DateTime;
use futures_util::StreamExt;
use skep_fs::Root;
use skep_fs::changes::Change as Changed;
use skep_fs::rooted::PathStat as Found;
use tokio::sync::mpsc;

use super::blocking;
use crate::containers::rootfs::{self, Access};
use crate::model::request::{ByteStream, ChangeKind, ExtractOptions, PathChange, PathStat};
use crate::model::view::ContainerView;
use crate::{Engine, Error, Result};

/// Pieces of an archive that may wait for a slow client, each of up to 64 KiB.
const WAITING: usize = 16;
const PIECE: usize = 64 << 10;

impl Engine {
    /// What is at a path.
    pub async fn stat_path(&self, container: &str, path: &str) -> Result<PathStat> {
        let view = self.container(container)?;
        let (container, path) = (container.to_owned(), path.to_owned());
        blocking(move || {
            let root = rootfs::open(&view, Access::Read)?;
            stat(&root, &container, &path)
        })
        .await
    }

    /// A tar archive of a path, its entries named from the path's base name on.
    pub async fn read_archive(&self, container: &str, path: &str) -> Result<(PathStat, ByteStream)> {
        let view = self.container(container)?;
        let (container, path) = (container.to_owned(), path.to_owned());
        let (root, found, path) = blocking(move || {
            let root = rootfs::open(&view, Access::Read)?;
            let found = stat(&root, &container, &path)?;
            Ok((root, found, path))
        })
        .await?;
        let base = base_name(&path);
        let stream = archive(move |out| skep_fs::pack::write_tree(&root, Path::new(&path), &base, out));
        Ok((found, stream))
    }

    /// Unpacks a tar archive (plain, gzip, zstd) into a directory.
    pub async fn write_archive(
        &self,
        container: &str,
        path: &str,
        options: ExtractOptions,
        archive: ByteStream,
    ) -> Result<()> {
        let view = self.container(container)?;
        let reader = reader(archive);
        let (container, path) = (container.to_owned(), path.to_owned());
        blocking(move || {
            let root = rootfs::open(&view, Access::Write)?;
            stat(&root, &container, &path)?;
            let directory =
                root.open_at(Path::new(&path), rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY, 0).is_ok();
            if !directory {
                return Err(Error::Invalid("extraction point is not a directory".to_owned()));
            }
            if is_read_only(&view, &path) {
                return Err(Error::Invalid("mounted volume is marked read-only".to_owned()));
            }
            // Without it the archive says whose the files are.
            let owner = match options.copy_uid_gid && !view.config.user.is_empty() {
                true => {
                    let identity = rootfs::look_up(&root, &view.config.user, &[])?;
                    Some((identity.uid, identity.gid))
                }
                false => None,
            };
            let options = skep_fs::apply::ExtractOptions {
                keep_directories: options.no_overwrite_dir_non_dir,
                owner,
                ..skep_fs::apply::ExtractOptions::default()
            };
            let decoded = skep_fs::decode::Decoder::new(reader)
                .map_err(|e| Error::Invalid(format!("reading the archive: {e}")))?;
            as_root_of(&root, || skep_fs::apply::extract(decoded, &root, Path::new(&path), &options))?
                .map_err(|e| Error::Invalid(format!("unpacking into {path} of container {container}: {e}")))
        })
        .await
    }

    /// Paths that differ from the image.
    pub async fn container_changes(&self, container: &str) -> Result<Vec<PathChange>> {
        let view = self.container(container)?;
        blocking(move || {
            let (upper, lower) = open_layers(&view)?;
            Ok(changed_paths(&view, &upper, &lower)?.into_iter().map(change).collect())
        })
        .await
    }

    /// The whole root file system as a tar archive.
    pub async fn export_container(&self, container: &str) -> Result<ByteStream> {
        let view = self.container(container)?;
        // Without the mounts, which belong to others: the layers alone, also of a container that runs.
        let root = blocking(move || rootfs::detached(&view.rootfs, Access::Read).map(Root::from_fd)).await?;
        Ok(archive(move |out| skep_fs::pack::write_tree(&root, Path::new("/"), OsStr::new(""), out)))
    }
}

/// A container's writable layer and the layers below, topmost first.
pub(super) fn open_layers(view: &ContainerView) -> Result<(Root, Vec<Root>)> {
    let open = |path: &String| Root::open(Path::new(path));
    let layers = || -> io::Result<(Root, Vec<Root>)> {
        Ok((open(&view.rootfs.upper)?, view.rootfs.lower.iter().map(open).collect::<io::Result<_>>()?))
    };
    layers().map_err(|e| Error::system(format!("opening the layers of container {}", view.id), e))
}

/// What a container changed, without what the engine made for it.
pub(super) fn changed_paths(view: &ContainerView, upper: &Root, lower: &[Root]) -> Result<Vec<Changed>> {
    let changes = skep_fs::changes::changes(upper, lower)
        .map_err(|e| Error::system(format!("comparing container {} with its image", view.id), e))?;
    Ok(of_the_container(changes, |path| is_mount_point(view, path)))
}

/// Leaves out the mount points that the engine made, and directories that are there because of them alone.
fn of_the_container(changes: Vec<Changed>, is_mount_point: impl Fn(&Path) -> bool) -> Vec<Changed> {
    let mut kept: Vec<Changed> = Vec::with_capacity(changes.len());
    // From the end, so that what is in a directory has been seen before it.
    let mut below_mount_point = BTreeSet::new();
    for change in changes.into_iter().rev() {
        let parent = change.path.parent().map(Path::to_owned);
        let only_leads = below_mount_point.contains(&change.path)
            && !kept.last().is_some_and(|next| next.path.starts_with(&change.path));
        if is_mount_point(&change.path) || only_leads {
            below_mount_point.extend(parent);
        } else {
            kept.push(change);
        }
    }
    kept.reverse();
    kept
}

fn stat(root: &Root, container: &str, path: &str) -> Result<PathStat> {
    let missing = || Error::NoSuchPath { container: container.to_owned(), path: path.to_owned() };
    let found = root.stat(Path::new(path)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => missing(),
        _ => Error::system(format!("looking up {path} in container {container}"), error),
    })?;
    Ok(describe(found, path))
}

fn describe(found: Found, path: &str) -> PathStat {
    let (seconds, nanos) = found.mtime;
    PathStat {
        name: base_name(path).to_string_lossy().into_owned(),
        size: found.size,
        mode: found.mode,
        mtime: DateTime::from_timestamp(seconds, nanos).unwrap_or_default(),
        link_target: found.link_target.map(|target| absolute(path, &target).display().to_string()).unwrap_or_default(),
    }
}

/// Where a link at `path` points to, as an absolute path within the container, by its text alone.
fn absolute(path: &str, target: &Path) -> PathBuf {
    let base = Path::new(path).parent().unwrap_or(Path::new("/"));
    let joined = if target.is_absolute() { target.to_owned() } else { base.join(target) };
    PathBuf::from(crate::containers::mounts::clean(&joined.to_string_lossy()))
}

/// The last name of a path; `/` for the root. A path that ends in `/.` means the directory's content, whose entries are named
/// from there.
fn base_name(path: &str) -> std::ffi::OsString {
    if path.ends_with("/.") {
        return std::ffi::OsString::from(".");
    }
    match Path::new(path).components().next_back() {
        Some(Component::Normal(name)) => name.to_owned(),
        _ => std::ffi::OsString::from("/"),
    }
}

/// Whether a path is there only because something is mounted on it while the container runs.
fn is_mount_point(view: &ContainerView, path: &Path) -> bool {
    const ALWAYS: [&str; 6] = ["/dev", "/proc", "/sys", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];
    let init = path == Path::new("/sbin/docker-init") && view.host.init == Some(true);
    ALWAYS.iter().any(|known| path == Path::new(known)) || path.starts_with("/dev") || init
}

/// Does something as the root of the user namespace that `root` is seen by: what is shown through an id-mapped mount can be written only
/// under ids that the map has.
fn as_root_of<T: Send>(root: &Root, work: impl FnOnce() -> T + Send) -> Result<T> {
    let Some(owner) = root.owners().and_then(|owners| owners.outside((0, 0))) else { return Ok(work()) };
    // A thread of its own: the ids are the thread's, and this one goes back to a pool.
    let done = std::thread::scope(|scope| scope.spawn(|| skep_sys::process::with_fs_ids(owner, || Ok(work()))).join());
    done.unwrap_or_else(|_| Err(io::Error::other("the thread that unpacks broke down")))
        .map_err(|e| Error::system("writing into a user namespace", e))
}

/// Whether a path lies in something mounted read-only, or in a read-only root.
fn is_read_only(view: &Arc<ContainerView>, path: &str) -> bool {
    let path = crate::containers::mounts::clean(path);
    let below = |mount: &&crate::model::view::MountPoint| {
        path == mount.destination || path.starts_with(&format!("{}/", mount.destination))
    };
    match view.mounts.iter().filter(below).max_by_key(|mount| mount.destination.len()) {
        Some(mount) => !mount.writable,
        None => view.host.readonly_rootfs,
    }
}

fn change(change: Changed) -> PathChange {
    PathChange {
        path: change.path.to_string_lossy().into_owned(),
        kind: match change.kind {
            skep_fs::changes::ChangeKind::Modified => ChangeKind::Modified,
            skep_fs::changes::ChangeKind::Added => ChangeKind::Added,
            skep_fs::changes::ChangeKind::Deleted => ChangeKind::Deleted,
        },
    }
}

/// Runs a writer on a thread of its own and hands its output on. A client that goes away makes its next write fail.
pub(super) fn archive(write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static) -> ByteStream {
    let (sender, receiver) = mpsc::channel::<Result<Bytes>>(WAITING);
    tokio::task::spawn_blocking(move || {
        let mut pipe = io::BufWriter::with_capacity(PIECE, Pipe(sender));
        let written = write(&mut pipe).and_then(|()| pipe.flush());
        if let Err(error) = written {
            let Pipe(sender) = pipe.into_parts().0;
            // Fails only when the client is gone, which is why the writing failed.
            let _ = sender.blocking_send(Err(Error::system("writing an archive", error)));
        }
    });
    Box::pin(tokio_stream::wrappers::ReceiverStream::new(receiver))
}

struct Pipe(mpsc::Sender<Result<Bytes>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes))).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A stream as something that blocking code can read.
pub(super) fn reader(stream: ByteStream) -> impl Read + Send {
    let stream = stream.map(|piece| piece.map_err(io::Error::other));
    tokio_util::io::SyncIoBridge::new(Box::pin(tokio_util::io::StreamReader::new(stream)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_mount_points_are_no_changes() {
        let listed = |paths: &[&str]| -> Vec<String> {
            let kind = skep_fs::changes::ChangeKind::Modified;
            let changes = paths.iter().map(|&path| Changed { path: path.into(), kind });
            let mounted = |path: &Path| path == Path::new("/etc/hosts") || path == Path::new("/dev");
            let kept = of_the_container(changes.collect(), mounted);
            kept.into_iter().map(|change| change.path.display().to_string()).collect()
        };
        assert_eq!(listed(&["/dev", "/etc", "/etc/hosts", "/etc2"]), ["/etc2"]);
        assert_eq!(listed(&["/etc", "/etc/a", "/etc/hosts"]), ["/etc", "/etc/a"]);
        assert_eq!(listed(&["/etc", "/etc2"]), ["/etc", "/etc2"]);
    }
}
