//! The client's end of a session: what the engine may ask for, and nothing else.

mod access;
mod content;
mod export;
mod files;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};

pub use crate::session::Login;

use crate::agent::Keys;
use crate::grpc::Routes;
use crate::proto::moby::buildkit::secrets::v1::secrets_server::SecretsServer;
use crate::proto::moby::filesync::v1::auth_server::AuthServer;
use crate::proto::moby::filesync::v1::file_sync_server::FileSyncServer;
use crate::proto::moby::sshforward::v1::ssh_server::SshServer;
use crate::proto::moby::upload::v1::upload_server::UploadServer;

/// Where a secret comes from.
#[derive(Debug, Clone)]
pub enum Secret {
    /// A file, read when it is asked for.
    File(PathBuf),
    /// The bytes.
    Value(Vec<u8>),
}

/// Where signatures for ssh come from.
pub enum Agent {
    /// An agent that runs.
    Socket(PathBuf),
    /// Keys, for an agent of our own.
    Keys(Arc<Keys>),
}

/// Where a result goes.
pub enum Destination {
    /// A directory, which keeps what else is in it.
    Directory(PathBuf),
    /// A file or a pipe; can be written once.
    Stream(Mutex<Option<Box<dyn AsyncWrite + Send + Unpin>>>),
    /// Nothing of this export goes to the client.
    Nowhere,
}

/// Something that is read once.
pub type Upload = Mutex<Option<Box<dyn AsyncRead + Send + Unpin>>>;

/// Finds the login for a registry.
pub type Logins = Arc<dyn Fn(&str) -> Option<Login> + Send + Sync>;

/// What the engine may have.
pub struct Provider {
    /// Directories by name.
    pub directories: BTreeMap<String, PathBuf>,
    /// Secrets by id.
    pub secrets: BTreeMap<String, Secret>,
    /// Ssh agents by id.
    pub agents: BTreeMap<String, Agent>,
    /// Logins.
    pub logins: Logins,
    /// Results, by the number of the export.
    pub exports: Vec<Destination>,
    /// Streams by path: `http://buildkit-session/PATH` as a context.
    pub uploads: BTreeMap<String, Upload>,
    /// OCI layouts by name; those for writing are made if they aren't there.
    pub stores: BTreeMap<String, PathBuf>,
}

impl Provider {
    /// The services, for [`serve`](crate::grpc::serve).
    pub fn routes(self) -> Routes {
        let own = Arc::new(self);
        Routes::default()
            .with(FileSyncServer::from_arc(own.clone()), &["DiffCopy"])
            .with(export::server(own.clone()), &["DiffCopy"])
            .with(SecretsServer::from_arc(own.clone()), &["GetSecret"])
            .with(SshServer::from_arc(own.clone()), &["CheckAgent", "ForwardAgent"])
            .with(AuthServer::from_arc(own.clone()), &["Credentials"])
            .with(UploadServer::from_arc(own.clone()), &["Pull"])
            .with(content::Server(own), &["Read", "Write"])
    }
}
