//! What only the client of a build has: its directories, secrets and agents, and the places where results go.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::Result;
use crate::graph::LocalSource;

/// A future without a name, so that [`Services`] can be an object.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// Name and password, or a token, of a registry.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RegistryLogin {
    /// User name.
    pub username: String,
    /// Password, or an identity token if there is no name.
    pub secret: String,
}

/// Bytes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// What came of bringing a directory here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Synced {
    /// Bytes that were sent, without what was here already.
    pub bytes: u64,
    /// Files in it now.
    pub files: u64,
}

/// The client of one build. A client that went away answers with errors of the kind `Cancelled`.
pub trait Services: Send + Sync {
    /// A name for the client's directory that is the same in its next build and no other directory's, so that only what changed
    /// is sent. Without one nothing is kept: files of different projects can have the same name, size and time.
    fn shared_key<'a>(&'a self, name: &'a str) -> Later<'a, Option<String>>;

    /// Makes `into` (an open directory with what it held last time) the same as the client's directory; `told` hears how many
    /// bytes came.
    fn sync<'a>(
        &'a self,
        source: &'a LocalSource,
        into: OwnedFd,
        told: &'a (dyn Fn(u64) + Send + Sync),
    ) -> Later<'a, Synced>;

    /// A secret; none if the client has no such.
    fn secret<'a>(&'a self, id: &'a str) -> Later<'a, Option<Vec<u8>>>;

    /// Whether there is an ssh agent of this name.
    fn has_agent<'a>(&'a self, id: &'a str) -> Later<'a, bool>;

    /// A connection to an ssh agent.
    fn agent<'a>(&'a self, id: &'a str) -> Later<'a, Box<dyn Duplex>>;

    /// How to log in to a registry; none for anonymously.
    fn login<'a>(&'a self, host: &'a str) -> Later<'a, Option<RegistryLogin>>;

    /// The client's file of a stream that it announced (an archive from its standard input).
    fn upload<'a>(&'a self, name: &'a str) -> Later<'a, Box<dyn AsyncRead + Send + Unpin>>;

    /// Sends an archive, the result of export number `export`, to the file that the client has in mind.
    fn send_file<'a>(&'a self, export: usize, name: Option<&'a str>) -> Later<'a, Box<dyn AsyncWrite + Send + Unpin>>;

    /// Sends the tree below `from` to the directory that the client has in mind for export number `export`.
    fn send_tree<'a>(&'a self, export: usize, from: &'a Path) -> Later<'a, ()>;

    /// Brings the blob of a content store of the client to `into`. Stores are `oci:NAME` (an OCI layout that is a context),
    /// `local:DIRECTORY` (a cache) and `export` (where a layout is to go).
    fn blob<'a>(&'a self, store: &'a str, digest: &'a skep_types::Digest, into: &'a Path) -> Later<'a, ()>;

    /// Puts a blob into a content store of the client, unless it is there.
    fn put_blob<'a>(
        &'a self,
        store: &'a str,
        digest: &'a skep_types::Digest,
        size: u64,
        from: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Later<'a, ()>;
}
