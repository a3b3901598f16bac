//! A request's body that a handler may leave unread.
//!
//! If the server closed the connection on a client that is still sending, the client would see a broken pipe and not the
//! error that explains it. So what is left of a body is read for a while, and thrown away, behind the answer.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio_util::task::TaskTracker;

/// How long a client is given to see the answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// A body that is read on when it is dropped.
pub(crate) struct Drained {
    body: Option<Incoming>,
    tasks: TaskTracker,
}

impl Drained {
    /// `tasks` owns the reading.
    pub(crate) fn new(body: Incoming, tasks: TaskTracker) -> Self {
        Drained { body: Some(body), tasks }
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        let Some(mut body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        self.tasks.spawn(async move {
            let rest = async { while let Some(Ok(_)) = body.frame().await {} };
            let _ = tokio::time::timeout(PATIENCE, rest).await;
        });
    }
}

impl Body for Drained {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = std::task::ready!(Pin::new(body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            // Read to its end, or broken: nothing is left.
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}
