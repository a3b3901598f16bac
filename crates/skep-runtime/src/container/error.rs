//! What can go wrong between a specification and a running program, in a form that crosses processes.

use std::borrow::Cow;
use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

/// The result of everything in this module.
pub type Result<T, E = LaunchError> = std::result::Result<T, E>;

/// A container or an executed process that did not come to be.
///
/// Most of these happen in a process that is not the caller's: the error travels over a socket, so it is data and has no source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct LaunchError {
    /// What code may decide on.
    pub kind: LaunchErrorKind,
    /// What was being done, such as `mount /proc`. May be empty.
    pub step: Cow<'static, str>,
    /// The kernel's answer, if it was the kernel that refused.
    pub errno: Option<i32>,
    /// What is wrong, for people.
    pub message: String,
}

/// The classes of [`LaunchError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LaunchErrorKind {
    /// The program does not exist in the container: exit code 127.
    CommandNotFound,
    /// The program exists and can't be executed: exit code 126.
    NotExecutable,
    /// The specification asks for something that makes no sense or that this runtime does not do.
    InvalidSpec,
    /// The machine or the caller's privileges do not allow it.
    Refused,
    /// The container is not in a state in which this can be done.
    WrongState,
    /// Anything else; mostly a system call that failed.
    System,
}

impl LaunchErrorKind {
    /// The exit code that runc's and Docker's users know for it.
    pub fn exit_code(self) -> u8 {
        match self {
            LaunchErrorKind::CommandNotFound => 127,
            LaunchErrorKind::NotExecutable => 126,
            LaunchErrorKind::InvalidSpec
            | LaunchErrorKind::Refused
            | LaunchErrorKind::WrongState
            | LaunchErrorKind::System => 1,
        }
    }
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.step.as_ref() {
            "" => f.write_str(&self.message),
            step => write!(f, "{step}: {}", self.message),
        }
    }
}

impl LaunchError {
    /// A specification that can't be done.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self { kind: LaunchErrorKind::InvalidSpec, step: "".into(), errno: None, message: message.into() }
    }

    /// Something the machine does not allow.
    pub fn refused(step: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { kind: LaunchErrorKind::Refused, step: step.into(), errno: None, message: message.into() }
    }

    /// Something that is not possible in the state the container is in.
    pub fn wrong_state(message: impl Into<String>) -> Self {
        Self { kind: LaunchErrorKind::WrongState, step: "".into(), errno: None, message: message.into() }
    }

    /// A failure that no errno describes.
    pub fn system(step: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { kind: LaunchErrorKind::System, step: step.into(), errno: None, message: message.into() }
    }

    /// A system call that failed.
    pub fn os(step: impl Into<Cow<'static, str>>, error: impl Into<io::Error>) -> Self {
        let error = error.into();
        let errno = error.raw_os_error();
        let message = errno.map_or_else(|| error.to_string(), describe);
        Self { kind: LaunchErrorKind::System, step: step.into(), errno, message }
    }
}

/// The kernel's error in lower case and without the number: the form in which engines show it.
fn describe(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// Names the step of a system call that failed.
pub(crate) trait Step<T> {
    /// As [`LaunchError::os`].
    fn step(self, step: &'static str) -> Result<T>;
    /// As [`LaunchError::os`], with a text made only on failure.
    fn step_with(self, step: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Step<T> for std::result::Result<T, E> {
    fn step(self, step: &'static str) -> Result<T> {
        self.map_err(|error| LaunchError::os(step, error))
    }

    fn step_with(self, step: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| LaunchError::os(step(), error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_step_and_cause_in_lower_case() {
        let error = LaunchError::os("mount /proc", rustix::io::Errno::NOENT);
        assert_eq!(error.to_string(), "mount /proc: no such file or directory");
        let text = serde_json::to_string(&error).expect("json");
        assert_eq!(serde_json::from_str::<LaunchError>(&text).expect("error"), error);
    }
}
