//! Directories and streams that the engine reads.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::Pin;

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::ReaderStream;
use tonic::codegen::tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::Provider;
use crate::filesync::{self, Packet, Patterns, Source, header};
use crate::grpc::values;
use crate::proto::moby::filesync::v1::file_sync_server::FileSync;
use crate::proto::moby::upload::v1::BytesMessage;
use crate::proto::moby::upload::v1::upload_server::Upload;
use crate::session::{AHEAD, Wanted};

/// Packets to the engine.
pub(super) type Packets = Pin<Box<dyn Stream<Item = Result<Packet, Status>> + Send>>;

/// Opens a directory for `filesync`.
pub(super) fn open(path: &Path) -> std::io::Result<OwnedFd> {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?)
}

/// Hands the engine's packets on, and gives out those for it. The last item is an error if `work` ended with one.
pub(super) fn exchange(
    mut incoming: Streaming<Packet>,
    work: impl FnOnce(mpsc::Receiver<Packet>, &mpsc::Sender<Packet>) -> Result<(), filesync::SyncError> + Send + 'static,
) -> Packets {
    let (requests, received) = mpsc::channel(AHEAD);
    let (packets, outgoing) = mpsc::channel(AHEAD);
    let working = tokio::task::spawn_blocking(move || work(received, &packets));
    let reading = async move {
        while let Ok(Some(packet)) = incoming.message().await {
            if requests.send(packet).await.is_err() {
                break;
            }
        }
        None
    };
    let end = async move {
        match working.await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(Err(Status::unknown(error.to_string()))),
            Err(_) => Some(Err(Status::internal("the transfer broke off"))),
        }
    };
    // Reading belongs to the answer, and ends with it.
    let answers = ReceiverStream::new(outgoing).map(|packet| Some(Ok(packet)));
    let answers = answers.chain(futures_util::stream::once(end)).chain(futures_util::stream::iter([None]));
    let reading = futures_util::stream::once(reading).filter_map(std::future::ready).map(Some);
    let both = futures_util::stream::select(reading, answers);
    Box::pin(both.take_while(|item| std::future::ready(item.is_some())).filter_map(std::future::ready))
}

#[tonic::async_trait]
impl FileSync for Provider {
    type DiffCopyStream = Packets;
    type TarStreamStream = Packets;

    async fn diff_copy(&self, request: Request<Streaming<Packet>>) -> Result<Response<Packets>, Status> {
        let texts = |name| values(request.metadata(), name);
        let wanted = Wanted {
            name: texts(header::DIR_NAME).pop().unwrap_or_default(),
            include: texts(header::INCLUDE),
            exclude: texts(header::EXCLUDE),
            follow: texts(header::FOLLOW),
        };
        let path = self
            .directories
            .get(&wanted.name)
            .ok_or_else(|| Status::not_found(format!("no access allowed to dir {:?}", wanted.name)))?;
        let root = open(path).map_err(|error| Status::unknown(format!("open {}: {error}", path.display())))?;
        let choose = Patterns::new(&root, &wanted).map_err(|error| Status::invalid_argument(error.to_string()))?;
        // Whose the files are on this machine means nothing in an image.
        let source = Source { root, choose: Box::new(choose), owner: Some((0, 0)) };
        Ok(Response::new(exchange(request.into_inner(), move |requests, packets| {
            filesync::send(source, requests, packets)
        })))
    }

    async fn tar_stream(&self, _: Request<Streaming<Packet>>) -> Result<Response<Packets>, Status> {
        Err(Status::unimplemented("method TarStream is not offered"))
    }
}

#[tonic::async_trait]
impl Upload for Provider {
    type PullStream = Pin<Box<dyn Stream<Item = Result<BytesMessage, Status>> + Send>>;

    async fn pull(&self, request: Request<Streaming<BytesMessage>>) -> Result<Response<Self::PullStream>, Status> {
        let path = values(request.metadata(), "urlpath").pop().unwrap_or_default();
        let stream = self.uploads.get(path.trim_start_matches('/')).and_then(|upload| upload.lock().take());
        let stream = stream.ok_or_else(|| Status::not_found(format!("no stream {path}")))?;
        let pieces = ReaderStream::with_capacity(stream, crate::session::PIECE).map(|piece| {
            let piece = piece.map_err(|error| Status::unknown(error.to_string()))?;
            Ok(BytesMessage { data: piece.to_vec() })
        });
        Ok(Response::new(Box::pin(pieces)))
    }
}
