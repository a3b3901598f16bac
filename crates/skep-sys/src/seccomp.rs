//! seccomp(2): putting a filter in force for the calling thread.

use std::os::fd::{FromRawFd, OwnedFd};

use rustix::io::Errno;

/// `struct sock_filter` of linux/filter.h: an instruction of classic BPF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Distance of a conditional jump if the condition holds.
    pub jump_true: u8,
    /// Distance if it does not.
    pub jump_false: u8,
    /// Operand.
    pub operand: u32,
}

/// `struct sock_fprog`.
#[repr(C)]
struct Program {
    length: u16,
    instructions: *const Instruction,
}

/// Flags of `SECCOMP_SET_MODE_FILTER`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags(u32);

impl Flags {
    /// The filter is for all threads of the process.
    pub const TSYNC: Flags = Flags(1);
    /// All actions but "allow" may be logged.
    pub const LOG: Flags = Flags(1 << 1);
    /// No mitigation of speculative store bypass, which a filter otherwise switches on.
    pub const SPEC_ALLOW: Flags = Flags(1 << 2);
    /// Make a notify descriptor.
    pub const NEW_LISTENER: Flags = Flags(1 << 3);
    /// A notified call is only interrupted by fatal signals once it has been received.
    pub const WAIT_KILLABLE_RECV: Flags = Flags(1 << 5);

    /// Both together.
    #[must_use]
    pub const fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// Whether all of `other` are set.
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Puts a filter in force for the calling thread; no_new_privs must be set, or the thread have CAP_SYS_ADMIN. Returns the notify
/// descriptor with [`Flags::NEW_LISTENER`].
pub fn load(instructions: &[Instruction], flags: Flags) -> Result<Option<OwnedFd>, Errno> {
    let program = Program {
        length: u16::try_from(instructions.len()).map_err(|_| Errno::TOOBIG)?,
        instructions: instructions.as_ptr(),
    };
    // SAFETY: `program` is laid out as struct sock_fprog and names `length` initialised instructions, which live until the call
    // returns; the kernel copies them. A filter can make later calls of this thread fail, which is what the caller asks for.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::c_ulong::from(flags.0),
            std::ptr::from_ref(&program),
        )
    };
    match i32::try_from(result) {
        // SAFETY: with this flag the result is a descriptor made just now (close-on-exec), which nobody else has.
        Ok(fd) if fd >= 0 && flags.contains(Flags::NEW_LISTENER) => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
        Ok(0) => Ok(None),
        // With TSYNC, the number of a thread that could not be brought to the same filter.
        Ok(thread) if thread > 0 => Err(Errno::SRCH),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}
