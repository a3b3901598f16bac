//! One download, and everybody who reads it while it comes.
//!
//! The download writes a file; readers follow it, each at its own pace. The last byte is held back until the whole has the right
//! digest: a client that was served wrong bytes sees its connection break, never a good end.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

/// How much a reader takes at once.
const PIECE: u64 = 256 << 10;

/// A download that is not over, or was over a moment ago.
#[derive(Debug)]
pub(crate) struct Flight {
    size: u64,
    file: Mutex<Option<Arc<File>>>,
    state: watch::Sender<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// So many bytes are in the file.
    Coming(u64),
    /// All of them, and they are right.
    Landed,
    /// There will be no more.
    Failed,
}

/// How a flight looks to who wants to read.
#[derive(Debug)]
pub(crate) enum Joined {
    /// Bytes come; here is where to read them.
    Reading(Arc<File>),
    /// It is over, and the blob is in its repository.
    Landed,
}

impl Flight {
    pub(crate) fn begin(size: u64) -> Arc<Self> {
        Arc::new(Flight { size, file: Mutex::default(), state: watch::Sender::new(State::Coming(0)) })
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn is_over(&self) -> bool {
        !matches!(*self.state.borrow(), State::Coming(_))
    }

    /// Where the bytes will be.
    pub(crate) fn file(&self, file: File) {
        *self.file.lock() = Some(Arc::new(file));
        self.state.send_modify(|_| {});
    }

    pub(crate) fn advance(&self, bytes: u64) {
        self.state.send_modify(|state| {
            if let State::Coming(have) = state {
                *have += bytes;
            }
        });
    }

    pub(crate) fn end(&self, good: bool) {
        self.state.send_replace(if good { State::Landed } else { State::Failed });
    }

    /// Waits for the first bytes, or the end: so a download that fails at once is an error and no broken answer.
    pub(crate) async fn join(&self) -> io::Result<Joined> {
        let mut state = self.state.subscribe();
        let begun = |state: &State| !matches!(state, State::Coming(0));
        let now = *state.wait_for(begun).await.map_err(io::Error::other)?;
        match (now, self.file.lock().clone()) {
            (State::Landed, _) => Ok(Joined::Landed),
            (State::Coming(_), Some(file)) => Ok(Joined::Reading(file)),
            (State::Coming(_) | State::Failed, _) => Err(io::Error::other("the upstream gave no blob")),
        }
    }

    /// Waits for the end.
    pub(crate) async fn landed(&self) -> io::Result<()> {
        let mut state = self.state.subscribe();
        let over = |state: &State| !matches!(state, State::Coming(_));
        let now = *state.wait_for(over).await.map_err(io::Error::other)?;
        if now == State::Landed { Ok(()) } else { Err(io::Error::other("the upstream gave no blob")) }
    }

    /// All bytes as they come.
    pub(crate) fn stream(&self, file: Arc<File>) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        let (size, state) = (self.size, self.state.subscribe());
        futures_util::stream::try_unfold((file, state, 0), move |(file, mut state, at)| async move {
            if at == size {
                return Ok(None);
            }
            let ready = |state: &State| match state {
                State::Coming(have) => (*have).min(size - 1) > at,
                State::Landed | State::Failed => true,
            };
            let now = *state.wait_for(ready).await.map_err(io::Error::other)?;
            let end = match now {
                State::Coming(have) => have.min(size - 1),
                State::Landed => size,
                State::Failed => return Err(io::Error::other("the download broke off")),
            };
            let length = usize::try_from((end - at).min(PIECE)).unwrap_or_default();
            let reading = file.clone();
            let piece = spawn_blocking(move || {
                let mut piece = vec![0; length];
                reading.read_exact_at(&mut piece, at).map(|()| Bytes::from(piece))
            });
            let piece = piece.await.map_err(io::Error::other)??;
            let next = at + piece.len() as u64;
            Ok(Some((piece, (file, state, next))))
        })
    }
}
