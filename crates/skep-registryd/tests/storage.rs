//! The drivers against the suite.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use skep_registryd::storage::{Directory, Location, Objects, suite};

#[tokio::test]
async fn a_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let staging = dir.path().join("staging");
    std::fs::create_dir(&staging).expect("a directory");
    let storage = Directory::open(dir.path().join("content")).expect("a driver");
    suite::run(&storage, &staging).await;
}

/// A server that speaks S3 and forgets everything at its end.
struct Mock {
    server: Child,
    endpoint: String,
}

impl Drop for Mock {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Mock {
    /// Moto's server from Python's package index, in an environment of its own that later runs find again; None if it can't be had.
    fn start() -> Option<Self> {
        let home = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("moto");
        let program = home.join("bin/moto_server");
        if !program.exists() {
            let run = |program: &std::path::Path, args: &[&str]| {
                let status = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
                status.is_ok_and(|status| status.success())
            };
            let home = home.to_str()?;
            let made = run("python3".as_ref(), &["-m", "venv", home]);
            let pip = std::path::Path::new(home).join("bin/pip");
            if !made || !run(&pip, &["install", "--quiet", "--timeout", "20", "moto[s3,server]"]) {
                return None;
            }
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).ok()?.port();
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
        let mock = Mock { server: command.spawn().ok()?, endpoint: format!("http://127.0.0.1:{port}") };
        let deadline = Instant::now() + Duration::from_secs(60);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the mock of S3 does not answer");
        }
        Some(mock)
    }
}

/// The store reads its credentials from the environment, which only a process of its own may change: this test runs itself again in a
/// child that has them.
#[test]
fn an_object_store() {
    if let Ok(endpoint) = std::env::var("SKEP_TEST_S3") {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        return runtime.block_on(against_an_object_store(&endpoint));
    }
    let Some(mock) = Mock::start() else {
        return println!("SKIPPED an object store: no mock of S3 could be installed");
    };
    let me = std::env::current_exe().expect("this test's path");
    let status = Command::new(me)
        .args(["--exact", "an_object_store", "--nocapture"])
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("SKEP_TEST_S3", &mock.endpoint)
        .status();
    assert!(status.expect("a run").success());
}

async fn against_an_object_store(endpoint: &str) {
    let bucket = Command::new("curl").args(["-sf", "-X", "PUT", &format!("{endpoint}/bucket")]).status();
    assert!(bucket.expect("curl").success());
    let dir = tempfile::tempdir().expect("a directory");
    for prefix in ["", "/some/prefix"] {
        let location = Location {
            url: Some(format!("s3://bucket{prefix}")),
            endpoint: Some(endpoint.to_owned()),
            region: Some("us-east-1".to_owned()),
        };
        let storage = Objects::open(&location).expect("a driver");
        suite::run(&storage, dir.path()).await;
    }
}
