//! Records of builds as the engine keeps them, and as the protocol has them.

use chrono::{DateTime, Utc};
use skep_buildkit::proto::google::protobuf::Timestamp;
use skep_buildkit::proto::google::rpc;
use skep_buildkit::proto::moby::buildkit::v1 as wire;
use skep_engine::build::{BuildRecord, RecordFile};

use super::progress::timestamp;

/// A file as something to be read by its digest.
pub(crate) fn descriptor(file: &RecordFile) -> wire::Descriptor {
    wire::Descriptor {
        media_type: file.media_type.clone(),
        digest: file.digest.map(|digest| digest.to_string()).unwrap_or_default(),
        size: i64::try_from(file.size).unwrap_or(i64::MAX),
        annotations: file.annotations.clone().into_iter().collect(),
    }
}

fn file(descriptor: &wire::Descriptor) -> RecordFile {
    RecordFile {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.parse().ok(),
        size: u64::try_from(descriptor.size).unwrap_or(0),
        annotations: descriptor.annotations.clone().into_iter().collect(),
    }
}

pub(crate) fn time(timestamp: &Timestamp) -> DateTime<Utc> {
    let nanos = u32::try_from(timestamp.nanos).unwrap_or(0);
    DateTime::from_timestamp(timestamp.seconds, nanos).unwrap_or_default()
}

/// A record of a build that has ended; none of one that goes on.
pub(crate) fn from_wire(record: &wire::BuildHistoryRecord) -> Option<BuildRecord> {
    let count = |number: i32| u32::try_from(number).unwrap_or(0);
    let said = record.result.iter().flat_map(|result| &result.attestations);
    Some(BuildRecord {
        id: record.r#ref.clone(),
        frontend: record.frontend.clone(),
        attributes: record.frontend_attrs.clone().into_iter().collect(),
        exporters: record
            .exporters
            .iter()
            .map(|exporter| (exporter.r#type.clone(), exporter.attrs.clone().into_iter().collect()))
            .collect(),
        created: time(record.created_at.as_ref()?),
        completed: time(record.completed_at.as_ref()?),
        error: record.error.as_ref().map(|error| (error.code, error.message.clone())),
        response: record.exporter_response.clone().into_iter().collect(),
        generation: record.generation,
        pinned: record.pinned,
        steps: (count(record.num_total_steps), count(record.num_completed_steps), count(record.num_cached_steps)),
        warnings: count(record.num_warnings),
        log: record.logs.as_ref().map(file),
        failure: record.external_error.as_ref().map(file),
        attestations: said.map(file).collect(),
        result: record.result.as_ref().and_then(|result| result.result_deprecated.as_ref()).map(file),
    })
}

/// What was made, by the document that names lead to, and what is said about it; none of a build that made none.
pub(crate) fn result(
    top: Option<wire::Descriptor>,
    attestations: Vec<wire::Descriptor>,
) -> Option<wire::BuildResultInfo> {
    let results = top.iter().map(|top| (0, top.clone())).collect();
    let is_empty = top.is_none() && attestations.is_empty();
    (!is_empty).then_some(wire::BuildResultInfo { result_deprecated: top, attestations, results })
}

/// A record that was kept.
pub(crate) fn to_wire(record: BuildRecord) -> wire::BuildHistoryRecord {
    let count = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let exporter = |(kind, attributes): (String, std::collections::BTreeMap<String, String>)| wire::Exporter {
        r#type: kind,
        attrs: attributes.into_iter().collect(),
    };
    let attestations: Vec<_> = record.attestations.iter().map(descriptor).collect();
    let (total, completed, cached) = record.steps;
    wire::BuildHistoryRecord {
        r#ref: record.id,
        frontend: record.frontend,
        frontend_attrs: record.attributes.into_iter().collect(),
        exporters: record.exporters.into_iter().map(exporter).collect(),
        error: record.error.map(|(code, message)| rpc::Status { code, message, details: Vec::new() }),
        created_at: Some(timestamp(record.created)),
        completed_at: Some(timestamp(record.completed)),
        logs: record.log.as_ref().map(descriptor),
        external_error: record.failure.as_ref().map(descriptor),
        exporter_response: record.response.into_iter().collect(),
        result: result(record.result.as_ref().map(descriptor), attestations),
        generation: record.generation,
        pinned: record.pinned,
        num_cached_steps: count(cached),
        num_total_steps: count(total),
        num_completed_steps: count(completed),
        num_warnings: count(record.warnings),
        ..wire::BuildHistoryRecord::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was() {
        let log = RecordFile::of("log", b"x", [("a".to_owned(), "b".to_owned())].into());
        let record = BuildRecord {
            id: "one".to_owned(),
            frontend: "dockerfile.v0".to_owned(),
            attributes: [("target".to_owned(), "x".to_owned())].into(),
            exporters: vec![("image".to_owned(), Default::default())],
            created: DateTime::from_timestamp(7, 8).expect("a time"),
            completed: DateTime::from_timestamp(9, 0).expect("a time"),
            error: Some((2, "failed".to_owned())),
            response: [("image.name".to_owned(), "x".to_owned())].into(),
            generation: 3,
            pinned: true,
            steps: (3, 2, 1),
            warnings: 4,
            log: Some(log.clone()),
            failure: Some(log.clone()),
            attestations: vec![log.clone()],
            result: Some(log),
        };
        assert_eq!(from_wire(&to_wire(record.clone())), Some(record));
        assert_eq!(from_wire(&wire::BuildHistoryRecord::default()), None);
    }
}
