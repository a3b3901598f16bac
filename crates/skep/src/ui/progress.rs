//! The engine's stream of progress messages, drawn as Docker's client draws it.
//!
//! On a terminal every layer has a line of its own, which is redrawn in place:
//!
//! ```text
//! up to its line (ESC[nA), clear it (ESC[2K), "ID: STATUS [===>   ]  1kB/4kB", down again (ESC[nB)
//! ```
//!
//! A message that is no progress of a layer ends that block: later layers get new lines below it. Elsewhere the bars
//! are left out and every other message is a plain line.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use rustix::termios::{isatty, tcgetwinsize};
use skep_client::Response;
use skep_wire::{Progress, ProgressDetail};

use super::human;
use crate::cli::{Failure, Outcome};

/// The bar itself needs more columns than this.
const WIDTH_FOR_BAR: usize = 110;
/// Taken for the width of a terminal that does not tell.
const UNKNOWN_WIDTH: usize = 200;

/// Where progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Stdout,
    Stderr,
    /// Nowhere: only the failure at the end counts.
    Nowhere,
}

/// Shows the messages of `response` until their end. A message that is an error ends with that.
pub(crate) async fn show(response: Response, target: Target) -> Outcome {
    show_with_aux(response, target).await.map(drop)
}

/// As [`show`]; returns the messages' data for programs.
pub(crate) async fn show_with_aux(response: Response, target: Target) -> Result<Vec<serde_json::Value>, Failure> {
    let mut messages = response.json_stream::<Progress>();
    let mut drawing = Drawing::default();
    let mut data = Vec::new();
    while let Some(message) = messages.next().await? {
        data.extend(message.aux.clone());
        let text = drawing.draw(&message, target.width());
        target.write(&text);
        if let Some(text) = failure_in(&message) {
            return Err(Failure::message(text));
        }
    }
    Ok(data)
}

/// Messages that are made here, drawn like the engine's.
pub(crate) struct Screen {
    target: Target,
    drawing: Drawing,
    told: Instant,
}

/// Least time between two drawings of the same progress.
const TICK: Duration = Duration::from_millis(100);

impl Screen {
    pub(crate) fn new(target: Target) -> Self {
        Screen { target, drawing: Drawing::default(), told: Instant::now() }
    }

    /// Draws a message; of those that only count bytes, some are left out.
    pub(crate) fn show(&mut self, message: &Progress) {
        let counts = message.progress_detail.as_ref().is_some_and(|detail| detail.current > 0);
        if counts && self.told.elapsed() < TICK {
            return;
        }
        self.told = Instant::now();
        let text = self.drawing.draw(message, self.target.width());
        self.target.write(&text);
    }
}

fn failure_in(message: &Progress) -> Option<&str> {
    match &message.error_detail {
        Some(detail) => Some(&detail.message),
        None => (!message.error.is_empty()).then_some(message.error.as_str()),
    }
}

impl Target {
    /// Columns of the terminal; None where there is none. Asked anew each time, for the user may resize it.
    fn width(self) -> Option<usize> {
        let columns = match self {
            Target::Stdout if isatty(io::stdout()) => tcgetwinsize(io::stdout()),
            Target::Stderr if isatty(io::stderr()) => tcgetwinsize(io::stderr()),
            Target::Stdout | Target::Stderr | Target::Nowhere => return None,
        };
        Some(columns.map_or(UNKNOWN_WIDTH, |window| usize::from(window.ws_col)))
    }

    fn write(self, text: &str) {
        match self {
            _ if text.is_empty() => {}
            Target::Stdout => super::print(text),
            Target::Stderr => {
                // Nobody is left to be told when stderr is gone.
                let _ = io::stderr().lock().write_all(text.as_bytes());
            }
            Target::Nowhere => {}
        }
    }
}

/// What is on the screen: the ids whose lines can still be reached, from top to bottom.
#[derive(Debug, Default)]
struct Drawing {
    lines: Vec<String>,
}

impl Drawing {
    /// What to write for `message` on a terminal of `width` columns, or on none.
    fn draw(&mut self, message: &Progress, width: Option<usize>) -> String {
        let mut out = String::new();
        if message.aux.is_some() {
            return out;
        }
        let mut rows_up = 0;
        if !message.id.is_empty() && (message.progress_detail.is_some() || !message.progress.is_empty()) {
            let known = self.lines.iter().position(|id| *id == message.id);
            let line = known.unwrap_or_else(|| {
                self.lines.push(message.id.clone());
                if width.is_some() {
                    out.push('\n');
                }
                self.lines.len() - 1
            });
            rows_up = self.lines.len() - line;
        } else {
            self.lines.clear();
        }
        let moves = width.is_some() && rows_up > 0;
        if moves {
            let _ = write!(out, "\x1b[{rows_up}A");
        }
        if failure_in(message).is_none() {
            draw_message(&mut out, message, width);
        }
        if moves {
            let _ = write!(out, "\x1b[{rows_up}B");
        }
        out
    }
}

fn draw_message(out: &mut String, message: &Progress, width: Option<usize>) {
    let mut line_end = "";
    match (width, &message.progress_detail) {
        (Some(_), Some(_)) if message.stream.is_empty() => {
            out.push_str("\x1b[2K\r");
            line_end = "\r";
        }
        (_, Some(detail)) if !bar(detail, UNKNOWN_WIDTH).is_empty() => return,
        _ => {}
    }
    if !message.id.is_empty() {
        out.push_str(&message.id);
        out.push_str(": ");
    }
    let status = &message.status;
    // Writing to a String does not fail.
    let _ = match (width, &message.progress_detail) {
        (Some(width), Some(detail)) => write!(out, "{status} {}{line_end}", bar(detail, width)),
        _ if !message.progress.is_empty() => write!(out, "{status} {}{line_end}", message.progress),
        _ if !message.stream.is_empty() => write!(out, "{}{line_end}", message.stream),
        _ => writeln!(out, "{status}{line_end}"),
    };
}

/// `[=====>      ]  1.5MB/4.2MB`; the numbers alone where the terminal is too narrow for the bar.
fn bar(detail: &ProgressDetail, width: usize) -> String {
    let ProgressDetail { current, total, units } = detail;
    let (current, total) = (*current, *total);
    if current <= 0 && total <= 0 {
        return String::new();
    }
    if total <= 0 {
        return match units.as_str() {
            "" => format!("{:>8}", human::fine_size(current)),
            units => format!("{current} {units}"),
        };
    }
    let half_percent = i128::from(current.max(0)) * 50 / i128::from(total);
    let done = usize::try_from(half_percent).unwrap_or(50).min(50);
    let mut out = String::new();
    if width > WIDTH_FOR_BAR {
        out.push_str(&format!("[{}>{}] ", "=".repeat(done), " ".repeat(50 - done)));
    }
    out.push_str(&match (units.as_str(), current > total) {
        ("", false) => format!("{:>8}/{}", human::fine_size(current), human::fine_size(total)),
        // A total that was passed was wrong.
        ("", true) => format!("{:>8}", human::fine_size(current)),
        (units, false) => format!("{current}/{total} {units}"),
        (units, true) => format!("{current} {units}"),
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pull as dockerd reports it.
    const PULL: &str = r#"
        {"status":"Pulling from library/alpine","id":"latest"}
        {"status":"Pulling fs layer","progressDetail":{},"id":"aaaaaaaaaaaa"}
        {"status":"Pulling fs layer","progressDetail":{},"id":"bbbbbbbbbbbb"}
        {"status":"Downloading","progressDetail":{"current":1000,"total":4000},"progress":"[=>  ] x","id":"aaaaaaaaaaaa"}
        {"status":"Downloading","progressDetail":{"current":5000,"total":4000},"id":"bbbbbbbbbbbb"}
        {"status":"Downloading","progressDetail":{"current":5000},"id":"bbbbbbbbbbbb"}
        {"status":"Extracting","progressDetail":{"current":3,"units":"s"},"id":"bbbbbbbbbbbb"}
        {"status":"Pull complete","progressDetail":{},"id":"aaaaaaaaaaaa"}
        {"status":"Digest: sha256:bbb"}
        {"aux":{"ID":"x"}}
        {"stream":"Loaded image: x\n"}
        {"status":"Downloading","progressDetail":{"current":1},"id":"aaaaaaaaaaaa"}
        {"errorDetail":{"message":"boom"},"error":"boom"}
    "#;

    fn drawn(width: Option<usize>) -> String {
        let mut drawing = Drawing::default();
        PULL.lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| drawing.draw(&skep_wire::from_str(line).expect(line), width))
            .collect()
    }

    #[test]
    fn without_a_terminal_there_are_no_bars() {
        insta::assert_snapshot!(drawn(None), @r"
        latest: Pulling from library/alpine
        aaaaaaaaaaaa: Pulling fs layer
        bbbbbbbbbbbb: Pulling fs layer
        aaaaaaaaaaaa: Pull complete
        Digest: sha256:bbb
        Loaded image: x
        ");
    }

    /// Byte for byte what Docker's client wrote for these messages on a terminal of 80 columns.
    #[test]
    fn a_terminal_has_a_line_per_layer() {
        let wanted = [
            "latest: Pulling from library/alpine\n",
            "\n\x1b[1A\x1b[2K\raaaaaaaaaaaa: Pulling fs layer \r\x1b[1B",
            "\n\x1b[1A\x1b[2K\rbbbbbbbbbbbb: Pulling fs layer \r\x1b[1B",
            "\x1b[2A\x1b[2K\raaaaaaaaaaaa: Downloading      1kB/4kB\r\x1b[2B",
            "\x1b[1A\x1b[2K\rbbbbbbbbbbbb: Downloading      5kB\r\x1b[1B",
            "\x1b[1A\x1b[2K\rbbbbbbbbbbbb: Downloading      5kB\r\x1b[1B",
            "\x1b[1A\x1b[2K\rbbbbbbbbbbbb: Extracting 3 s\r\x1b[1B",
            "\x1b[2A\x1b[2K\raaaaaaaaaaaa: Pull complete \r\x1b[2B",
            "Digest: sha256:bbb\n",
            "Loaded image: x\n",
            "\n\x1b[1A\x1b[2K\raaaaaaaaaaaa: Downloading       1B\r\x1b[1B",
        ];
        assert_eq!(drawn(Some(80)), wanted.concat());
    }

    #[test]
    fn bars_need_a_wide_terminal() {
        let detail = |current, total| ProgressDetail { current, total, ..ProgressDetail::default() };
        assert_eq!(bar(&detail(1000, 4000), 110), "     1kB/4kB");
        assert_eq!(bar(&detail(1000, 4000), 111), format!("[{}>{}]      1kB/4kB", "=".repeat(12), " ".repeat(38)));
        assert_eq!(bar(&detail(5000, 4000), 130), format!("[{}>]      5kB", "=".repeat(50)));
        assert_eq!(bar(&detail(12_345, 0), 130), " 12.35kB");
        assert_eq!(bar(&detail(0, 0), 130), "");
        let counted = ProgressDetail { current: 1, total: 2, units: "layers".to_owned() };
        assert_eq!(bar(&counted, 80), "1/2 layers");
    }

    #[test]
    fn errors_are_found_in_either_field() {
        let message: Progress = skep_wire::from_str(r#"{"error":"old"}"#).expect("json");
        assert_eq!(failure_in(&message), Some("old"));
        assert_eq!(failure_in(&Progress::failure("new")), Some("new"));
        assert_eq!(failure_in(&Progress::status("a", "b")), None);
    }
}
