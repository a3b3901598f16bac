//! What was built: kept while the daemon runs, for `docker buildx history` and for clients that look a build up right after it.

use std::collections::VecDeque;
use std::sync::Arc;

use chrono::Utc;
use futures_util::Stream;
use parking_lot::Mutex;
use skep_buildkit::proto::moby::buildkit::v1 as wire;
use tokio::sync::broadcast;
use tonic::Status;

use super::builds::Build;
use super::error;
use super::progress::timestamp;

/// Builds that are remembered, as in BuildKit; pinned ones stay beyond that.
const KEPT: usize = 50;

/// Attributes of builds.
pub(crate) struct Records {
    kept: Mutex<VecDeque<wire::BuildHistoryRecord>>,
    news: broadcast::Sender<wire::BuildHistoryEvent>,
}

impl Default for Records {
    fn default() -> Self {
        Records { kept: Mutex::default(), news: broadcast::Sender::new(64) }
    }
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
        let mut kept = self.kept.lock();
        kept.push_back(record.clone());
        while kept.len() > KEPT {
            let Some(oldest) = kept.iter().position(|record| !record.pinned && record.completed_at.is_some()) else {
                break;
            };
            kept.remove(oldest);
        }
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
    pub(crate) fn ended(&self, build: &Arc<Build>, result: &Result<wire::SolveResponse, Status>) {
        let counts = build.progress.counts();
        let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
        let changed = self.change(&build.id, |record| {
            record.completed_at = Some(timestamp(Utc::now()));
            record.num_total_steps = count(counts.total());
            record.num_cached_steps = count(counts.cached());
            record.num_completed_steps = count(counts.completed());
            record.num_warnings = count(counts.warnings);
            match result {
                Ok(response) => record.exporter_response.clone_from(&response.exporter_response),
                Err(status) => record.error = Some(error::to_wire(status)),
            }
        });
        if let Some(record) = changed {
            let _ = self.news.send(event(wire::BuildHistoryEventType::Complete, record));
        }
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut wire::BuildHistoryRecord)) -> Option<wire::BuildHistoryRecord> {
        let mut kept = self.kept.lock();
        let record = kept.iter_mut().find(|record| record.r#ref == id)?;
        change(record);
        record.generation += 1;
        Some(record.clone())
    }

    /// Pins, unpins or forgets a build.
    pub(crate) fn update(&self, request: &wire::UpdateBuildHistoryRequest) -> Result<(), Status> {
        let missing = || Status::not_found(format!("no such build {}", request.r#ref));
        if request.delete {
            let mut kept = self.kept.lock();
            let at = kept.iter().position(|record| record.r#ref == request.r#ref).ok_or_else(missing)?;
            let record = kept.remove(at).ok_or_else(missing)?;
            let _ = self.news.send(event(wire::BuildHistoryEventType::Deleted, record));
            return Ok(());
        }
        if request.finalize {
            return Ok(()); // a record is whole when its build has ended
        }
        self.change(&request.r#ref, |record| record.pinned = request.pinned).map(|_| ()).ok_or_else(missing)
    }

    /// What is known, and unless the client leaves early, what comes.
    pub(crate) fn listen(
        &self,
        request: wire::BuildHistoryRequest,
    ) -> impl Stream<Item = Result<wire::BuildHistoryEvent, Status>> + Send + use<> {
        let news = self.news.subscribe();
        let wanted = move |record: &wire::BuildHistoryRecord| {
            let named = request.r#ref.is_empty() || request.r#ref == record.r#ref;
            named && (!request.active_only || record.completed_at.is_none())
        };
        let mut known: Vec<_> = self.kept.lock().iter().filter(|record| wanted(record)).cloned().collect();
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
        futures_util::StreamExt::chain(futures_util::stream::iter(known), more)
    }
}
