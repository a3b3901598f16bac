//! What connections have in common: tokens of the same user, and open connections; and what they must not have in common.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use skep_registry::{Credentials, RegistryConfig, Repository, Shared};
use skep_types::{Reference, Selector};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::server::{Reply, Request, Server};
use crate::{config, reference};

const MANIFEST: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":0,"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},"layers":[]}"#;

fn user(name: &str) -> Credentials {
    Credentials { username: name.to_owned(), password: "secret".into(), ..Credentials::default() }
}

/// A registry with a token service, which names tokens after who asks and how often.
async fn tokens() -> Server {
    let answer = |request: &Request| {
        if request.path.starts_with("/token") {
            let who = request.path.split("account=").nth(1).unwrap_or("nobody");
            return Reply::ok(format!("{{\"token\":\"{who}-{}\",\"expires_in\":300}}", request.repeat));
        }
        let realm = format!("Bearer realm=\"http://{}/token\",service=\"it\"", request.header("host").expect("a host"));
        match request.header("authorization") {
            Some(_) => Reply::ok(MANIFEST),
            None => Reply::new("401 Unauthorized", &[("WWW-Authenticate", &realm)], ""),
        }
    };
    Server::start(answer).await
}

async fn read(config: &RegistryConfig, reference: &Reference, who: Option<&Credentials>) {
    let repository = Repository::connect(config, reference, who).await.expect("connect");
    repository.manifest(&Selector::Tag("1".to_owned())).await.expect("a manifest");
}

/// The tokens that manifests were asked for with.
fn used(server: &Server) -> Vec<String> {
    let asked = server.requests().into_iter().filter(|request| request.path.contains("/manifests/"));
    asked.map(|request| request.header("authorization").unwrap_or("none").to_owned()).collect()
}

#[tokio::test]
async fn a_token_is_for_its_user_and_repository_only() {
    let server = tokens().await;
    let (config, here) = (config(), reference(&server));
    let other: Reference = format!("{}/other/app:1", server.address).parse().expect("a reference");
    let changed = Credentials { password: "changed".into(), ..user("ann") };
    for who in [Some(user("ann")), Some(user("ann")), Some(user("bob")), None, Some(user("ann")), Some(changed)] {
        read(&config, &here, who.as_ref()).await;
    }
    assert_eq!(
        used(&server),
        ["Bearer ann-0", "Bearer ann-0", "Bearer bob-0", "Bearer nobody-0", "Bearer ann-0", "Bearer ann-1"]
    );
    read(&config, &other, Some(&user("ann"))).await;
    assert_eq!(server.count("/token"), 5, "another repository is another token");
    read(&RegistryConfig { shared: Shared::default(), ..config }, &here, Some(&user("ann"))).await;
    assert_eq!(server.count("/token"), 6, "and so is that of another configuration");
}

#[tokio::test]
async fn a_token_of_another_connection_that_is_refused_is_fetched_anew() {
    for status in ["401 Unauthorized", "403 Forbidden"] {
        // What was good when it was fetched is refused later.
        let server = Server::start(move |request| {
            let realm = format!("Bearer realm=\"http://{}/token\"", request.header("host").expect("a host"));
            match (request.path.as_str(), request.header("authorization")) {
                (path, _) if path.starts_with("/token") => Reply::ok(format!("{{\"token\":\"t{}\"}}", request.repeat)),
                (_, None) => Reply::new("401 Unauthorized", &[("WWW-Authenticate", &realm)], ""),
                (_, Some("Bearer t0")) if request.repeat > 0 => Reply::new(status, &[("WWW-Authenticate", &realm)], ""),
                _ => Reply::ok(MANIFEST),
            }
        })
        .await;
        let (config, here) = (config(), reference(&server));
        for _ in 0..3 {
            read(&config, &here, None).await;
        }
        assert_eq!(used(&server), ["Bearer t0", "Bearer t0", "Bearer t1", "Bearer t1"], "{status}");
    }
}

#[tokio::test]
async fn an_open_connection_is_used_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("an address");
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let (mut line, mut first) = (String::new(), true);
                // A TLS client's first bytes are no text.
                while stream.read_line(&mut line).await.is_ok_and(|count| count > 0) {
                    if line == "\r\n" {
                        counted.fetch_add(usize::from(first), Ordering::Relaxed);
                        first = false;
                        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", MANIFEST.len());
                        let _ = stream.write_all([head.as_bytes(), MANIFEST.as_bytes()].concat().as_slice()).await;
                    }
                    line.clear();
                }
            });
        }
    });
    let (config, reference) = (config(), format!("{address}/some/app:1").parse().expect("a reference"));
    for _ in 0..5 {
        read(&config, &reference, None).await;
    }
    server.abort();
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}
