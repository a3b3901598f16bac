//! What the engine remembers of builds.

use chrono::{DateTime, TimeDelta, Utc};
use skep_buildkit::grpc::Channel;
use skep_buildkit::proto::google::protobuf::Timestamp;
use skep_buildkit::proto::moby::buildkit::v1::control_client::ControlClient;
use skep_buildkit::proto::moby::buildkit::v1::{BuildHistoryRecord, BuildHistoryRequest};

use super::super::worker::failed;
use crate::cli::Failure;

/// The code of gRPC for what was cancelled.
const CANCELLED: i32 = 1;

/// A build.
pub(super) struct Record(BuildHistoryRecord);

/// All that are known and that a filter picks, the newest first.
pub(super) async fn all(control: &mut ControlClient<Channel>, filter: Vec<String>) -> Result<Vec<Record>, Failure> {
    let request = BuildHistoryRequest { early_exit: true, filter, ..BuildHistoryRequest::default() };
    let mut events = control.listen_build_history(request).await.map_err(|status| failed(&status))?.into_inner();
    let mut records = Vec::new();
    while let Some(event) = events.message().await.map_err(|status| failed(&status))? {
        records.extend(event.record.map(Record));
    }
    records.sort_by_key(|record| std::cmp::Reverse(record.created()));
    Ok(records)
}

/// The build that a user means: an id or the beginning of one, `^N` for the Nth before the newest, the newest if nothing is said.
pub(super) fn find<'r>(records: &'r [Record], wanted: Option<&str>) -> Result<&'r Record, Failure> {
    let wanted = wanted.unwrap_or("^0");
    if let Some(back) = wanted.strip_prefix('^') {
        let back = if back.is_empty() { Ok(1) } else { back.parse::<usize>() };
        let back = back.map_err(|_| Failure::message(format!("ERROR: invalid record offset: {wanted}")))?;
        let missing = || Failure::message(format!("ERROR: no such record: {wanted}: there are {}", records.len()));
        return records.get(back).ok_or_else(missing);
    }
    // `BUILDER/NODE/ID` is how --metadata-file writes it.
    let id = wanted.rsplit('/').next().unwrap_or(wanted);
    if let Some(found) = records.iter().find(|record| record.id() == id) {
        return Ok(found);
    }
    let mut found = records.iter().filter(|record| !id.is_empty() && record.id().starts_with(id));
    match (found.next(), found.next()) {
        (Some(found), None) => Ok(found),
        (None, _) => Err(Failure::message(format!("ERROR: no record found for ref {wanted:?}"))),
        (Some(_), Some(_)) => Err(Failure::message(format!("ERROR: several records begin with {wanted:?}"))),
    }
}

fn time(stamp: Option<&Timestamp>) -> Option<DateTime<Utc>> {
    stamp.and_then(|stamp| DateTime::from_timestamp(stamp.seconds, u32::try_from(stamp.nanos).ok()?))
}

impl Record {
    pub(super) fn id(&self) -> &str {
        &self.0.r#ref
    }

    pub(super) fn created(&self) -> Option<DateTime<Utc>> {
        time(self.0.created_at.as_ref())
    }

    pub(super) fn completed(&self) -> Option<DateTime<Utc>> {
        time(self.0.completed_at.as_ref())
    }

    /// How long it took, or takes until now.
    pub(super) fn duration(&self) -> TimeDelta {
        let end = self.completed().unwrap_or_else(Utc::now);
        self.created().map_or(TimeDelta::zero(), |created| end - created)
    }

    /// In Docker's words.
    pub(super) fn status(&self) -> &'static str {
        match (&self.0.completed_at, &self.0.error) {
            (None, _) => "Running",
            (_, None) => "Completed",
            (_, Some(error)) if error.code == CANCELLED => "Canceled",
            (_, Some(_)) => "Error",
        }
    }

    /// What its user calls it: by a build argument, by the image that it made, by its context or its Dockerfile.
    pub(super) fn name(&self) -> String {
        let attribute = |name: &str| self.0.frontend_attrs.get(name).filter(|value| !value.is_empty());
        if let Some(name) = attribute("build-arg:BUILDKIT_BUILD_NAME") {
            return name.clone();
        }
        let image = self.0.exporters.iter().find_map(|exporter| exporter.attrs.get("name"));
        let image = image.and_then(|names| names.split(',').next()).filter(|name| !name.is_empty());
        let fallback = || attribute("context").or(attribute("filename")).map_or("Dockerfile", String::as_str);
        let name = image.unwrap_or_else(fallback);
        attribute("target").map_or_else(|| name.to_owned(), |target| format!("{name} ({target})"))
    }

    /// All that the engine says of it.
    pub(super) fn wire(&self) -> &BuildHistoryRecord {
        &self.0
    }

    /// Steps that there were, and those of them that were known already.
    pub(super) fn steps(&self) -> (i32, i32) {
        (self.0.num_total_steps, self.0.num_cached_steps)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn record(id: &str, created: i64, completed: Option<i64>, error: Option<i32>) -> Record {
        let stamp = |seconds| Timestamp { seconds, nanos: 0 };
        let error = error.map(|code| skep_buildkit::proto::google::rpc::Status { code, ..Default::default() });
        Record(BuildHistoryRecord {
            r#ref: id.to_owned(),
            created_at: Some(stamp(created)),
            completed_at: completed.map(stamp),
            error,
            frontend_attrs: [("target".to_owned(), "web".to_owned())].into(),
            ..BuildHistoryRecord::default()
        })
    }

    #[test]
    fn a_build_is_found_by_what_a_user_knows_of_it() {
        let records = [record("abc", 3, None, None), record("abd", 2, None, None), record("x", 1, None, None)];
        let found = |wanted| find(&records, wanted).map(Record::id).ok();
        assert_eq!(found(None), Some("abc"));
        assert_eq!(found(Some("^")), Some("abd"));
        assert_eq!(found(Some("^2")), Some("x"));
        assert_eq!(found(Some("default/default/abd")), Some("abd"));
        for wrong in ["ab", "y", "^3", "^x", ""] {
            assert_eq!(found(Some(wrong)), None, "{wrong:?}");
        }
    }

    #[test]
    fn it_says_how_it_ended() {
        let status = |completed, error| record("a", 1, completed, error).status();
        assert_eq!(status(None, None), "Running");
        assert_eq!(status(Some(2), None), "Completed");
        assert_eq!(status(Some(2), Some(1)), "Canceled");
        assert_eq!(status(Some(2), Some(2)), "Error");
        assert_eq!(record("a", 1, None, None).name(), "Dockerfile (web)");
    }
}
