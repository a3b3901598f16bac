//! The engine's end of a session: calls to the services of one client.

mod agent;
mod auth;
mod files;
mod manager;
mod store;
mod stream;

pub(crate) use agent::KEY_ID;
pub use auth::Login;
pub use files::{Upload, Wanted};
pub use manager::{SessionError, Sessions};
pub(crate) use stream::{AHEAD, PIECE};
pub use stream::{SendFile, over_call};

use std::collections::HashSet;

use tokio_util::sync::CancellationToken;

use crate::grpc::Channel;

/// What a client says of its session when it connects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Announcement {
    /// The session's id, chosen by the client.
    pub id: String,
    /// What it is for; nobody looks at it.
    pub name: String,
    /// The same for each build of one directory.
    pub shared_key: String,
    /// Calls that the client answers: `/moby.filesync.v1.FileSync/DiffCopy`.
    pub methods: Vec<String>,
}

impl Announcement {
    /// Headers of the request that opens a session.
    pub const ID: &str = "x-docker-expose-session-uuid";
    const NAME: &str = "x-docker-expose-session-name";
    const SHARED_KEY: &str = "x-docker-expose-session-sharedkey";
    const METHOD: &str = "x-docker-expose-session-grpc-method";

    /// Reads the headers of `POST /session`, or of the call `Control.Session`.
    pub fn read(headers: &http::HeaderMap) -> Self {
        let text = |value: &http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let first = |name| headers.get(name).map(text).unwrap_or_default();
        Announcement {
            id: first(Self::ID),
            name: first(Self::NAME),
            shared_key: first(Self::SHARED_KEY),
            methods: headers.get_all(Self::METHOD).iter().map(text).collect(),
        }
    }

    /// The headers that say the same.
    pub fn headers(&self) -> Vec<(&'static str, &str)> {
        let fixed = [(Self::ID, self.id.as_str()), (Self::NAME, &self.name), (Self::SHARED_KEY, &self.shared_key)];
        fixed.into_iter().chain(self.methods.iter().map(|method| (Self::METHOD, method.as_str()))).collect()
    }
}

/// One connected client.
pub struct Session {
    announcement: Announcement,
    methods: HashSet<String>,
    channel: Channel,
    closed: CancellationToken,
}

impl Session {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.announcement.id
    }

    /// The same for each build of one directory; may be empty.
    pub fn shared_key(&self) -> &str {
        &self.announcement.shared_key
    }

    /// Whether the client answers a call.
    pub fn supports(&self, method: &str) -> bool {
        self.methods.contains(&method.to_ascii_lowercase())
    }

    /// Cancelled when the client is gone.
    pub fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    fn need(&self, method: &str) -> Result<(), tonic::Status> {
        match self.supports(method) {
            true => Ok(()),
            false => Err(tonic::Status::unimplemented(format!("method {method} not supported by the client"))),
        }
    }
}
