//! Where clients connect: unix sockets, tcp (with TLS or without), and sockets that systemd passed in.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

/// A socket that accepts clients.
pub struct Listener {
    pub(crate) socket: Socket,
    /// The socket file to remove at the end.
    path: Option<PathBuf>,
}

pub(crate) enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener, Option<TlsAcceptor>),
}

/// Why there is nowhere to connect to.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The socket could not be made.
    #[error("can't listen on {address}: {source}")]
    Bind {
        /// Where.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// Another process answers there.
    #[error("can't listen on unix://{0}: another process is listening there")]
    InUse(PathBuf),
    /// There is a file that isn't a socket.
    #[error("can't listen on unix://{0}: the file exists and is not a socket")]
    NotASocket(PathBuf),
    /// A passed descriptor is no listening stream socket.
    #[error("passed socket {index}: {source}")]
    Inherited {
        /// Which, from 0.
        index: usize,
        /// Why.
        source: std::io::Error,
    },
}

impl Listener {
    /// A unix socket of mode 0660, owned by the group `group` if the machine has it. A socket file that nobody listens on
    /// any more is replaced. Must be called within a tokio runtime.
    pub fn unix(path: &Path, group: &str) -> Result<Self, ListenError> {
        let fail = |source| ListenError::Bind { address: format!("unix://{}", path.display()), source };
        match std::fs::symlink_metadata(path) {
            Ok(metadata) if !metadata.file_type().is_socket() => return Err(ListenError::NotASocket(path.to_owned())),
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(ListenError::InUse(path.to_owned()));
            }
            Ok(_) => std::fs::remove_file(path).map_err(fail)?,
            Err(_) => {
                if let Some(parent) = path.parent() {
                    std::fs::create_dir_all(parent).map_err(fail)?;
                }
            }
        }
        let socket = UnixListener::bind(path).map_err(fail)?;
        if let Some(gid) = group_id(group) {
            // An unprivileged daemon may not give the socket away; it stays the user's own then.
            let _ = std::os::unix::fs::chown(path, None, Some(gid));
        }
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(fail)?;
        Ok(Listener { socket: Socket::Unix(socket), path: Some(path.to_owned()) })
    }

    /// A tcp socket. Without `tls`, everybody who can reach it is root.
    pub async fn tcp(address: SocketAddr, tls: Option<Arc<rustls::ServerConfig>>) -> Result<Self, ListenError> {
        let socket = TcpListener::bind(address)
            .await
            .map_err(|source| ListenError::Bind { address: format!("tcp://{address}"), source })?;
        Ok(Listener { socket: Socket::Tcp(socket, tls.map(TlsAcceptor::from)), path: None })
    }

    /// Sockets that the service manager passed in (`fd://`); tcp ones among them use `tls`.
    pub fn inherited(
        descriptors: Vec<OwnedFd>,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Result<Vec<Self>, ListenError> {
        let adopt = |descriptor: OwnedFd| -> std::io::Result<Socket> {
            rustix::io::ioctl_fionbio(&descriptor, true)?;
            if rustix::net::sockopt::socket_domain(&descriptor)? == rustix::net::AddressFamily::UNIX {
                return UnixListener::from_std(descriptor.into()).map(Socket::Unix);
            }
            let socket = TcpListener::from_std(descriptor.into())?;
            Ok(Socket::Tcp(socket, tls.clone().map(TlsAcceptor::from)))
        };
        descriptors
            .into_iter()
            .enumerate()
            .map(|(index, descriptor)| {
                let socket = adopt(descriptor).map_err(|source| ListenError::Inherited { index, source })?;
                Ok(Listener { socket, path: None })
            })
            .collect()
    }

    /// Where a tcp listener really is (for port 0).
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Unix(_) => None,
            Socket::Tcp(socket, _) => socket.local_addr().ok(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// How many sockets `LISTEN_PID` and `LISTEN_FDS` promise to the process `pid`; they are the descriptors from 3 on
/// (sd_listen_fds(3)).
pub fn inherited_count(listen_pid: Option<&str>, listen_fds: Option<&str>, pid: u32) -> usize {
    match (listen_pid.and_then(|text| text.parse::<u32>().ok()), listen_fds.and_then(|text| text.parse().ok())) {
        (Some(meant), Some(count)) if meant == pid => count,
        _ => 0,
    }
}

/// The id of a group in /etc/group (group(5)), or of a group given as a number.
fn group_id(name: &str) -> Option<u32> {
    if let Ok(id) = name.parse() {
        return Some(id);
    }
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1).and_then(|id| id.parse().ok())).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_socket_file_is_replaced_and_a_live_one_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("below/api.sock");
        let first = Listener::unix(&path, "no-such-group").expect("a socket");
        assert_eq!(std::fs::metadata(&path).expect("the file").permissions().mode() & 0o777, 0o660);
        assert!(matches!(Listener::unix(&path, ""), Err(ListenError::InUse(_))));
        drop(first);
        assert!(!path.exists());
        drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
        assert!(path.exists());
        drop(Listener::unix(&path, "").expect("the dead one is replaced"));
        std::fs::write(&path, "").expect("a file");
        assert!(matches!(Listener::unix(&path, ""), Err(ListenError::NotASocket(_))));
    }

    #[test]
    fn only_our_own_sockets_are_inherited() {
        assert_eq!(inherited_count(Some("7"), Some("2"), 7), 2);
        assert_eq!(inherited_count(Some("8"), Some("2"), 7), 0);
        assert_eq!(inherited_count(None, Some("2"), 7), 0);
        assert_eq!(inherited_count(Some("7"), Some("x"), 7), 0);
        assert_eq!(group_id("root"), Some(0));
        assert_eq!(group_id("1234"), Some(1234));
    }
}
