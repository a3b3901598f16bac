//! Listeners, TLS, metrics, and the end.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::RootCertStore;
use skep_registryd::{Registry, StartError, TlsFiles};

use crate::client::{Reply, Server, settings, sha256};

#[test]
fn metrics_count_requests_and_name_nobody() {
    let server = Server::start();
    let digest = server.blob("secret/name", b"12345");
    server.get(&format!("/v2/secret/name/blobs/{digest}")).expect(200);
    server.get(&format!("/v2/secret/name/blobs/{}", sha256(b"none"))).expect(404);
    let reply = server.get("/metrics").expect(200);
    let text = String::from_utf8(reply.body).expect("text");
    for line in [
        r#"skep_registry_requests_total{endpoint="blob",method="GET",status="200"} 1"#,
        r#"skep_registry_requests_total{endpoint="blob",method="GET",status="404"} 1"#,
        r#"skep_registry_requests_total{endpoint="upload",method="POST",status="201"} 1"#,
        "skep_registry_blob_sent_bytes_total 5",
        "skep_registry_blob_received_bytes_total 5",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn tls_is_spoken_with_a_certificate() {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a key");
    let server = Server::with(|settings| {
        let (certificate, key) = (settings.root.join("cert.pem"), settings.root.join("key.pem"));
        std::fs::write(&certificate, cert.pem()).expect("written");
        std::fs::write(&key, signing_key.serialize_pem()).expect("written");
        settings.tls = Some(TlsFiles { certificate, key, client_authorities: None });
    });
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().expect("a name");
    let connection = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut stream = rustls::StreamOwned::new(connection, server.connect());
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    // How the connection ends does not matter here.
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // Plain HTTP gets nothing out of it.
    let mut plain = server.connect();
    plain.write_all(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

/// A registry that has lost its metadata would take all content for garbage.
#[test]
fn content_without_metadata_is_not_touched() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::run(settings(dir.path()));
    server.image("a", "1", "x");
    drop(server);
    let metadata = dir.path().join("registry.redb");
    std::fs::rename(&metadata, dir.path().join("elsewhere")).expect("renamed");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let refused = runtime.block_on(Registry::start(settings(dir.path()))).map(drop);
    assert!(matches!(refused, Err(StartError::Orphaned(_))), "{refused:?}");
    std::fs::rename(dir.path().join("elsewhere"), &metadata).expect("renamed");
    Server::run(settings(dir.path())).get("/v2/a/manifests/1").expect(200);
}

#[test]
fn a_request_that_runs_may_end_when_the_server_stops() {
    let server = Server::start();
    let upload = server.upload("a");
    let mut stream: TcpStream = server.connect();
    let digest = sha256(b"0123456789");
    let head = format!("PUT {upload}?digest={digest} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n01234");
    stream.write_all(head.as_bytes()).expect("sent");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let begun = || {
        let text = String::from_utf8(server.get("/metrics").expect(200).body).expect("text");
        // This one, and the one that asks.
        text.contains("skep_registry_requests_running 2")
    };
    while !begun() {
        assert!(std::time::Instant::now() < deadline, "the request never began");
    }
    let address = server.address;
    let ending = server.stop_in_background();
    while TcpStream::connect(address).is_ok() {
        assert!(std::time::Instant::now() < deadline, "the registry still listens");
    }
    stream.write_all(b"56789").expect("sent");
    let reply = Reply::read(stream, "PUT").expect(201);
    assert_eq!(reply.header("docker-content-digest"), Some(digest.as_str()));
    drop(ending.join().expect("it ended"));
}
