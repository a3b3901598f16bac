//! System call filters.

mod profile;

use crate::spec::Seccomp;

/// A compiled filter with the flags to load it with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Instructions of classic BPF.
    pub instructions: Vec<skep_sys::seccomp::Instruction>,
    /// What seccomp(2) is to do besides.
    pub flags: skep_sys::seccomp::Flags,
}

/// Why a filter could not be compiled or loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text of the spec makes no sense.
    #[error("invalid seccomp filter: {0}")]
    Invalid(String),
    /// The kernel did not take the filter.
    #[error("cannot load the seccomp filter: {0}")]
    Load(#[source] std::io::Error),
}

/// Compiles a filter. Names of calls that no architecture here knows are ignored, as they may be those of newer kernels.
pub fn compile(seccomp: &Seccomp) -> Result<Program, Error> {
    let _ = seccomp;
    Err(Error::Invalid("the compiler has not been merged yet".to_owned()))
}

impl Program {
    /// Puts the filter in force for the calling thread, and what it will execute. Needs no_new_privs or CAP_SYS_ADMIN. Returns the
    /// notify descriptor if the filter has `SCMP_ACT_NOTIFY`.
    pub fn load(&self) -> Result<Option<std::os::fd::OwnedFd>, Error> {
        skep_sys::seccomp::load(&self.instructions, self.flags).map_err(|errno| Error::Load(errno.into()))
    }
}

/// The filter of containers that ask for none: what is not known to be harmless is refused, with more allowed for some
/// capabilities. `capabilities` are those that the container gets (its bounding set), as `CAP_CHOWN`.
pub fn default_profile<S: AsRef<str>>(capabilities: &[S]) -> Seccomp {
    profile::build(capabilities)
}
