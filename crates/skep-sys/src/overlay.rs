//! Overlay mounts of any number of layers, detached.
//!
//! Kernels from 6.5 on take the layers one by one, so neither the length of a path nor their number matters (500 is the kernel's own
//! limit). Older kernels take one string of at most a page through mount(2); layers are then opened and named by descriptor to
//! make it as short as can be.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::mount::{Depth, FsContext, clone_path};

/// fsconfig(2) takes strings up to this length, the final zero included.
const STRING_MAX: usize = 256;
/// mount(2) takes data up to the smallest page, the final zero included.
const DATA_MAX: usize = 4096;

/// What an overlay is made of.
#[derive(Debug, Clone, Copy)]
pub struct Overlay<'a, P: AsRef<Path>> {
    /// Read-only directories, topmost first; at least one, and two without `upper`.
    pub lower: &'a [P],
    /// The writable directory and the overlay's scratch directory beside it; a read-only overlay has none.
    pub upper: Option<Writable<'a>>,
    /// Further options as in the kernel's documentation, such as `("index", "off")`.
    pub options: &'a [(&'a str, &'a str)],
    /// Further options without a value, such as `volatile`.
    pub flags: &'a [&'a str],
}

/// The writable part of an overlay.
#[derive(Debug, Clone, Copy)]
pub struct Writable<'a> {
    /// Where changes go.
    pub upper: &'a Path,
    /// An empty directory on the same file system.
    pub work: &'a Path,
}

/// Makes an overlay. It is attached nowhere; it lasts as long as the descriptor, or until what it gets attached to goes away.
pub fn mount<P: AsRef<Path>>(overlay: &Overlay<'_, P>) -> io::Result<OwnedFd> {
    match mount_by_layer(overlay) {
        // An older kernel does not know `lowerdir+`, or learns only at the end that nobody does.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => mount_by_string(overlay).map_err(|second| {
            // Where the old way fails in the same manner, the first error is as good and came from the better diagnostics.
            if second.raw_os_error() == Some(libc::EINVAL) { error } else { second }
        }),
        result => result,
    }
}

fn mount_by_layer<P: AsRef<Path>>(overlay: &Overlay<'_, P>) -> io::Result<OwnedFd> {
    let context = FsContext::open("overlay")?;
    let mut held = Vec::new();
    for layer in overlay.lower {
        set_path(&context, "lowerdir+", layer.as_ref(), &mut held)?;
    }
    if let Some(Writable { upper, work }) = overlay.upper {
        set_path(&context, "upperdir", upper, &mut held)?;
        set_path(&context, "workdir", work, &mut held)?;
    }
    for (key, value) in overlay.options {
        context.set(key, value)?;
    }
    for flag in overlay.flags {
        context.flag(flag)?;
    }
    context.mount(0).map_err(|error| explain(&context, error))
}

/// Keeps the error's number where code depends on it, and adds what the kernel said everywhere else.
fn explain(context: &FsContext, error: io::Error) -> io::Error {
    match context.complaint() {
        Some(said) if error.raw_os_error() != Some(libc::EINVAL) => {
            io::Error::new(error.kind(), format!("{said}: {error}"))
        }
        _ => error,
    }
}

/// Sets an option to a path; if that is too long for the call, to the name of a descriptor, which is put into `held`.
fn set_path(context: &FsContext, key: &str, path: &Path, held: &mut Vec<OwnedFd>) -> io::Result<()> {
    match path.to_str() {
        Some(text) if text.len() < STRING_MAX => context.set(key, text),
        _ => {
            let fd = open_layer(path)?;
            context.set(key, &name_of(&fd))?;
            held.push(fd);
            Ok(())
        }
    }
}

fn open_layer(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn name_of(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// The way of kernels before 6.5. mount(2) can't make a detached mount, so it is made on a directory of the overlay's own for
/// a moment, cloned, and taken away.
fn mount_by_string<P: AsRef<Path>>(overlay: &Overlay<'_, P>) -> io::Result<OwnedFd> {
    let mut held = Vec::new();
    let mut name = |path: &Path| -> io::Result<String> {
        let fd = open_layer(path)?;
        let name = name_of(&fd);
        held.push(fd);
        Ok(name)
    };
    let lower: io::Result<Vec<String>> = overlay.lower.iter().map(|layer| name(layer.as_ref())).collect();
    let mut data = format!("lowerdir={}", lower?.join(":"));
    let place = match overlay.upper {
        Some(Writable { upper, work }) => {
            data += &format!(",upperdir={},workdir={}", name(upper)?, name(work)?);
            work.parent().unwrap_or(work)
        }
        None => overlay.lower.first().map_or(Path::new("/"), AsRef::as_ref),
    };
    for (key, value) in overlay.options {
        data += &format!(",{key}={value}");
    }
    for flag in overlay.flags {
        data += &format!(",{flag}");
    }
    if data.len() >= DATA_MAX {
        return Err(Errno::TOOBIG.into());
    }
    let data = std::ffi::CString::new(data)?;
    rustix::mount::mount(c"overlay", place, c"overlay", rustix::mount::MountFlags::empty(), Some(data.as_c_str()))?;
    let tree = clone_path(place, Depth::One);
    rustix::mount::unmount(place, rustix::mount::UnmountFlags::DETACH)?;
    tree
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Layers below a new directory: `count` of them, each with a file of its number and one that all of them have.
    fn layers(top: &Path, count: usize) -> Vec<std::path::PathBuf> {
        let make = |number: usize| {
            let layer = top.join(format!("l{number}"));
            fs::create_dir_all(&layer).expect("a layer");
            fs::write(layer.join(number.to_string()), "").expect("a file");
            fs::write(layer.join("same"), number.to_string()).expect("a file");
            layer
        };
        (0..count).map(make).collect()
    }

    fn read(mount: &OwnedFd, name: &str) -> String {
        let fd = rustix::fs::openat(mount, name, OFlags::RDONLY, Mode::empty()).expect("a file");
        io::read_to_string(fs::File::from(fd)).expect("text")
    }

    type Way = fn(&Overlay<'_, std::path::PathBuf>) -> io::Result<OwnedFd>;

    fn check(way: Way, count: usize, name: &str) {
        let top = std::env::temp_dir().join(format!("skep-overlay-{}-{name}", std::process::id()));
        let lower = layers(&top, count);
        let (upper, work) = (top.join("rw/upper"), top.join("rw/work"));
        fs::create_dir_all(&upper).expect("upper");
        fs::create_dir_all(&work).expect("work");
        let upper = Some(Writable { upper: &upper, work: &work });
        let mount =
            way(&Overlay { lower: &lower, upper, options: &[("index", "off")], flags: &[] }).expect("an overlay");
        assert_eq!(read(&mount, "same"), "0", "the first layer is the topmost");
        assert_eq!(read(&mount, &(count - 1).to_string()), "", "the last layer is there");
        let flags = OFlags::CREATE | OFlags::WRONLY;
        drop(rustix::fs::openat(&mount, "new", flags, Mode::from_raw_mode(0o600)).expect("writable"));
        assert!(top.join("rw/upper/new").exists());
        let visible = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        assert!(!visible.contains(&format!("{}", top.display())), "attached nowhere");
        drop(mount);
        fs::remove_dir_all(&top).expect("nothing holds it");
    }

    #[test]
    fn layers_one_by_one() {
        check(mount::<std::path::PathBuf>, 3, "few");
    }

    #[test]
    fn two_hundred_layers_with_long_names() {
        check(mount::<std::path::PathBuf>, 200, &"long".repeat(50));
    }

    #[test]
    fn the_way_of_older_kernels() {
        check(mount_by_string::<std::path::PathBuf>, 100, &"old".repeat(60));
    }
}
