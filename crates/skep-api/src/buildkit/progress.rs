//! What a build tells of itself, kept so that a client that asks late hears all of it.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::Stream;
use parking_lot::Mutex;
use prost::Message;
use skep_build::event::{Status as Part, Vertex, Warning};
use skep_build::{BuildEvent, Location, VertexId};
use skep_buildkit::proto::google::protobuf::Timestamp;
use skep_buildkit::proto::moby::buildkit::v1 as wire;
use skep_buildkit::proto::moby::buildkit::v1::frontend::WarnRequest;
use skep_buildkit::proto::pb;
use tokio::sync::{mpsc, watch};

/// Output of one step that is kept and shown, as in BuildKit.
const LOG_MAX: usize = 2 << 20;

/// Bytes of a log after which the history has no more of it.
const HISTORY_MAX: usize = 16 << 20;

/// Events in one message, and bytes of output after which it is sent.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 256 << 10;

#[derive(Default)]
pub(crate) struct Progress {
    told: Mutex<Told>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Told {
    events: Vec<Arc<BuildEvent>>,
    /// Bytes of output of each step.
    logged: HashMap<VertexId, usize>,
    counts: Counts,
    ended: bool,
}

/// Steps, for the history.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    /// By step: whether it was cached, and whether it has ended.
    steps: HashMap<VertexId, (bool, bool)>,
    pub(crate) warnings: usize,
}

impl Counts {
    pub(crate) fn total(&self) -> usize {
        self.steps.len()
    }

    pub(crate) fn cached(&self) -> usize {
        self.steps.values().filter(|(cached, _)| *cached).count()
    }

    pub(crate) fn completed(&self) -> usize {
        self.steps.values().filter(|(_, completed)| *completed).count()
    }
}

impl Progress {
    /// Takes events until all who tell them are gone.
    pub(crate) async fn take(&self, mut events: mpsc::Receiver<BuildEvent>) {
        while let Some(event) = events.recv().await {
            self.tell(event);
        }
    }

    pub(crate) fn tell(&self, event: BuildEvent) {
        let mut told = self.told.lock();
        let event = match event {
            BuildEvent::Log { vertex, stream, data, at } => {
                let logged = told.logged.entry(vertex).or_default();
                if *logged > LOG_MAX {
                    return;
                }
                *logged += data.len();
                let data = match *logged > LOG_MAX {
                    true => format!("\n[output clipped, log limit {}MiB reached]\n", LOG_MAX >> 20).into(),
                    false => data,
                };
                BuildEvent::Log { vertex, stream, data, at }
            }
            other => other,
        };
        match &event {
            BuildEvent::Vertex(vertex) => {
                told.counts.steps.insert(vertex.id, (vertex.cached, vertex.completed.is_some()));
            }
            BuildEvent::Warning(_) => told.counts.warnings += 1,
            BuildEvent::Log { .. } | BuildEvent::Status(_) | BuildEvent::Classic(_) => {}
        }
        told.events.push(Arc::new(event));
        drop(told);
        self.changed.send_replace(());
    }

    /// A client's own warning.
    pub(crate) fn warn(&self, request: WarnRequest) -> Result<(), tonic::Status> {
        let vertex = request.digest.parse().map_err(|_| tonic::Status::invalid_argument("invalid digest"))?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let location = request.info.zip(request.ranges.first()).map(|(info, range)| {
            let line = |position: &Option<pb::Position>| {
                position.as_ref().and_then(|position| usize::try_from(position.line).ok()).unwrap_or(1)
            };
            Location { file: info.filename, text: text(info.data).into(), lines: line(&range.start)..=line(&range.end) }
        });
        self.tell(BuildEvent::Warning(Warning {
            vertex: VertexId(vertex),
            short: text(request.short),
            detail: request.detail.into_iter().map(text).collect(),
            url: request.url,
            location,
        }));
        Ok(())
    }

    /// Nothing comes any more.
    pub(crate) fn finish(&self) {
        self.told.lock().ended = true;
        self.changed.send_replace(());
    }

    pub(crate) fn counts(&self) -> Counts {
        self.told.lock().counts.clone()
    }

    /// What was told, as messages with their lengths before them; not all of it if it is very much.
    pub(crate) fn log(&self) -> Vec<u8> {
        let (mut log, mut at) = (Vec::new(), 0);
        while log.len() < HISTORY_MAX {
            let (batch, _) = self.batch(at);
            if batch.is_empty() {
                break;
            }
            at += batch.len();
            let mut message = wire::StatusResponse::default();
            batch.iter().for_each(|event| add(&mut message, event));
            log.extend(message.encode_length_delimited_to_vec());
        }
        log
    }

    /// All that was told and will be, in batches.
    pub(crate) fn listen<T>(
        progress: Arc<T>,
        of: impl Fn(&T) -> &Progress + Send + Sync + 'static,
    ) -> impl Stream<Item = Result<wire::StatusResponse, tonic::Status>> + Send
    where
        T: Send + Sync + 'static,
    {
        let changed = of(&progress).changed.subscribe();
        futures_util::stream::unfold((progress, of, 0, changed), |(progress, of, at, mut changed)| async move {
            loop {
                changed.borrow_and_update();
                let (batch, ended) = of(&progress).batch(at);
                if !batch.is_empty() {
                    let next = at + batch.len();
                    let mut response = wire::StatusResponse::default();
                    batch.iter().for_each(|event| add(&mut response, event));
                    return Some((Ok(response), (progress, of, next, changed)));
                }
                if ended || changed.changed().await.is_err() {
                    return None;
                }
            }
        })
    }

    fn batch(&self, at: usize) -> (Vec<Arc<BuildEvent>>, bool) {
        let told = self.told.lock();
        let mut bytes = 0;
        let few = told.events[at..].iter().take(BATCH).take_while(|event| {
            let fits = bytes < BATCH_BYTES;
            if let BuildEvent::Log { data, .. } = &***event {
                bytes += data.len();
            }
            fits
        });
        (few.cloned().collect(), told.ended)
    }
}

fn add(response: &mut wire::StatusResponse, event: &BuildEvent) {
    match event {
        BuildEvent::Vertex(vertex) => response.vertexes.push(step(vertex)),
        BuildEvent::Status(part) => response.statuses.push(status(part)),
        BuildEvent::Log { vertex, stream, data, at } => response.logs.push(wire::VertexLog {
            vertex: vertex.0.to_string(),
            timestamp: Some(timestamp(*at)),
            stream: i64::from(*stream),
            msg: data.to_vec(),
        }),
        BuildEvent::Warning(one) => response.warnings.push(warning(one)),
        BuildEvent::Classic(_) => {} // for another display
    }
}

fn step(vertex: &Vertex) -> wire::Vertex {
    wire::Vertex {
        digest: vertex.id.0.to_string(),
        inputs: vertex.inputs.iter().map(|id| id.0.to_string()).collect(),
        name: vertex.name.clone(),
        cached: vertex.cached,
        started: vertex.started.map(timestamp),
        completed: vertex.completed.map(timestamp),
        error: vertex.error.clone().unwrap_or_default(),
        progress_group: None,
    }
}

fn status(part: &Part) -> wire::VertexStatus {
    let bytes = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    wire::VertexStatus {
        id: part.id.clone(),
        vertex: part.vertex.0.to_string(),
        name: part.id.clone(),
        current: bytes(part.current),
        total: bytes(part.total),
        timestamp: Some(timestamp(Utc::now())),
        started: part.started.map(timestamp),
        completed: part.completed.map(timestamp),
    }
}

fn warning(warning: &Warning) -> wire::VertexWarning {
    wire::VertexWarning {
        vertex: warning.vertex.0.to_string(),
        level: 1,
        short: warning.short.clone().into_bytes(),
        detail: warning.detail.iter().map(|line| line.clone().into_bytes()).collect(),
        url: warning.url.clone(),
        info: warning.location.as_ref().map(source),
        ranges: warning.location.iter().map(range).collect(),
    }
}

/// The file that a place is in.
pub(crate) fn source(location: &Location) -> pb::SourceInfo {
    pb::SourceInfo {
        filename: location.file.clone(),
        data: location.text.as_bytes().to_vec(),
        definition: None,
        language: "Dockerfile".to_owned(),
    }
}

fn range(location: &Location) -> pb::Range {
    let position = |line: usize| Some(pb::Position { line: i32::try_from(line).unwrap_or(i32::MAX), character: 0 });
    pb::Range { start: position(*location.lines.start()), end: position(*location.lines.end()) }
}

pub(crate) fn timestamp(time: DateTime<Utc>) -> Timestamp {
    let nanos = i32::try_from(time.timestamp_subsec_nanos()).unwrap_or(0);
    Timestamp { seconds: time.timestamp(), nanos }
}
