//! What was built, for `docker buildx history` and for clients that look a build up right after it. The engine keeps it.
//!
//! ```text
//! began ──▶ learned (the frontend's attributes) ──▶ ended ──▶ kept by the engine, with log and statements
//! ```

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use chrono::Utc;
use futures_util::Stream;
use parking_lot::Mutex;
use prost::Message;
use skep_build::Built;
use skep_buildkit::proto::moby::buildkit::v1 as wire;
use skep_engine::build::RecordFile;
use skep_types::Digest;
use tokio::sync::broadcast;
use tonic::Status;

use super::builds::Build;
use super::filter::Filter;
use super::progress::timestamp;
use super::{Builder, error, stored};

/// Media types of a build's files.
const LOG: &str = "application/vnd.buildkit.status.v0";
const FAILURE: &str = "application/vnd.googeapis.google.rpc.status+proto";
const STATEMENT: &str = "application/vnd.in-toto+json";
const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";

/// All builds that are known.
pub(crate) struct Records {
    builder: Arc<dyn Builder>,
    kept: Arc<Mutex<Kept>>,
    news: broadcast::Sender<wire::BuildHistoryEvent>,
}

#[derive(Default)]
struct Kept {
    /// The oldest first.
    records: VecDeque<wire::BuildHistoryRecord>,
    /// Files that the engine has not written yet.
    fresh: HashMap<Digest, Arc<Vec<u8>>>,
}

fn event(kind: wire::BuildHistoryEventType, record: wire::BuildHistoryRecord) -> wire::BuildHistoryEvent {
    wire::BuildHistoryEvent { r#type: kind.into(), record: Some(record) }
}

fn kind_of(record: &wire::BuildHistoryRecord) -> wire::BuildHistoryEventType {
    match record.completed_at {
        Some(_) => wire::BuildHistoryEventType::Complete,
        None => wire::BuildHistoryEventType::Started,
    }
}

impl Records {
    /// With what the engine has.
    pub(crate) fn new(builder: Arc<dyn Builder>) -> Self {
        let records = builder.records().into_iter().map(stored::to_wire).collect();
        let kept = Arc::new(Mutex::new(Kept { records, fresh: HashMap::new() }));
        Records { builder, kept, news: broadcast::Sender::new(64) }
    }

    /// A build has begun. Internal ones, which only ask something, are not remembered.
    pub(crate) fn began(&self, build: &Build) {
        let request = &build.request;
        if request.internal {
            return;
        }
        let record = wire::BuildHistoryRecord {
            r#ref: build.id.clone(),
            frontend: request.frontend.clone(),
            frontend_attrs: request.frontend_attrs.clone(),
            exporters: request.exporters.clone(),
            created_at: Some(timestamp(Utc::now())),
            generation: 1,
            ..wire::BuildHistoryRecord::default()
        };
        self.kept.lock().records.push_back(record.clone());
        let _ = self.news.send(event(wire::BuildHistoryEventType::Started, record)); // nobody has to listen
    }

    /// The frontend's attributes are known only when the client's gateway asks.
    pub(crate) fn learned(&self, id: &str, frontend: &str, attributes: &super::request::Attributes) {
        self.change(id, |record| {
            frontend.clone_into(&mut record.frontend);
            record.frontend_attrs.clone_from(attributes);
        });
    }

    /// A build has ended.
    pub(crate) fn ended(&self, build: &Build, built: Option<&Built>, result: &Result<wire::SolveResponse, Status>) {
        let mut files = Vec::new();
        let mut file = |media_type: &str, content: Vec<u8>, annotations| {
            let found = RecordFile::of(media_type, &content, annotations);
            files.push(content);
            stored::descriptor(&found)
        };
        let log = file(LOG, build.progress.log(), Default::default());
        let said = built.and_then(|built| built.provenance.as_ref()).map(|said| {
            let kind = [(PREDICATE_TYPE.to_owned(), said.predicate_type.clone())].into();
            file(STATEMENT, said.predicate.clone(), kind)
        });
        let documents: Vec<wire::Descriptor> = std::mem::take(&mut *build.exported.lock())
            .into_iter()
            .map(|(media_type, bytes)| file(&media_type, bytes.to_vec(), Default::default()))
            .collect();
        let failure = result.as_ref().err().map(error::to_wire);
        let external = failure.as_ref().map(|status| file(FAILURE, status.encode_to_vec(), Default::default()));
        let counts = build.progress.counts();
        let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
        let changed = self.change(&build.id, |record| {
            record.completed_at = Some(timestamp(Utc::now()));
            record.num_total_steps = count(counts.total());
            record.num_cached_steps = count(counts.cached());
            record.num_completed_steps = count(counts.completed());
            record.num_warnings = count(counts.warnings);
            record.logs = Some(log);
            record.external_error = external;
            record.result = result_of(said, documents);
            record.error = failure;
            if let Ok(response) = result {
                record.exporter_response.clone_from(&response.exporter_response);
            }
        });
        if let Some(record) = changed {
            self.keep(&record, files);
            let _ = self.news.send(event(wire::BuildHistoryEventType::Complete, record)); // nobody has to listen
        }
    }

    /// Has the engine keep a record. Until it does, its files are here.
    fn keep(&self, record: &wire::BuildHistoryRecord, files: Vec<Vec<u8>>) {
        let Some(stored) = stored::from_wire(record) else { return };
        let digest = |content: &Vec<u8>| RecordFile::of("", content, Default::default()).digest;
        let fresh: HashMap<Digest, _> =
            files.iter().filter_map(|content| Some((digest(content)?, Arc::new(content.clone())))).collect();
        let digests: Vec<Digest> = fresh.keys().copied().collect();
        self.kept.lock().fresh.extend(fresh);
        let kept = Arc::clone(&self.kept);
        let done = move |gone: Vec<String>| {
            let mut kept = kept.lock();
            digests.iter().for_each(|digest| drop(kept.fresh.remove(digest)));
            kept.records.retain(|record| !gone.contains(&record.r#ref));
        };
        self.builder.keep_record(stored, files, Box::new(done));
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut wire::BuildHistoryRecord)) -> Option<wire::BuildHistoryRecord> {
        let mut kept = self.kept.lock();
        let record = kept.records.iter_mut().find(|record| record.r#ref == id)?;
        change(record);
        record.generation += 1;
        Some(record.clone())
    }

    /// Pins, unpins or forgets a build.
    pub(crate) fn update(&self, request: &wire::UpdateBuildHistoryRequest) -> Result<(), Status> {
        let missing = || Status::not_found(format!("no such build {}", request.r#ref));
        if request.delete {
            let mut kept = self.kept.lock();
            let at = kept.records.iter().position(|record| record.r#ref == request.r#ref).ok_or_else(missing)?;
            let record = kept.records.remove(at).ok_or_else(missing)?;
            drop(kept);
            self.builder.forget_record(&request.r#ref);
            let _ = self.news.send(event(wire::BuildHistoryEventType::Deleted, record)); // nobody has to listen
            return Ok(());
        }
        if request.finalize {
            return Ok(()); // a record is whole when its build has ended
        }
        let record = self.change(&request.r#ref, |record| record.pinned = request.pinned).ok_or_else(missing)?;
        self.keep(&record, Vec::new());
        Ok(())
    }

    /// A file of a build that has ended.
    pub(crate) async fn file(&self, digest: Digest) -> Result<Option<Vec<u8>>, Status> {
        let fresh = self.kept.lock().fresh.get(&digest).cloned();
        match fresh {
            Some(content) => Ok(Some(content.to_vec())),
            None => self.builder.record_file(digest).await.map_err(|error| error::status(&error)),
        }
    }

    /// What was told of a build that has ended; none if it is not known.
    pub(crate) async fn log(&self, id: &str) -> Result<Option<Vec<wire::StatusResponse>>, Status> {
        let logs = {
            let kept = self.kept.lock();
            kept.records.iter().find(|record| record.r#ref == id).and_then(|record| record.logs.clone())
        };
        let Some(digest) = logs.and_then(|logs| logs.digest.parse().ok()) else { return Ok(None) };
        let bytes = self.file(digest).await?.ok_or_else(|| Status::not_found(format!("the log of {id} is gone")))?;
        let (mut rest, mut messages) = (bytes.as_slice(), Vec::new());
        while !rest.is_empty() {
            let message = wire::StatusResponse::decode_length_delimited(&mut rest);
            messages.push(message.map_err(|error| Status::data_loss(format!("the log of {id}: {error}")))?);
        }
        Ok(Some(messages))
    }

    /// What is known, and unless the client leaves early, what comes.
    pub(crate) fn listen(
        &self,
        request: wire::BuildHistoryRequest,
    ) -> Result<impl Stream<Item = Result<wire::BuildHistoryEvent, Status>> + Send + use<>, Status> {
        let news = self.news.subscribe();
        let filters: Vec<Filter> = request.filter.iter().map(|text| Filter::parse(text)).collect::<Result<_, _>>()?;
        let wanted = move |record: &wire::BuildHistoryRecord| {
            let named = request.r#ref.is_empty() || request.r#ref == record.r#ref;
            let picked = filters.is_empty() || filters.iter().any(|filter| filter.picks(record));
            named && picked && (!request.active_only || record.completed_at.is_none())
        };
        let mut known: Vec<_> = self.kept.lock().records.iter().filter(|record| wanted(record)).cloned().collect();
        if let Ok(limit @ 1..) = usize::try_from(request.limit) {
            known.drain(..known.len().saturating_sub(limit));
        }
        let known = known.into_iter().map(|record| Ok(event(kind_of(&record), record)));
        let more =
            futures_util::stream::unfold((news, wanted, request.early_exit), |(mut news, wanted, early)| async move {
                if early {
                    return None;
                }
                loop {
                    match news.recv().await {
                        Ok(event) if event.record.as_ref().is_some_and(&wanted) => {
                            return Some((Ok(event), (news, wanted, early)));
                        }
                        Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                        Err(broadcast::error::RecvError::Closed) => return None,
                    }
                }
            });
        Ok(futures_util::StreamExt::chain(futures_util::stream::iter(known), more))
    }
}

/// What was made, by the document that names lead to; the others of it are found from there.
fn result_of(said: Option<wire::Descriptor>, documents: Vec<wire::Descriptor>) -> Option<wire::BuildResultInfo> {
    stored::result(documents.into_iter().next(), said.into_iter().collect())
}

/// What a record's keeper calls when it is kept: with the names of those that went for it.
pub(crate) type WhenKept = Box<dyn FnOnce(Vec<String>) + Send>;
