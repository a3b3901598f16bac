//! Several hosts for one registry: mirrors, their failures, and what they must not see; servers that send readers elsewhere.

use std::time::{Duration, SystemTime};

use skep_registry::{BlobPart, Credentials, Descriptor, RegistryConfig, Repository, media_type};
use skep_types::{Reference, Selector};
use tempfile::TempDir;

use crate::server::{Reply, Request, Server};
use crate::{config, connect, digest_of, registry, text};

const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const BODY: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";

fn manifest(_: &Request) -> Reply {
    let config = media_type::OCI_CONFIG;
    let body =
        format!(r#"{{"schemaVersion":2,"config":{{"mediaType":"{config}","size":0,"digest":"{EMPTY}"}},"layers":[]}}"#);
    Reply::new("200 OK", &[("Content-Type", media_type::OCI_MANIFEST)], body)
}

fn descriptor() -> Descriptor {
    let (digest, size) = (digest_of(BODY), BODY.len() as u64);
    Descriptor { media_type: String::new(), digest, size, platform: None, annotations: Default::default() }
}

fn tag() -> Selector {
    Selector::Tag("1".to_owned())
}

/// Hosts for Docker Hub, the last being Docker Hub itself.
fn hosts_for_hub(text: &str) -> (TempDir, RegistryConfig) {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("docker.io")).expect("a directory");
    std::fs::write(dir.path().join("docker.io/hosts.toml"), text).expect("a file");
    let config = RegistryConfig { certificate_dirs: vec![dir.path().to_owned()], ..config() };
    (dir, config)
}

async fn hub(config: &RegistryConfig) -> Repository {
    let credentials = Credentials { username: "me".into(), password: "secret".into(), ..Credentials::default() };
    let reference: Reference = "some/app:1".parse().expect("a reference");
    Repository::connect(config, &reference, Some(&credentials)).await.expect("connect")
}

#[tokio::test]
async fn a_mirror_is_asked_first_and_gets_no_credentials() {
    let mirror = registry(|request| match request.header("authorization") {
        None => manifest(request),
        Some(_) => Reply::new("500 Internal Server Error", &[], ""),
    })
    .await;
    let own = registry(manifest).await;
    let text = format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\nheader = {{ x-mirror = \"yes\" }}",
        own.address, mirror.address
    );
    let (_dir, config) = hosts_for_hub(&text);
    hub(&config).await.manifest(&tag()).await.expect("a manifest");
    let asked = mirror.requests();
    let last = asked.last().expect("a request");
    assert_eq!(last.path, "/v2/some/app/manifests/1?ns=docker.io");
    assert_eq!(last.header("x-mirror"), Some("yes"));
    assert!(own.requests().is_empty(), "the registry itself was not needed");
}

#[tokio::test]
async fn what_a_mirror_lacks_or_refuses_comes_from_the_next_host() {
    for answer in ["404 Not Found", "500 Internal Server Error", "403 Forbidden"] {
        let mirror = registry(move |_| Reply::new(answer, &[], "<html>")).await;
        let own =
            registry(|request| if request.path.contains("blobs") { Reply::ok(BODY) } else { manifest(request) }).await;
        let text = format!("server = \"http://{}\"\n[host.\"http://{}\"]", own.address, mirror.address);
        let (_dir, config) = hosts_for_hub(&text);
        let repository = hub(&config).await;
        repository.manifest(&tag()).await.expect(answer);
        assert_eq!(repository.small_blob(&descriptor(), 99).await.expect(answer), BODY);
        assert!(mirror.count("/v2/some/app/blobs/") == 1, "asked first");
    }
}

#[tokio::test]
async fn a_host_that_is_down_is_asked_once() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("an address");
    let own = registry(manifest).await;
    let (_dir, config) = hosts_for_hub(&format!("server = \"http://{}\"\n[host.\"http://{nobody}\"]", own.address));
    let repository = hub(&config).await;
    repository.manifest(&tag()).await.expect("a manifest");
    repository.manifest(&tag()).await.expect("a manifest");
    assert_eq!(own.count("/v2/some/app/manifests/1"), 2);
    let (_dir, config) = hosts_for_hub(&format!("server = \"http://{nobody}\""));
    let reference: Reference = "some/app:1".parse().expect("a reference");
    let error = text(Repository::connect(&config, &reference, None).await);
    assert_eq!(error, format!("Get \"http://{nobody}/v2/\": dial tcp {nobody}: connect: connection refused"));
}

#[tokio::test]
async fn a_blob_goes_on_with_the_next_host_where_a_mirror_broke_off() {
    let mirror = registry(|_| Reply::new("200 OK", &[("Content-Length", &BODY.len().to_string())], &BODY[..10])).await;
    let own = registry(|request| {
        assert_eq!(request.header("range"), Some("bytes=10-"));
        Reply::new("206 Partial Content", &[("Content-Range", "bytes 10-35/36")], &BODY[10..])
    })
    .await;
    let text = format!("server = \"http://{}\"\n[host.\"http://{}\"]", own.address, mirror.address);
    let (_dir, config) = hosts_for_hub(&text);
    assert_eq!(hub(&config).await.small_blob(&descriptor(), 99).await.expect("a blob"), BODY);
    assert_eq!((mirror.count("/v2/some/"), own.count("/v2/some/")), (1, 1));
}

#[tokio::test]
async fn a_mirror_with_wrong_bytes_is_not_believed_and_not_asked_again() {
    let mirror = registry(|_| Reply::ok([&b"x"[..], &BODY[1..]].concat())).await;
    let own = registry(|_| Reply::ok(BODY)).await;
    let text = format!("server = \"http://{}\"\n[host.\"http://{}\"]", own.address, mirror.address);
    let (_dir, config) = hosts_for_hub(&text);
    let repository = hub(&config).await;
    assert_eq!(repository.small_blob(&descriptor(), 99).await.expect("a blob"), BODY);
    assert_eq!(repository.small_blob(&descriptor(), 99).await.expect("a blob"), BODY);
    assert_eq!((mirror.count("/v2/some/"), own.count("/v2/some/")), (1, 2));
}

#[tokio::test]
async fn capabilities_are_heeded() {
    let mirror = registry(|_| Reply::ok(BODY)).await;
    let own = registry(manifest).await;
    let text = format!(
        "server = \"http://{}\"\ncapabilities = [\"resolve\"]\n[host.\"http://{}\"]\ncapabilities = [\"pull\"]",
        own.address, mirror.address
    );
    let (_dir, config) = hosts_for_hub(&text);
    let repository = hub(&config).await;
    repository.manifest(&tag()).await.expect("a manifest");
    assert_eq!(repository.small_blob(&descriptor(), 99).await.expect("a blob"), BODY);
    assert_eq!((mirror.count("/v2/some/app/manifests"), own.count("/v2/some/app/blobs")), (0, 0));
}

#[tokio::test]
async fn an_api_may_be_anywhere() {
    let server = Server::start(|request| match request.path.starts_with("/api/some/app/manifests/1") {
        true => manifest(request),
        false => Reply::ok("{}"),
    })
    .await;
    let text = format!("server = \"http://{}/api\"\noverride_path = true", server.address);
    let (_dir, config) = hosts_for_hub(&text);
    hub(&config).await.manifest(&tag()).await.expect("a manifest");
}

#[tokio::test]
async fn storage_behind_a_registry_sees_no_credentials() {
    let storage = Server::start(|request| {
        assert_eq!((request.header("authorization"), request.header("x-own")), (None, None));
        assert_eq!(request.header("range"), Some("bytes=6-"));
        Reply::new("206 Partial Content", &[("Content-Range", "bytes 6-35/36")], &BODY[6..])
    })
    .await;
    let place = format!("http://{}/bucket/x?signature=s", storage.address);
    let own = Server::start(move |request| match request.header("authorization") {
        Some("Basic bWU6c2VjcmV0") => {
            assert_eq!(request.header("x-own"), Some("1"));
            Reply::new("307 Temporary Redirect", &[("Location", &place)], "")
        }
        _ => Reply::new("401 Unauthorized", &[("WWW-Authenticate", "Basic realm=\"it\"")], ""),
    })
    .await;
    let (_dir, config) = hosts_for_hub(&format!("server = \"http://{}\"\nheader = {{ x-own = \"1\" }}", own.address));
    let repository = hub(&config).await;
    let mut blob = repository.blob_from(&descriptor(), 6);
    let mut bytes = Vec::new();
    while let Some(part) = blob.next().await.expect("a blob") {
        match part {
            BlobPart::Data(data) => bytes.extend_from_slice(&data),
            BlobPart::Retrying(_) => panic!("no failure"),
        }
    }
    assert_eq!(bytes, &BODY[6..]);
    assert_eq!(storage.count("/bucket/x"), 1);
}

#[tokio::test]
async fn servers_that_send_readers_round_are_left() {
    let other = Server::start(|request| {
        let back = request.path.rsplit("to=").next().unwrap_or_default().to_owned();
        Reply::new("302 Found", &[("Location", &back)], "")
    })
    .await;
    let round = format!("http://{}/to=", other.address);
    let server = registry(move |request| {
        let host = request.header("host").expect("a host");
        Reply::new("302 Found", &[("Location", &format!("{round}http://{host}{}", request.path))], "")
    })
    .await;
    let error = text(connect(&server).await.manifest(&tag()).await);
    assert!(error.ends_with("stopped after 10 redirects"), "{error}");
    assert!(server.count("/v2/some/app") < 12);
    for place in ["file:///etc/passwd", "gopher://x/", "http://"] {
        let server = registry(move |_| Reply::new("302 Found", &[("Location", place)], "")).await;
        let error = text(connect(&server).await.manifest(&tag()).await);
        assert_eq!(error, "received unexpected HTTP status: 302 Found", "{place}");
    }
}

#[tokio::test]
async fn a_busy_registry_is_left_alone_as_long_as_it_wishes() {
    let server = registry(|request| match request.repeat {
        0 => Reply::new("429 Too Many Requests", &[("Retry-After", "2")], "{\"details\":\"slow down\"}"),
        1 => {
            let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(2));
            Reply::new("503 Service Unavailable", &[("Retry-After", &soon)], "")
        }
        _ => Reply::ok(BODY),
    })
    .await;
    let repository = connect(&server).await;
    let mut blob = repository.blob(&descriptor());
    let mut waits = Vec::new();
    while let Some(part) = blob.next().await.expect("a blob") {
        if let BlobPart::Retrying(wait) = part {
            waits.push(wait);
        }
    }
    assert!(waits[0] > Duration::from_secs(1), "{waits:?}");
    assert!(waits.len() >= 3, "the rest of a wait is told as it passes: {waits:?}");

    let server = registry(|_| Reply::new("429 Too Many Requests", &[("Retry-After", "86400")], "")).await;
    let error = text(connect(&server).await.small_blob(&descriptor(), 99).await);
    assert!(error.contains("429"), "{error}");
    assert_eq!(server.count("/v2/some/app/blobs"), 1, "not waited for a day");
}
