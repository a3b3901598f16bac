//! Vertices as progress displays see them.

use std::future::Future;

use chrono::{DateTime, Utc};

use crate::error::{BuildError, Result};
use crate::event::{BuildEvent, Events, Status, Vertex, VertexId};

use super::key::internal_vertex;

/// One vertex, and where news of it go. One that is dropped between its start and its end was cancelled, and says so.
#[derive(Debug)]
pub struct Report {
    events: Events,
    vertex: Vertex,
}

impl Report {
    pub(crate) fn new(events: Events, id: VertexId, name: String, inputs: Vec<VertexId>) -> Self {
        let vertex = Vertex { id, name, inputs, started: None, completed: None, cached: false, error: None };
        Report { events, vertex }
    }

    /// A vertex that is no step of a graph.
    pub fn internal(events: Events, name: &str) -> Self {
        Self::new(events, internal_vertex(name), name.to_owned(), Vec::new())
    }

    /// The same, told apart from others of its name by a number.
    pub fn numbered(events: Events, name: &str, number: usize) -> Self {
        Self::new(events, internal_vertex(&format!("{name} {number}")), name.to_owned(), Vec::new())
    }

    /// The vertex.
    pub fn id(&self) -> VertexId {
        self.vertex.id
    }

    pub(crate) fn has_started(&self) -> bool {
        self.vertex.started.is_some()
    }

    /// Says that there is such a vertex.
    pub(crate) async fn announce(&self) {
        self.send().await;
    }

    pub(crate) async fn start(&mut self) {
        self.start_at(Utc::now()).await;
    }

    async fn start_at(&mut self, now: DateTime<Utc>) {
        self.vertex.started = Some(now);
        self.vertex.completed = None;
        self.vertex.cached = false;
        self.send().await;
    }

    pub(crate) async fn complete(&mut self) {
        self.end(None).await;
    }

    /// The result was there already.
    pub(crate) async fn cached(&mut self) {
        self.vertex.started.get_or_insert_with(Utc::now);
        self.vertex.cached = true;
        self.end(None).await;
    }

    pub(crate) async fn fail(&mut self, error: &BuildError) {
        self.end(Some(error.message.clone())).await;
    }

    async fn end(&mut self, error: Option<String>) {
        let now = Utc::now();
        self.vertex.started.get_or_insert(now);
        self.vertex.completed = Some(now);
        self.vertex.error = error;
        self.send().await;
    }

    async fn send(&self) {
        // Nobody has to listen.
        let _ = self.events.send(BuildEvent::Vertex(self.vertex.clone())).await;
    }

    /// Where to tell of parts of this vertex.
    pub fn parts(&self) -> Parts {
        Parts { events: self.events.clone(), vertex: self.vertex.id }
    }

    fn is_running(&self) -> bool {
        self.vertex.started.is_some() && self.vertex.completed.is_none()
    }

    /// Runs `work` as this vertex.
    ///
    /// # Errors
    /// Those of `work`.
    pub async fn during<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.start().await;
        match work.await {
            Ok(done) => {
                self.complete().await;
                Ok(done)
            }
            Err(error) => {
                self.fail(&error).await;
                Err(BuildError { vertex: error.vertex.or(Some(self.id())), ..error })
            }
        }
    }
}

/// Tells of the parts of a vertex: `exporting layers`.
#[derive(Debug, Clone)]
pub struct Parts {
    events: Events,
    vertex: VertexId,
}

impl Parts {
    /// Runs `work` as a part with this name. One that fails has no end.
    ///
    /// # Errors
    /// Those of `work`.
    pub async fn during<T>(&self, name: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let started = Utc::now();
        self.tell(name, started, None).await;
        let done = work.await?;
        self.tell(name, started, Some(Utc::now())).await;
        Ok(done)
    }

    /// A part that is done.
    pub async fn done(&self, name: &str) {
        let now = Utc::now();
        self.tell(name, now, Some(now)).await;
    }

    async fn tell(&self, name: &str, started: DateTime<Utc>, completed: Option<DateTime<Utc>>) {
        let (id, vertex, started) = (name.to_owned(), self.vertex, Some(started));
        // Nobody has to listen.
        let _ =
            self.events.send(BuildEvent::Status(Status { id, vertex, current: 0, total: 0, started, completed })).await;
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if self.is_running() {
            let completed = Some(Utc::now());
            let vertex = Vertex { completed, error: Some("context canceled".to_owned()), ..self.vertex.clone() };
            // Nobody has to listen, and nobody can be waited for here.
            let _ = self.events.try_send(BuildEvent::Vertex(vertex));
        }
    }
}
