//! OCI layouts of the client.

use std::convert::Infallible;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::StreamExt;
use http::{Request as HttpRequest, Response as HttpResponse};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio_util::io::ReaderStream;
use tonic::body::Body;
use tonic::codegen::tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};
use tower_service::Service;

use super::Provider;
use crate::content::{Action, ReadRequest, ReadResponse, SERVICE, STORE, WriteRequest, WriteResponse};
use crate::grpc::values;

/// Bytes of one message.
const PIECE: usize = 256 << 10;

/// The content service over [`Provider::stores`].
#[derive(Clone)]
pub(super) struct Server(pub(super) Arc<Provider>);

impl tonic::server::NamedService for Server {
    const NAME: &'static str = SERVICE;
}

impl Service<HttpRequest<Incoming>> for Server {
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
                "Read" => {
                    let mut grpc = tonic::server::Grpc::new(tonic_prost::ProstCodec::default());
                    grpc.server_streaming(Read(own), request).await
                }
                "Write" => {
                    let codec = tonic_prost::ProstCodec::default();
                    let grpc =
                        tonic::server::Grpc::new(codec).apply_max_message_size_config(Some(crate::MESSAGE_LIMIT), None);
                    { grpc }.streaming(Write(own), request).await
                }
                other => Status::unimplemented(format!("unknown method {other}")).into_http(),
            })
        })
    }
}

impl Server {
    /// The file of a blob in the layout that the call is about.
    fn blob(&self, metadata: &tonic::metadata::MetadataMap, digest: &str) -> Result<PathBuf, Status> {
        let store = values(metadata, STORE).pop().unwrap_or_default();
        let layout = self.0.stores.get(&store).ok_or_else(|| Status::not_found(format!("unknown store {store}")))?;
        let known = |algorithm: &str, hex: &str| {
            let length = match algorithm {
                "sha256" => 64,
                "sha512" => 128,
                _ => return false,
            };
            hex.len() == length && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        match digest.split_once(':') {
            Some((algorithm, hex)) if known(algorithm, hex) => Ok(layout.join("blobs").join(algorithm).join(hex)),
            _ => Err(Status::invalid_argument(format!("invalid digest {digest:?}"))),
        }
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Answering<T> = Pin<Box<dyn Future<Output = Result<Response<Answers<T>>, Status>> + Send>>;

struct Read(Server);

impl tonic::server::ServerStreamingService<ReadRequest> for Read {
    type Response = ReadResponse;
    type ResponseStream = Answers<ReadResponse>;
    type Future = Answering<ReadResponse>;

    fn call(&mut self, request: Request<ReadRequest>) -> Self::Future {
        let own = self.0.clone();
        Box::pin(async move {
            let ReadRequest { digest, offset, size } = request.get_ref().clone();
            let path = own.blob(request.metadata(), &digest)?;
            let range = |_| Status::out_of_range(format!("{digest}: invalid range"));
            let (offset, size) = (u64::try_from(offset).map_err(range)?, u64::try_from(size).map_err(range)?);
            let missing = |error| Status::not_found(format!("content {digest}: {error}"));
            let mut file = tokio::fs::File::open(&path).await.map_err(missing)?;
            file.seek(std::io::SeekFrom::Start(offset)).await.map_err(missing)?;
            let part = file.take(if size == 0 { u64::MAX } else { size });
            let mut at = i64::try_from(offset).unwrap_or(i64::MAX);
            let pieces = ReaderStream::with_capacity(part, PIECE).map(move |piece| {
                let data = piece.map_err(|error| Status::unknown(error.to_string()))?.to_vec();
                let offset = at;
                at = at.saturating_add(i64::try_from(data.len()).unwrap_or(i64::MAX));
                Ok(ReadResponse { offset, data })
            });
            Ok(Response::new(Box::pin(pieces) as Answers<ReadResponse>))
        })
    }
}

struct Write(Server);

impl tonic::server::StreamingService<WriteRequest> for Write {
    type Response = WriteResponse;
    type ResponseStream = Answers<WriteResponse>;
    type Future = Answering<WriteResponse>;

    fn call(&mut self, request: Request<Streaming<WriteRequest>>) -> Self::Future {
        let own = self.0.clone();
        Box::pin(async move {
            let metadata = request.metadata().clone();
            let state = Writing { own, metadata, steps: request.into_inner(), open: None };
            let answers = futures_util::stream::try_unfold(state, |mut state| async move {
                Ok(state.step().await?.map(|answer| (answer, state)))
            });
            Ok(Response::new(Box::pin(answers) as Answers<WriteResponse>))
        })
    }
}

/// A blob that is being written: a file beside its place until it is whole.
struct Writing {
    own: Server,
    metadata: tonic::metadata::MetadataMap,
    steps: Streaming<WriteRequest>,
    open: Option<Part>,
}

struct Part {
    path: PathBuf,
    partial: tempfile::TempPath,
    file: tokio::fs::File,
    written: u64,
}

impl Writing {
    async fn step(&mut self) -> Result<Option<WriteResponse>, Status> {
        let Some(step) = self.steps.message().await? else { return Ok(None) };
        let failed = |error: std::io::Error| Status::unknown(format!("write {}: {error}", step.expected));
        if self.open.is_none() {
            self.open = Some(self.begin(&step.expected).await?);
        }
        let Some(part) = self.open.as_mut() else { return Ok(None) };
        if !step.data.is_empty() {
            if u64::try_from(step.offset) != Ok(part.written) {
                return Err(Status::out_of_range(format!("write at {} instead of {}", step.offset, part.written)));
            }
            part.file.write_all(&step.data).await.map_err(failed)?;
            part.written += step.data.len() as u64;
        }
        let offset = i64::try_from(part.written).unwrap_or(i64::MAX);
        let mut answer = WriteResponse { action: step.action, offset, total: step.total, digest: String::new() };
        if step.action == i32::from(Action::Commit) {
            if step.total > 0 && step.total != offset {
                return Err(Status::data_loss(format!("{}: {offset} bytes of {}", step.expected, step.total)));
            }
            part.file.flush().await.map_err(failed)?;
            part.file.sync_all().await.map_err(failed)?;
            let Some(part) = self.open.take() else { return Ok(None) };
            part.partial.persist(&part.path).map_err(|error| failed(error.error))?;
            answer.digest = step.expected;
        }
        Ok(Some(answer))
    }

    async fn begin(&self, digest: &str) -> Result<Part, Status> {
        let path = self.own.blob(&self.metadata, digest)?;
        if tokio::fs::try_exists(&path).await.unwrap_or(false) {
            return Err(Status::already_exists(format!("content {digest}: already exists")));
        }
        let failed = |error: std::io::Error| Status::unknown(format!("write {digest}: {error}"));
        let directory = path.parent().unwrap_or(&path).to_owned();
        tokio::fs::create_dir_all(&directory).await.map_err(failed)?;
        let (file, partial) = tempfile::NamedTempFile::new_in(directory).map_err(failed)?.into_parts();
        Ok(Part { path, partial, file: tokio::fs::File::from_std(file), written: 0 })
    }
}
