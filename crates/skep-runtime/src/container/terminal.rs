//! Standard input, output and error of a new process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, OFlags, Uid, fchown, fstat, makedev};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use skep_sys::mount::{Depth, attach, clone_tree};

use super::error::{LaunchError, Result, Step};
use super::rooted::{self, DEVPTS_MAGIC, Last};
use crate::spec::{ConsoleSize, IdMapping, Spec};

/// Both ends of a new terminal.
#[derive(Debug)]
pub(super) struct Terminal {
    pub(super) master: OwnedFd,
    slave: OwnedFd,
}

impl Terminal {
    /// Makes a terminal in the devpts of the root. That it is a devpts, and its multiplexer, is proven before it is used: the
    /// container may have had its hands in /dev.
    pub(super) fn open(root: BorrowedFd<'_>, size: ConsoleSize) -> Result<Self> {
        let path = Path::new("/dev/pts/ptmx");
        let step = || "open /dev/pts/ptmx".to_owned();
        let found = rooted::open(root, path, OFlags::PATH).step_with(step)?;
        let stat = fstat(&found).step_with(step)?;
        let is_multiplexer = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && stat.st_rdev == makedev(5, 2)
            && stat.st_ino == 2;
        if rooted::magic_of(&found).step_with(step)? != DEVPTS_MAGIC || !is_multiplexer {
            return Err(LaunchError::refused("open terminal", "/dev/pts of the container is no devpts"));
        }
        drop(found);
        let master = rooted::open(root, path, OFlags::RDWR | OFlags::NOCTTY).step_with(step)?;
        let opened = fstat(&master).step_with(step)?;
        if (opened.st_dev, opened.st_ino) != (stat.st_dev, stat.st_ino) {
            return Err(LaunchError::refused("open terminal", "/dev/pts of the container is changing"));
        }
        rustix::pty::unlockpt(&master).step("unlock terminal")?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).step("open terminal")?;
        if size != ConsoleSize::default() {
            let size = Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
            rustix::termios::tcsetwinsize(&master, size).step("set the terminal's size")?;
        }
        Ok(Self { master, slave })
    }

    /// Shows the terminal as /dev/console, by its descriptor (CVE-2025-52565).
    pub(super) fn show_as_console(&self, root: BorrowedFd<'_>) -> Result<()> {
        let target = rooted::ensure(root, Path::new("/dev/console"), Last::File).step("make /dev/console")?;
        let tree = clone_tree(&self.slave, Depth::One).step("clone /dev/console")?;
        attach(tree, target).step("mount /dev/console")
    }

    /// Makes the terminal standard input, output and error, and the controlling terminal of the session.
    pub(super) fn use_as_stdio(&self, owner: u32) -> Result<()> {
        // Its group stays that of devpts. Who can't give it away may use it all the same.
        match fchown(&self.slave, Some(Uid::from_raw(owner)), None) {
            Ok(()) | Err(Errno::INVAL | Errno::PERM | Errno::ROFS) => {}
            Err(error) => return Err(LaunchError::os("chown terminal", error)),
        }
        rustix::process::ioctl_tiocsctty(&self.slave).step("set controlling terminal")?;
        use_as_stdio([self.slave.as_fd(); 3])
    }
}

/// Makes three descriptors standard input, output and error. None of them may be among 0 to 2 at another place.
pub(super) fn use_as_stdio(fds: [BorrowedFd<'_>; 3]) -> Result<()> {
    rustix::stdio::dup2_stdin(fds[0]).step("dup stdin")?;
    rustix::stdio::dup2_stdout(fds[1]).step("dup stdout")?;
    rustix::stdio::dup2_stderr(fds[2]).step("dup stderr")?;
    // dup2 onto itself keeps close-on-exec.
    for fd in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).step("keep stdio")?;
    }
    Ok(())
}

/// Gives pipes to a user of a user namespace: a process inside has no rights over what the host's root made.
pub(super) fn give_pipes_from_outside(fds: &[OwnedFd; 3], spec: &Spec, owner: u32) {
    let inside = |map: &&IdMapping| owner.checked_sub(map.container_id).is_some_and(|offset| offset < map.size);
    let Some(map) = spec.linux().uid_mappings.iter().find(inside) else { return };
    let owner = Uid::from_raw(map.host_id + (owner - map.container_id));
    for fd in fds.iter().filter(|fd| is_pipe(fd)) {
        // As above: whoever can't give it away has it all the same.
        let _ = fchown(fd, Some(owner), None);
    }
}

fn is_pipe(fd: impl AsFd) -> bool {
    fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
}

/// Gives pipes at 0 to 2 to the user, who could not open /dev/stdout otherwise. Everything else stays whose it is.
pub(super) fn give_pipes(owner: u32) {
    for fd in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        if is_pipe(fd) && fstat(fd).is_ok_and(|stat| stat.st_uid != owner) {
            let _ = fchown(fd, Some(Uid::from_raw(owner)), None);
        }
    }
}
