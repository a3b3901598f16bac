//! The client against servers that lie, break off, hang and refuse.

#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

mod auth;
mod blobs;
mod hosts;
mod manifests;
mod push;
mod server;
mod sharing;
mod signatures;

use std::time::Duration;

use skep_registry::{RegistryConfig, Repository, Result};
use skep_types::{Digest, Reference};

use crate::server::{Reply, Request, Server};

fn config() -> RegistryConfig {
    RegistryConfig {
        stall_timeout: Duration::from_millis(400),
        max_download_attempts: 3,
        certificate_dirs: Vec::new(),
        ..RegistryConfig::default()
    }
}

fn reference(server: &Server) -> Reference {
    format!("{}/some/app:1", server.address).parse().expect("a reference")
}

async fn connect(server: &Server) -> Repository {
    Repository::connect(&config(), &reference(server), None).await.expect("connect")
}

fn digest_of(bytes: &[u8]) -> Digest {
    let mut command = std::process::Command::new("sha256sum");
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().expect("sha256sum");
    std::io::Write::write_all(&mut child.stdin.take().expect("stdin"), bytes).expect("write");
    let out = child.wait_with_output().expect("output").stdout;
    Digest::from_hex(std::str::from_utf8(&out[..64]).expect("text")).expect("digest")
}

/// Answers the ping; leaves the rest to `handler`.
async fn registry(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
    Server::start(move |request| if request.path == "/v2/" { Reply::ok("{}") } else { handler(request) }).await
}

fn text<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("it worked"),
        Err(e) => e.to_string(),
    }
}

#[tokio::test]
async fn nobody_there() {
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        listener.local_addr().expect("address")
    };
    let reference: Reference = format!("{address}/x").parse().expect("a reference");
    assert_eq!(
        text(Repository::connect(&config(), &reference, None).await),
        format!("Get \"http://{address}/v2/\": dial tcp {address}: connect: connection refused")
    );
    let reference: Reference = "no-such-registry.invalid/x".parse().expect("a reference");
    let error = text(Repository::connect(&config(), &reference, None).await);
    assert!(
        error
            == "Get \"https://no-such-registry.invalid/v2/\": dial tcp: lookup no-such-registry.invalid: no such host"
            || error.contains("are ca-certificates installed?"),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_that_never_answers() {
    let server = Server::start(|_| Reply::ok("").hanging()).await;
    let repository = connect(&server).await;
    drop(server);
    let _ = repository;
    let silent = Server::start(|_| -> Reply {
        std::thread::sleep(Duration::from_millis(900));
        Reply::ok("")
    })
    .await;
    let error = text(Repository::connect(&config(), &reference(&silent), None).await);
    assert!(error.ends_with("net/http: timeout awaiting response headers"), "{error}");
}
