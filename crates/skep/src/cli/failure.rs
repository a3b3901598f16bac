//! How a command ends when it does not succeed: an exit code and a text for stderr.

use std::io;

/// A failed command. The text may be empty: the code alone is the message (a container's own exit code).
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: i32,
    pub(crate) text: String,
}

/// The code of a wrong command line, and of `run` when the engine failed.
pub(crate) const USAGE: i32 = 125;

impl Failure {
    pub(crate) fn new(code: i32, text: impl Into<String>) -> Self {
        Failure { code, text: text.into() }
    }

    /// An ordinary failure: exit code 1.
    pub(crate) fn message(text: impl Into<String>) -> Self {
        Failure::new(1, text)
    }

    /// A wrong command line.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Failure::new(USAGE, text)
    }

    /// Ends with `code` and says nothing.
    pub(crate) fn silent(code: i32) -> Self {
        Failure::new(code, "")
    }

    /// Collects the failures of a command that goes on with the next object; Ok if there were none.
    pub(crate) fn all(texts: Vec<String>) -> Result<(), Self> {
        if texts.is_empty() { Ok(()) } else { Err(Failure::new(1, texts.join("\n"))) }
    }
}

impl From<skep_client::Error> for Failure {
    fn from(error: skep_client::Error) -> Self {
        Failure::message(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::message(go_io_error(&error))
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Failure::message(text)
    }
}

impl From<&str> for Failure {
    fn from(text: &str) -> Self {
        Failure::message(text)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Failure::message(error.to_string())
    }
}

/// An error of the kernel in Go's words (`no such file or directory`), without Rust's "(os error 2)".
pub(crate) fn go_io_error(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => {
            let mut letters = text[..end].chars();
            letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
        }
        None => text,
    }
}

/// `open PATH: no such file or directory`: a failed file operation as Go words it.
pub(crate) fn go_path_error(operation: &str, path: &std::path::Path, error: &io::Error) -> String {
    format!("{operation} {}: {}", path.display(), go_io_error(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_errors_are_worded_as_in_go() {
        let error = std::fs::read("/nope/x").expect_err("no such file");
        assert_eq!(
            go_path_error("open", std::path::Path::new("/nope/x"), &error),
            "open /nope/x: no such file or directory"
        );
    }
}
