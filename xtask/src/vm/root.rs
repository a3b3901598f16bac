//! The root disk: busybox with its applets, the kernel's modules, and what the caller wants in it.

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::kernel::Kernel;
use super::{Arguments, find_program};

const INIT: &str = include_str!("init.sh");

/// Loaded at boot; everything else by modprobe, on demand.
const MODULES: &str = "overlay veth bridge br_netfilter nf_tables nft_chain_nat nft_ct nft_nat nft_masq nft_redir nft_reject_inet \
    nft_fib_inet nft_limit nft_log nft_numgen nft_hash nft_compat nf_conntrack fuse vxlan ipvlan macvlan dummy loop tun \
    8021q ifb sch_tbf sch_ingress cls_u32 act_mirred";

const DIRECTORIES: [&str; 22] = [
    ".vm",
    "bin",
    "dev",
    "etc",
    "lib/modules",
    "mnt",
    "proc",
    "root",
    "run",
    "sbin",
    "sys",
    "tmp",
    "usr/bin",
    "usr/lib",
    "usr/local/bin",
    "usr/local/sbin",
    "usr/sbin",
    "usr/share",
    "var/cache",
    "var/lib",
    "var/log",
    "var/tmp",
];

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n";

/// Makes the tree and the image of it; returns the image.
pub(super) fn build(
    work: &Path,
    kernel: &Kernel,
    busybox: &Path,
    arguments: &Arguments,
    token: &str,
) -> Result<PathBuf> {
    let root = work.join("root");
    for directory in DIRECTORIES {
        std::fs::create_dir_all(root.join(directory))?;
    }
    for directory in ["tmp", "var/tmp"] {
        std::fs::set_permissions(root.join(directory), PermissionsExt::from_mode(0o1777))?;
    }
    install_busybox(&root, busybox)?;
    for (file, text) in [("passwd", PASSWD), ("group", GROUP), ("hosts", "127.0.0.1 localhost skep-vm\n")] {
        std::fs::write(root.join("etc").join(file), text)?;
    }
    let version = kernel.modules_dir.file_name().context("modules directory without a name")?;
    copy(&kernel.modules_dir, &root.join("lib/modules").join(version))?;
    for tool in &arguments.tools {
        let path = find_program(tool).with_context(|| format!("no program {tool} on this machine"))?;
        install(&path, &root.join(path.strip_prefix("/")?), &root)?;
    }
    for (source, destination) in &arguments.files {
        install(source, &inside(&root, source, destination)?, &root)?;
    }

    let own = root.join(".vm");
    std::fs::write(own.join("init"), INIT)?;
    std::fs::set_permissions(own.join("init"), PermissionsExt::from_mode(0o755))?;
    std::fs::write(own.join("commands"), arguments.commands.join(" ") + "\n")?;
    std::fs::write(own.join("modules"), MODULES)?;
    std::fs::write(own.join("token"), token)?;
    std::fs::write(own.join("env"), environment(&arguments.env)?)?;
    make_image(work, &root, arguments.size)
}

fn install_busybox(root: &Path, busybox: &Path) -> Result<()> {
    std::fs::copy(busybox, root.join("bin/busybox"))?;
    let applets = Command::new(busybox).arg("--list").output()?;
    for applet in String::from_utf8(applets.stdout)?.lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    Ok(symlink("/bin/busybox", root.join("sbin/modprobe"))?)
}

/// Where a file goes; a destination that ends in `/` is a folder.
fn inside(root: &Path, source: &Path, destination: &Path) -> Result<PathBuf> {
    let below = destination.strip_prefix("/").with_context(|| format!("{} is not absolute", destination.display()))?;
    let target = root.join(below);
    let into_folder = destination.as_os_str().as_encoded_bytes().ends_with(b"/");
    Ok(if into_folder && source.is_file() {
        target.join(source.file_name().context("a source without a name")?)
    } else {
        target
    })
}

/// Copies a file or the content of a folder, and the libraries of a program.
fn install(source: &Path, target: &Path, root: &Path) -> Result<()> {
    copy(source, target)?;
    for library in libraries(source)? {
        let target = root.join(library.strip_prefix("/")?);
        if !target.exists() {
            copy(&library.canonicalize()?, &target)?;
        }
    }
    Ok(())
}

fn copy(source: &Path, target: &Path) -> Result<()> {
    let source = if source.is_dir() { source.join(".") } else { source.to_owned() };
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent)?;
    }
    if target.is_symlink() {
        std::fs::remove_file(target)?; // an applet of busybox, in favour of the real program
    }
    let status = Command::new("cp").args(["-aL", "--reflink=auto"]).arg(&source).arg(target).status()?;
    ensure!(status.success(), "{} could not be copied", source.display());
    Ok(())
}

/// The shared libraries of a program with the loader; none for anything else.
fn libraries(program: &Path) -> Result<BTreeSet<PathBuf>> {
    if !program.is_file() {
        return Ok(BTreeSet::new());
    }
    let output = Command::new("ldd").arg(program).stderr(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .filter(|path| path.exists())
        .collect())
}

fn environment(variables: &[String]) -> Result<String> {
    let mut script = String::new();
    for variable in variables {
        let Some((name, value)) = variable.split_once('=') else { bail!("{variable:?} is not of the form NAME=VALUE") };
        let quoted = value.replace('\'', r"'\''");
        script.push_str(&format!("export {name}='{quoted}'\n"));
    }
    Ok(script)
}

fn make_image(work: &Path, root: &Path, free: u64) -> Result<PathBuf> {
    let used = Command::new("du").args(["-sxm", "--apparent-size"]).arg(root).output()?;
    let used: u64 = String::from_utf8(used.stdout)?.split_whitespace().next().context("du says nothing")?.parse()?;
    let image = work.join("root.img");
    std::fs::File::create(&image)?.set_len((used * 5 / 4 + 64 + free) << 20)?;
    let status = Command::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-E", "lazy_itable_init=1,nodiscard", "-d"])
        .arg(root)
        .arg(&image)
        .status()?;
    ensure!(status.success(), "mke2fs failed");
    std::fs::remove_dir_all(root)?;
    Ok(image)
}
