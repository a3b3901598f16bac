//! The server, spoken to byte by byte over a unix socket. The routes are made for the tests; what the engine does is not
//! their subject.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use http::{Method, StatusCode};
use skep_engine::model::request::Attachment;
use skep_engine::{BridgeSettings, Engine, EngineConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::Listener;
use crate::http::framing::MULTIPLEXED;
use crate::http::router::{Route, Router, route};
use crate::http::{Answer, ApiError, hijack, server};

struct Server {
    socket: PathBuf,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl Server {
    async fn start(routes: Vec<Route>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let root = |name: &str| directory.path().join(name);
        let mut config = EngineConfig::new(root("data"), root("exec"), PathBuf::from("/nonexistent/skep-runtime"));
        config.bridge = BridgeSettings::Disabled;
        let engine = Engine::open(config).await.expect("an engine");
        let socket = root("api.sock");
        let listener = Listener::unix(&socket, "").expect("a listener");
        let stop = CancellationToken::new();
        let task = tokio::spawn(server::serve(
            engine,
            crate::buildkit::tests::kit().0,
            Router::new(routes),
            vec![listener],
            None,
            stop.clone().cancelled_owned(),
        ));
        Server { socket, stop, task, _directory: directory }
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.socket).await.expect("a connection")
    }

    /// Sends `request` as it is, ends the input, and reads all that comes.
    async fn exchange(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("the server ends");
        assert!(!self.socket.exists());
    }
}

/// Reads until `end` has come.
async fn read_until(stream: &mut UnixStream, end: &str) -> String {
    let mut seen = Vec::new();
    while !seen.ends_with(end.as_bytes()) {
        let byte = tokio::time::timeout(Duration::from_secs(10), stream.read_u8()).await.expect("in time");
        seen.push(byte.unwrap_or_else(|_| panic!("closed after {:?}", String::from_utf8_lossy(&seen))));
    }
    String::from_utf8(seen).expect("text")
}

/// A process that says back what it hears, with `echo: ` before the first byte, until its input ends; then `bye`.
fn echo() -> Route {
    route(Method::POST, "/echo", |mut request| async move {
        let _: serde_json::Value = request.json().await?;
        let (output, mut process_output) = tokio::io::simplex(4096);
        let (mut process_input, input) = tokio::io::simplex(4096);
        tokio::spawn(async move {
            process_output.write_all(b"echo: ").await.expect("output");
            tokio::io::copy(&mut process_input, &mut process_output).await.expect("echo");
            process_output.write_all(b"bye").await.expect("output");
            process_output.shutdown().await.expect("end");
        });
        let attachment = Attachment { tty: false, output: Box::pin(output), input: Some(Box::pin(input)) };
        Ok(Answer::Hijack { content_type: MULTIPLEXED, session: hijack::attach(attachment) })
    })
}

#[tokio::test]
async fn an_upgraded_connection_becomes_the_process() {
    let server = Server::start(vec![echo()]).await;
    let mut stream = server.connect().await;
    // Early input comes in one packet with head and body.
    stream
        .write_all(b"POST /v1.51/echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}early ")
        .await
        .expect("sent");
    let head = read_until(&mut stream, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 UPGRADED\r\n"), "{head}");
    assert!(head.contains(&format!("Content-Type: {MULTIPLEXED}\r\n")), "{head}");
    assert!(head.contains("Upgrade: tcp\r\n"), "{head}");
    assert_eq!(read_until(&mut stream, "early ").await, "echo: early ");
    stream.write_all(b"late").await.expect("sent");
    stream.shutdown().await.expect("half-closed");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.expect("the rest");
    assert_eq!(rest, "latebye");
    server.stop().await;
}

#[tokio::test]
async fn a_client_without_upgrade_gets_the_socket_too() {
    let server = Server::start(vec![echo(), ping()]).await;
    for version in ["1.0", "1.1"] {
        let mut stream = server.connect().await;
        stream
            .write_all(format!("POST /echo HTTP/{version}\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}early ").as_bytes())
            .await
            .expect("sent");
        let head = read_until(&mut stream, "\r\n\r\n").await;
        assert_eq!(head, format!("HTTP/1.1 200 OK\r\nContent-Type: {MULTIPLEXED}\r\n\r\n"));
        assert_eq!(read_until(&mut stream, "early ").await, "echo: early ");
        stream.shutdown().await.expect("half-closed");
        assert_eq!(read_until(&mut stream, "bye").await, "bye");
    }
    // After other requests on the same connection as well.
    let mut stream = server.connect().await;
    stream.write_all(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    read_until(&mut stream, "\r\n\r\npong").await;
    stream.write_all(b"POST /echo HTTP/1.1\r\nHost: x\r\n\r\nmore ").await.expect("sent");
    read_until(&mut stream, "\r\n\r\necho: more ").await;
    drop(stream);
    server.stop().await;
}

#[tokio::test]
async fn an_error_reaches_a_client_that_is_still_sending() {
    let refuse = route(Method::POST, "/refuse", |_| async { Err(ApiError::invalid("not like this")) });
    let server = Server::start(vec![refuse]).await;
    let mut stream = server.connect().await;
    let body = vec![b'x'; 4 << 20];
    let head = format!("POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream.write_all(&body).await.expect("all of it can be sent");
    read_until(&mut stream, r#"{"message":"not like this"}"#).await;
    server.stop().await;
}

fn ping() -> Route {
    route(Method::GET, "/ping", |_| async { Ok(Answer::bytes(StatusCode::OK, "text/plain", "pong")) })
}

#[tokio::test]
async fn several_requests_share_a_connection() {
    let server = Server::start(vec![ping()]).await;
    let mut stream = server.connect().await;
    // Two at once, then one more.
    let request = b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(&[&request[..], request].concat()).await.expect("sent");
    read_until(&mut stream, "pong").await;
    let head = read_until(&mut stream, "pong").await;
    for header in ["Api-Version: 1.51\r\n", "Docker-Experimental: false\r\n", "Ostype: linux\r\n", "Server: Skep/"] {
        assert!(head.contains(header), "{head}");
    }
    stream.write_all(request).await.expect("sent");
    read_until(&mut stream, "pong").await;
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_reads_but_not_changes() {
    let (started, finished) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let cancelled = Arc::new(AtomicBool::new(false));
    struct OnDrop(Arc<AtomicBool>, Arc<Notify>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
            self.1.notify_one();
        }
    }
    let slow = |method: Method, pattern| {
        let (started, finished, cancelled) = (started.clone(), finished.clone(), cancelled.clone());
        route(method, pattern, move |_| {
            let (started, finished, cancelled) = (started.clone(), finished.clone(), cancelled.clone());
            async move {
                let guard = OnDrop(cancelled, finished.clone());
                started.notify_one();
                tokio::time::sleep(Duration::from_millis(300)).await;
                std::mem::forget(guard);
                finished.notify_one();
                Ok(Answer::no_content())
            }
        })
    };
    let server = Server::start(vec![slow(Method::GET, "/read"), slow(Method::POST, "/change")]).await;
    for (request, wanted) in [("GET /read", true), ("POST /change", false)] {
        cancelled.store(false, Ordering::SeqCst);
        let mut stream = server.connect().await;
        stream.write_all(format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.expect("sent");
        started.notified().await;
        drop(stream);
        finished.notified().await;
        assert_eq!(cancelled.load(Ordering::SeqCst), wanted, "{request}");
    }
    server.stop().await;
}

#[tokio::test]
async fn stopping_ends_endless_answers_and_attached_clients() {
    let endless = route(Method::GET, "/endless", |request: crate::http::Request| async move {
        let pieces = futures_util::stream::once(async { Ok::<_, std::convert::Infallible>("first".into()) })
            .chain(futures_util::stream::pending())
            .take_until(request.closing.cancelled_owned());
        Ok(Answer::stream("text/plain", pieces))
    });
    let server = Server::start(vec![endless, echo()]).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    read_until(&mut stream, "5\r\nfirst\r\n").await;
    let mut attached = server.connect().await;
    attached.write_all(b"POST /echo HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    read_until(&mut attached, "echo: ").await;
    server.stop().await;
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.expect("the rest");
    assert_eq!(rest, "0\r\n\r\n");
    attached.read_to_string(&mut rest).await.expect("the rest");
}

#[tokio::test]
async fn faults_have_dockers_bodies() {
    let server = Server::start(crate::routes::all()).await;
    let mut answers = String::new();
    for (line, body) in [
        ("GET /nonsense", ""),
        ("POST /info", ""),
        ("GET /v1.60/info", ""),
        ("GET /v1.12/info", ""),
        ("GET /v1.51/images/%zz/json", ""),
        ("POST /v1.51/plugins/pull", ""),
        ("GET /v1.51/swarm", ""),
        ("POST /v1.51/containers/create", ""),
        ("POST /v1.51/containers/create", "{"),
        ("POST /v1.51/containers/create", "{} x"),
        ("POST /v1.51/containers/create", "{}"),
        ("POST /v1.51/containers/create", r#"{"Image": 1}"#),
        ("POST /v1.51/containers/create", r#"{"Image": "a", "HostConfig": {"Memory": "1g"}}"#),
        ("POST /v1.51/containers/create", r#"{"Image": "a", "HostConfig": {"VolumeDriver": "other"}}"#),
        ("POST /v1.51/containers/create", r#"{"Image": "a", "Healthcheck": {"Test": ["CMD", "true"]}}"#),
        ("POST /v1.51/containers/create", r#"{"Image": "a", "HostConfig": {"RestartPolicy": {"Name": "maybe"}}}"#),
        ("POST /v1.51/containers/create", r#"{"Image": "a", "HostConfig": {"NetworkMode": "container:"}}"#),
        ("POST /v1.51/containers/create", r#"{"Image": "a", "HostConfig": {"PortBindings": {"x/tcp": null}}}"#),
        ("POST /v1.51/containers/create", r#"{"Image": "a", "HostConfig": {"PidMode": "container"}}"#),
        ("POST /v1.51/containers/create", r#"{"Image": "a", "Env": ["=b"]}"#),
        ("POST /v1.51/containers/create?name=-x", r#"{"Image": "a"}"#),
        ("POST /v1.51/containers/a/rename", ""),
        ("POST /v1.51/containers/a/wait?condition=soon", ""),
        ("POST /v1.51/containers/a/kill?signal=FOO", ""),
        ("POST /v1.51/containers/a/stop?t=soon", ""),
        ("POST /v1.51/containers/a/resize?h=x&w=1", ""),
        ("GET /v1.51/containers/a/logs", ""),
        ("GET /v1.51/containers/a/archive", ""),
        ("GET /v1.51/containers/json?filters=x", ""),
        ("GET /v1.51/events?since=2&until=1", ""),
    ] {
        let content = match body {
            "" => String::new(),
            body => format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()),
        };
        let answer =
            server.exchange(&format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{content}\r\n{body}")).await;
        let (head, said) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.lines().next().and_then(|line| line.split_once(' ')).expect("a status").1;
        answers.push_str(&format!("{line} {body}\n  {status}\n  {said}"));
    }
    insta::assert_snapshot!(answers);
    server.stop().await;
}

/// A chunked body and a request that is read to its end.
async fn post(server: &Server, path: &str, body: &[u8]) -> String {
    let mut stream = server.connect().await;
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream.write_all(body).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    use skep_fs::tar::{Entry, Kind, Writer};
    let mut writer = Writer::new(Vec::new());
    for (name, text) in files {
        let size = text.len() as u64;
        let entry = Entry {
            path: name.as_bytes().to_vec(),
            kind: Kind::File,
            link: Vec::new(),
            stored: size,
            size,
            pieces: None,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            device: (0, 0),
            xattrs: Vec::new(),
        };
        writer.entry(&entry, Some(&mut text.as_bytes())).expect("an entry");
    }
    writer.finish().expect("an archive")
}

#[tokio::test]
async fn a_classic_build_is_a_stream_of_text() {
    let server = Server::start(crate::routes::all()).await;
    let built =
        post(&server, "/v1.51/build?t=a%2Fb&t=c:1", &archive(&[("Dockerfile", "FROM x"), ("other", "y")])).await;
    assert!(built.starts_with("HTTP/1.1 200 OK\r\n"), "{built}");
    assert!(built.contains(r#"{"aux":{"ID":"sha256:1"}}"#), "{built}");
    assert!(built.contains(r#"{"stream":"Successfully tagged a/b:latest\n"}"#), "{built}");
    assert!(built.contains(r#"{"stream":"Successfully tagged c:1\n"}"#), "{built}");
    let quiet = post(&server, "/build?q=1", &archive(&[("Dockerfile", "FROM x")])).await;
    assert!(quiet.contains(r#"{"stream":"sha256:1\n"}"#) && !quiet.contains("Successfully"), "{quiet}");
    let failed = post(&server, "/build", &archive(&[("Dockerfile", "FROM x\nFAIL")])).await;
    assert!(failed.contains(r#""errorDetail":{"code":7,"message":"process"#), "{failed}");
    let hostile = post(&server, "/build", &archive(&[("../../x", "FROM x")])).await;
    assert!(hostile.starts_with("HTTP/1.1 400"), "{hostile}");
    let names = post(&server, "/build?t=UPPER", b"").await;
    assert!(names.starts_with("HTTP/1.1 400") && names.contains("invalid reference format"), "{names}");
    let cancelled = post(&server, "/build/cancel?id=x", b"").await;
    assert!(cancelled.starts_with("HTTP/1.1 204"), "{cancelled}");
    server.stop().await;
}
