//! Bodies of requests: they have to keep coming, and may be left unread.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use tokio_util::task::TaskTracker;

use crate::error::{Code, Error, Result, refuse};

/// A client that sends nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long the rest of a body that nobody wants is read, so that the client sees the answer and not a broken connection.
const DRAIN: Duration = Duration::from_secs(2);

/// A request's body.
#[derive(Debug)]
pub(crate) struct RequestBody {
    body: Option<Incoming>,
    tasks: TaskTracker,
}

/// Why no further bytes come.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("nothing came for {} seconds", PATIENCE.as_secs())]
    Stalled,
}

impl RequestBody {
    /// `tasks` owns the reading of what is left.
    pub(crate) fn new(body: Incoming, tasks: TaskTracker) -> Self {
        RequestBody { body: Some(body), tasks }
    }

    /// The bytes as they come.
    pub(crate) fn stream(self) -> impl Stream<Item = Result<Bytes, BodyError>> + Send {
        futures_util::stream::unfold(self, |mut this| async move {
            let piece = this.piece().await.transpose()?;
            Some((piece, this))
        })
    }

    /// All bytes, at most `limit`.
    pub(crate) async fn read(self, limit: usize, what: &str) -> Result<Bytes> {
        let mut all = BytesMut::new();
        let mut stream = std::pin::pin!(self.stream());
        while let Some(piece) = stream.next().await {
            all.extend_from_slice(&piece.map_err(|error| Error::Body(error.into()))?);
            if all.len() > limit {
                return refuse(Code::SizeInvalid, format!("{what} is larger than {limit} bytes"));
            }
        }
        Ok(all.freeze())
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, BodyError> {
        loop {
            let Some(body) = &mut self.body else { return Ok(None) };
            let frame = tokio::time::timeout(PATIENCE, body.frame()).await.map_err(|_| BodyError::Stalled);
            match frame {
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => return Ok(Some(data)),
                    Err(_trailers) => continue,
                },
                Ok(None) => self.body = None,
                Ok(Some(Err(error))) => {
                    self.body = None;
                    return Err(error.into());
                }
                Err(stalled) => {
                    self.body = None;
                    return Err(stalled);
                }
            }
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        self.tasks.spawn(async move {
            let _ = tokio::time::timeout(DRAIN, Rest(body)).await;
        });
    }
}

/// Reads a body to its end.
struct Rest(Incoming);

impl Future for Rest {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        while let Some(Ok(_)) = std::task::ready!(Pin::new(&mut self.0).poll_frame(context)) {}
        Poll::Ready(())
    }
}
