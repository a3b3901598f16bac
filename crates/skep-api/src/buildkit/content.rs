//! The files of builds that have ended, over containerd's content service: what `docker buildx history` and `--metadata-file` read.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request as HttpRequest, Response as HttpResponse};
use hyper::body::Incoming;
use skep_buildkit::content::{Info, InfoRequest, InfoResponse, ReadRequest, ReadResponse, SERVICE};
use skep_types::Digest;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::BuildKit;

/// Bytes of one message.
const PIECE: usize = 1 << 20;

/// The service; it only reads.
#[derive(Clone)]
pub(crate) struct Content(pub(crate) Arc<BuildKit>);

impl tonic::server::NamedService for Content {
    const NAME: &'static str = SERVICE;
}

impl Service<HttpRequest<Incoming>> for Content {
    type Response = HttpResponse<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest<Incoming>) -> Self::Future {
        let own = self.clone();
        Box::pin(async move {
            let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            Ok(match method.as_str() {
                "Info" => {
                    tonic::server::Grpc::new(tonic_prost::ProstCodec::default()).unary(InfoCall(own), request).await
                }
                "Read" => {
                    let mut grpc = tonic::server::Grpc::new(tonic_prost::ProstCodec::default());
                    grpc.server_streaming(ReadCall(own), request).await
                }
                other => Status::unimplemented(format!("{other} is not supported by skep")).into_http(),
            })
        })
    }
}

impl Content {
    async fn blob(&self, digest: &str) -> Result<Vec<u8>, Status> {
        let invalid = |_| Status::invalid_argument(format!("invalid digest {digest:?}"));
        let wanted: Digest = digest.parse().map_err(invalid)?;
        let found = self.0.builds.records.file(wanted).await?;
        found.ok_or_else(|| Status::not_found(format!("content {digest}: not found")))
    }
}

struct InfoCall(Content);

impl tonic::server::UnaryService<InfoRequest> for InfoCall {
    type Response = InfoResponse;
    type Future = Pin<Box<dyn Future<Output = Result<Response<InfoResponse>, Status>> + Send>>;

    fn call(&mut self, request: Request<InfoRequest>) -> Self::Future {
        let own = self.0.clone();
        Box::pin(async move {
            let digest = request.into_inner().digest;
            let size = i64::try_from(own.blob(&digest).await?.len()).unwrap_or(i64::MAX);
            Ok(Response::new(InfoResponse { info: Some(Info { digest, size, ..Info::default() }) }))
        })
    }
}

struct ReadCall(Content);

type Pieces = Pin<Box<dyn Stream<Item = Result<ReadResponse, Status>> + Send>>;

impl tonic::server::ServerStreamingService<ReadRequest> for ReadCall {
    type Response = ReadResponse;
    type ResponseStream = Pieces;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Pieces>, Status>> + Send>>;

    fn call(&mut self, request: Request<ReadRequest>) -> Self::Future {
        let own = self.0.clone();
        Box::pin(async move {
            let ReadRequest { digest, offset, size } = request.into_inner();
            let bytes = own.blob(&digest).await?;
            let range = |_| Status::out_of_range(format!("{digest}: invalid range"));
            let start = usize::try_from(offset).map_err(range)?.min(bytes.len());
            let length = match usize::try_from(size).map_err(range)? {
                0 => bytes.len() - start,
                length => length.min(bytes.len() - start),
            };
            let piece = |(number, data): (usize, &[u8])| {
                let offset = i64::try_from(start + number * PIECE).unwrap_or(i64::MAX);
                Ok(ReadResponse { offset, data: data.to_vec() })
            };
            let pieces: Vec<_> = bytes[start..start + length].chunks(PIECE).enumerate().map(piece).collect();
            Ok(Response::new(Box::pin(futures_util::stream::iter(pieces)) as Pieces))
        })
    }
}
