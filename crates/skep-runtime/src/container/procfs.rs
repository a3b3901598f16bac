//! Writing to procfs where a container could have put something else: only through a descriptor of a procfs mount that was made
//! here, crossing no mount and following no magic link (CVE-2019-19921, CVE-2023-28642, CVE-2025-52881).

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::error::{LaunchError, Result, Step};
use super::mounts;
use super::namespaces::{Namespaces, bit};
use crate::spec::{NamespaceKind, Spec};

/// A procfs that nobody else can reach, of the caller's pid namespace.
pub(super) fn private() -> Result<OwnedFd> {
    mounts::new("proc", "proc", &[], 0)
}

/// Writes a file of a procfs.
pub(super) fn write(proc: impl AsFd, path: &Path, text: &str) -> Result<()> {
    let step = || format!("write /proc/{}", path.display());
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    let fd = openat2(proc, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), resolve).step_with(step)?;
    std::fs::File::from(fd).write_all(text.as_bytes()).step_with(step)
}

/// Sets the kernel parameters of a specification.
pub(super) fn write_sysctls(proc: impl AsFd, spec: &Spec) -> Result<()> {
    for (name, value) in &spec.linux().sysctl {
        write(&proc, &path_of(name), value)
            .map_err(|error| LaunchError { step: format!("sysctl {name}").into(), ..error })?;
    }
    Ok(())
}

/// The file of a kernel parameter, by the rules of sysctl(8): whichever of `.` and `/` comes first separates.
fn path_of(name: &str) -> std::path::PathBuf {
    let slashes = name.find(['.', '/']).is_some_and(|at| name.as_bytes()[at] == b'/');
    let swap = |letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let tail = if slashes { name.to_owned() } else { name.chars().map(swap).collect() };
    Path::new("sys").join(tail.trim_start_matches('/'))
}

/// Refuses kernel parameters that are not of a namespace of the container's own: they would be the host's.
pub(super) fn check_sysctls(spec: &Spec, plan: &Namespaces) -> Result<()> {
    let own = |of: NamespaceKind| {
        plan.new & bit(of) != 0 || plan.entered.iter().chain(&plan.inherited).any(|(other, _)| *other == bit(of))
    };
    for name in spec.linux().sysctl.keys() {
        let path = path_of(name);
        let path = path.strip_prefix("sys").unwrap_or(&path).to_string_lossy().into_owned();
        let refuse = |why: &str| Err(LaunchError::invalid(format!("sysctl {name:?} {why}")));
        if path.split('/').any(|part| part == ".." || part == "." || part.is_empty()) {
            return refuse("is not a name");
        }
        let needed = match path.as_str() {
            "kernel/msgmax"
            | "kernel/msgmnb"
            | "kernel/msgmni"
            | "kernel/sem"
            | "kernel/shmall"
            | "kernel/shmmax"
            | "kernel/shmmni"
            | "kernel/shm_rmid_forced" => NamespaceKind::Ipc,
            "kernel/domainname" => NamespaceKind::Uts,
            "kernel/hostname" => return refuse("is set by the field hostname"),
            path if path.starts_with("fs/mqueue/") => NamespaceKind::Ipc,
            path if path.starts_with("net/") => NamespaceKind::Network,
            path if path.starts_with("user/") => NamespaceKind::User,
            _ => return refuse("is not in a separate kernel namespace"),
        };
        if !own(needed) {
            return refuse(&format!("is not allowed in the host's {needed:?} namespace"));
        }
    }
    Ok(())
}

/// Asks a security module for a label at execve. `attribute` is a file below /proc/self/attr.
pub(super) fn set_label(proc: impl AsFd, attributes: [&str; 2], text: &str) -> Result<()> {
    let [first, second] = attributes.map(|attribute| Path::new("self/attr").join(attribute));
    match write(&proc, &first, text) {
        Err(error) if error.errno == Some(libc::ENOENT) => write(&proc, &second, text),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Linux, Namespace};

    fn check(name: &str, own: &[NamespaceKind]) -> Result<()> {
        let linux = Linux {
            sysctl: [(name.to_owned(), "1".to_owned())].into(),
            namespaces: own.iter().map(|&kind| Namespace { kind, path: None }).collect(),
            ..Linux::default()
        };
        let new = own.iter().fold(0, |bits, &kind| bits | bit(kind));
        let plan = Namespaces { new, entered: vec![], inherited: vec![] };
        check_sysctls(&Spec { linux: Some(linux), ..Spec::default() }, &plan)
    }

    #[test]
    fn only_parameters_of_own_namespaces() {
        let own = [NamespaceKind::Ipc, NamespaceKind::Network];
        for good in ["net.ipv4.ip_forward", "net/ipv4/conf/eth0.1/forwarding", "kernel.shmmax", "fs.mqueue.msg_max"] {
            check(good, &own).unwrap_or_else(|error| panic!("{good}: {error}"));
            assert!(check(good, &[NamespaceKind::Mount]).is_err(), "{good}");
        }
        for bad in
            ["kernel.core_pattern", "vm.swappiness", "kernel.hostname", "net/../kernel/core_pattern", "net..a", ""]
        {
            assert!(check(bad, &own).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_first_separator_counts() {
        assert_eq!(path_of("net.ipv4.conf.eth0/1.x"), Path::new("sys/net/ipv4/conf/eth0.1/x"));
        assert_eq!(path_of("net/ipv4/conf/eth0.1/x"), Path::new("sys/net/ipv4/conf/eth0.1/x"));
    }
}
