//! Fills new volumes with what the image has at their mount points, as Docker does.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::OFlags;
use skep_fs::rooted::Root;

use super::record::Record;
use super::rootfs::{self, Access};
use crate::engine::Inner;
use crate::model::view::MountKind;
use crate::model::volume::Volume;
use crate::{Error, Result};

/// Copies into those volumes of the container that were just made, or are empty. Blocking.
pub(super) fn run(engine: &Inner, record: &Record, made: &[Volume]) -> Result<()> {
    let wanted: Vec<_> = record
        .mounts
        .iter()
        .filter(|mount| mount.point.kind == MountKind::Volume && !mount.no_copy && mount.point.subpath.is_empty())
        .filter(|mount| {
            made.iter().any(|volume| volume.name.as_str() == mount.point.name)
                || crate::volumes::is_empty(Path::new(&mount.point.source))
        })
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let overlay = super::bundle::overlay(engine, record)?;
    let root = Root::from_fd(rootfs::detached(&overlay, Access::Read)?);
    for mount in wanted {
        let failed = |e: std::io::Error| {
            Error::system(
                format!("copying {} of the image into volume {}", mount.point.destination, mount.point.name),
                e,
            )
        };
        copy(&root, Path::new(&mount.point.destination), Path::new(&mount.point.source)).map_err(failed)?;
    }
    Ok(())
}

/// Copies a directory's content, and its own owner and permissions. A path that the image does not have, or that is no
/// directory, copies nothing.
fn copy(root: &Root, path: &Path, target: &Path) -> io::Result<()> {
    let Ok(source) = root.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY, 0) else { return Ok(()) };
    let metadata = File::from(source.try_clone()?).metadata()?;
    let source = Root::from_fd(source);
    let target_root = Root::open(target)?;
    let (reader, writer) = io::pipe()?;
    std::thread::scope(|scope| {
        let packed = scope.spawn(|| skep_fs::pack::write_tree(&source, Path::new("."), OsStr::new(""), writer));
        let options = skep_fs::apply::ExtractOptions::default();
        let unpacked =
            skep_fs::apply::extract(reader, &target_root, Path::new("."), &options).map_err(io::Error::other);
        match packed.join() {
            Ok(packed) => packed.and(unpacked),
            Err(_) => Err(io::Error::other("the thread that reads the image's files broke down")),
        }
    })?;
    std::os::unix::fs::chown(target, Some(metadata.uid()), Some(metadata.gid()))?;
    std::fs::set_permissions(target, metadata.permissions())
}
