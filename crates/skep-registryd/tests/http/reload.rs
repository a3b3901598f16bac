//! Files that are read again while the registry runs, as at SIGHUP.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;
use skep_registryd::auth::{Authority, Htpasswd, Scheme};
use skep_registryd::{CacheConfig, Collection, Mode, Retention, TlsFiles, control};

use crate::client::Server;

/// Writes a new identity; its certificate.
fn identity(root: &Path) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a key");
    std::fs::write(root.join("cert.pem"), cert.pem()).expect("written");
    std::fs::write(root.join("key.pem"), signing_key.serialize_pem()).expect("written");
    cert.der().clone()
}

fn connect(server: &Server, trusted: &CertificateDer<'static>) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().expect("a name");
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).expect("a client"), server.connect())
}

/// Asks on a connection that stays; whether there is a good answer.
fn answers(stream: &mut StreamOwned<ClientConnection, TcpStream>) -> bool {
    let asked = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut buffer = [0; 4096];
    asked.is_ok() && stream.read(&mut buffer).is_ok_and(|read| buffer[..read].starts_with(b"HTTP/1.1 200"))
}

#[test]
fn a_new_certificate_is_for_new_connections() {
    let mut first = None;
    let server = Server::with(|settings| {
        first = Some(identity(&settings.root));
        let (certificate, key) = (settings.root.join("cert.pem"), settings.root.join("key.pem"));
        settings.tls = Some(TlsFiles { certificate, key, client_authorities: None });
    });
    let first = first.expect("an identity");
    let mut old = connect(&server, &first);
    assert!(answers(&mut old));
    let second = identity(server.root());
    assert!(answers(&mut connect(&server, &first)), "nobody has said that there is a new one");
    server.reloader.reload().expect("a good identity");
    assert!(answers(&mut old), "a connection that was there goes on");
    assert!(answers(&mut connect(&server, &second)));
    assert!(!answers(&mut connect(&server, &first)));
    // A key that is not the certificate's changes nothing.
    let key = std::fs::read(server.root().join("key.pem")).expect("the key");
    identity(server.root());
    std::fs::write(server.root().join("key.pem"), key).expect("written");
    server.reloader.reload().expect_err("they don't fit");
    assert!(answers(&mut connect(&server, &second)));
}

#[test]
fn either_all_files_count_or_none() {
    let server = Server::with(|settings| {
        let (rules, upstreams) = (settings.root.join("retention.json"), settings.root.join("upstreams.json"));
        std::fs::write(&rules, r#"{"rules": []}"#).expect("written");
        std::fs::write(&upstreams, r#"{"upstreams": []}"#).expect("written");
        settings.retention = Retention::read(&rules).expect("rules");
        settings.cache = Some(CacheConfig::read(&upstreams).expect("upstreams"));
    });
    let upstream = Server::start();
    upstream.image("app", "v1", "x");
    server.image("own", "old", "y");
    let put = |name: &str, text: &str| std::fs::write(server.root().join(name), text).expect("written");
    let dropped = || {
        let how = Collection { mode: Mode::DryRun, ..Collection::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let report = runtime.block_on(control::collect(server.root(), &how, None)).expect("an answer");
        report.expect("it runs").tags
    };
    put("retention.json", r#"{"rules": [{"repositories": "**", "keepLast": 0}]}"#);
    put("upstreams.json", "{");
    server.reloader.reload().expect_err("no JSON");
    assert_eq!(dropped(), [""; 0]);
    let upstreams = json!({"upstreams": [
        {"registry": upstream.address.to_string(), "prefix": "up/", "insecure": true}]});
    put("upstreams.json", &upstreams.to_string());
    server.get("/v2/up/app/manifests/v1").refused(404, "MANIFEST_UNKNOWN");
    server.reloader.reload().expect("good files");
    assert_eq!(dropped(), ["own:old"]);
    server.get("/v2/up/app/manifests/v1").expect(200);
}

#[test]
fn users_that_cannot_be_read_are_told_of() {
    let server = Server::with(|settings| {
        let path = settings.root.join("htpasswd");
        std::fs::write(&path, format!("ana:{}\n", bcrypt::hash("secret", 4).expect("a hash"))).expect("written");
        let scheme = Scheme::Basic(Htpasswd::open(&path).expect("users"));
        settings.authority = Arc::new(Authority { scheme, ..Authority::default() });
    });
    let ana = format!("Basic {}", STANDARD.encode("ana:secret"));
    std::fs::write(server.root().join("htpasswd"), "ana:plain\n").expect("written");
    server.reloader.reload().expect_err("no hash of bcrypt's");
    server.send("GET", "/v2/", &[("Authorization", &ana)], b"").expect(200);
    std::fs::write(server.root().join("htpasswd"), "").expect("written");
    server.reloader.reload().expect("nobody");
    server.send("GET", "/v2/", &[("Authorization", &ana)], b"").refused(401, "UNAUTHORIZED");
}
