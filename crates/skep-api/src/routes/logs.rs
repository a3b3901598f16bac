//! A container's log.

use bytes::Bytes;
use chrono::SecondsFormat;
use futures_util::StreamExt;
use http::Method;
use skep_engine::model::request::{LogEntry, LogOptions, OutputStream};

use crate::http::framing::{MULTIPLEXED, RAW, frame};
use crate::http::router::{Route, route};
use crate::http::version::ApiVersion;
use crate::http::{Answer, ApiError, Request};

pub(crate) fn routes() -> Vec<Route> {
    vec![route(Method::GET, "/containers/{id}/logs", logs)]
}

/// How lines are written.
#[derive(Clone, Copy)]
struct Format {
    framed: bool,
    timestamps: bool,
    details: bool,
}

async fn logs(request: Request) -> Result<Answer, ApiError> {
    let query = &request.query;
    let (stdout, stderr) = (query.flag("stdout"), query.flag("stderr"));
    if !(stdout || stderr) {
        return Err(ApiError::invalid("Bad parameters: you must choose at least one stream"));
    }
    let options = LogOptions {
        follow: query.flag("follow"),
        stdout,
        stderr,
        since: query.time("since")?,
        until: query.time("until")?,
        // As in dockerd, whatever is no count means all lines.
        tail: query.text("tail").parse().ok(),
    };
    let tty = request.engine.container(request.name())?.config.tty;
    let format = Format { framed: !tty, timestamps: query.flag("timestamps"), details: query.flag("details") };
    let lines = request.engine.container_logs(request.name(), options).await?;
    let pieces = lines
        .map(move |line| match line {
            Ok(entry) => written(&entry, format),
            Err(error) => failure(&error.to_string(), format.framed),
        })
        .map(Ok::<Bytes, std::convert::Infallible>)
        .take_until(request.closing.clone().cancelled_owned());
    let content_type = if format.framed && request.version >= ApiVersion::minor(42) { MULTIPLEXED } else { RAW };
    Ok(Answer::stream(content_type, pieces))
}

fn written(entry: &LogEntry, format: Format) -> Bytes {
    let mut prefix = String::new();
    if format.timestamps {
        prefix.push_str(&entry.time.to_rfc3339_opts(SecondsFormat::Nanos, true));
        prefix.push(' ');
    }
    if format.details {
        let pairs: Vec<String> = entry.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
        prefix.push_str(&pairs.join(","));
        prefix.push(' ');
    }
    match format.framed {
        true => frame(entry.stream, &[prefix.as_bytes(), &entry.line]),
        false if prefix.is_empty() => entry.line.clone(),
        false => [prefix.as_bytes(), &entry.line].concat().into(),
    }
}

/// The head is out already: what goes wrong now is told in the stream.
fn failure(text: &str, framed: bool) -> Bytes {
    let line = format!("Error grabbing logs: {text}\n");
    if framed { frame(OutputStream::Stderr, &[line.as_bytes()]) } else { line.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_framed_with_their_prefixes() {
        let entry = LogEntry {
            stream: OutputStream::Stderr,
            time: chrono::DateTime::from_timestamp(1, 500).expect("a time"),
            line: Bytes::from_static(b"hello\n"),
            attributes: [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())].into(),
        };
        let text = |framed, timestamps, details| written(&entry, Format { framed, timestamps, details });
        assert_eq!(&text(false, false, false)[..], b"hello\n");
        assert_eq!(&text(true, false, false)[..], b"\x02\0\0\0\0\0\0\x06hello\n");
        assert_eq!(&text(false, true, true)[..], b"1970-01-01T00:00:01.000000500Z a=1,b=2 hello\n");
    }
}
