//! Logins and secrets.

use tonic::{Code, Request, Status};

use crate::grpc::Channel;
use crate::proto::moby::buildkit::secrets::v1::GetSecretRequest;
use crate::proto::moby::buildkit::secrets::v1::secrets_client::SecretsClient;
use crate::proto::moby::filesync::v1::CredentialsRequest;
use crate::proto::moby::filesync::v1::auth_client::AuthClient;
use crate::session::Session;

/// How to log in to a registry.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// The user; empty for an identity token.
    pub username: String,
    /// Password or identity token.
    pub secret: String,
}

impl Session {
    /// The client's login for a registry; none if it has none.
    pub async fn login(&self, host: &str) -> Result<Option<Login>, Status> {
        if !self.supports("/moby.filesync.v1.Auth/Credentials") {
            return Ok(None);
        }
        let mut client = AuthClient::with_origin(self.channel(), Channel::origin());
        let answer = match client.credentials(Request::new(CredentialsRequest { host: host.to_owned() })).await {
            Ok(answer) => answer.into_inner(),
            Err(status) if matches!(status.code(), Code::Unavailable | Code::Unimplemented) => return Ok(None),
            Err(status) => return Err(status),
        };
        let login = Login { username: answer.username, secret: answer.secret };
        Ok(Some(login).filter(|login| *login != Login::default()))
    }

    /// A secret; none if the client has no such.
    pub async fn secret(&self, id: &str) -> Result<Option<Vec<u8>>, Status> {
        if !self.supports("/moby.buildkit.secrets.v1.Secrets/GetSecret") {
            return Ok(None);
        }
        let mut client = SecretsClient::with_origin(self.channel(), Channel::origin());
        let request = GetSecretRequest { id: id.to_owned(), annotations: Default::default() };
        match client.get_secret(Request::new(request)).await {
            Ok(answer) => Ok(Some(answer.into_inner().data)),
            Err(status) if matches!(status.code(), Code::NotFound | Code::Unimplemented) => Ok(None),
            Err(status) => Err(status),
        }
    }
}
