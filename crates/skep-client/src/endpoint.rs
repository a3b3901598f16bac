//! Where an engine listens, as `-H` and `DOCKER_HOST` name it.

use std::fmt;
use std::path::PathBuf;

/// An engine's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket.
    Unix(PathBuf),
    /// Host and port; TLS is a matter of [`crate::Config`].
    Tcp {
        /// Name or address, without brackets.
        host: String,
        /// Port.
        port: u16,
    },
    /// A machine on which `ssh` starts `system dial-stdio`.
    Ssh {
        /// The login name, if one was given.
        user: Option<String>,
        /// The machine.
        host: String,
        /// The port, if one was given.
        port: Option<u16>,
        /// The socket on the other side, if one was given.
        socket: Option<String>,
    },
}

/// A text that names no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not of the form `protocol://address`.
    #[error("unable to parse docker host `{0}`")]
    Format(String),
    /// A protocol that this client does not speak.
    #[error("Invalid bind address protocol: {0}")]
    Protocol(String),
    /// A port that is none.
    #[error("Invalid bind address format: {0}")]
    Address(String),
}

impl Endpoint {
    /// Reads `unix:///path`, `tcp://host:port`, `ssh://[user@]host[:port][/socket]`; without a protocol it is TCP.
    ///
    /// `default_port` is 2376 with TLS and 2375 without.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, EndpointError> {
        let text = text.trim();
        let (protocol, address) = match text.split_once("://") {
            Some(parts) => parts,
            None if text.is_empty() => return Err(EndpointError::Format(text.to_owned())),
            None => ("tcp", text),
        };
        match protocol {
            "unix" if address.is_empty() => Err(EndpointError::Format(text.to_owned())),
            "unix" => Ok(Endpoint::Unix(PathBuf::from(address))),
            "tcp" | "http" | "https" => {
                let address = address.trim_end_matches('/');
                let (host, port) = split_port(address).ok_or_else(|| EndpointError::Address(text.to_owned()))?;
                let host = if host.is_empty() { "localhost".to_owned() } else { host };
                Ok(Endpoint::Tcp { host, port: port.unwrap_or(default_port) })
            }
            "ssh" => {
                let (user, rest) = match address.split_once('@') {
                    Some((user, rest)) => (Some(user.to_owned()), rest),
                    None => (None, address),
                };
                let (machine, socket) = match rest.find('/') {
                    Some(slash) => (&rest[..slash], Some(rest[slash..].to_owned())),
                    None => (rest, None),
                };
                let (host, port) = split_port(machine).ok_or_else(|| EndpointError::Address(text.to_owned()))?;
                // A host that looks like an option would be one to ssh.
                if host.is_empty() || host.starts_with('-') || user.as_deref().is_some_and(|u| u.starts_with('-')) {
                    return Err(EndpointError::Format(text.to_owned()));
                }
                Ok(Endpoint::Ssh { user, host, port, socket: socket.filter(|path| path != "/") })
            }
            other => Err(EndpointError::Protocol(other.to_owned())),
        }
    }
}

/// Splits `host:port`, `[v6]:port`, `host`.
fn split_port(address: &str) -> Option<(String, Option<u16>)> {
    if let Some(rest) = address.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        let port = match port.strip_prefix(':') {
            Some(port) => Some(port.parse().ok()?),
            None if port.is_empty() => None,
            None => return None,
        };
        return Some((host.to_owned(), port));
    }
    match address.split_once(':') {
        Some((host, port)) => Some((host.to_owned(), Some(port.parse().ok()?))),
        None => Some((address.to_owned(), None)),
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix://{}", path.display()),
            Endpoint::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Endpoint::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Endpoint::Ssh { user, host, port, socket } => {
                f.write_str("ssh://")?;
                if let Some(user) = user {
                    write!(f, "{user}@")?;
                }
                f.write_str(host)?;
                if let Some(port) = port {
                    write!(f, ":{port}")?;
                }
                f.write_str(socket.as_deref().unwrap_or_default())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_docker_host_holds() {
        for (text, shown) in [
            ("unix:///run/skep/skep.sock", "unix:///run/skep/skep.sock"),
            ("tcp://127.0.0.1:2376", "tcp://127.0.0.1:2376"),
            ("tcp://host", "tcp://host:2375"),
            ("tcp://[::1]:1", "tcp://[::1]:1"),
            ("tcp://:7777", "tcp://localhost:7777"),
            ("ssh://me@box:22", "ssh://me@box:22"),
            ("ssh://box/run/x.sock", "ssh://box/run/x.sock"),
            ("box:99", "tcp://box:99"),
        ] {
            assert_eq!(Endpoint::parse(text, 2375).map(|e| e.to_string()), Ok(shown.to_owned()));
        }
        for bad in ["", "unix://", "ftp://x", "tcp://x:y", "ssh://", "ssh://-oProxyCommand=x", "ssh://-l@x"] {
            assert!(Endpoint::parse(bad, 2375).is_err(), "{bad}");
        }
    }
}
