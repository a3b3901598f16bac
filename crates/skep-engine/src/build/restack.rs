//! Layers put on other layers (`COPY --link`), and several made one (`--squash`).

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use skep_build::BuildError;
use skep_build::worker::{Held, Layer, Stack};
use skep_fs::Root;
use skep_fs::apply::{is_opaque, is_whiteout};
use skep_store::ChainId;

use super::error::{failed, store};
use super::files::{self, Copying, Existing, Place, names, open_dir, stat_at};
use super::{empty_directory, step};
use crate::engine::Inner;

/// The same layer on top of other layers. Blocking.
pub(super) fn rebase(engine: &Inner, layer: &Layer, base: Stack) -> Result<Layer, BuildError> {
    let layers = engine.storage.store().layers();
    let lease = layers.lease();
    let new = ChainId::of(base.as_ref(), &layer.diff_id);
    base.iter().chain([&layer.stack, &new]).for_each(|top| lease.hold(top));
    let stack = layers.restack(&layer.stack, base.as_ref()).map_err(store)?;
    Ok(Layer { stack, held: Held::by(lease), ..layer.clone() })
}

/// All layers of `stack` above `base` as one: their changes are made again, one after the other. Blocking.
pub(super) fn squash(engine: &Inner, stack: Stack, base: Stack) -> Result<Layer, BuildError> {
    let layers = engine.storage.store().layers();
    let lease = layers.lease();
    stack.iter().chain(&base).for_each(|top| lease.hold(top));
    let (mut above, mut next) = (Vec::new(), stack);
    while let Some(chain) = next.filter(|_| next != base) {
        let info = layers.get(&chain).map_err(store)?.ok_or(skep_store::StoreError::NoLayer(chain)).map_err(store)?;
        above.push(chain);
        next = info.parent;
    }
    let upper = layers.stage_upper(base.as_ref()).map_err(store)?;
    let target = files::writable(&upper, &empty_directory(engine)?)?;
    let top = target.open_at(Path::new("."), OFlags::RDONLY | OFlags::DIRECTORY, 0);
    let top = top.map_err(failed("open the squashed layer"))?;
    let copying = Copying::verbatim();
    for chain in above.iter().rev() {
        let Some(dir) = layers.lower_dirs(chain).map_err(store)?.into_iter().next() else { continue };
        let source =
            Root::open(&dir).and_then(|root| root.open_at(Path::new("."), OFlags::RDONLY | OFlags::DIRECTORY, 0));
        let source = source.map_err(failed("open a layer"))?;
        replay(&copying, &source, &top, &top, Path::new(""))?;
    }
    drop((top, target));
    step::commit(engine, base, upper)
}

/// Makes the changes again that a layer's directory stands for.
fn replay(copying: &Copying, source: &OwnedFd, target: &OwnedFd, top: &OwnedFd, path: &Path) -> Result<(), BuildError> {
    let fail = |error: std::io::Error| failed(&format!("squash {}", path.display()))(error);
    let mut copier = copying.copier(top);
    for name in names(source).map_err(fail)? {
        let (from, to) = (Place { dir: source, name: &name }, Place { dir: target, name: &name });
        let below = path.join(&name);
        let stat = stat_at(from).map_err(|error| fail(error.into()))?;
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if !is_dir {
            skep_fs::tree::remove(target, &name).map_err(fail)?;
            if !is_whiteout(&stat) {
                copier.copy(from, to, (&below, &below), Existing::Overwritten).map_err(files::copy_failed)?;
            }
            continue;
        }
        let inner = open_dir(from).map_err(|error| fail(error.into()))?;
        let there = match stat_at(to) {
            Ok(there) => FileType::from_raw_mode(there.st_mode) == FileType::Directory,
            Err(_) => false,
        };
        if !there || is_opaque(&inner).map_err(fail)? {
            skep_fs::tree::remove(target, OsStr::new(&name)).map_err(fail)?;
        }
        match rustix::fs::mkdirat(target, &name, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(fail(error.into())),
        }
        let made = open_dir(to).map_err(|error| fail(error.into()))?;
        replay(copying, &inner, &made, top, &below)?;
        copier.describe(from, to, Some(&File::from(made)), &stat, &below).map_err(files::copy_failed)?;
    }
    Ok(())
}
