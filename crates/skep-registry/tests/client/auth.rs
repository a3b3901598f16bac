//! Authentication and TLS.

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;

use rustls_pki_types::PrivateKeyDer;
use skep_registry::{Credentials, RegistryConfig, Repository, login, media_type};
use skep_types::{Reference, Selector};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use crate::server::{Reply, Request, Server};
use crate::{config, reference, text};

const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn manifest() -> Reply {
    let config = media_type::OCI_CONFIG;
    let body =
        format!(r#"{{"schemaVersion":2,"config":{{"mediaType":"{config}","size":0,"digest":"{EMPTY}"}},"layers":[]}}"#);
    Reply::new("200 OK", &[("Content-Type", media_type::OCI_MANIFEST)], body)
}

fn credentials() -> Credentials {
    Credentials { username: "me".into(), password: "secret".into(), ..Credentials::default() }
}

fn tag() -> Selector {
    Selector::Tag("1".to_owned())
}

/// A registry that wants a token, which it hands out itself.
fn token_registry(request: &Request, good: impl Fn(&Request) -> bool) -> Reply {
    let host = request.header("host").expect("a host");
    let challenge = format!(
        "Bearer realm=\"http://{host}/token\",service=\"it\",scope=\"repository:some/app:pull\",error=\"invalid_token\""
    );
    if request.path.starts_with("/token?service=it&scope=repository%3Asome%2Fapp%3Apull") {
        return match good(request) {
            true => Reply::ok(format!("{{\"token\":\"t{}\",\"expires_in\":300}}", request.repeat)),
            false => Reply::new("401 Unauthorized", &[], r#"{"details":"incorrect username or password"}"#),
        };
    }
    match request.header("authorization") {
        Some("Bearer t0") if request.repeat == 0 => manifest(),
        Some("Bearer t1") => manifest(),
        _ => Reply::new("401 Unauthorized", &[("WWW-Authenticate", &challenge)], ""),
    }
}

#[tokio::test]
async fn a_token_is_fetched_once_and_renewed_when_refused() {
    let server = Server::start(|request| token_registry(request, |_| true)).await;
    let repository = Repository::connect(&config(), &reference(&server), None).await.expect("connect");
    repository.manifest(&tag()).await.expect("with the first token");
    assert_eq!(server.count("/token"), 1);
    repository.manifest(&tag()).await.expect("with the second token");
    repository.manifest(&tag()).await.expect("with the second token again");
    assert_eq!(server.count("/token"), 2);
    let sent = server.requests().into_iter().find(|r| r.path.starts_with("/token")).expect("a token request");
    assert_eq!(sent.header("authorization"), None, "anonymous");
}

#[tokio::test]
async fn name_and_password_go_to_the_token_service() {
    let server =
        Server::start(|request| token_registry(request, |r| r.header("authorization") == Some("Basic bWU6c2VjcmV0")))
            .await;
    let repository = Repository::connect(&config(), &reference(&server), Some(&credentials())).await.expect("connect");
    repository.manifest(&tag()).await.expect("a manifest");
    let error = text(Repository::connect(&config(), &reference(&server), None).await);
    assert_eq!(error, format!("Get \"http://{}/v2/\": unauthorized: incorrect username or password", server.address));
}

#[tokio::test]
async fn an_identity_token_is_exchanged() {
    let server = Server::start(|request| match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/token") => Reply::ok(r#"{"access_token":"mine"}"#),
        _ if request.header("authorization") == Some("Bearer mine") => manifest(),
        _ => {
            let realm = format!("Bearer realm=\"http://{}/token\"", request.header("host").expect("a host"));
            Reply::new("401 Unauthorized", &[("WWW-Authenticate", &realm)], "")
        }
    })
    .await;
    let identity = Credentials { identity_token: "refresh".into(), ..Credentials::default() };
    let repository = Repository::connect(&config(), &reference(&server), Some(&identity)).await.expect("connect");
    repository.manifest(&tag()).await.expect("a manifest");
}

#[tokio::test]
async fn basic_authentication() {
    let server = Server::start(|request| match request.header("authorization") {
        Some("Basic bWU6c2VjcmV0") => manifest(),
        _ => Reply::new("401 Unauthorized", &[("WWW-Authenticate", "Basic realm=\"it\"")], ""),
    })
    .await;
    let repository = Repository::connect(&config(), &reference(&server), Some(&credentials())).await.expect("connect");
    repository.manifest(&tag()).await.expect("a manifest");

    let error = text(Repository::connect(&config(), &reference(&server), None).await);
    assert_eq!(error, format!("Get \"http://{}/v2/\": no basic auth credentials", server.address));

    let wrong = Credentials { password: "wrong".into(), ..credentials() };
    let repository = Repository::connect(&config(), &reference(&server), Some(&wrong)).await.expect("connect");
    assert_eq!(text(repository.manifest(&tag()).await), "unauthorized: authentication required");
}

#[tokio::test]
async fn a_token_too_weak_is_an_access_denied() {
    let server = Server::start(|request| match request.path.as_str() {
        "/v2/" => Reply::ok("{}"),
        _ => Reply::new(
            "401 Unauthorized",
            &[("WWW-Authenticate", "Bearer realm=\"http://127.0.0.1:1/t\",error=\"insufficient_scope\"")],
            r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#,
        ),
    })
    .await;
    let given = Credentials { registry_token: "given".into(), ..Credentials::default() };
    let repository = Repository::connect(&config(), &reference(&server), Some(&given)).await.expect("connect");
    assert_eq!(
        text(repository.manifest(&tag()).await),
        format!(
            "pull access denied for {}/some/app, repository does not exist or may require 'docker login': denied: \
             requested access to the resource is denied",
            server.address
        )
    );
}

/// An address of this machine that is not loopback.
fn outer_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

#[tokio::test]
async fn certificates_are_checked_and_an_authority_can_be_added() {
    let Some(ip) = outer_address() else {
        println!("skipped: this machine has only loopback addresses");
        return;
    };
    let made = rcgen::generate_simple_self_signed([ip.to_string()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a server");
    let server = Server::start_on(ip, Some(TlsAcceptor::from(Arc::new(tls))), |_| manifest()).await;
    let reference: Reference = format!("{}/some/app:1", server.address).parse().expect("a reference");

    let url = format!("Get \"https://{}/v2/\": ", server.address);
    let error = text(Repository::connect(&config(), &reference, None).await);
    let unknown = format!("{url}tls: failed to verify certificate: x509: certificate signed by unknown authority");
    assert!(error == unknown || error.contains("are ca-certificates installed?"), "{error}");

    let dirs = tempfile::tempdir().expect("a directory");
    let mine = dirs.path().join(server.address.to_string());
    std::fs::create_dir(&mine).expect("a directory");
    std::fs::write(mine.join("ca.crt"), made.cert.pem()).expect("write");
    let trusting = RegistryConfig { certificate_dirs: vec![dirs.path().to_owned()], ..config() };
    let repository = Repository::connect(&trusting, &reference, None).await.expect("connect");
    repository.manifest(&tag()).await.expect("a manifest");

    // A file that changes counts for the next connection.
    let other = rcgen::generate_simple_self_signed([ip.to_string()]).expect("a certificate");
    std::fs::write(mine.join("ca.crt"), other.cert.pem()).expect("write");
    let error = text(Repository::connect(&trusting, &reference, None).await);
    assert!(error.contains("x509: "), "{error}");
    std::fs::write(mine.join("ca.crt"), made.cert.pem()).expect("write");
    Repository::connect(&trusting, &reference, None).await.expect("connect");

    let any = RegistryConfig { insecure: vec![server.address.to_string()], ..config() };
    Repository::connect(&any, &reference, None).await.expect("any certificate will do");
}

#[tokio::test]
async fn a_plain_server_where_tls_is_needed() {
    let Some(ip) = outer_address() else {
        println!("skipped: this machine has only loopback addresses");
        return;
    };
    let server = Server::start_on(ip, None, |_| manifest()).await;
    let reference: Reference = format!("{}/some/app:1", server.address).parse().expect("a reference");
    let error = text(Repository::connect(&config(), &reference, None).await);
    let url = format!("Get \"https://{}/v2/\": ", server.address);
    let plain = format!("{url}http: server gave HTTP response to HTTPS client");
    assert!(error == plain || error.contains("are ca-certificates installed?"), "{error}");
}

#[tokio::test]
async fn a_login_is_checked_and_gives_a_token_to_keep() {
    let server = Server::start(|request| {
        let host = request.header("host").expect("a host");
        match request.path.split('?').next() {
            Some("/token") if request.header("authorization") == Some("Basic bWU6c2VjcmV0") => {
                assert!(request.path.contains("offline_token=true") && request.path.contains("account=me"));
                Reply::ok(r#"{"token":"t","refresh_token":"keep"}"#)
            }
            Some("/token") => Reply::new("401 Unauthorized", &[], r#"{"details":"incorrect username or password"}"#),
            _ if request.header("authorization") == Some("Bearer t") => Reply::ok("{}"),
            _ => Reply::new(
                "401 Unauthorized",
                &[("WWW-Authenticate", &format!("Bearer realm=\"http://{host}/token\",service=\"it\""))],
                "",
            ),
        }
    })
    .await;
    let address = server.address.to_string();
    assert_eq!(login(&config(), &address, credentials()).await.expect("good").as_deref(), Some("keep"));
    let wrong = Credentials { password: "wrong".into(), ..credentials() };
    let error = login(&config(), &format!("http://{address}/v1/"), wrong).await;
    assert_eq!(error.as_ref().err().map(|error| error.kind()), Some(skep_types::ErrorKind::Unauthorized));
    assert_eq!(text(error), format!("Get \"http://{address}/v2/\": unauthorized: incorrect username or password"));
}

#[tokio::test]
async fn a_wrong_password_is_refused_at_login() {
    let server = Server::start(|request| match request.header("authorization") {
        Some("Basic bWU6c2VjcmV0") => Reply::ok("{}"),
        _ => Reply::new("401 Unauthorized", &[("WWW-Authenticate", "Basic realm=\"it\"")], ""),
    })
    .await;
    let address = server.address.to_string();
    assert_eq!(login(&config(), &address, credentials()).await.expect("good"), None);
    let wrong = Credentials { password: "wrong".into(), ..credentials() };
    let error = text(login(&config(), &address, wrong).await);
    assert_eq!(error, format!("login attempt to http://{address}/v2/ failed with status: 401 Unauthorized"));
    let nobody = text(login(&config(), &address, Credentials::default()).await);
    assert_eq!(nobody, format!("Get \"http://{address}/v2/\": no basic auth credentials"));
}
