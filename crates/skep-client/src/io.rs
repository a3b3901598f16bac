//! The byte stream below HTTP: a unix socket, TCP, TLS over TCP, or the pipes of an `ssh` process.

use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::endpoint::Endpoint;
use crate::error::{Error, Result};
use crate::tls::Tls;

/// One connection to an engine.
#[expect(clippy::large_enum_variant, reason = "one per connection; the small one is the rare one")]
pub(crate) enum Io {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
    Ssh(SshPipes),
}

/// The two ends of `ssh HOST ... system dial-stdio`. The process is killed when this is dropped.
pub(crate) struct SshPipes {
    /// None once the writing side is shut down: a pipe ends by being closed.
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    _child: Child,
}

pub(crate) async fn connect(endpoint: &Endpoint, tls: Option<&Tls>) -> Result<Io> {
    let failed = |source: io::Error| {
        let endpoint = endpoint.to_string();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Error::NotRunning { endpoint, source },
            io::ErrorKind::PermissionDenied => Error::PermissionDenied { endpoint, source },
            _ => Error::Connect { endpoint, message: source.to_string() },
        }
    };
    match endpoint {
        Endpoint::Unix(path) => UnixStream::connect(path).await.map(Io::Unix).map_err(failed),
        Endpoint::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            match tls {
                None => Ok(Io::Tcp(stream)),
                Some(tls) => tls
                    .connect(host, stream)
                    .await
                    .map(|stream| Io::Tls(Box::new(stream)))
                    .map_err(|e| Error::Connect { endpoint: endpoint.to_string(), message: e.to_string() }),
            }
        }
        Endpoint::Ssh { user, host, port, socket } => spawn_ssh(user.as_deref(), host, *port, socket.as_deref())
            .map(Io::Ssh)
            .map_err(|e| Error::Connect { endpoint: endpoint.to_string(), message: format!("cannot start ssh: {e}") }),
    }
}

fn spawn_ssh(user: Option<&str>, host: &str, port: Option<u16>, socket: Option<&str>) -> io::Result<SshPipes> {
    let mut command = Command::new("ssh");
    if let Some(user) = user {
        command.args(["-l", user]);
    }
    if let Some(port) = port {
        command.args(["-p", &port.to_string()]);
    }
    let host_option = match socket {
        Some(path) => format!("-H {} ", shell_quote(&format!("unix://{path}"))),
        None => String::new(),
    };
    // The other machine may have either of the two command lines.
    let remote = format!(
        "if command -v skep >/dev/null 2>&1; then exec skep {host_option}system dial-stdio; \
         else exec docker {host_option}system dial-stdio; fi"
    );
    command.args(["-o", "ConnectTimeout=30", "-T", "--", host, &remote]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    match (child.stdin.take(), child.stdout.take()) {
        (Some(stdin), Some(stdout)) => Ok(SshPipes { stdin: Some(stdin), stdout, _child: child }),
        _ => Err(io::Error::other("ssh has no pipes")),
    }
}

fn shell_quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

macro_rules! each {
    ($self:expr, $stream:ident => $call:expr, $ssh:ident => $ssh_call:expr) => {
        match $self.get_mut() {
            Io::Unix($stream) => $call,
            Io::Tcp($stream) => $call,
            Io::Tls(boxed) => {
                let $stream = boxed.as_mut();
                $call
            }
            Io::Ssh($ssh) => $ssh_call,
        }
    };
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(cx, buffer),
              ssh => Pin::new(&mut ssh.stdout).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(cx, bytes), ssh => match &mut ssh.stdin {
            Some(stdin) => Pin::new(stdin).poll_write(cx, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        })
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(cx), ssh => match &mut ssh.stdin {
            Some(stdin) => Pin::new(stdin).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        })
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx), ssh => {
            ssh.stdin = None;
            Poll::Ready(Ok(()))
        })
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write_vectored(cx, parts), ssh => match &mut ssh.stdin {
            Some(stdin) => Pin::new(stdin).poll_write_vectored(cx, parts),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        })
    }

    fn is_write_vectored(&self) -> bool {
        matches!(self, Io::Unix(_) | Io::Tcp(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_path_cannot_leave_its_quotes() {
        assert_eq!(shell_quote("unix:///a'b; rm"), r"'unix:///a'\''b; rm'");
    }
}
