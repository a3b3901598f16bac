//! Results that come back. Trees and files come by the same call with different messages; which is meant, the client knows from the
//! number of the export.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request as HttpRequest, Response as HttpResponse};
use hyper::body::Incoming;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tonic::body::Body;
use tonic::{Request, Response, Status, Streaming};
use tower_service::Service;

use super::files::{Packets, exchange};
use super::{Destination, Provider};
use crate::filesync::{self, Packet, ReceiveOptions, header};
use crate::proto::moby::filesync::packet::file_send_server as trees;
use crate::proto::moby::filesync::v1::BytesMessage;
use crate::proto::moby::filesync::v1::file_send_server as files;

/// Both kinds of exports.
#[derive(Clone)]
pub(super) struct Server {
    provider: Arc<Provider>,
    trees: trees::FileSendServer<Trees>,
    files: files::FileSendServer<Files>,
}

pub(super) fn server(provider: Arc<Provider>) -> Server {
    Server {
        trees: trees::FileSendServer::new(Trees(provider.clone())),
        files: files::FileSendServer::new(Files(provider.clone())).max_decoding_message_size(crate::MESSAGE_LIMIT),
        provider,
    }
}

impl tonic::server::NamedService for Server {
    const NAME: &'static str = files::SERVICE_NAME;
}

impl Service<HttpRequest<Incoming>> for Server {
    type Response = HttpResponse<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest<Incoming>) -> Self::Future {
        match self.provider.destination(request.headers()) {
            Ok(Destination::Directory(_)) => self.trees.call(request),
            _ => self.files.call(request),
        }
    }
}

impl Provider {
    fn destination(&self, headers: &http::HeaderMap) -> Result<&Destination, Status> {
        let number = headers.get(header::EXPORTER).and_then(|value| value.to_str().ok()).unwrap_or("0");
        let export = number.parse::<usize>().ok().and_then(|number| self.exports.get(number));
        export.ok_or_else(|| Status::not_found(format!("no export {number}")))
    }
}

struct Trees(Arc<Provider>);

#[tonic::async_trait]
impl trees::FileSend for Trees {
    type DiffCopyStream = Packets;

    async fn diff_copy(&self, request: Request<Streaming<Packet>>) -> Result<Response<Packets>, Status> {
        let Destination::Directory(path) = self.0.destination(request.metadata().as_ref())? else {
            return Err(Status::failed_precondition("this export is no directory"));
        };
        let failed =
            |error| Status::unknown(format!("failed to create synctarget dest dir {}: {error}", path.display()));
        std::fs::DirBuilder::new().recursive(true).create(path).map_err(failed)?;
        let root = super::files::open(path).map_err(failed)?;
        let own = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let options = ReceiveOptions { merge: true, owner: Some(own), ..ReceiveOptions::default() };
        Ok(Response::new(exchange(request.into_inner(), move |received, packets| {
            // The receiver's replies are few; they go through the bounded channel in its own time.
            let (replies, mut waiting) = mpsc::unbounded_channel();
            std::thread::scope(|scope| {
                let handing_on = scope.spawn(move || {
                    while let Some(packet) = waiting.blocking_recv() {
                        if packets.blocking_send(packet).is_err() {
                            break;
                        }
                    }
                });
                let result = filesync::receive(root, received, &replies, options);
                drop(replies);
                let _ = handing_on.join();
                result.map(|_| ())
            })
        })))
    }
}

struct Files(Arc<Provider>);

#[tonic::async_trait]
impl files::FileSend for Files {
    type DiffCopyStream =
        Pin<Box<dyn tonic::codegen::tokio_stream::Stream<Item = Result<BytesMessage, Status>> + Send>>;

    async fn diff_copy(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::DiffCopyStream>, Status> {
        let Destination::Stream(stream) = self.0.destination(request.metadata().as_ref())? else {
            return Err(Status::failed_precondition("nothing of this export is for the client"));
        };
        let taken = stream.lock().take();
        let mut output = taken.ok_or_else(|| Status::already_exists("target already exists"))?;
        let failed = |error: std::io::Error| Status::unknown(format!("failed to write the result: {error}"));
        let mut pieces = request.into_inner();
        while let Some(piece) = pieces.message().await? {
            output.write_all(&piece.data).await.map_err(failed)?;
        }
        output.shutdown().await.map_err(failed)?;
        Ok(Response::new(Box::pin(futures_util::stream::empty())))
    }
}
