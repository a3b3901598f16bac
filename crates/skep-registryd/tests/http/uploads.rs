//! Uploads chunk by chunk.

use std::io::Write;

use crate::client::{Reply, Server, sha256};

/// How much of an upload the registry says to have.
#[track_caller]
fn range(server: &Server, upload: &str) -> String {
    server.get(upload).expect(204).header("range").expect("a range").to_owned()
}

#[test]
fn chunks_come_one_after_the_other() {
    let server = Server::start();
    let upload = server.upload("a");
    assert_eq!(range(&server, &upload), "0-0");
    let first = server.send("PATCH", &upload, &[("Content-Range", "0-4")], b"01234").expect(202);
    assert_eq!(first.header("range"), Some("0-4"));
    let upload = first.header("location").expect("a location").to_owned();
    assert_eq!(range(&server, &upload), "0-4");
    let second = server.send("PATCH", &upload, &[("Content-Range", "5-7")], b"567").expect(202);
    assert_eq!(second.header("range"), Some("0-7"));
    let digest = sha256(b"0123456789");
    server.send("PUT", &format!("{upload}?digest={digest}"), &[("Content-Range", "8-9")], b"89").expect(201);
    assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).expect(200).body, b"0123456789");
}

#[test]
fn chunks_out_of_order_are_refused() {
    let server = Server::start();
    let upload = server.upload("a");
    server.send("PATCH", &upload, &[("Content-Range", "5-9")], b"56789").refused(416, "RANGE_INVALID");
    server.send("PATCH", &upload, &[("Content-Range", "0-4")], b"01234").expect(202);
    let again = server.send("PATCH", &upload, &[("Content-Range", "0-4")], b"01234").refused(416, "RANGE_INVALID");
    assert_eq!(again.header("range"), Some("0-4"));
    assert!(again.header("location").is_some());
    for bad in ["5-x", "9-5", "-", "99999999999999999999-5"] {
        server.send("PATCH", &upload, &[("Content-Range", bad)], b"x").refused(416, "RANGE_INVALID");
    }
    server.send("PATCH", &upload, &[("Content-Range", "5-9")], b"567").refused(400, "SIZE_INVALID");
    let put = format!("{upload}?digest={}", sha256(b"0123456789"));
    server.send("PUT", &put, &[("Content-Range", "7-9")], b"789").refused(416, "RANGE_INVALID");
    assert_eq!(range(&server, &upload), "0-4");
    server.send("PUT", &put, &[("Content-Range", "5-9")], b"56789").expect(201);
}

#[test]
fn a_stream_without_a_length_is_taken() {
    let server = Server::start();
    let upload = server.upload("a");
    let mut stream = server.connect();
    let head = format!("PATCH {upload} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    for piece in ["abc", "defgh"] {
        stream.write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes()).expect("sent");
    }
    stream.write_all(b"0\r\n\r\n").expect("sent");
    Reply::read(stream, "PATCH").expect(202);
    let digest = sha256(b"abcdefgh");
    server.send("PUT", &format!("{upload}?digest={digest}"), &[], b"").expect(201);
}

#[test]
fn a_stream_longer_than_its_range_is_taken_back() {
    let server = Server::start();
    let upload = server.upload("a");
    let mut stream = server.connect();
    let head = format!(
        "PATCH {upload} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Range: 0-2\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nabcdefgh\r\n0\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("sent");
    Reply::read(stream, "PATCH").refused(400, "SIZE_INVALID");
    assert_eq!(range(&server, &upload), "0-0");
    let digest = sha256(b"abc");
    server.send("PUT", &format!("{upload}?digest={digest}"), &[], b"abc").expect(201);
}

#[test]
fn a_client_that_breaks_off_can_go_on() {
    let server = Server::start();
    let upload = server.upload("a");
    let mut stream = server.connect();
    let head = format!("PATCH {upload} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n0123456789");
    stream.write_all(head.as_bytes()).expect("sent");
    drop(stream);
    // The status waits for the broken request to end.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while range(&server, &upload) != "0-9" {
        assert!(std::time::Instant::now() < deadline, "the bytes never came");
    }
    let digest = sha256(b"0123456789abc");
    server.send("PATCH", &upload, &[("Content-Range", "10-12")], b"abc").expect(202);
    server.send("PUT", &format!("{upload}?digest={digest}"), &[], b"").expect(201);
}

#[test]
fn an_upload_outlives_the_server() {
    let server = Server::start();
    let upload = server.upload("a");
    server.send("PATCH", &upload, &[], b"before ").expect(202);
    let server = server.restart();
    assert_eq!(range(&server, &upload), "0-6");
    server.send("PATCH", &upload, &[("Content-Range", "7-11")], b"after").expect(202);
    let digest = sha256(b"before after");
    server.send("PUT", &format!("{upload}?digest={digest}"), &[], b"").expect(201);
    let server = server.restart();
    assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).expect(200).body, b"before after");
    server.get(&upload).refused(404, "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn an_upload_can_be_cancelled_and_is_nobody_elses() {
    let server = Server::start();
    let upload = server.upload("a");
    let elsewhere = upload.replace("/v2/a/", "/v2/b/");
    server.send("PATCH", &elsewhere, &[], b"x").refused(404, "BLOB_UPLOAD_UNKNOWN");
    server.send("DELETE", &elsewhere, &[], b"").refused(404, "BLOB_UPLOAD_UNKNOWN");
    server.send("DELETE", &upload, &[], b"").expect(204);
    server.get(&upload).refused(404, "BLOB_UPLOAD_UNKNOWN");
    server.send("PATCH", &upload, &[], b"x").refused(404, "BLOB_UPLOAD_UNKNOWN");
    server.send("DELETE", &upload, &[], b"").refused(404, "BLOB_UPLOAD_UNKNOWN");
    server.get("/v2/a/blobs/uploads/no-such-thing").refused(404, "BLOB_UPLOAD_UNKNOWN");
    assert_eq!(std::fs::read_dir(server.root().join("uploads")).expect("a directory").count(), 0);
}
