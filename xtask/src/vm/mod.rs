//! A virtual machine for tests: Debian's cloud kernel under qemu, without KVM, with pure cgroup v2 and a root of busybox.
//!
//! ```text
//!   kernel package ──▶ vmlinuz, modules          (downloaded once, by apt)
//!   busybox + modules ──▶ initrd ─┐
//!   busybox, files, modules ──▶ ext4 root image ─┴─▶ qemu ──▶ ttyS0: kernel's console (shown if the machine fails)
//!                                                      └────▶ ttyS1: output of the commands, and their exit status
//! ```
//!
//! It is some ten times slower than the machine that it runs on, and takes ten seconds from start to end. Nothing of it stays.

mod initrd;
mod kernel;
mod modules;
mod qemu;
mod root;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// What the machine has and does.
#[derive(clap::Args, Clone)]
pub(crate) struct Arguments {
    /// Memory in MB
    #[arg(long, default_value_t = 1024)]
    pub(crate) mem: u32,
    /// Virtual processors
    #[arg(long, default_value_t = 2)]
    pub(crate) cpus: u32,
    /// Ends the machine after so many seconds
    #[arg(long, default_value_t = 600)]
    pub(crate) timeout: u64,
    /// Free space on the root disk in MB
    #[arg(long, default_value_t = 512)]
    pub(crate) size: u64,
    /// Copies a file or a folder in; a dynamic program brings its libraries
    #[arg(long = "file", value_name = "SRC:DEST", value_parser = source_and_destination)]
    pub(crate) files: Vec<(PathBuf, PathBuf)>,
    /// Copies a program of this machine in, to the same place
    #[arg(long = "tool", value_name = "NAME", value_delimiter = ',')]
    pub(crate) tools: Vec<String>,
    /// Sets an environment variable
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// Keeps the kernel's console in this file
    #[arg(long, value_name = "FILE")]
    pub(crate) console: Option<PathBuf>,
    /// Shell commands
    #[arg(last = true, required = true)]
    pub(crate) commands: Vec<String>,
}

fn source_and_destination(text: &str) -> Result<(PathBuf, PathBuf)> {
    let (source, destination) = text.split_once(':').context("expected SRC:DEST")?;
    Ok((source.into(), destination.into()))
}

/// The exit status of this program when the machine did not get as far as an exit status.
const TIMED_OUT: u8 = 124;
const FAILED: u8 = 125;

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    match run_to_end(arguments) {
        Ok(qemu::End::Exit(status)) => Ok(ExitCode::from(status)),
        Ok(qemu::End::TimedOut) => {
            eprintln!("xtask vm: stopped after {} s", arguments.timeout);
            Ok(ExitCode::from(TIMED_OUT))
        }
        Err(error) => {
            eprintln!("xtask vm: {error:#}");
            Ok(ExitCode::from(FAILED))
        }
    }
}

fn run_to_end(arguments: &Arguments) -> Result<qemu::End> {
    for tool in ["qemu-system-x86_64", "mke2fs", "dpkg-deb"] {
        if find_program(tool).is_none() {
            bail!("{tool} is missing; run: cargo xtask deps");
        }
    }
    let busybox = find_program("busybox").context("busybox is missing; run: cargo xtask deps")?;
    let kernel = kernel::prepare(&crate::paths::cache("vm")?)?;
    let work = tempfile::Builder::new().prefix("skep-vm-").tempdir()?;
    let initrd = work.path().join("initrd");
    std::fs::write(&initrd, initrd::build(&kernel, &busybox)?)?;
    let token = format!("{:08x}", std::process::id() ^ std::time::UNIX_EPOCH.elapsed()?.subsec_nanos());
    let image = root::build(work.path(), &kernel, &busybox, arguments, &token)?;
    qemu::Machine {
        kernel: &kernel.image,
        initrd: &initrd,
        disk: &image,
        console: arguments.console.clone().unwrap_or_else(|| work.path().join("console")),
        memory: arguments.mem,
        cpus: arguments.cpus,
    }
    .run(&token, Duration::from_secs(arguments.timeout))
}

/// A program of this machine, by the usual places.
fn find_program(name: &str) -> Option<PathBuf> {
    let places = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    places.iter().map(|place| PathBuf::from(place).join(name)).find(|path| path.exists())
}
