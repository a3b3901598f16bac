//! The progress of a build, as Docker's client shows it: redrawn on a terminal, line by line elsewhere, or as JSON.
//!
//! ```text
//! Update ──▶ Trace (what is known of every step) ──▶ Terminal | Plain
//! ```
//! A [`Trace`] takes updates in; the displays only read it. What failed is shown at the end by [`Trace::failure`].

mod plain;
mod terminal;
mod trace;

use std::io::{self, Write};

pub(crate) use trace::{Log, Status, Update, Vertex, Warning};

use plain::Plain;
use terminal::Terminal;
use trace::Trace;

use super::tty;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Redrawn in place.
    Terminal,
    /// Line by line.
    Plain,
    /// The updates themselves are printed by the caller.
    RawJson,
    /// Not at all.
    Quiet,
}

impl Style {
    /// What `--progress` says; `auto` redraws on a terminal.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "auto" | "" if tty::is_terminal(io::stderr()) => Ok(Style::Terminal),
            "auto" | "" | "plain" => Ok(Style::Plain),
            "tty" if tty::is_terminal(io::stderr()) => Ok(Style::Terminal),
            "tty" => Err("failed to get console: provided file is not a console".to_owned()),
            "rawjson" => Ok(Style::RawJson),
            "quiet" | "none" => Ok(Style::Quiet),
            other => Err(format!("invalid progress mode {other:?}: it is one of auto, plain, tty, quiet, rawjson")),
        }
    }
}

/// A build on the screen.
pub(crate) struct Display {
    trace: Trace,
    style: Style,
    plain: Plain,
    terminal: Terminal,
}

impl Display {
    /// `phase` is what goes on (`Building`), `builder` who does it.
    pub(crate) fn new(style: Style, phase: &str, builder: &str) -> Self {
        Display { trace: Trace::default(), style, plain: Plain::default(), terminal: Terminal::new(phase, builder) }
    }

    /// Says who builds, where a display begins with that.
    pub(crate) fn begin(&mut self, text: &str) {
        if self.style == Style::Plain {
            write(&format!("#0 {text}\n\n"));
        }
    }

    /// Takes news in, and shows what is shown line by line.
    pub(crate) fn update(&mut self, update: Update) {
        self.trace.take(update);
        if self.style == Style::Plain {
            write(&self.plain.draw(&mut self.trace));
        }
    }

    /// Redraws, if this display does that: to be called several times a second.
    pub(crate) fn tick(&mut self) {
        if let (Style::Terminal, Some((rows, columns))) = (self.style, tty::error_size()) {
            write(&self.terminal.draw(&self.trace, rows, columns, false));
        }
    }

    /// The last drawing, and what failed.
    pub(crate) fn end(&mut self) {
        match self.style {
            Style::Terminal => {
                let (rows, columns) = tty::error_size().unwrap_or((24, 80));
                write(&self.terminal.draw(&self.trace, rows, columns, true));
            }
            Style::Plain => write(&self.plain.last(&mut self.trace)),
            Style::RawJson | Style::Quiet => {}
        }
        if matches!(self.style, Style::Terminal | Style::Plain) {
            write(&self.trace.failure());
        }
    }

    /// The warnings, for the end of a build that succeeded.
    pub(crate) fn warnings(&self, verbose: bool) -> String {
        if matches!(self.style, Style::RawJson | Style::Quiet) { String::new() } else { self.trace.warnings(verbose) }
    }
}

/// Displays are on stderr: stdout may be the result.
fn write(text: &str) {
    if !text.is_empty() {
        // Nobody is left to be told when stderr is gone.
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}
