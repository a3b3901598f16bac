//! Logins, secrets, ssh agents.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_util::io::ReaderStream;
use tonic::codegen::tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::{Agent, Provider, Secret};
use crate::grpc::values;
use crate::proto::moby::buildkit::secrets::v1::secrets_server::Secrets;
use crate::proto::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use crate::proto::moby::filesync::v1 as wire;
use crate::proto::moby::sshforward::v1::ssh_server::Ssh;
use crate::proto::moby::sshforward::v1::{BytesMessage, CheckAgentRequest, CheckAgentResponse};
use crate::session::KEY_ID;

/// The largest secret, as in BuildKit.
const SECRET_MAX: usize = 500 << 10;

/// Bytes on the way to and from an agent of our own.
const AHEAD: usize = 64 << 10;

#[tonic::async_trait]
impl Secrets for Provider {
    async fn get_secret(&self, request: Request<GetSecretRequest>) -> Result<Response<GetSecretResponse>, Status> {
        let id = request.into_inner().id;
        let data = match self.secrets.get(&id) {
            None => return Err(Status::not_found(format!("secret {id} not found"))),
            Some(Secret::Value(value)) => value.clone(),
            Some(Secret::File(path)) => tokio::fs::read(path)
                .await
                .map_err(|error| Status::unknown(format!("failed to read secret file {}: {error}", path.display())))?,
        };
        if data.len() > SECRET_MAX {
            return Err(Status::invalid_argument(format!("invalid secret size {}", data.len())));
        }
        Ok(Response::new(GetSecretResponse { data }))
    }
}

#[tonic::async_trait]
impl Ssh for Provider {
    async fn check_agent(&self, request: Request<CheckAgentRequest>) -> Result<Response<CheckAgentResponse>, Status> {
        self.agent(&request.into_inner().id)?;
        Ok(Response::new(CheckAgentResponse {}))
    }

    type ForwardAgentStream = Pin<Box<dyn Stream<Item = Result<BytesMessage, Status>> + Send>>;

    async fn forward_agent(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::ForwardAgentStream>, Status> {
        let id = values(request.metadata(), KEY_ID).pop().unwrap_or_default();
        let (agent, serving) = self.agent(&id)?.connect().await?;
        let (answers, mut questions) = tokio::io::split(agent);
        let mut messages = request.into_inner();
        // Both directions belong to the answer: when the engine drops it, the connection to the agent is closed.
        let asking = async move {
            while let Ok(Some(message)) = messages.message().await {
                if questions.write_all(&message.data).await.is_err() {
                    break;
                }
            }
            let _ = questions.shutdown().await;
            None
        };
        let pieces = ReaderStream::new(answers).map(|piece| {
            let piece = piece.map_err(|error| Status::unavailable(error.to_string()))?;
            Ok(BytesMessage { data: piece.to_vec() })
        });
        let asking = async move { tokio::join!(asking, serving).0 };
        let asking = futures_util::stream::once(asking).filter_map(std::future::ready);
        // The end of the agent's answers is the end of the call, whatever is still asked.
        let answers = pieces.map(Some).chain(futures_util::stream::iter([None]));
        let both = futures_util::stream::select(asking, answers);
        Ok(Response::new(Box::pin(
            both.take_while(|piece| std::future::ready(piece.is_some())).filter_map(std::future::ready),
        )))
    }
}

impl Provider {
    fn agent(&self, id: &str) -> Result<&Agent, Status> {
        let id = if id.is_empty() { "default" } else { id };
        self.agents.get(id).ok_or_else(|| Status::not_found(format!("unset ssh forward key {id}")))
    }
}

/// A connection to an agent, and what has to go on for it to answer.
type Connection = (Box<dyn Duplex>, Pin<Box<dyn Future<Output = ()> + Send>>);

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

impl Agent {
    async fn connect(&self) -> Result<Connection, Status> {
        match self {
            Agent::Socket(path) => {
                let failed = |error| Status::unavailable(format!("failed to connect to {}: {error}", path.display()));
                let stream = UnixStream::connect(path).await.map_err(failed)?;
                Ok((Box::new(stream), Box::pin(std::future::ready(()))))
            }
            Agent::Keys(keys) => {
                let (near, far) = tokio::io::duplex(AHEAD);
                let keys = Arc::clone(keys);
                Ok((Box::new(near), Box::pin(async move { keys.serve(far).await })))
            }
        }
    }
}

#[tonic::async_trait]
impl wire::auth_server::Auth for Provider {
    async fn credentials(
        &self,
        request: Request<wire::CredentialsRequest>,
    ) -> Result<Response<wire::CredentialsResponse>, Status> {
        let login = (self.logins)(&request.into_inner().host).unwrap_or_default();
        Ok(Response::new(wire::CredentialsResponse { username: login.username, secret: login.secret }))
    }

    async fn fetch_token(
        &self,
        _: Request<wire::FetchTokenRequest>,
    ) -> Result<Response<wire::FetchTokenResponse>, Status> {
        Err(Status::unavailable("client side tokens disabled"))
    }

    async fn get_token_authority(
        &self,
        _: Request<wire::GetTokenAuthorityRequest>,
    ) -> Result<Response<wire::GetTokenAuthorityResponse>, Status> {
        Err(Status::unavailable("client side tokens disabled"))
    }

    async fn verify_token_authority(
        &self,
        _: Request<wire::VerifyTokenAuthorityRequest>,
    ) -> Result<Response<wire::VerifyTokenAuthorityResponse>, Status> {
        Err(Status::unavailable("client side tokens disabled"))
    }
}
