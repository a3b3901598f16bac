//! Content stores of the client: OCI layouts, and caches in directories.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status};

use crate::content::{Action, Client, ReadRequest, STORE, WriteRequest};
use crate::grpc::insert_values;
use crate::session::Session;

/// Bytes of one message. containerd's own limit of a message is 4 MiB.
const PIECE: usize = 1 << 20;

impl Session {
    /// Copies a blob of a store to `into`; the caller checks its digest.
    pub async fn read_blob(
        &self,
        store: &str,
        digest: &str,
        into: &mut (impl AsyncWrite + Unpin),
    ) -> Result<u64, Status> {
        self.need("/containerd.services.content.v1.Content/Read")?;
        let mut request = Request::new(ReadRequest { digest: digest.to_owned(), offset: 0, size: 0 });
        insert_values(request.metadata_mut(), STORE, &[store.to_owned()]);
        let mut pieces = Client::new(self.channel()).read(request).await?;
        let mut length: u64 = 0;
        while let Some(piece) = pieces.message().await? {
            if u64::try_from(piece.offset) != Ok(length) {
                return Err(Status::data_loss(format!("{digest}: a piece at {} instead of {length}", piece.offset)));
            }
            into.write_all(&piece.data).await.map_err(|error| Status::internal(format!("{digest}: {error}")))?;
            length += piece.data.len() as u64;
        }
        Ok(length)
    }

    /// Puts a blob of `size` bytes into a store. One that is there already is no error.
    pub async fn write_blob(
        &self,
        store: &str,
        digest: &str,
        size: u64,
        from: &mut (impl AsyncRead + Unpin),
    ) -> Result<(), Status> {
        self.need("/containerd.services.content.v1.Content/Write")?;
        let total = i64::try_from(size).map_err(|_| Status::out_of_range("the blob is too large"))?;
        let step = |action: Action, offset: i64, data: Vec<u8>| WriteRequest {
            action: action.into(),
            reference: format!("skep-{digest}"),
            total,
            expected: digest.to_owned(),
            offset,
            data,
        };
        let (steps, outgoing) = mpsc::channel(1);
        let mut request = Request::new(ReceiverStream::new(outgoing));
        insert_values(request.metadata_mut(), STORE, &[store.to_owned()]);
        let gone = |_| Status::unavailable("the client is gone");
        steps.send(step(Action::Stat, 0, Vec::new())).await.map_err(gone)?;
        let mut answers = match Client::new(self.channel()).write(request).await {
            Err(status) if status.code() == Code::AlreadyExists => return Ok(()),
            other => other?,
        };
        let mut offset = 0;
        loop {
            let answer = match answers.message().await {
                Err(status) if status.code() == Code::AlreadyExists => return Ok(()),
                other => other?.ok_or_else(|| Status::data_loss(format!("{digest}: the client broke off")))?,
            };
            if answer.action == i32::from(Action::Commit) {
                return Ok(());
            }
            let mut data = Vec::with_capacity(PIECE);
            let mut piece = AsyncReadExt::take(&mut *from, PIECE as u64);
            piece.read_to_end(&mut data).await.map_err(|error| Status::internal(format!("{digest}: {error}")))?;
            let length = i64::try_from(data.len()).unwrap_or(i64::MAX);
            let action = if data.is_empty() { Action::Commit } else { Action::Write };
            steps.send(step(action, offset, data)).await.map_err(gone)?;
            offset += length;
        }
    }
}
