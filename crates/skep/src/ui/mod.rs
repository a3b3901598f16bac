//! What the user sees: the only part of the program that writes to stdout and stderr.
//!
//! Commands hand over finished text; tables, templates, human-readable sizes and times, progress lines and the
//! terminal's modes live in the modules below.

pub(crate) mod build;
pub(crate) mod human;
pub(crate) mod json;
pub(crate) mod listing;
pub(crate) mod progress;
pub(crate) mod stdio;
pub(crate) mod table;
pub(crate) mod template;
pub(crate) mod tty;

use std::io::{self, Write};

/// Writes `text` to stdout.
pub(crate) fn print(text: &str) {
    write_stdout(text.as_bytes());
}

/// Writes `text` and a line end to stdout.
pub(crate) fn line(text: &str) {
    let mut whole = String::with_capacity(text.len() + 1);
    whole.push_str(text);
    whole.push('\n');
    write_stdout(whole.as_bytes());
}

/// Writes bytes to stdout. A reader that went away ends the program, as SIGPIPE would.
pub(crate) fn write_stdout(bytes: &[u8]) {
    let mut stdout = io::stdout().lock();
    if let Err(error) = stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        end_on_broken_pipe(&error);
    }
}

/// Writes a line to stderr.
pub(crate) fn error_line(text: &str) {
    // Nobody is left to be told when stderr is gone.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes text to stderr as it is.
pub(crate) fn error_text(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Asks a question on stderr and reads the answer from stdin; only `y` and `yes` agree.
pub(crate) fn confirm(question: &str) -> bool {
    let mut stderr = io::stderr().lock();
    let _ = write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush());
    let mut answer = String::new();
    if io::stdin().read_line(&mut answer).is_err() {
        return false;
    }
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

fn end_on_broken_pipe(error: &io::Error) {
    const SIGPIPE: i32 = 13;
    if error.kind() == io::ErrorKind::BrokenPipe {
        std::process::exit(128 + SIGPIPE);
    }
    let _ = writeln!(io::stderr().lock(), "write error: {error}");
    std::process::exit(1);
}
