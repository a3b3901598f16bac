//! The Engine API by hand: a request, its whole answer. No part of the project is used for it, so that it can't be wrong in the
//! same way.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use crate::wait::DEADLINE;

/// Where requests go.
#[derive(Debug, Clone)]
pub enum Api {
    /// A socket.
    Unix(PathBuf),
    /// `host:port`, without TLS.
    Tcp(String),
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Of HTTP.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// As it was before it was cut into chunks.
    pub body: Vec<u8>,
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Api {
    /// Sends a request with a body of JSON, or none.
    pub fn request(&self, method: &str, path: &str, body: Option<&serde_json::Value>) -> std::io::Result<Reply> {
        match body {
            Some(body) => self.send(method, path, &[("Content-Type", "application/json")], body.to_string().as_bytes()),
            None => self.send(method, path, &[], &[]),
        }
    }

    /// Sends a request.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> std::io::Result<Reply> {
        let (mut stream, host): (Box<dyn Stream>, &str) = match self {
            Api::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(DEADLINE))?;
                (Box::new(stream), "localhost")
            }
            Api::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_read_timeout(Some(DEADLINE))?;
                (Box::new(stream), address)
            }
        };
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Reply::parse(&answer).ok_or_else(|| std::io::Error::other("not an HTTP answer"))
    }

    /// A request that has to succeed; its answer as JSON, `null` if there is no body.
    #[track_caller]
    pub fn call(&self, method: &str, path: &str, body: Option<&serde_json::Value>) -> serde_json::Value {
        let reply = self.request(method, path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        assert!((200..400).contains(&reply.status), "{method} {path}: {} {}", reply.status, reply.text());
        if reply.body.is_empty() { serde_json::Value::Null } else { reply.json() }
    }
}

impl Reply {
    fn parse(bytes: &[u8]) -> Option<Reply> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).ok()?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let body = &bytes[end + 4..];
        let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
        let body = if chunked { unchunk(body)? } else { body.to_vec() };
        Some(Reply { status, headers, body })
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON: {error}: {}", self.text()))
    }
}

fn unchunk(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).ok()?.split(';').next()?, 16).ok()?;
        bytes = &bytes[end + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(bytes.get(..size)?);
        bytes = bytes.get(size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let reply = Reply::parse(b"HTTP/1.1 200 OK\r\nX-Y: z\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n");
        let reply = reply.unwrap();
        assert_eq!((reply.status, reply.text().as_str(), reply.header("x-y")), (200, "abc0123456789", Some("z")));
        assert_eq!(Reply::parse(b"HTTP/1.0 404 no\r\n\r\nbody").unwrap().body, b"body");
        assert!(Reply::parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab").is_none());
        assert!(Reply::parse(b"garbage").is_none());
    }
}
