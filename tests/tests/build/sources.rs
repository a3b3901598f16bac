//! Files from elsewhere.

use std::io::{Read, Write};
use std::net::TcpListener;

use skep_build::Worker;
use skep_build::graph::{GitSource, HttpSource};
use skep_build::worker::Tree;
use skep_types::Digest;

use crate::world::{Client, World};

/// A web server that knows one file, and answers as often as it is asked; returns how often that was a whole file.
fn serve(times: usize) -> (String, std::thread::JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serving = std::thread::spawn(move || {
        let mut whole = 0;
        for _ in 0..times {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            let request = String::from_utf8(request).unwrap().to_lowercase();
            let answer = if request.contains("if-none-match: \"v1\"") {
                "HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n".to_owned()
            } else if request.starts_with("get /file.txt ") {
                whole += 1;
                "HTTP/1.1 200 OK\r\nConnection: close\r\nETag: \"v1\"\r\nContent-Length: 5\r\n\
                 Last-Modified: Sun, 09 Sep 2001 01:46:40 GMT\r\n\r\nhello"
                    .to_owned()
            } else {
                "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_owned()
            };
            stream.write_all(answer.as_bytes()).unwrap();
        }
        whole
    });
    (format!("http://{address}"), serving)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_fetched_once_as_long_as_it_is_the_same() {
    let world = World::new().await;
    let context = world.context(Client::default());
    let (server, serving) = serve(4);
    let source = |path: &str, checksum| HttpSource { url: format!("{server}{path}"), checksum, name: None };
    let mut identities = Vec::new();
    for _ in 0..2 {
        let tree = world.machine.http(&source("/file.txt", None), &context).await.unwrap();
        assert_eq!(world.machine.read(&tree, "/file.txt", 100).await.unwrap().as_deref(), Some(&b"hello"[..]));
        let Tree::Dir(dir) = tree else { panic!() };
        identities.push(dir.identity);
    }
    assert!(identities[0].is_some() && identities[0] == identities[1]);
    let right: Digest = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824".parse().unwrap();
    world.machine.http(&source("/file.txt", Some(right)), &context).await.unwrap();
    let wrong = Digest::from_bytes([1; 32]);
    let error = world.machine.http(&source("/file.txt", Some(wrong)), &context).await.unwrap_err();
    assert_eq!(error.message, format!("digest mismatch {right}: {wrong}"));
    let error = world.machine.http(&source("/none", None), &context).await.unwrap_err();
    assert_eq!(error.message, "failed to load cache key: invalid response status 404");
    assert_eq!(serving.join().unwrap(), 2);
    drop(context);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn git_is_given_nothing_of_the_host() {
    let world = World::new().await;
    let context = world.context(Client::default());
    let source = |remote: &str| GitSource {
        remote: remote.to_owned(),
        reference: None,
        subdir: None,
        keep_git_dir: false,
        checksum: None,
    };
    for remote in ["--upload-pack=touch /tmp/x", "ext::sh -c touch% /tmp/x", "file:///etc", "/etc"] {
        let refused = world.machine.git(&source(remote), &context).await;
        assert!(refused.is_err(), "{remote}");
    }
    drop(context);
    world.end().await;
}
