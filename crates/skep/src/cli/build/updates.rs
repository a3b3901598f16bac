//! BuildKit's status messages as what the display shows, and as lines of JSON.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};
use skep_buildkit::errors::Source;
use skep_buildkit::proto::google::protobuf::Timestamp;
use skep_buildkit::proto::moby::buildkit::v1::{StatusResponse, VertexWarning};
use skep_buildkit::proto::pb::Range;

use crate::ui;
use crate::ui::build::{Display, Log, Status, Style, Update, Vertex, Warning};

fn time(stamp: Option<Timestamp>) -> Option<DateTime<Utc>> {
    let stamp = stamp?;
    DateTime::from_timestamp(stamp.seconds, u32::try_from(stamp.nanos).unwrap_or_default())
}

/// Shows what is told of a build.
pub(crate) fn show(message: StatusResponse, style: Style, display: &mut Display) {
    if style == Style::RawJson {
        ui::error_line(&raw_json(&message));
    }
    display.update(update(message));
}

/// What the display takes in.
fn update(message: StatusResponse) -> Update {
    let vertex = |vertex: skep_buildkit::proto::moby::buildkit::v1::Vertex| Vertex {
        id: vertex.digest,
        name: vertex.name,
        started: time(vertex.started),
        completed: time(vertex.completed),
        cached: vertex.cached,
        error: vertex.error,
    };
    let status = |status: skep_buildkit::proto::moby::buildkit::v1::VertexStatus| Status {
        id: status.id,
        vertex: status.vertex,
        current: status.current,
        total: status.total,
        at: time(status.timestamp),
        started: time(status.started),
        completed: time(status.completed),
    };
    let log = |log: skep_buildkit::proto::moby::buildkit::v1::VertexLog| Log {
        vertex: log.vertex,
        data: log.msg,
        at: time(log.timestamp),
    };
    Update {
        vertices: message.vertexes.into_iter().map(vertex).collect(),
        statuses: message.statuses.into_iter().map(status).collect(),
        logs: message.logs.into_iter().map(log).collect(),
        warnings: message.warnings.into_iter().map(warning).collect(),
    }
}

fn warning(warning: VertexWarning) -> Warning {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let line = |number: i32| usize::try_from(number).unwrap_or_default();
    let lines = |range: Range| {
        let start = range.start.map_or(0, |place| line(place.line));
        (start, range.end.map_or(start, |place| line(place.line)))
    };
    let ranges: Vec<_> = warning.ranges.into_iter().map(lines).collect();
    Warning {
        short: text(warning.short),
        detail: warning.detail.into_iter().map(text).collect(),
        url: warning.url,
        vertex: warning.vertex,
        place: warning.info.map(|info| Source { file: info.filename, text: text(info.data), ranges }),
    }
}

/// The message as one line of JSON, in the form that BuildKit's own client prints.
fn raw_json(message: &StatusResponse) -> String {
    use base64::Engine;
    let base64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let moment = |stamp: Option<Timestamp>| time(stamp).map(|time| time.to_rfc3339_opts(SecondsFormat::AutoSi, true));
    let vertices: Vec<Value> = message
        .vertexes
        .iter()
        .map(|vertex| {
            object([
                ("digest", json!(vertex.digest)),
                ("inputs", if vertex.inputs.is_empty() { Value::Null } else { json!(vertex.inputs) }),
                ("name", json!(vertex.name)),
                ("started", json!(moment(vertex.started))),
                ("completed", json!(moment(vertex.completed))),
                ("cached", if vertex.cached { json!(true) } else { Value::Null }),
                ("error", if vertex.error.is_empty() { Value::Null } else { json!(vertex.error) }),
            ])
        })
        .collect();
    let statuses: Vec<Value> = message
        .statuses
        .iter()
        .map(|status| {
            object([
                ("id", json!(status.id)),
                ("vertex", json!(status.vertex)),
                ("name", if status.name.is_empty() { Value::Null } else { json!(status.name) }),
                ("total", if status.total == 0 { Value::Null } else { json!(status.total) }),
                ("current", json!(status.current)),
                ("timestamp", json!(moment(status.timestamp))),
                ("started", json!(moment(status.started))),
                ("completed", json!(moment(status.completed))),
            ])
        })
        .collect();
    let logs: Vec<Value> = message
        .logs
        .iter()
        .map(|log| {
            object([
                ("vertex", json!(log.vertex)),
                ("stream", json!(log.stream)),
                ("data", json!(base64(&log.msg))),
                ("timestamp", json!(moment(log.timestamp))),
            ])
        })
        .collect();
    let warnings: Vec<Value> = message
        .warnings
        .iter()
        .map(|warning| {
            let detail: Vec<String> = warning.detail.iter().map(|line| base64(line)).collect();
            object([
                ("vertex", json!(warning.vertex)),
                ("level", json!(warning.level)),
                ("short", json!(base64(&warning.short))),
                ("detail", if detail.is_empty() { Value::Null } else { json!(detail) }),
                ("url", if warning.url.is_empty() { Value::Null } else { json!(warning.url) }),
            ])
        })
        .collect();
    let lists = [("vertexes", vertices), ("statuses", statuses), ("logs", logs), ("warnings", warnings)];
    let whole = lists.map(|(key, list)| (key, if list.is_empty() { Value::Null } else { Value::Array(list) }));
    object(whole).to_string()
}

/// An object without the members that are null.
fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    let present = members.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(present.map(|(key, value)| (key.to_owned(), value)).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_buildkit::proto::moby::buildkit::v1;

    #[test]
    fn raw_messages_leave_out_what_is_not_there() {
        let message = StatusResponse {
            vertexes: vec![v1::Vertex { digest: "sha256:a".into(), name: "RUN x".into(), ..v1::Vertex::default() }],
            logs: vec![v1::VertexLog {
                vertex: "sha256:a".into(),
                stream: 1,
                msg: b"hi".to_vec(),
                timestamp: Some(Timestamp { seconds: 0, nanos: 0 }),
            }],
            ..StatusResponse::default()
        };
        assert_eq!(
            raw_json(&message),
            r#"{"logs":[{"data":"aGk=","stream":1,"timestamp":"1970-01-01T00:00:00Z","vertex":"sha256:a"}],"vertexes":[{"digest":"sha256:a","name":"RUN x"}]}"#
        );
        let found = update(message);
        assert_eq!((found.vertices[0].name.as_str(), found.logs[0].data.as_slice()), ("RUN x", &b"hi"[..]));
    }
}
