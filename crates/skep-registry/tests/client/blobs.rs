//! Blobs: whole, cut, resumed, wrong.

use std::time::Duration;

use skep_registry::{Blob, BlobPart, Descriptor, Result};

use crate::server::{Reply, Request};
use crate::{connect, digest_of, registry, text};

const BODY: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";

fn descriptor(size: u64) -> Descriptor {
    let digest = digest_of(BODY);
    Descriptor { media_type: String::new(), digest, size, platform: None, annotations: Default::default() }
}

/// Reads all; also how often it was resumed.
async fn read(mut blob: Blob) -> Result<(Vec<u8>, usize)> {
    let (mut bytes, mut retries) = (Vec::new(), 0);
    while let Some(part) = blob.next().await? {
        match part {
            BlobPart::Data(data) => bytes.extend_from_slice(&data),
            BlobPart::Retrying(wait) => {
                assert!(wait <= Duration::from_secs(16));
                retries += 1;
            }
        }
    }
    Ok((bytes, retries))
}

/// Asks for the blob of `size` bytes, of a registry that answers with `handler`.
async fn fetch(size: u64, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Result<(Vec<u8>, usize)> {
    let server = registry(handler).await;
    let repository = connect(&server).await;
    read(repository.blob(&descriptor(size))).await
}

const SIZE: u64 = BODY.len() as u64;

/// Promises the whole, gives a part.
fn cut(at: usize) -> Reply {
    Reply::new("200 OK", &[("Content-Length", &BODY.len().to_string())], &BODY[..at])
}

fn range(from: usize, says: usize) -> Reply {
    let range = format!("bytes {says}-{}/{}", BODY.len() - 1, BODY.len());
    Reply::new("206 Partial Content", &[("Content-Range", &range)], &BODY[from..])
}

#[tokio::test]
async fn a_good_blob_arrives() {
    assert_eq!(fetch(SIZE, |_| Reply::ok(BODY)).await.expect("a blob"), (BODY.to_vec(), 0));
}

#[tokio::test]
async fn a_broken_download_is_resumed_where_it_broke() {
    let got = fetch(SIZE, |request| match (request.repeat, request.header("range")) {
        (0, None) => cut(10),
        (1, Some("bytes=10-")) => range(10, 10),
        other => panic!("unexpected request {other:?}"),
    });
    assert_eq!(got.await.expect("a blob"), (BODY.to_vec(), 1));
}

#[tokio::test]
async fn a_server_without_ranges_sends_all_again() {
    let got = fetch(SIZE, |request| if request.repeat == 0 { cut(10) } else { Reply::ok(BODY) });
    assert_eq!(got.await.expect("a blob"), (BODY.to_vec(), 1));
}

#[tokio::test]
async fn a_range_that_was_not_asked_for_is_refused() {
    let got = fetch(SIZE, |request| if request.repeat == 0 { cut(10) } else { range(8, 8) });
    assert!(text(got.await).contains("206 Partial Content"));
}

#[tokio::test]
async fn a_server_that_stalls_is_left_and_asked_again() {
    let got = fetch(SIZE, |request| if request.repeat == 0 { cut(20).hanging() } else { range(20, 20) });
    assert_eq!(got.await.expect("a blob"), (BODY.to_vec(), 1));
}

#[tokio::test]
async fn an_overloaded_server_is_asked_again() {
    let got = fetch(SIZE, |request| match request.repeat {
        0 => Reply::new("503 Service Unavailable", &[], ""),
        _ => Reply::ok(BODY),
    });
    assert_eq!(got.await.expect("a blob"), (BODY.to_vec(), 1));
}

#[tokio::test]
async fn attempts_come_to_an_end() {
    let got = fetch(SIZE, |_| cut(0)).await;
    assert!(text(got).ends_with("unexpected EOF"));
}

#[tokio::test]
async fn wrong_bytes_are_refused_at_the_end_and_for_good() {
    let mut wrong = BODY.to_vec();
    wrong[7] ^= 1;
    let server = registry(move |_| Reply::ok(&wrong)).await;
    let repository = connect(&server).await;
    let mut blob = repository.blob(&descriptor(SIZE));
    let error = loop {
        match blob.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("accepted"),
            Err(e) => break e,
        }
    };
    assert_eq!(error.to_string(), format!("filesystem layer verification failed for digest {}", digest_of(BODY)));
    assert!(blob.next().await.is_err(), "a failed blob must not look complete later");
    assert_eq!(server.count("/v2/some/app/blobs/"), 1, "wrong bytes are not asked for again");
}

#[tokio::test]
async fn more_or_fewer_bytes_than_described_are_refused() {
    for size in [SIZE - 1, SIZE + 1] {
        let error = text(fetch(size, |_| Reply::ok(BODY)).await);
        assert!(error.ends_with(&format!("has {SIZE} bytes, its manifest says {size}")), "{error}");
    }
    let chunked = fetch(SIZE - 1, |_| {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
        Reply::raw([head.as_bytes(), format!("{:x}\r\n", BODY.len()).as_bytes(), BODY, b"\r\n0\r\n\r\n"].concat())
    });
    assert!(text(chunked.await).contains("its manifest says"));
}

#[tokio::test]
async fn a_missing_blob_is_named() {
    let body = r#"{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown to registry","detail":{}}]}"#;
    let got = fetch(SIZE, move |_| Reply::new("404 Not Found", &[], body)).await;
    assert_eq!(text(got), "blob unknown: blob unknown to registry");
}

#[tokio::test]
async fn small_blobs_have_a_bound() {
    let server = registry(|_| Reply::ok(BODY)).await;
    let repository = connect(&server).await;
    assert_eq!(repository.small_blob(&descriptor(SIZE), SIZE).await.expect("a blob"), BODY);
    assert!(text(repository.small_blob(&descriptor(SIZE), 5).await).contains("larger than 5 bytes"));
}
