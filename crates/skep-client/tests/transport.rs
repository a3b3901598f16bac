//! The client against a scripted server on a unix socket: what goes over the wire, byte by byte.

use std::path::PathBuf;

use futures_util::stream;
use serde_json::{Value, json};
use skep_client::{ApiVersion, Bytes, Client, Config, Endpoint, Error, Method};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

struct Server {
    listener: UnixListener,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Server {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("engine.sock");
        Server { listener: UnixListener::bind(&path).expect("bound"), path, _dir: dir }
    }

    fn client(&self) -> Client {
        Client::new(Config::new(Endpoint::Unix(self.path.clone()))).expect("a client")
    }

    async fn accept(&self) -> UnixStream {
        self.listener.accept().await.expect("a connection").0
    }
}

/// Reads up to the end of a request's head, and its body if a length is named.
async fn read_request(stream: &mut UnixStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some(end) = text.find("\r\n\r\n") {
            let length = text
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned))
                .and_then(|value| value.trim().parse::<usize>().ok())
                .unwrap_or(0);
            if bytes.len() >= end + 4 + length {
                return text;
            }
        }
        let mut byte = [0; 1024];
        let count = stream.read(&mut byte).await.expect("readable");
        assert_ne!(count, 0, "the client hung up in the middle of a request: {text}");
        bytes.extend_from_slice(&byte[..count]);
    }
}

async fn answer(stream: &mut UnixStream, status: &str, headers: &str, body: &str) {
    let text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).await.expect("written");
}

const NEW: &str = "Api-Version: 1.51\r\n";

#[tokio::test]
async fn one_connection_serves_requests_one_after_the_other() {
    let server = Server::new();
    let client = server.client();
    let script = async {
        let mut stream = server.accept().await;
        let first = read_request(&mut stream).await;
        assert!(first.starts_with("GET /v1.51/info HTTP/1.1\r\n"), "{first}");
        answer(&mut stream, "200 OK", NEW, "{\"Name\":\"a\"}").await;
        let second = read_request(&mut stream).await;
        assert!(
            second.starts_with("GET /v1.51/images/json?all=1&filters=%7B%22a%22%3Atrue%7D HTTP/1.1\r\n"),
            "{second}"
        );
        answer(&mut stream, "200 OK", NEW, "[]").await;
        stream
    };
    let calls = async {
        let info: Value = client.get("/info").await.expect("an answer");
        assert_eq!(info, json!({"Name": "a"}));
        let request = client.request(Method::GET, "/images/json").query_flag("all", true).query_flag("digests", false);
        let images: Value =
            request.query("filters", "{\"a\":true}").send().await.expect("sent").json().await.expect("json");
        assert_eq!(images, json!([]));
    };
    tokio::join!(script, calls);
}

#[tokio::test]
async fn an_older_server_is_spoken_to_in_its_version() {
    let server = Server::new();
    let client = server.client();
    let script = async {
        let mut stream = server.accept().await;
        assert!(read_request(&mut stream).await.starts_with("POST /v1.51/containers/create "));
        let refusal = "{\"message\":\"client version 1.51 is too new. Maximum supported API version is 1.41\"}";
        answer(&mut stream, "400 Bad Request", "Api-Version: 1.41\r\n", refusal).await;
        drop(stream);
        let mut stream = server.accept().await;
        let again = read_request(&mut stream).await;
        assert!(again.starts_with("POST /v1.41/containers/create ") && again.ends_with("{\"Image\":\"x\"}"), "{again}");
        answer(&mut stream, "201 Created", "Api-Version: 1.41\r\n", "{\"Id\":\"7\"}").await;
    };
    let calls = async {
        let made: Value = client.post("/containers/create", &json!({"Image": "x"})).await.expect("an answer");
        assert_eq!(made, json!({"Id": "7"}));
        assert_eq!(client.version(), ApiVersion { major: 1, minor: 41 });
    };
    tokio::join!(script, calls);
}

#[tokio::test]
async fn a_body_that_cannot_be_repeated_waits_for_the_version() {
    let server = Server::new();
    let client = server.client();
    let script = async {
        let mut stream = server.accept().await;
        assert!(read_request(&mut stream).await.starts_with("HEAD /_ping HTTP/1.1\r\n"));
        stream.write_all(b"HTTP/1.1 200 OK\r\nApi-Version: 1.43\r\nContent-Length: 2\r\n\r\n").await.expect("written");
        let load = read_request(&mut stream).await;
        assert!(load.starts_with("POST /v1.43/images/load "), "{load}");
        assert!(load.contains("transfer-encoding: chunked"), "{load}");
        answer(&mut stream, "200 OK", "", "").await;
    };
    let calls = async {
        let body = stream::iter([Ok(Bytes::from_static(b"tar"))]);
        let request = client.request(Method::POST, "/images/load").stream("application/x-tar", body);
        request.send().await.expect("sent").bytes().await.expect("read");
    };
    tokio::join!(script, calls);
}

#[tokio::test]
async fn a_hijacked_stream_keeps_early_bytes_and_ends_each_way_on_its_own() {
    let server = Server::new();
    let client = server.client();
    let script = async {
        let mut stream = server.accept().await;
        let head = read_request(&mut stream).await;
        assert!(head.starts_with("POST /v1.51/containers/x/attach?stream=1 "), "{head}");
        assert!(head.contains("upgrade: tcp\r\n") && head.contains("connection: Upgrade\r\n"), "{head}");
        let early = "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n\
                     Connection: Upgrade\r\nUpgrade: tcp\r\nApi-Version: 1.51\r\n\r\nearly ";
        stream.write_all(early.as_bytes()).await.expect("written");
        let mut input = String::new();
        stream.read_to_string(&mut input).await.expect("read to the end of the input");
        stream.write_all(format!("late:{input}").as_bytes()).await.expect("written");
    };
    let calls = async {
        let request = client.request(Method::POST, "/containers/x/attach").query("stream", "1");
        let hijacked = request.upgrade().await.expect("upgraded");
        assert_eq!(hijacked.is_multiplexed(), Some(false));
        let (mut reader, mut writer) = hijacked.split();
        writer.send(b"typed").await.expect("sent");
        writer.close().await.expect("closed");
        let mut output = String::new();
        reader.read_to_string(&mut output).await.expect("read");
        assert_eq!(output, "early late:typed");
    };
    tokio::join!(script, calls);
}

#[tokio::test]
async fn messages_come_out_whatever_the_cuts() {
    let server = Server::new();
    let client = server.client();
    let script = async {
        let mut stream = server.accept().await;
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.expect("written");
        for piece in ["{\"a\":1}\n{\"a", "\":2}\r\n", "{\"a\":3}"] {
            stream.write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes()).await.expect("written");
            tokio::task::yield_now().await;
        }
        stream.write_all(b"0\r\n\r\n").await.expect("written");
    };
    let calls = async {
        let mut messages = client.request(Method::GET, "/events").send().await.expect("sent").json_stream::<Value>();
        for number in 1..=3 {
            assert_eq!(messages.next().await.expect("a message"), Some(json!({"a": number})));
        }
        assert_eq!(messages.next().await.expect("the end"), None);
    };
    tokio::join!(script, calls);
}

#[tokio::test]
async fn an_answer_that_nobody_reads_frees_the_connection() {
    let server = Server::new();
    let client = server.client();
    let script = async {
        let mut stream = server.accept().await;
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.expect("written");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.expect("the client's end");
        assert!(rest.is_empty());
    };
    let calls = async {
        drop(client.request(Method::POST, "/containers/x/wait").send().await.expect("the head"));
    };
    tokio::join!(script, calls);
}

#[tokio::test]
async fn errors_are_in_dockers_words() {
    let server = Server::new();
    let client = server.client();
    let script = async {
        let mut stream = server.accept().await;
        read_request(&mut stream).await;
        answer(&mut stream, "404 Not Found", NEW, "{\"message\":\"No such container: x\"}\n").await;
        read_request(&mut stream).await;
        answer(&mut stream, "500 Internal Server Error", NEW, "").await;
        read_request(&mut stream).await;
        answer(&mut stream, "200 OK", NEW, "not json").await;
    };
    let calls = async {
        let error = client.get::<Value>("/containers/x/json").await.expect_err("not found");
        assert!(error.is_not_found());
        assert_eq!(error.to_string(), "Error response from daemon: No such container: x");
        let error = client.post_empty("/containers/x/start").await.expect_err("failed");
        assert!(error.to_string().starts_with("Error response from daemon: request returned 500"), "{error}");
        assert!(matches!(client.get::<Value>("/info").await, Err(Error::Decode(_))));
    };
    tokio::join!(script, calls);

    let path = server.path.clone();
    drop(server);
    let client = Client::new(Config::new(Endpoint::Unix(path.clone()))).expect("a client");
    let error = client.connect().await.expect_err("nobody there");
    assert!(error.is_not_running());
    assert_eq!(
        error.to_string(),
        format!("Cannot connect to the Docker daemon at unix://{}. Is the docker daemon running?", path.display())
    );
}
