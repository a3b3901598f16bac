//! bpf(2), for the one kind of program that a container engine loads: the filter of a cgroup's device access, in cgroup v2.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

/// `struct bpf_insn` of linux/bpf.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Instruction {
    /// Operation.
    pub code: u8,
    /// Destination register in the low four bits, source register in the high four.
    pub registers: u8,
    /// Jump distance or memory offset.
    pub offset: i16,
    /// Immediate value.
    pub immediate: i32,
}

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;

const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_TYPE_CGROUP_DEVICE: u32 = 6;

/// Several programs in one cgroup; all of them have to allow an access.
const ALLOW_MULTI: u32 = 1 << 1;
/// Takes the place of a program that is attached.
const REPLACE: u32 = 1 << 2;

/// How much of the verifier's explanation is kept.
const LOG_SIZE: usize = 16 * 1024;

/// More programs than this are not expected in one cgroup.
const MAX_ATTACHED: u32 = 64;

/// Members of `union bpf_attr` for `BPF_PROG_LOAD`, as far as they are used.
#[repr(C)]
struct LoadAttr {
    prog_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// Members for `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`.
#[repr(C)]
struct AttachAttr {
    target_fd: u32,
    program_fd: u32,
    attach_type: u32,
    flags: u32,
    replaced_fd: u32,
}

/// Members for `BPF_PROG_QUERY`.
#[repr(C)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

/// Members for `BPF_PROG_GET_FD_BY_ID`.
#[repr(C)]
struct ByIdAttr {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// Why a program was not taken.
#[derive(Debug, thiserror::Error)]
#[error("bpf(BPF_PROG_LOAD): {errno}{}{log}", if .log.is_empty() { "" } else { ": " })]
pub struct LoadError {
    /// The kernel's answer.
    pub errno: Errno,
    /// What the verifier says, if it is the verifier that refuses.
    pub log: String,
}

/// Loads a device filter. The program gets a pointer to `struct bpf_cgroup_dev_ctx` in register 1 and allows the access by
/// returning 1. Needs CAP_BPF or CAP_SYS_ADMIN in the first user namespace.
pub fn load_device_filter(program: &[Instruction]) -> Result<OwnedFd, LoadError> {
    let first = load(program, &mut []);
    match first {
        Ok(fd) => Ok(fd),
        Err(errno @ (Errno::PERM | Errno::NOSYS)) => Err(LoadError { errno, log: String::new() }),
        Err(errno) => {
            let mut log = vec![0; LOG_SIZE];
            let _ = load(program, &mut log); // again, only for the explanation
            let end = log.iter().position(|byte| *byte == 0).unwrap_or(0);
            Err(LoadError { errno, log: String::from_utf8_lossy(&log[..end]).trim().to_owned() })
        }
    }
}

/// Attaches a filter to a cgroup, in place of `replaced` or else beside what is there.
pub fn attach_device_filter(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let mut attr = AttachAttr {
        target_fd: raw(cgroup),
        program_fd: raw(program),
        attach_type: ATTACH_TYPE_CGROUP_DEVICE,
        flags: ALLOW_MULTI | if replaced.is_some() { REPLACE } else { 0 },
        replaced_fd: replaced.map_or(0, raw),
    };
    bpf(PROG_ATTACH, &mut attr).map(drop)
}

/// Takes a filter off a cgroup.
pub fn detach_device_filter(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut attr = AttachAttr {
        target_fd: raw(cgroup),
        program_fd: raw(program),
        attach_type: ATTACH_TYPE_CGROUP_DEVICE,
        flags: 0,
        replaced_fd: 0,
    };
    bpf(PROG_DETACH, &mut attr).map(drop)
}

/// The filters attached to a cgroup itself (not to those above it). Needs CAP_SYS_ADMIN.
pub fn attached_device_filters(cgroup: BorrowedFd<'_>) -> Result<Vec<OwnedFd>, Errno> {
    let mut ids = [0u32; MAX_ATTACHED as usize];
    let mut query = QueryAttr {
        target_fd: raw(cgroup),
        attach_type: ATTACH_TYPE_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: MAX_ATTACHED,
        padding: 0,
    };
    bpf(PROG_QUERY, &mut query)?;
    let mut programs = Vec::new();
    for id in ids.iter().zip(0..query.count).map(|(id, _)| id) {
        match bpf(PROG_GET_FD_BY_ID, &mut ByIdAttr { id: *id, next_id: 0, open_flags: 0 }) {
            // SAFETY: the call has just made this descriptor (close-on-exec, as bpf(2) always does), nobody else has it.
            Ok(fd) => programs.push(unsafe { OwnedFd::from_raw_fd(fd) }),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(programs)
}

fn load(program: &[Instruction], log: &mut [u8]) -> Result<OwnedFd, Errno> {
    let mut attr = LoadAttr {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(program.len()).map_err(|_| Errno::TOOBIG)?,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: u32::try_from(log.len()).map_err(|_| Errno::TOOBIG)?,
        log_buffer: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
        kernel_version: 0,
        prog_flags: 0,
        prog_name: *b"skep_devices\0\0\0\0",
    };
    let fd = bpf(PROG_LOAD, &mut attr)?;
    // SAFETY: the call has just made this descriptor (close-on-exec, as bpf(2) always does), nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// The call itself. Private: each caller above passes the attributes that belong to its command, with addresses of buffers that
/// outlive the call and with their true sizes.
fn bpf<A>(command: libc::c_int, attr: &mut A) -> Result<i32, Errno> {
    loop {
        // SAFETY: `attr` is a live, exclusively borrowed, fully initialised repr(C) struct of the size given, and the addresses in
        // it are those of slices that the callers hold during the call.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<A>()) };
        match i32::try_from(result) {
            Ok(result) if result >= 0 => return Ok(result),
            _ => match last_errno() {
                Errno::AGAIN | Errno::INTR => {} // the verifier was interrupted by a signal
                errno => return Err(errno),
            },
        }
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
