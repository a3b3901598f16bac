//! Uploads, mounts and manifests, against registries that break off, forget and refuse.

use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use skep_registry::{Access, BlobSource, BlobStream, Credentials, Mount, Repository, Uploaded};
use skep_types::Selector;

use crate::server::{Reply, Request, Server};
use crate::{config, digest_of, reference, text};

/// Bytes in pieces, the same each time.
struct Pieces(Vec<u8>);

impl BlobSource for Pieces {
    fn open(&self) -> BlobStream {
        let pieces: Vec<io::Result<Bytes>> =
            self.0.chunks(100).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        Box::pin(futures_util::stream::iter(pieces))
    }
}

fn content() -> Vec<u8> {
    (0..1000u32).map(|number| u8::try_from(number % 251).expect("a byte")).collect()
}

/// A registry that stores one upload, and does what `odd` says instead of the usual where it says something.
#[derive(Clone, Default)]
struct Store {
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Store {
    fn answer(&self, request: &Request) -> Reply {
        let mut bytes = self.bytes.lock().expect("lock");
        match request.method.as_str() {
            "HEAD" => Reply::new("404 Not Found", &[], ""),
            "POST" => {
                bytes.clear();
                Reply::new("202 Accepted", &[("Location", "/v2/some/app/blobs/uploads/1")], "")
            }
            "PATCH" => {
                bytes.extend_from_slice(&request.body);
                Self::progress("202 Accepted", bytes.len())
            }
            "GET" => Self::progress("204 No Content", bytes.len()),
            "PUT" => {
                bytes.extend_from_slice(&request.body);
                Reply::new("201 Created", &[], "")
            }
            other => panic!("{other}"),
        }
    }

    fn progress(status: &str, stored: usize) -> Reply {
        let range = format!("0-{}", stored.max(1) - 1);
        Reply::new(status, &[("Location", "/v2/some/app/blobs/uploads/1"), ("Range", &range)], "")
    }
}

async fn server(odd: impl Fn(&Request, &Store) -> Option<Reply> + Send + Sync + 'static) -> (Server, Store) {
    let store = Store::default();
    let kept = store.clone();
    let server = Server::start(move |request| match request.path.as_str() {
        "/v2/" => Reply::ok("{}"),
        _ => odd(request, &kept).unwrap_or_else(|| kept.answer(request)),
    })
    .await;
    (server, store)
}

async fn connect(server: &Server) -> Repository {
    Repository::connect_for(&config(), &reference(server), None, Access::Push).await.expect("connect")
}

async fn upload(server: &Server) -> skep_registry::Result<Uploaded> {
    connect(server).await.upload(&Pieces(content()), None, |_| ()).await
}

fn sent(server: &Server, method: &str) -> Vec<Request> {
    server.requests().into_iter().filter(|request| request.method == method).collect()
}

#[tokio::test]
async fn an_upload_is_one_request() {
    let (server, store) = server(|_, _| None).await;
    let uploaded = upload(&server).await.expect("uploaded");
    assert_eq!(uploaded, Uploaded { digest: digest_of(&content()), size: 1000 });
    assert_eq!(*store.bytes.lock().expect("lock"), content());
    assert_eq!(sent(&server, "PATCH").len(), 1);
    assert!(sent(&server, "PUT")[0].path.ends_with(&format!("?digest=sha256%3A{}", digest_of(&content()).hex())));
}

#[tokio::test]
async fn what_a_registry_has_is_not_sent_again() {
    let (server, store) = server(|request, store| {
        if request.method != "PATCH" || request.before > 0 {
            return None;
        }
        store.bytes.lock().expect("lock").extend_from_slice(&request.body[..450]);
        Some(Reply::raw(Vec::new()))
    })
    .await;
    assert_eq!(upload(&server).await.expect("uploaded").digest, digest_of(&content()));
    assert_eq!(*store.bytes.lock().expect("lock"), content());
    assert_eq!(sent(&server, "PATCH")[1].header("content-range"), Some("450-999"));
    assert_eq!(sent(&server, "POST").len(), 1);
}

#[tokio::test]
async fn an_upload_that_is_forgotten_begins_anew() {
    let (server, store) = server(|request, _| match request.method.as_str() {
        "PATCH" if request.before == 0 => Some(Reply::new("503 Service Unavailable", &[], "")),
        "GET" => Some(Reply::new("404 Not Found", &[], r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#)),
        _ => None,
    })
    .await;
    assert_eq!(upload(&server).await.expect("uploaded").digest, digest_of(&content()));
    assert_eq!(*store.bytes.lock().expect("lock"), content());
    assert_eq!(sent(&server, "POST").len(), 2);
}

#[tokio::test]
async fn a_registry_that_always_breaks_off_is_given_up() {
    let (server, _) = server(|request, _| (request.method == "PATCH").then(|| Reply::raw(Vec::new()))).await;
    let error = text(upload(&server).await);
    assert!(error.starts_with("Patch \"http://"), "{error}");
    assert_eq!(sent(&server, "PATCH").len(), 3, "as often as the settings say");
}

#[tokio::test]
async fn a_token_that_expires_in_the_middle_is_renewed() {
    let store = Store::default();
    let kept = store.clone();
    let server = Server::start(move |request| {
        let host = request.header("host").expect("a host");
        let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"it\"");
        match request.path.split('?').next() {
            Some("/token") => Reply::ok(format!("{{\"token\":\"t{}\",\"expires_in\":300}}", request.repeat)),
            _ => match request.header("authorization") {
                Some("Bearer t1") => kept.answer(request),
                Some("Bearer t0") if request.method != "PATCH" => kept.answer(request),
                _ => Reply::new("401 Unauthorized", &[("WWW-Authenticate", &challenge)], ""),
            },
        }
    })
    .await;
    assert_eq!(upload(&server).await.expect("uploaded").digest, digest_of(&content()));
    assert_eq!(*store.bytes.lock().expect("lock"), content());
    let asked = server.requests().into_iter().find(|r| r.path.starts_with("/token")).expect("a token request");
    assert!(asked.path.contains("scope=repository%3Asome%2Fapp%3Apull%2Cpush"), "{}", asked.path);
}

#[tokio::test]
async fn a_mount_asks_for_both_repositories() {
    let server = Server::start(|request| {
        let host = request.header("host").expect("a host");
        let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"it\"");
        match request.path.split('?').next() {
            Some("/token") => Reply::ok(match request.path.contains("other%2Frepo%3Apull") {
                true => r#"{"token":"both"}"#,
                false => r#"{"token":"one"}"#,
            }),
            _ if request.header("authorization").is_none() => {
                Reply::new("401 Unauthorized", &[("WWW-Authenticate", &challenge)], "")
            }
            _ if request.path.contains("mount=") && request.header("authorization") == Some("Bearer both") => {
                Reply::new("201 Created", &[], "")
            }
            _ => Reply::new("202 Accepted", &[("Location", "uploads/1")], ""),
        }
    })
    .await;
    let repository = connect(&server).await;
    let digest = digest_of(b"x");
    assert!(matches!(repository.mount(&digest, "other/repo").await, Ok(Mount::Mounted)));
    assert!(matches!(repository.mount(&digest, "third/repo").await, Ok(Mount::Refused(_))));
}

#[tokio::test]
async fn refusals_have_the_registrys_words() {
    let (server, _) = server(|request, _| {
        (request.method == "POST").then(|| {
            let challenge = "Bearer realm=\"http://127.0.0.1:1/t\",error=\"insufficient_scope\"";
            Reply::new("401 Unauthorized", &[("WWW-Authenticate", challenge)], "")
        })
    })
    .await;
    let given = Credentials { registry_token: "given".into(), ..Credentials::default() };
    let repository =
        Repository::connect_for(&config(), &reference(&server), Some(&given), Access::Push).await.expect("connect");
    let error = text(repository.upload(&Pieces(content()), None, |_| ()).await);
    assert_eq!(error, "denied: requested access to the resource is denied");
}

#[tokio::test]
async fn credentials_stay_with_their_registry() {
    let (elsewhere, _) = server(|_, _| None).await;
    let there = format!("http://{}/v2/some/app/blobs/uploads/1", elsewhere.address);
    let (server, _) = server(move |request, _| {
        let begun = request.method == "POST";
        begun.then(|| Reply::new("202 Accepted", &[("Location", &there)], ""))
    })
    .await;
    let given = Credentials { registry_token: "given".into(), ..Credentials::default() };
    let repository =
        Repository::connect_for(&config(), &reference(&server), Some(&given), Access::Push).await.expect("connect");
    repository.upload(&Pieces(content()), None, |_| ()).await.expect("uploaded");
    let seen = elsewhere.requests();
    assert!(seen.iter().any(|request| request.method == "PATCH"));
    assert!(seen.iter().all(|request| request.header("authorization").is_none()));
}

#[tokio::test]
async fn a_manifest_goes_under_a_tag_or_its_digest() {
    let (server, _) = server(|_, _| None).await;
    let repository = connect(&server).await;
    let manifest = Bytes::from_static(b"{}");
    for selector in [Selector::Tag("1".to_owned()), Selector::Digest(digest_of(b"{}"))] {
        let put = repository.put_manifest(&selector, "application/x", manifest.clone()).await;
        assert_eq!(put.expect("stored"), digest_of(b"{}"));
    }
    let paths: Vec<String> = sent(&server, "PUT").into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/v2/some/app/manifests/1".to_owned(), format!("/v2/some/app/manifests/{}", digest_of(b"{}"))]);
    assert_eq!(sent(&server, "PUT")[0].header("content-type"), Some("application/x"));
}
