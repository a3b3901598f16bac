//! A web server on the loopback interface, with the files below a folder, and the git repositories in it (by git's own
//! `http-backend`).
//!
//! `NAME.headers` beside a file has further headers of the answer, one to a line: `Status: 302 Found` is the first line's,
//! one without a value takes a header away. Whoever knows the `ETag` gets no body.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tuesday, the day of the corpus' files.
const LAST_MODIFIED: &str = "Tue, 02 Jan 2024 03:04:05 GMT";

/// The server, which ends with this value.
pub(crate) struct Server {
    address: String,
    ended: Arc<AtomicBool>,
}

impl Server {
    pub(crate) fn start(folder: PathBuf) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                let folder = folder.clone();
                // A client that goes away in the middle is no failure of the test.
                std::thread::spawn(move || drop(answer(stream, &folder)));
            }
        });
        Server { address, ended }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(&self.address)); // wakes it up
    }
}

struct Request {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn read(stream: &TcpStream) -> std::io::Result<Request> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut words = line.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (method, path, query) = (method.to_owned(), path.to_owned(), query.to_owned());
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let mut request = Request { method, path, query, headers, body: Vec::new() };
        if let Some(length) = request.header("content-length").and_then(|value| value.parse().ok()) {
            reader.take(length).read_to_end(&mut request.body)?;
        } else if request.header("transfer-encoding") == Some("chunked") {
            loop {
                let mut line = String::new();
                reader.read_line(&mut line)?;
                let size = u64::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
                reader.by_ref().take(size).read_to_end(&mut request.body)?;
                reader.read_line(&mut line)?;
                if size == 0 {
                    break;
                }
            }
        }
        Ok(request)
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }
}

fn answer(mut stream: TcpStream, folder: &Path) -> std::io::Result<()> {
    let request = Request::read(&stream)?;
    let path = Path::new(request.path.trim_start_matches('/'));
    if !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    }
    if request.path.contains(".git/") {
        return git(&mut stream, folder, &request);
    }
    let mut beside = folder.join(path).into_os_string();
    beside.push(".headers");
    let beside = std::fs::read_to_string(beside).ok();
    let bytes = match (std::fs::read(folder.join(path)), &beside) {
        (Ok(bytes), _) => bytes,
        (Err(_), Some(_)) => Vec::new(),
        (Err(_), None) => {
            return stream.write_all(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        }
    };
    let mut headers = BTreeMap::from(
        [("Status", "200 OK"), ("Last-Modified", LAST_MODIFIED), ("Content-Type", "application/octet-stream")]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    let further = beside.iter().flat_map(|text| text.lines()).filter_map(|line| line.split_once(':'));
    headers.extend(further.map(|(name, value)| (name.to_owned(), value.trim().to_owned())));
    headers.retain(|_, value| !value.is_empty());
    let is_known = headers.get("ETag").is_some_and(|tag| request.header("if-none-match") == Some(tag));
    if is_known {
        headers.insert("Status".to_owned(), "304 Not Modified".to_owned());
    }
    let status = headers.remove("Status").unwrap_or_default();
    write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n")?;
    for (name, value) in &headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    match is_known {
        true => stream.write_all(b"\r\n"),
        false => {
            write!(stream, "Content-Length: {}\r\n\r\n", bytes.len())?;
            if request.method == "HEAD" { Ok(()) } else { stream.write_all(&bytes) }
        }
    }
}

/// Asks git itself, as a web server does (git-http-backend(1)).
fn git(stream: &mut TcpStream, folder: &Path, request: &Request) -> std::io::Result<()> {
    let mut command = Command::new("git");
    command.arg("http-backend").env("GIT_PROJECT_ROOT", folder).env("GIT_HTTP_EXPORT_ALL", "1");
    command.env("REQUEST_METHOD", &request.method).env("PATH_INFO", &request.path).env("QUERY_STRING", &request.query);
    command.env("REMOTE_ADDR", "127.0.0.1").env("CONTENT_LENGTH", request.body.len().to_string());
    for (header, variable) in [
        ("content-type", "CONTENT_TYPE"),
        ("content-encoding", "HTTP_CONTENT_ENCODING"),
        ("git-protocol", "GIT_PROTOCOL"),
    ] {
        command.env(variable, request.header(header).unwrap_or_default());
    }
    command.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "safe.directory").env("GIT_CONFIG_VALUE_0", "*");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let (mut stdin, body) = (child.stdin.take().unwrap(), request.body.clone());
    let writer = std::thread::spawn(move || drop(stdin.write_all(&body)));
    let output = child.wait_with_output()?;
    drop(writer.join());
    let end = output.stdout.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(output.stdout.len());
    let head = String::from_utf8_lossy(&output.stdout[..end]);
    let status = head.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK");
    let body = output.stdout.get(end + 4..).unwrap_or_default();
    write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{head}\r\n\r\n", body.len())?;
    stream.write_all(body)
}
