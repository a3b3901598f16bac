//! The kernel: from the Debian package that `linux-image-cloud-amd64` depends on, unpacked into the cache.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::FlockOperation;

use super::modules::Modules;

/// An unpacked kernel.
pub(super) struct Kernel {
    pub(super) image: PathBuf,
    /// `/lib/modules/VERSION`, wherever it is here.
    pub(super) modules_dir: PathBuf,
    pub(super) modules: Modules,
}

const META_PACKAGE: &str = "linux-image-cloud-amd64";

pub(super) fn prepare(cache: &Path) -> Result<Kernel> {
    let lock = std::fs::File::create(cache.join("lock"))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
    let dir = cache.join("kernel");
    if !dir.join("complete").exists() {
        download(cache, &dir)?;
    }
    let image = only_entry(&dir.join("boot"), "vmlinuz-")?;
    let modules_dir =
        [dir.join("lib/modules"), dir.join("usr/lib/modules")].iter().find_map(|dir| only_entry(dir, "").ok());
    let modules_dir = modules_dir.context("the kernel package has no modules")?;
    let modules = Modules::load(&modules_dir)?;
    Ok(Kernel { image, modules_dir, modules })
}

fn download(cache: &Path, dir: &Path) -> Result<()> {
    let package = match newest_package()? {
        Some(package) => package,
        None => {
            crate::deps::update_lists()?;
            newest_package()?.with_context(|| format!("apt knows no package {META_PACKAGE}"))?
        }
    };
    eprintln!("xtask vm: downloading {package}");
    let work = tempfile::tempdir_in(cache)?;
    let output = Command::new("apt-get").args(["download", "-q", &package]).current_dir(work.path()).output()?;
    ensure!(output.status.success(), "apt-get download {package}: {}", String::from_utf8_lossy(&output.stderr));
    let tree = work.path().join("tree");
    let status =
        Command::new("dpkg-deb").arg("-x").arg(only_entry(work.path(), package.as_str())?).arg(&tree).status()?;
    ensure!(status.success(), "dpkg-deb could not unpack {package}");
    decompress_modules(&tree)?;
    for modules in ["lib/modules", "usr/lib/modules"] {
        if let Ok(modules) = only_entry(&tree.join(modules), "") {
            Modules::index(&modules)?;
        }
    }
    std::fs::write(tree.join("complete"), &package)?;
    if dir.exists() {
        std::fs::remove_dir_all(dir)?;
    }
    std::fs::rename(&tree, dir)?;
    Ok(())
}

/// The package with the image itself, which has the version in its name.
fn newest_package() -> Result<Option<String>> {
    let output = Command::new("apt-cache").args(["depends", META_PACKAGE]).stderr(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let depends = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    Ok(depends.map(str::to_owned).find(|package| package.starts_with("linux-image-")))
}

/// Newer Debian kernels compress their modules; insmod of busybox wants them plain.
fn decompress_modules(tree: &Path) -> Result<()> {
    let status = Command::new("find").arg(tree).args(["-name", "*.ko.xz", "-exec", "xz", "-d", "{}", "+"]).status()?;
    ensure!(status.success(), "the kernel's modules could not be decompressed");
    Ok(())
}

fn only_entry(dir: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            return Ok(entry.path());
        }
    }
    bail!("nothing named {prefix}* in {}", dir.display())
}
