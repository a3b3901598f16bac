//! A registry for a test, and a client without any cleverness.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use skep_registryd::digest::{Algorithm, ContentDigest};
use skep_registryd::{Access, Registry, Reloader, Settings};
use tokio::sync::oneshot;

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// No check takes as long as this.
const DEADLINE: Duration = Duration::from_secs(60);

/// A registry that runs until this is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) reloader: Reloader,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    root: PathBuf,
    _dir: Option<tempfile::TempDir>,
}

pub(crate) fn settings(root: &Path) -> Settings {
    Settings::new(root.to_owned(), "127.0.0.1:0".parse().expect("an address"))
}

impl Server {
    /// With an empty root of its own.
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    /// With settings of the test's own.
    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut settings = settings(dir.path());
        change(&mut settings);
        let mut server = Self::run(settings);
        server._dir = Some(dir);
        server
    }

    /// On a root that is there.
    pub(crate) fn run(settings: Settings) -> Self {
        let root = settings.root.clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let (told, started) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let registry = Registry::start(settings).await.expect("a registry");
                told.send((registry.address(), registry.reloader())).expect("told");
                registry
                    .run(async {
                        let _ = stopped.await;
                    })
                    .await;
            });
        });
        let (address, reloader) = started.recv().expect("an address");
        Server { address, reloader, stop: Some(stop), thread: Some(thread), root, _dir: None }
    }

    /// Ends it, and starts another on the same root.
    pub(crate) fn restart(self) -> Self {
        self.restart_with(|_| {})
    }

    /// The same with other settings.
    pub(crate) fn restart_with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        self.end();
        let mut settings = settings(&self.root);
        change(&mut settings);
        let mut next = Self::run(settings);
        next._dir = self._dir.take();
        next
    }

    /// Lets it end while the test goes on.
    pub(crate) fn stop_in_background(mut self) -> JoinHandle<Self> {
        drop(self.stop.take());
        std::thread::spawn(move || {
            self.end();
            self
        })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the registry ended well");
        }
    }

    /// Opens a connection.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("connected");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream
    }

    /// Sends a request and reads the whole answer.
    #[track_caller]
    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut stream = self.connect();
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: registry\r\nConnection: close\r\n");
        if !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH") {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).expect("a request sent");
        // A registry that refuses may close before it has read everything.
        let _ = stream.write_all(body);
        Reply::read(stream, method)
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], b"")
    }

    /// Stores a blob in one request.
    #[track_caller]
    pub(crate) fn blob(&self, name: &str, bytes: &[u8]) -> String {
        let digest = sha256(bytes);
        self.send("POST", &format!("/v2/{name}/blobs/uploads/?digest={digest}"), &[], bytes).expect(201);
        digest
    }

    /// Begins an upload; its path.
    #[track_caller]
    pub(crate) fn upload(&self, name: &str) -> String {
        let reply = self.send("POST", &format!("/v2/{name}/blobs/uploads/"), &[], b"").expect(202);
        reply.header("location").expect("a location").to_owned()
    }

    /// Stores a manifest; its digest.
    #[track_caller]
    pub(crate) fn manifest(&self, name: &str, reference: &str, content_type: &str, manifest: &Value) -> String {
        let bytes = manifest.to_string();
        let path = format!("/v2/{name}/manifests/{reference}");
        self.send("PUT", &path, &[("Content-Type", content_type)], bytes.as_bytes()).expect(201);
        sha256(bytes.as_bytes())
    }

    /// Stores an image of one layer with these contents; the manifest's digest.
    #[track_caller]
    pub(crate) fn image(&self, name: &str, tag: &str, text: &str) -> String {
        let manifest = self.image_manifest(name, text);
        self.manifest(name, tag, OCI_MANIFEST, &manifest)
    }

    /// An image's manifest, whose blobs are stored.
    #[track_caller]
    pub(crate) fn image_manifest(&self, name: &str, text: &str) -> Value {
        let config = json!({"architecture": "amd64", "os": "linux", "comment": text}).to_string();
        self.blob(name, config.as_bytes());
        self.blob(name, text.as_bytes());
        json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes()),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", text.as_bytes())],
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

pub(crate) fn read_only(settings: &mut Settings) {
    settings.access = Access::ReadOnly;
}

pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": sha256(bytes), "size": bytes.len()})
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    ContentDigest::of(Algorithm::Sha256, bytes).to_string()
}

pub(crate) fn sha512(bytes: &[u8]) -> String {
    ContentDigest::of(Algorithm::Sha512, bytes).to_string()
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    #[track_caller]
    pub(crate) fn read(mut stream: TcpStream, method: &str) -> Self {
        let mut bytes = Vec::new();
        let read = stream.read_to_end(&mut bytes);
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no answer: {read:?} {}", String::from_utf8_lossy(&bytes)));
        let head = std::str::from_utf8(&bytes[..end]).expect("a head");
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let reply = Reply { status: status.expect("a status"), headers, body: bytes[end + 4..].to_vec() };
        if let (Some(length), true) = (reply.header("content-length"), method != "HEAD") {
            assert_eq!(length, reply.body.len().to_string(), "{reply:?}");
        }
        reply
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?} {}", self.headers, String::from_utf8_lossy(&self.body));
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&self.body)))
    }

    /// The code of the error that the answer tells, which has to be in the specification's form.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Self {
        let reply = self.expect(status);
        let body = reply.json();
        assert_eq!(body["errors"][0]["code"], code, "{body}");
        assert!(body["errors"][0]["message"].as_str().is_some_and(|text| !text.is_empty()), "{body}");
        assert!(reply.header("content-type").is_some_and(|text| text.starts_with("application/json")));
        reply
    }
}
