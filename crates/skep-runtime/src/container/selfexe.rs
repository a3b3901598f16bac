//! Protection of the runtime's own file (CVE-2019-5736).
//!
//! A container can get hold of the file behind /proc/PID/exe of a process that runs the runtime's code inside it; the classic way is an
//! image whose program is a link to /proc/self/exe. Opened again for writing, that would be the host's binary. So whatever clones
//! containers runs from a file that nobody can write through that path: a detached read-only mount of the binary, which belongs to no
//! mount namespace and so can't be changed by anybody, or where there are no rights to make one, a sealed copy in memory.
//!
//! The price is one execve at the start, and none if the caller (the engine, or a read-only /usr) has provided for it.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::{
    MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags, fcntl_add_seals, fcntl_get_seals, fstatvfs, memfd_create,
};
use skep_sys::mount::{Change, Depth, attribute, change, clone_path};
use skep_sys::process::execve_fd;

use super::error::{LaunchError, Result, Step};

const OWN: &str = "/proc/self/exe";

/// Goes on at once if the running binary can't be written through /proc/self/exe; else starts it again from a file for which that is so,
/// with the same arguments and environment.
pub fn protect_runtime_binary() -> Result<()> {
    let own = rustix::fs::open(OWN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).step("open own binary")?;
    if is_protected(&own) {
        return Ok(());
    }
    let copy = read_only_mount().or_else(|_| sealed_copy(own))?;
    let bytes = |text: std::ffi::OsString| CString::new(text.into_vec()).unwrap_or_default();
    let args: Vec<CString> = std::env::args_os().map(bytes).collect();
    let pairs = std::env::vars_os().map(|(name, value)| {
        let mut pair = name;
        pair.push("=");
        pair.push(value);
        bytes(pair)
    });
    let env: Vec<CString> = pairs.collect();
    Err(LaunchError::os("execute own binary again", execve_fd(copy.as_fd(), &args, &env)))
}

fn is_protected(own: &OwnedFd) -> bool {
    let read_only = fstatvfs(own).is_ok_and(|system| system.f_flag.contains(StatVfsMountFlags::RDONLY));
    read_only || fcntl_get_seals(own).is_ok_and(|seals| seals.contains(SealFlags::WRITE))
}

/// The descriptor has to be closed by the execve: from then on the mount is in no namespace at all, and no call changes it.
fn read_only_mount() -> Result<OwnedFd> {
    let tree = clone_path(Path::new(OWN), Depth::One).step("clone own binary")?;
    let set = attribute::READ_ONLY | attribute::NO_SUID | attribute::NO_DEV;
    change(&tree, Depth::One, &Change { set, ..Change::default() }).step("protect own binary")?;
    Ok(tree)
}

fn sealed_copy(own: OwnedFd) -> Result<OwnedFd> {
    const NAME: &CStr = c"skep-runtime";
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels from 6.3 on want to be told that it is to be executed; older ones do not know the flag.
    let memory =
        memfd_create(NAME, flags | MemfdFlags::EXEC).or_else(|_| memfd_create(NAME, flags)).step("memfd_create")?;
    let mut memory = File::from(memory);
    std::io::copy(&mut File::from(own), &mut memory).step("copy own binary")?;
    let memory = OwnedFd::from(memory);
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&memory, seals).step("seal own binary")?;
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_protect() {
        let own = || rustix::fs::open(OWN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).expect("own binary");
        assert!(!is_protected(&own()));
        assert!(is_protected(&sealed_copy(own()).expect("a copy")));
        let mounted = read_only_mount().expect("a mount");
        assert!(is_protected(&mounted));
        let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&mounted));
        let error = rustix::fs::open(again, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).expect_err("read-only");
        assert!(matches!(error, rustix::io::Errno::ROFS | rustix::io::Errno::TXTBSY), "{error}");
    }
}
