//! Errors of builds as clients see them: BuildKit's message, and beside it what it shows more with (the lines of the Dockerfile).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use serde_json::{Value, json};
use skep_build::{BuildError, Location};
use skep_buildkit::proto::google::protobuf::Any;
use skep_buildkit::proto::google::rpc;
use skep_types::ErrorKind;
use tonic::{Code, Status};

/// Names of details in Go's registry of types. Their values are JSON.
const SOURCE: &str = "github.com/moby/buildkit/errdefs.Source+json";
const VERTEX: &str = "github.com/moby/buildkit/errdefs.Vertex+json";

/// The status of a failed build. BuildKit's clients print the code of all but `Unknown` in front of the message.
pub(crate) fn status(error: &BuildError) -> Status {
    status_with(error, None)
}

/// The status of a build whose failed step the client may look into; `entry` says how.
pub(crate) fn enterable(error: &BuildError, entry: &Value) -> Status {
    status_with(error, Some(detail(skep_buildkit::errors::SOLVE, entry)))
}

fn status_with(error: &BuildError, more: Option<Any>) -> Status {
    let code = match error.kind {
        ErrorKind::Cancelled => Code::Cancelled,
        _ => Code::Unknown,
    };
    let message = match error.kind {
        ErrorKind::Cancelled => "context canceled".to_owned(),
        _ => error.message.clone(),
    };
    let details = error.location.iter().map(|location| detail(SOURCE, &source(location)));
    let vertex = error.vertex.map(|vertex| detail(VERTEX, &json!({ "digest": vertex.0.to_string() })));
    assemble(code, message, details.chain(vertex).chain(more).collect())
}

/// A status from what a client sent.
pub(crate) fn from_wire(status: rpc::Status) -> Status {
    assemble(Code::from(status.code), status.message, status.details)
}

/// A status as part of a message.
pub(crate) fn to_wire(status: &Status) -> rpc::Status {
    let known = rpc::Status::decode(status.details()).unwrap_or_default();
    rpc::Status { code: status.code().into(), message: status.message().to_owned(), details: known.details }
}

fn assemble(code: Code, message: String, details: Vec<Any>) -> Status {
    if details.is_empty() {
        return Status::new(code, message);
    }
    let whole = rpc::Status { code: code.into(), message: message.clone(), details };
    Status::with_details(code, message, whole.encode_to_vec().into())
}

fn detail(name: &str, value: &Value) -> Any {
    Any { type_url: name.to_owned(), value: value.to_string().into_bytes() }
}

/// `errdefs.Source`, from which clients print the lines around the failure.
fn source(location: &Location) -> Value {
    let position = |line: &usize| json!({ "line": line });
    json!({
        "info": {
            "filename": location.file,
            "data": STANDARD.encode(location.text.as_bytes()),
            "language": "Dockerfile",
        },
        "ranges": [{ "start": position(location.lines.start()), "end": position(location.lines.end()) }],
    })
}
