//! Debian packages, by name.

use std::process::{Command, ExitCode, Stdio};

use anyhow::{Result, ensure};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What for
    #[arg(value_enum, default_value = "test")]
    purpose: Purpose,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Purpose {
    /// Compiling
    Build,
    /// The demo besides
    Demo,
    /// The tests besides
    Test,
    /// Measuring against other engines besides
    Bench,
}

const BUILD: &[&str] = &["build-essential", "ca-certificates"];
const DEMO: &[&str] = &["busybox-static", "curl", "iproute2", "nftables"];
const TEST: &[&str] = &[
    "attr",
    "bind9-dnsutils",
    "buildah",
    "bzip2",
    "docker-registry",
    "e2fsprogs",
    "git",
    "iptables",
    "libcap2-bin",
    "openssh-client",
    "openssh-server",
    "podman",
    "procps",
    "python3-venv",
    "qemu-system-x86",
    "runc",
    "skopeo",
    "xz-utils",
    "zstd",
];
// Docker itself is taken from a newer suite, see peers.rs.
const BENCH: &[&str] = &["aardvark-dns", "crun", "iperf3", "netavark"];

pub(crate) fn install(arguments: &Arguments) -> Result<ExitCode> {
    let lists = match arguments.purpose {
        Purpose::Build => vec![BUILD],
        Purpose::Demo => vec![BUILD, DEMO],
        Purpose::Test => vec![BUILD, DEMO, TEST],
        Purpose::Bench => vec![BUILD, DEMO, TEST, BENCH],
    };
    let missing: Vec<&str> = lists.concat().into_iter().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("installing {}", missing.join(" "));
    if !apt_install(&missing)? {
        update_lists()?;
        ensure!(apt_install(&missing)?, "apt-get could not install {}", missing.join(" "));
    }
    Ok(ExitCode::SUCCESS)
}

/// Fetches the lists of packages.
pub(crate) fn update_lists() -> Result<()> {
    let status = Command::new("apt-get").args(["update", "-q"]).stdout(Stdio::null()).status()?;
    ensure!(status.success(), "apt-get update failed");
    Ok(())
}

fn is_installed(package: &str) -> bool {
    let query =
        Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]).stderr(Stdio::null()).output();
    query.is_ok_and(|output| output.stdout == b"installed")
}

fn apt_install(packages: &[&str]) -> Result<bool> {
    // Services that a package brings are not started: on a machine for building nobody wants another engine to run.
    let status = Command::new("apt-get")
        .args(["install", "-y", "-q", "--no-install-recommends"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("RUNLEVEL", "1")
        .stdout(Stdio::null())
        .status()?;
    Ok(status.success())
}
