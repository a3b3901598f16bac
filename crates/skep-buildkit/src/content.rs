//! The few calls of containerd's content service that carry OCI layouts between client and engine
//! (`api/services/content/v1/content.proto`). No published crate has these messages without the rest of containerd.

use std::collections::HashMap;

use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Request, Status};

use crate::grpc::Channel;

/// The service's name.
pub const SERVICE: &str = "containerd.services.content.v1.Content";
/// The header that says which of the client's stores is meant.
pub const STORE: &str = "buildkit-attachable-store-id";

/// What is known of a blob.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Info {
    /// Its digest.
    #[prost(string, tag = "1")]
    pub digest: String,
    /// Its size.
    #[prost(int64, tag = "2")]
    pub size: i64,
    /// Its labels.
    #[prost(map = "string, string", tag = "5")]
    pub labels: HashMap<String, String>,
}

/// Asks for [`Info`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct InfoRequest {
    /// Of which blob.
    #[prost(string, tag = "1")]
    pub digest: String,
}

/// The answer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct InfoResponse {
    /// What is known.
    #[prost(message, optional, tag = "1")]
    pub info: Option<Info>,
}

/// Asks for a part of a blob.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReadRequest {
    /// Of which.
    #[prost(string, tag = "1")]
    pub digest: String,
    /// From here.
    #[prost(int64, tag = "2")]
    pub offset: i64,
    /// So many bytes; 0 for all.
    #[prost(int64, tag = "3")]
    pub size: i64,
}

/// A piece of it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReadResponse {
    /// Where it belongs.
    #[prost(int64, tag = "1")]
    pub offset: i64,
    /// The bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub data: Vec<u8>,
}

/// What a write is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Action {
    /// Say how far it is.
    Stat = 0,
    /// Take bytes.
    Write = 1,
    /// Take bytes, and keep the blob.
    Commit = 2,
}

/// A step of a write.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WriteRequest {
    /// What to do.
    #[prost(enumeration = "Action", tag = "1")]
    pub action: i32,
    /// A name of the write.
    #[prost(string, tag = "2")]
    pub reference: String,
    /// The size of the blob.
    #[prost(int64, tag = "3")]
    pub total: i64,
    /// Its digest.
    #[prost(string, tag = "4")]
    pub expected: String,
    /// Where the bytes belong.
    #[prost(int64, tag = "5")]
    pub offset: i64,
    /// The bytes.
    #[prost(bytes = "vec", tag = "6")]
    pub data: Vec<u8>,
}

/// What came of it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WriteResponse {
    /// What was done.
    #[prost(enumeration = "Action", tag = "1")]
    pub action: i32,
    /// Bytes that are there.
    #[prost(int64, tag = "4")]
    pub offset: i64,
    /// Bytes that there will be.
    #[prost(int64, tag = "5")]
    pub total: i64,
    /// The digest of what is there.
    #[prost(string, tag = "6")]
    pub digest: String,
}

/// The whole of a blob that the other side has, if it is no larger than `limit` bytes.
///
/// # Errors
/// The other side has no such blob, or it is larger.
pub async fn blob(channel: Channel, digest: &str, limit: usize) -> Result<Vec<u8>, Status> {
    let request = ReadRequest { digest: digest.to_owned(), offset: 0, size: 0 };
    let mut pieces = Client::new(channel).read(Request::new(request)).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.message().await? {
        if bytes.len() + piece.data.len() > limit {
            return Err(Status::resource_exhausted(format!("{digest} is larger than {limit} bytes")));
        }
        bytes.extend(piece.data);
    }
    Ok(bytes)
}

/// Calls the service.
pub(crate) struct Client(tonic::client::Grpc<Channel>);

impl Client {
    pub(crate) fn new(channel: Channel) -> Self {
        let grpc = tonic::client::Grpc::with_origin(channel, Channel::origin());
        Client(grpc.max_decoding_message_size(crate::MESSAGE_LIMIT))
    }

    async fn ready(&mut self) -> Result<(), Status> {
        self.0.ready().await.map_err(|error| Status::unavailable(error.to_string()))
    }

    pub(crate) async fn read(
        &mut self,
        request: Request<ReadRequest>,
    ) -> Result<tonic::Streaming<ReadResponse>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static("/containerd.services.content.v1.Content/Read");
        let codec = tonic_prost::ProstCodec::default();
        Ok(self.0.server_streaming(request, path, codec).await?.into_inner())
    }

    pub(crate) async fn write(
        &mut self,
        request: Request<impl tonic::codegen::tokio_stream::Stream<Item = WriteRequest> + Send + 'static>,
    ) -> Result<tonic::Streaming<WriteResponse>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static("/containerd.services.content.v1.Content/Write");
        let codec = tonic_prost::ProstCodec::default();
        Ok(self.0.streaming(request, path, codec).await?.into_inner())
    }
}
