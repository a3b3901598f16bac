//! What BuildKit puts beside the message of an error: details with a name of Go's registry of types, whose values are JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use serde::Deserialize;
use tonic::Status;

use crate::proto::google::rpc;

/// The name of the detail that says where in a file the failure comes from.
pub const SOURCE: &str = "github.com/moby/buildkit/errdefs.Source+json";

/// Where a failure comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The file's name.
    pub file: String,
    /// The whole text.
    pub text: String,
    /// The first line, counted from 1.
    pub first: usize,
    /// The last line.
    pub last: usize,
}

#[derive(Deserialize)]
struct Wire {
    info: Info,
    #[serde(default)]
    ranges: Vec<Range>,
}

#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    filename: String,
    #[serde(default)]
    data: String,
}

#[derive(Deserialize)]
struct Range {
    start: Position,
    end: Option<Position>,
}

#[derive(Deserialize)]
struct Position {
    #[serde(default)]
    line: usize,
}

/// The places that a status tells of. What can't be read is left out: the message stands for itself.
pub fn sources(status: &Status) -> Vec<Source> {
    let details = rpc::Status::decode(status.details()).unwrap_or_default().details;
    let named = details.iter().filter(|detail| detail.type_url == SOURCE);
    named.filter_map(|detail| serde_json::from_slice::<Wire>(&detail.value).ok()).filter_map(source).collect()
}

fn source(wire: Wire) -> Option<Source> {
    let text = String::from_utf8(STANDARD.decode(wire.info.data).ok()?).ok()?;
    let first = wire.ranges.iter().map(|range| range.start.line).min()?;
    let last = wire.ranges.iter().map(|range| range.end.as_ref().map_or(range.start.line, |end| end.line)).max()?;
    Some(Source { file: wire.info.filename, text, first, last })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::google::protobuf::Any;

    #[test]
    fn places_are_read_and_nonsense_is_not() {
        let data = STANDARD.encode("FROM a\nRUN b\n");
        let good = format!(
            r#"{{"info":{{"filename":"Dockerfile","data":"{data}"}},"ranges":[{{"start":{{"line":2}},"end":{{"line":2}}}}]}}"#
        );
        let detail = |value: &str| Any { type_url: SOURCE.to_owned(), value: value.as_bytes().to_vec() };
        let details = vec![detail(&good), detail("{"), detail(r#"{"info":{"data":"!"}}"#)];
        let whole = rpc::Status { code: 2, message: "x".to_owned(), details };
        let status = Status::with_details(tonic::Code::Unknown, "x", whole.encode_to_vec().into());
        let found = sources(&status);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].file.as_str(), found[0].first, found[0].last), ("Dockerfile", 2, 2));
        assert!(sources(&Status::unknown("x")).is_empty());
    }
}
