//! Vertices as progress displays see them.

use std::future::Future;

use chrono::{DateTime, Utc};

use crate::error::{BuildError, Result};
use crate::event::{BuildEvent, Events, Vertex, VertexId};

use super::key::internal_vertex;

/// One vertex, and where news of it go. One that is dropped between its start and its end was cancelled, and says so.
#[derive(Debug)]
pub(crate) struct Report {
    events: Events,
    vertex: Vertex,
}

impl Report {
    pub(crate) fn new(events: Events, id: VertexId, name: String, inputs: Vec<VertexId>) -> Self {
        let vertex = Vertex { id, name, inputs, started: None, completed: None, cached: false, error: None };
        Report { events, vertex }
    }

    /// A vertex that is no step of a graph.
    pub(crate) fn internal(events: Events, name: &str) -> Self {
        Self::new(events, internal_vertex(name), name.to_owned(), Vec::new())
    }

    pub(crate) fn id(&self) -> VertexId {
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

    fn is_running(&self) -> bool {
        self.vertex.started.is_some() && self.vertex.completed.is_none()
    }

    /// Runs `work` as this vertex.
    pub(crate) async fn during<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
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
