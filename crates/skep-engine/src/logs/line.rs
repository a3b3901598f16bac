//! One line of a json-file log.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::model::request::{LogEntry, LogOptions, OutputStream};

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    log: String,
    #[serde(default)]
    stream: String,
    time: DateTime<Utc>,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
}

/// Reads one line; a damaged one (a crash while it was written) gives `None` and is passed over.
pub(super) fn parse(text: &[u8]) -> Option<LogEntry> {
    let line: Line = serde_json::from_slice(text).ok()?;
    Some(LogEntry {
        stream: if line.stream == "stderr" { OutputStream::Stderr } else { OutputStream::Stdout },
        time: line.time,
        line: Bytes::from(line.log),
        attributes: line.attrs,
    })
}

/// Where a line stands to the wanted span of time and streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Show,
    Skip,
    /// It and all that follow are too new.
    End,
}

pub(super) fn judge(entry: &LogEntry, options: &LogOptions) -> Verdict {
    if options.until.is_some_and(|until| entry.time > until) {
        return Verdict::End;
    }
    let stream = match entry.stream {
        OutputStream::Stdout => options.stdout,
        OutputStream::Stderr => options.stderr,
    };
    if !stream || options.since.is_some_and(|since| entry.time < since) { Verdict::Skip } else { Verdict::Show }
}
