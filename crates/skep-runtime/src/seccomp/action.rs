//! What happens to a call, in the form in which a filter returns it (`SECCOMP_RET_*` of linux/seccomp.h).

use super::Error;

/// The value that a filter returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Action(pub(super) u32);

const KILL_PROCESS: u32 = 0x8000_0000;
const KILL_THREAD: u32 = 0;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
const NOTIFY: u32 = 0x7fc0_0000;
const TRACE: u32 = 0x7ff0_0000;
const LOG: u32 = 0x7ffc_0000;
const ALLOW: u32 = 0x7fff_0000;

const KIND: u32 = 0xffff_0000;

/// The kernel's `MAX_ERRNO`.
const HIGHEST_ERRNO: u32 = 4095;

impl Action {
    pub(super) const KILL_PROCESS: Action = Action(KILL_PROCESS);

    /// "There is no such call", as a kernel without it would answer.
    pub(super) const NO_SUCH_CALL: Action = Action(ERRNO | libc::ENOSYS.cast_unsigned());

    /// The action of a name in a spec; `value` is the errno or the tracer's data.
    pub(super) fn named(name: &str, value: Option<u32>) -> Result<Action, Error> {
        let invalid = |what: String| Err(Error::Invalid(what));
        let (kind, takes_value) = match name {
            "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => (KILL_THREAD, false),
            "SCMP_ACT_KILL_PROCESS" => (KILL_PROCESS, false),
            "SCMP_ACT_TRAP" => (TRAP, false),
            "SCMP_ACT_ERRNO" => (ERRNO, true),
            "SCMP_ACT_TRACE" => (TRACE, true),
            "SCMP_ACT_ALLOW" => (ALLOW, false),
            "SCMP_ACT_LOG" => (LOG, false),
            "SCMP_ACT_NOTIFY" => (NOTIFY, false),
            other => return invalid(format!("unknown action {other:?}")),
        };
        match value {
            // Engines have been seen to send a value with every rule.
            Some(value) if !takes_value && value != 0 => invalid(format!("{name} takes no errno")),
            Some(value) if kind == ERRNO && value > HIGHEST_ERRNO => invalid(format!("errno {value} is out of range")),
            Some(value) if value > 0xffff => invalid(format!("value {value} of {name} is out of range")),
            Some(value) if takes_value => Ok(Action(kind | value)),
            None if takes_value => Ok(Action(kind | libc::EPERM.cast_unsigned())),
            _ => Ok(Action(kind)),
        }
    }

    /// Whether a listener gets the call.
    pub(super) fn notifies(self) -> bool {
        self.0 & KIND == NOTIFY
    }

    /// Whether the call is made, or may be.
    pub(super) fn lets_through(self) -> bool {
        matches!(self.0 & KIND, ALLOW | LOG | NOTIFY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        assert_eq!(Action::named("SCMP_ACT_ERRNO", None).unwrap().0, 0x0005_0001);
        assert_eq!(Action::named("SCMP_ACT_ERRNO", Some(38)).unwrap(), Action::NO_SUCH_CALL);
        assert_eq!(Action::named("SCMP_ACT_TRACE", Some(7)).unwrap().0, 0x7ff0_0007);
        assert_eq!(Action::named("SCMP_ACT_KILL", None).unwrap().0, 0);
        assert_eq!(Action::named("SCMP_ACT_ALLOW", Some(0)).unwrap().0, ALLOW);
        assert!(Action::named("SCMP_ACT_ALLOW", Some(1)).is_err());
        assert!(Action::named("SCMP_ACT_ERRNO", Some(5000)).is_err());
        assert!(Action::named("SCMP_ACT_PARDON", None).is_err());
    }
}
