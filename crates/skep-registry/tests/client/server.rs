//! A registry that says what a test wants it to say.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    /// How often this path was asked for before.
    pub(crate) repeat: usize,
    /// Requests with this method before.
    pub(crate) before: usize,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

/// The bytes to answer with; then the connection ends, or hangs.
pub(crate) struct Reply {
    bytes: Vec<u8>,
    hang: bool,
}

impl Reply {
    pub(crate) fn new(status: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        Reply { bytes: [head.as_bytes(), body].concat(), hang: false }
    }

    pub(crate) fn ok(body: impl AsRef<[u8]>) -> Self {
        Reply::new("200 OK", &[], body)
    }

    /// Exactly these bytes.
    pub(crate) fn raw(bytes: Vec<u8>) -> Self {
        Reply { bytes, hang: false }
    }

    /// Leaves the connection open and says no more.
    pub(crate) fn hanging(mut self) -> Self {
        self.hang = true;
        self
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_on(IpAddr::from([127, 0, 0, 1]), None, handler).await
    }

    pub(crate) async fn start_on(
        ip: IpAddr,
        tls: Option<TlsAcceptor>,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((ip, 0)).await.expect("bind");
        let address = listener.local_addr().expect("address");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let handler: Arc<Handler> = Arc::new(handler);
        let seen = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (handler, seen, tls) = (Arc::clone(&handler), Arc::clone(&seen), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &*handler, &seen).await;
                            }
                        }
                        None => serve(stream, &*handler, &seen).await,
                    }
                });
            }
        });
        Server { address, requests, task }
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("lock").clone()
    }

    pub(crate) fn count(&self, path: &str) -> usize {
        self.requests().iter().filter(|r| r.path.starts_with(path)).count()
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, handler: &Handler, seen: &Mutex<Vec<Request>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
        if head == [0x16] {
            // A TLS client: answer as a server does that doesn't speak it.
            let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").await;
            return;
        }
    }
    let text = String::from_utf8(head).expect("a request");
    let mut lines = text.lines();
    let mut words = lines.next().expect("a request line").split(' ').map(str::to_owned);
    let (method, path) = (words.next().expect("a method"), words.next().expect("a path"));
    let headers: Vec<(String, String)> =
        lines.filter_map(|l| l.split_once(": ")).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    let Some(body) = read_body(&mut stream, &headers).await else { return };
    let request = {
        let mut seen = seen.lock().expect("lock");
        let repeat = seen.iter().filter(|r: &&Request| r.path == path).count();
        let before = seen.iter().filter(|r: &&Request| r.method == method).count();
        let request = Request { method, path, headers, repeat, before, body };
        seen.push(request.clone());
        request
    };
    let reply = handler(&request);
    let _ = stream.write_all(&reply.bytes).await;
    let _ = stream.flush().await;
    if reply.hang {
        std::future::pending::<()>().await;
    }
    let _ = stream.shutdown().await;
}

/// The body of a request, of known length or in chunks; nothing if it breaks off.
async fn read_body(stream: &mut (impl AsyncRead + Unpin), headers: &[(String, String)]) -> Option<Vec<u8>> {
    let header = |name: &str| headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str());
    let mut body = Vec::new();
    if header("transfer-encoding").is_none() {
        body.resize(header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0), 0);
        stream.read_exact(&mut body).await.ok()?;
        return Some(body);
    }
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(stream.read_u8().await.ok()?);
        }
        let size = usize::from_str_radix(std::str::from_utf8(&line).ok()?.trim(), 16).ok()?;
        let mut chunk = vec![0; size + 2];
        stream.read_exact(&mut chunk).await.ok()?;
        body.extend_from_slice(&chunk[..size]);
        if size == 0 {
            return Some(body);
        }
    }
}
