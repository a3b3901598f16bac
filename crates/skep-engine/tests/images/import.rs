//! Images from archives of files.

use std::io::{Read, Write};

use skep_engine::model::image::{ImportImage, ImportProgress, RemoveImage};
use tokio::sync::mpsc;

use crate::make::{File, layer};
use crate::world::{World, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_become_an_image() {
    let files = layer(&[File::Dir("etc/"), File::Plain("etc/hello", b"world")]);
    let world = World::new();
    let options = ImportImage {
        reference: Some("mine:1".parse().expect("a reference")),
        changes: vec!["CMD [\"/bin/true\"]".to_owned(), "ENV A=b".to_owned()],
        ..ImportImage::default()
    };
    let id = world.images.import(files.as_slice(), options.clone()).await.expect("import");
    assert_eq!(world.file(&id, "etc/hello"), Some(b"world".to_vec()));
    let details = world.images.inspect("mine:1", None).expect("details");
    assert_eq!((details.id, details.comment.as_str()), (id, "Imported from -"));
    assert_eq!(details.config.cmd, Some(vec!["/bin/true".to_owned()]));
    assert_eq!(details.config.env, ["A=b"]);
    assert_eq!(details.diff_ids, [skep_registry::digest_of(&files)]);
    assert_eq!(world.images.history("mine:1", None).expect("history")[0].comment, "Imported from -");
    assert_eq!(world.events(), [format!("import {id} {id}")]);

    let saved = world.save(&["mine:1"]).await;
    let other = World::new();
    assert_eq!(other.load(&saved).await.0.expect("load")[0].id, id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_change_nothing() {
    let world = World::new();
    let bad_change = ImportImage { changes: vec!["RUN true".to_owned()], ..ImportImage::default() };
    let files = layer(&[File::Plain("x", b"x")]);
    assert_eq!(text(world.images.import(files.as_slice(), bad_change).await), "RUN is not a valid change command");
    let cut = &files[..700];
    assert!(!text(world.images.import(cut, ImportImage::default()).await).is_empty());
    let pinned = format!("x@{}", skep_registry::digest_of(b"x"));
    let pinned = ImportImage { reference: pinned.parse().ok(), ..ImportImage::default() };
    assert_eq!(text(world.images.import(files.as_slice(), pinned).await), "cannot import digest reference");
    world.assert_empty().await;
}

/// A web server that gives one answer.
fn serve(answer: Vec<u8>) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).expect("a request");
        stream.write_all(&answer).expect("an answer");
    });
    format!("http://{address}/files.tar")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_a_web_server() {
    let world = World::new();
    let archive = layer(&[File::Plain("here", b"there")]);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", archive.len());
    let url = serve([head.as_bytes(), &archive].concat());
    let (sender, mut receiver) = mpsc::channel(64);
    let id = world.images.import_from(&url, ImportImage::default(), sender).await.expect("import");
    assert_eq!(world.file(&id, "here"), Some(b"there".to_vec()));
    assert_eq!(receiver.recv().await, Some(ImportProgress::Downloading(url.clone())));
    let total = archive.len() as u64;
    assert_eq!(receiver.recv().await, Some(ImportProgress::Reading { current: total, total }));
    let comment = world.images.history(&id.to_string(), None).expect("history")[0].comment.clone();
    assert_eq!(comment, format!("Imported from {url}"));
    let nobody = |_: &skep_engine::model::image::ImageId| Vec::new();
    world.images.remove(&id.to_string(), RemoveImage::default(), &nobody).await.expect("remove");

    let url = serve(b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot here\n".to_vec());
    let (sender, _) = mpsc::channel(64);
    let error = text(world.images.import_from(&url, ImportImage::default(), sender).await);
    assert_eq!(error, format!("failed to GET {url} with status 404 Not Found: not here"));
    // An archive that is cut is no image.
    let half = [head.as_bytes(), &archive[..600]].concat();
    let (sender, _) = mpsc::channel(64);
    assert!(world.images.import_from(&serve(half), ImportImage::default(), sender).await.is_err());
    world.assert_empty().await;
}
