//! The client's ssh agents.

use futures_util::TryFutureExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status};

use crate::grpc::{Channel, insert_values};
use crate::proto::moby::sshforward::v1::CheckAgentRequest;
use crate::proto::moby::sshforward::v1::ssh_client::SshClient;
use crate::session::Session;
use crate::session::stream::{Both, Reader, Writer};

/// Which agent a connection is for.
pub(crate) const KEY_ID: &str = "buildkit.ssh.id";

impl Session {
    /// Whether the client forwards an agent of that name.
    pub async fn has_agent(&self, id: &str) -> Result<bool, Status> {
        if !self.supports("/moby.sshforward.v1.SSH/CheckAgent") {
            return Ok(false);
        }
        let mut client = SshClient::with_origin(self.channel(), Channel::origin());
        match client.check_agent(Request::new(CheckAgentRequest { id: id.to_owned() })).await {
            Ok(_) => Ok(true),
            Err(status) if matches!(status.code(), Code::Unavailable | Code::Cancelled) => Err(status),
            Err(_) => Ok(false), // Go's client says "unset ssh forward key" without a code
        }
    }

    /// A connection to an agent.
    pub async fn agent(&self, id: &str) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static, Status> {
        self.need("/moby.sshforward.v1.SSH/ForwardAgent")?;
        let (write, outgoing) = Writer::new();
        let mut request = Request::new(ReceiverStream::new(outgoing));
        insert_values(request.metadata_mut(), KEY_ID, &[id.to_owned()]);
        let mut client = SshClient::with_origin(self.channel(), Channel::origin());
        // The client may wait for the first request before it answers anything: the call goes on with the reading.
        let call = async move { client.forward_agent(request).await.map(tonic::Response::into_inner) };
        let read = Reader::new(Box::pin(call.try_flatten_stream()));
        Ok(Both { read, write })
    }
}
