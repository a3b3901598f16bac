//! What BuildKit puts beside the message of an error: details with a name of Go's registry of types, whose values are JSON. And how
//! the lines of a file are shown.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use serde::Deserialize;
use tonic::Status;

use crate::proto::google::rpc;
use crate::proto::pb;

/// The name of the detail that says where in a file the failure comes from.
pub const SOURCE: &str = "github.com/moby/buildkit/errdefs.Source+json";

/// The name of the detail that says which step failed, and by which ids its files are known.
pub const SOLVE: &str = "github.com/moby/buildkit/errdefs.Solve+json";

/// Lines of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// The file's name.
    pub file: String,
    /// The whole text.
    pub text: String,
    /// The first and the last line of each part that is meant, counted from 1.
    pub ranges: Vec<(usize, usize)>,
}

impl Source {
    /// The lines and a few around them, those that are meant marked; empty if the file doesn't have them.
    pub fn excerpt(&self) -> String {
        let lines: Vec<&str> = self.text.split('\n').collect();
        let first = self.ranges.iter().map(|range| range.0).min().unwrap_or(0);
        let last = self.ranges.iter().map(|range| range.1).max().unwrap_or(0).max(first).min(lines.len());
        if first == 0 || first > lines.len() {
            return String::new();
        }
        // One line needs more of what is around it to be understood.
        let around = if first == last { 2 } else { 1 };
        let (from, to) = (first.saturating_sub(around).max(1), (last + around).min(lines.len()));
        let mut out = format!("{}:{first}\n{RULE}\n", self.file);
        for number in from..=to {
            let meant = self.ranges.iter().any(|(first, last)| (*first..=*last.max(first)).contains(&number));
            let mark = if meant { ">>>" } else { "   " };
            out.push_str(&format!(" {number:>3} | {mark} {}\n", lines[number - 1]));
        }
        out + RULE + "\n"
    }
}

/// Above and below an excerpt.
const RULE: &str = "--------------------";

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

/// A step that failed, and that can be looked into: the mounts' ids stand for what is there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FailedStep {
    /// Its program and arguments.
    pub args: Vec<String>,
    /// Its environment.
    pub env: Vec<String>,
    /// Its directory.
    pub cwd: String,
    /// Its user.
    pub user: String,
    /// Its host name.
    pub hostname: String,
    /// Its network.
    pub network: pb::NetMode,
    /// How it was confined.
    pub security: pb::SecurityMode,
    /// What it had mounted, its root too.
    pub mounts: Vec<pb::Mount>,
}

#[derive(Deserialize)]
struct Solve {
    #[serde(default, rename = "mountIDs")]
    mount_ids: Vec<String>,
    op: SolveOp,
}

#[derive(Deserialize)]
struct SolveOp {
    exec: ExecOp,
}

#[derive(Deserialize)]
struct ExecOp {
    #[serde(default)]
    meta: Meta,
    #[serde(default)]
    mounts: Vec<MountOp>,
    #[serde(default)]
    network: String,
    #[serde(default)]
    security: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Meta {
    args: Vec<String>,
    env: Vec<String>,
    cwd: String,
    user: String,
    hostname: String,
}

#[derive(Deserialize)]
struct MountOp {
    #[serde(default)]
    dest: String,
    #[serde(default)]
    selector: String,
    #[serde(default)]
    readonly: bool,
    #[serde(default, rename = "mountType")]
    kind: String,
}

/// The step that a status tells of, if it was a program. The options of its mounts stay with whoever gave out their ids.
pub fn failed_step(status: &Status) -> Option<FailedStep> {
    let details = rpc::Status::decode(status.details()).unwrap_or_default().details;
    let detail = details.iter().find(|detail| detail.type_url == SOLVE)?;
    let Solve { mount_ids, op: SolveOp { exec } } = serde_json::from_slice(&detail.value).ok()?;
    let mount = |(mount, id): (MountOp, String)| pb::Mount {
        dest: mount.dest,
        selector: mount.selector,
        readonly: mount.readonly,
        mount_type: pb::MountType::from_str_name(&mount.kind).unwrap_or(pb::MountType::Bind).into(),
        result_id: id,
        ..pb::Mount::default()
    };
    Some(FailedStep {
        args: exec.meta.args,
        env: exec.meta.env,
        cwd: exec.meta.cwd,
        user: exec.meta.user,
        hostname: exec.meta.hostname,
        network: pb::NetMode::from_str_name(&exec.network).unwrap_or(pb::NetMode::Unset),
        security: pb::SecurityMode::from_str_name(&exec.security).unwrap_or(pb::SecurityMode::Sandbox),
        mounts: exec.mounts.into_iter().zip(mount_ids).map(mount).collect(),
    })
}

/// The places that a status tells of. What can't be read is left out: the message stands for itself.
pub fn sources(status: &Status) -> Vec<Source> {
    let details = rpc::Status::decode(status.details()).unwrap_or_default().details;
    let named = details.iter().filter(|detail| detail.type_url == SOURCE);
    named.filter_map(|detail| serde_json::from_slice::<Wire>(&detail.value).ok()).filter_map(source).collect()
}

fn source(wire: Wire) -> Option<Source> {
    let text = String::from_utf8(STANDARD.decode(wire.info.data).ok()?).ok()?;
    let lines = |range: &Range| (range.start.line, range.end.as_ref().map_or(range.start.line, |end| end.line));
    Some(Source { file: wire.info.filename, text, ranges: wire.ranges.iter().map(lines).collect() })
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
        assert_eq!((found[0].file.as_str(), found[0].ranges.as_slice()), ("Dockerfile", &[(2, 2)][..]));
        assert!(sources(&Status::unknown("x")).is_empty());
    }

    #[test]
    fn the_lines_that_are_meant_are_marked() {
        let text = "FROM a\nRUN b\n\nRUN c\nRUN d\n".to_owned();
        let source = Source { file: "Dockerfile".to_owned(), text, ranges: vec![(2, 2)] };
        let wanted = [
            "Dockerfile:2",
            RULE,
            "   1 |     FROM a",
            "   2 | >>> RUN b",
            "   3 |     ",
            "   4 |     RUN c",
            RULE,
            "",
        ];
        assert_eq!(source.excerpt(), wanted.join("\n"));
        let several = Source { ranges: vec![(2, 2), (4, 5)], ..source.clone() };
        let marks: Vec<bool> = several.excerpt().lines().skip(2).take(6).map(|line| line.contains(">>>")).collect();
        assert_eq!(marks, [false, true, false, true, true, false]);
        assert_eq!(Source { ranges: vec![(9, 9)], ..source }.excerpt(), "");
    }
}
