//! Directories and files of the client, in both directions.

use std::os::fd::OwnedFd;

use tokio::io::AsyncRead;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tonic::{Request, Status, Streaming};

use crate::filesync::{self, Packet, ReceiveOptions, Received, Source, SyncError, header};
use crate::grpc::{Channel, insert_values};
use crate::proto::moby::filesync::packet::file_send_client::FileSendClient as TreeClient;
use crate::proto::moby::filesync::v1::file_send_client::FileSendClient as FileClient;
use crate::proto::moby::filesync::v1::file_sync_client::FileSyncClient;
use crate::proto::moby::upload::v1::upload_client::UploadClient;
use crate::session::Session;
use crate::session::stream::{AHEAD, Reader, SendFile, Writer};

const SYNC: &str = "/moby.filesync.v1.FileSync/DiffCopy";
const SEND: &str = "/moby.filesync.v1.FileSend/DiffCopy";

/// What of a directory of the client is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The client's name of it.
    pub name: String,
    /// Patterns of what is wanted; all if there are none.
    pub include: Vec<String>,
    /// Patterns of what is not.
    pub exclude: Vec<String>,
    /// Paths whose links are to be followed.
    pub follow: Vec<String>,
}

/// A file that the client announced by a URL.
pub type Upload = Box<dyn AsyncRead + Send + Unpin>;

impl Session {
    /// Makes the directory `into` the same as a directory of the client. `told` hears how many bytes came so far.
    pub async fn sync(
        &self,
        wanted: &Wanted,
        into: OwnedFd,
        options: ReceiveOptions,
        told: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Received, SyncError> {
        self.need(SYNC).map_err(|_| SyncError::Protocol("no local sources enabled".to_owned()))?;
        // Never more in it than files that are open at once.
        let (replies, outgoing) = mpsc::unbounded_channel();
        let mut request = Request::new(UnboundedReceiverStream::new(outgoing));
        let metadata = request.metadata_mut();
        insert_values(metadata, header::DIR_NAME, std::slice::from_ref(&wanted.name));
        for (name, values) in
            [(header::INCLUDE, &wanted.include), (header::EXCLUDE, &wanted.exclude), (header::FOLLOW, &wanted.follow)]
        {
            insert_values(metadata, name, values);
        }
        let mut client = FileSyncClient::with_origin(self.channel(), Channel::origin())
            .max_decoding_message_size(crate::MESSAGE_LIMIT);
        let packets = client.diff_copy(request).await.map_err(SyncError::Call)?.into_inner();
        let (incoming, receiver) = mpsc::channel(AHEAD);
        let receiving = tokio::task::spawn_blocking(move || filesync::receive(into, receiver, &replies, options));
        let pumped = pump(packets, incoming, told).await;
        match receiving.await {
            Ok(Err(SyncError::CutShort)) => Err(pumped.err().map_or(SyncError::CutShort, SyncError::Call)),
            Ok(received) => received,
            Err(_) => Err(SyncError::CutShort),
        }
    }

    /// Sends a tree to the directory that the client has in mind for an export.
    pub async fn send_tree(&self, export: usize, source: Source) -> Result<(), SyncError> {
        self.need(SEND).map_err(SyncError::Call)?;
        let (packets, outgoing) = mpsc::channel(AHEAD);
        let (incoming, requests) = mpsc::channel(AHEAD);
        let mut request = Request::new(ReceiverStream::new(outgoing));
        insert_values(request.metadata_mut(), header::EXPORTER, &[export.to_string()]);
        let mut client = TreeClient::with_origin(self.channel(), Channel::origin());
        let sending = tokio::task::spawn_blocking(move || filesync::send(source, requests, &packets));
        let pumped = async move {
            let replies = client.diff_copy(request).await?.into_inner();
            pump(replies, incoming, &|_| ()).await
        }
        .await;
        match sending.await {
            Ok(Err(SyncError::CutShort)) => Err(pumped.err().map_or(SyncError::CutShort, SyncError::Call)),
            Ok(sent) => sent.and(pumped.map_err(SyncError::Call)),
            Err(_) => Err(SyncError::CutShort),
        }
    }

    /// Opens the file that the client has in mind for an export. `about` are attributes of the export that the client may look at.
    pub async fn send_file(&self, export: usize, about: &[(&str, &str)]) -> Result<SendFile, Status> {
        self.need(SEND)?;
        let (writer, outgoing) = Writer::new();
        let mut request = Request::new(ReceiverStream::new(outgoing));
        insert_values(request.metadata_mut(), header::EXPORTER, &[export.to_string()]);
        for (key, value) in about {
            let name = http::HeaderName::try_from(format!("{}{key}", header::EXPORTER_METADATA));
            if let (Ok(name), Ok(value)) = (name, http::HeaderValue::from_str(value)) {
                request.metadata_mut().as_mut().insert(name, value);
            }
        }
        let mut client = FileClient::with_origin(self.channel(), Channel::origin());
        let answer = Box::pin(async move {
            // The client answers when it has everything, and says nothing before.
            let mut end = client.diff_copy(request).await?.into_inner();
            while end.message().await?.is_some() {}
            Ok(())
        });
        Ok(SendFile::new(writer, answer))
    }

    /// Reads what the client announced under the path of a URL: its standard input.
    pub async fn upload(&self, host: &str, path: &str) -> Result<Upload, Status> {
        self.need("/moby.upload.v1.Upload/Pull")?;
        let (held, outgoing) = mpsc::channel(1);
        let mut request = Request::new(ReceiverStream::new(outgoing));
        insert_values(request.metadata_mut(), "urlpath", &[path.to_owned()]);
        insert_values(request.metadata_mut(), "urlhost", &[host.to_owned()]);
        let mut client = UploadClient::with_origin(self.channel(), Channel::origin());
        let pieces = client.pull(request).await?.into_inner();
        drop(held);
        Ok(Box::new(Reader::new(pieces)))
    }
}

/// Hands packets on until the call ends or nobody takes them.
async fn pump(
    mut packets: Streaming<Packet>,
    incoming: mpsc::Sender<Packet>,
    told: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), Status> {
    let mut bytes = 0;
    while let Some(packet) = packets.message().await? {
        bytes += prost::Message::encoded_len(&packet) as u64;
        told(bytes);
        if incoming.send(packet).await.is_err() {
            break;
        }
    }
    Ok(())
}
