//! Both ends of a session against each other, over a pipe.

mod receive;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use skep_buildkit::filesync::{All, ReceiveOptions, Source};
use skep_buildkit::grpc;
use skep_buildkit::provider::{Agent, Destination, Login, Provider, Secret};
use skep_buildkit::session::{Announcement, Session, SessionError, Sessions, Wanted};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn provider() -> Provider {
    Provider {
        directories: BTreeMap::new(),
        secrets: BTreeMap::new(),
        agents: BTreeMap::new(),
        logins: Arc::new(|_| None),
        exports: Vec::new(),
        uploads: BTreeMap::new(),
        stores: BTreeMap::new(),
    }
}

/// A client that offers `provider`, connected; both ends run in tasks of the test.
async fn connect(sessions: &Sessions, provider: Provider) -> Arc<Session> {
    let routes = provider.routes();
    let id = format!("session-{:p}", &routes);
    let announcement = Announcement {
        id: id.clone(),
        shared_key: "key".to_owned(),
        methods: routes.methods().to_vec(),
        ..Announcement::default()
    };
    let place = sessions.reserve(announcement).expect("a place");
    let (client, engine) = tokio::io::duplex(64 << 10);
    tokio::spawn(async move { grpc::serve(client, routes).await });
    tokio::spawn(async move { place.serve(engine).await });
    sessions.find(&id, Duration::from_secs(10)).await.expect("a session")
}

fn open(path: &Path) -> OwnedFd {
    std::fs::File::open(path).expect("open").into()
}

fn wanted() -> Wanted {
    Wanted { name: "context".to_owned(), ..Wanted::default() }
}

async fn sync(session: &Session, into: &Path) -> skep_buildkit::filesync::Received {
    session.sync(&wanted(), open(into), ReceiveOptions::default(), &|_| ()).await.expect("sync")
}

/// Path, mode, time, and content or link target of everything below a directory.
fn listing(root: &Path) -> BTreeMap<String, String> {
    let mut list = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(&directory).expect("list") {
            let path = entry.expect("entry").path();
            let stat = path.symlink_metadata().expect("stat");
            let content = match stat.file_type() {
                kind if kind.is_symlink() => format!("-> {}", std::fs::read_link(&path).expect("link").display()),
                kind if kind.is_file() => format!("{:?} {}", std::fs::read(&path).expect("read"), stat.nlink()),
                _ => String::new(),
            };
            let name = path.strip_prefix(root).expect("below").display().to_string();
            list.insert(name, format!("{:o} {}.{} {content}", stat.mode(), stat.mtime(), stat.mtime_nsec()));
            if stat.is_dir() {
                waiting.push(path);
            }
        }
    }
    list
}

fn make_tree(root: &Path) {
    std::fs::create_dir_all(root.join("a/b")).expect("mkdir");
    std::fs::create_dir(root.join("empty")).expect("mkdir");
    std::fs::write(root.join("a/file"), b"hello").expect("write");
    std::fs::write(root.join("a/b/large"), vec![7; 300_000]).expect("write");
    std::fs::write(root.join("a-file"), b"").expect("write");
    std::fs::hard_link(root.join("a/file"), root.join("z-link")).expect("link");
    symlink("../outside", root.join("a/link")).expect("symlink");
    std::fs::set_permissions(root.join("a/file"), std::fs::Permissions::from_mode(0o4711)).expect("chmod");
    for number in 0..300 {
        std::fs::write(root.join(format!("a/b/{number}")), format!("content {number}")).expect("write");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_comes_once_and_then_what_changed() {
    let (from, into) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    make_tree(from.path());
    let sessions = Sessions::default();
    let directories = BTreeMap::from([("context".to_owned(), from.path().to_owned())]);
    let session = connect(&sessions, Provider { directories, ..provider() }).await;

    let first = sync(&session, into.path()).await;
    assert_eq!(listing(into.path()), listing(from.path()));
    assert!(first.bytes > 300_000, "{first:?}");
    assert_eq!(sync(&session, into.path()).await, skep_buildkit::filesync::Received { bytes: 0, ..first });

    // One of each sort of change.
    let root = from.path();
    std::fs::write(root.join("a/b/17"), b"new").expect("write");
    std::fs::remove_file(root.join("a/b/18")).expect("remove");
    std::fs::remove_file(root.join("a/link")).expect("remove");
    std::fs::create_dir(root.join("a/link")).expect("mkdir");
    std::fs::write(root.join("a/link/x"), b"x").expect("write");
    std::fs::remove_dir(root.join("empty")).expect("remove");
    std::fs::write(root.join("empty"), b"e").expect("write");
    std::fs::set_permissions(root.join("a/b"), std::fs::Permissions::from_mode(0o700)).expect("chmod");
    // What came from elsewhere goes, and an inode that someone else holds keeps its content.
    std::fs::write(into.path().join("a/b/zzz"), b"foreign").expect("write");
    std::fs::create_dir_all(into.path().join("foreign/deep")).expect("mkdir");
    let held = tempfile::tempdir_in(into.path().parent().expect("parent")).expect("dir");
    std::fs::hard_link(into.path().join("a/b/17"), held.path().join("17")).expect("link");
    let second = sync(&session, into.path()).await;
    assert_eq!(listing(into.path()), listing(root));
    assert_eq!(second.bytes, 5);
    assert_eq!(std::fs::read(held.path().join("17")).expect("read"), b"content 17");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_link_between_files_is_noticed() {
    let (from, into) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    std::fs::write(from.path().join("a"), b"same").expect("write");
    std::fs::hard_link(from.path().join("a"), from.path().join("b")).expect("link");
    let sessions = Sessions::default();
    let directories = BTreeMap::from([("context".to_owned(), from.path().to_owned())]);
    let session = connect(&sessions, Provider { directories, ..provider() }).await;
    sync(&session, into.path()).await;
    let links = |name| into.path().join(name).metadata().expect("stat").nlink();
    assert_eq!(links("a"), 2);
    let time = from.path().join("a").metadata().expect("stat").modified().expect("time");
    std::fs::remove_file(from.path().join("b")).expect("remove");
    std::fs::write(from.path().join("b"), b"same").expect("write");
    let copy = std::fs::File::options().write(true).open(from.path().join("b")).expect("open");
    copy.set_modified(time).expect("set time");
    sync(&session, into.path()).await;
    assert_eq!((links("a"), links("b")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn results_come_back() {
    let (from, place) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    make_tree(from.path());
    let output = place.path().join("new/output");
    std::fs::create_dir_all(&output).expect("mkdir");
    std::fs::write(output.join("mine"), b"stays").expect("write");
    let (archive, mut received) = tokio::io::duplex(1 << 20);
    let exports =
        vec![Destination::Directory(output.clone()), Destination::Stream(Mutex::new(Some(Box::new(archive))))];
    let session = connect(&Sessions::default(), Provider { exports, ..provider() }).await;

    let source = Source { root: open(from.path()), choose: Box::new(All), owner: None };
    session.send_tree(0, source).await.expect("a tree");
    assert_eq!(std::fs::read(output.join("mine")).expect("read"), b"stays");
    std::fs::remove_file(output.join("mine")).expect("remove");
    assert_eq!(listing(&output), listing(from.path()));

    let mut file = session.send_file(1, &[("containerimage.digest", "sha256:0")]).await.expect("a file");
    file.write_all(&[5; 100_000]).await.expect("write");
    file.shutdown().await.expect("end");
    let mut bytes = Vec::new();
    received.read_to_end(&mut bytes).await.expect("read");
    assert_eq!(bytes, [5; 100_000]);

    // A second time it is refused, and a number that nobody knows too.
    for number in [1, 7] {
        let mut file = session.send_file(number, &[]).await.expect("a call");
        file.shutdown().await.expect_err("refused");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_logins_and_uploads() {
    let place = tempfile::tempdir().expect("dir");
    std::fs::write(place.path().join("s"), b"from a file").expect("write");
    let secrets = BTreeMap::from([
        ("file".to_owned(), Secret::File(place.path().join("s"))),
        ("value".to_owned(), Secret::Value(b"plain".to_vec())),
        ("large".to_owned(), Secret::Value(vec![0; 600 << 10])),
    ]);
    let upload = Box::new(std::io::Cursor::new(vec![9_u8; 200_000]));
    let uploads = BTreeMap::from([("id".to_owned(), Mutex::new(Some(upload as _)))]);
    let logins = Arc::new(|host: &str| {
        (host == "example.com").then(|| Login { username: "u".to_owned(), secret: "p".to_owned() })
    });
    let session = connect(&Sessions::default(), Provider { secrets, uploads, logins, ..provider() }).await;
    assert_eq!(session.secret("file").await.expect("a secret").as_deref(), Some(&b"from a file"[..]));
    assert_eq!(session.secret("value").await.expect("a secret").as_deref(), Some(&b"plain"[..]));
    assert_eq!(session.secret("other").await.expect("an answer"), None);
    session.secret("large").await.expect_err("too large");
    let login = session.login("example.com").await.expect("an answer").expect("a login");
    assert_eq!((login.username.as_str(), login.secret.as_str()), ("u", "p"));
    assert!(session.login("other").await.expect("an answer").is_none());
    let mut bytes = Vec::new();
    let mut upload = session.upload("buildkit-session", "/id").await.expect("an upload");
    upload.read_to_end(&mut bytes).await.expect("read");
    assert_eq!(bytes.len(), 200_000);
    assert!(session.upload("buildkit-session", "/id").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_reached_through_the_client() {
    let place = tempfile::tempdir().expect("dir");
    let path = place.path().join("agent");
    let listener = tokio::net::UnixListener::bind(&path).expect("listen");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut question = [0; 4];
            stream.read_exact(&mut question).await.expect("a question");
            question.reverse();
            stream.write_all(&question).await.expect("an answer");
        }
    });
    let agents = BTreeMap::from([("default".to_owned(), Agent::Socket(path))]);
    let session = connect(&Sessions::default(), Provider { agents, ..provider() }).await;
    assert!(session.has_agent("default").await.expect("an answer"));
    assert!(!session.has_agent("other").await.expect("an answer"));
    let mut agent = session.agent("default").await.expect("an agent");
    agent.write_all(b"ping").await.expect("write");
    let mut answer = Vec::new();
    agent.read_to_end(&mut answer).await.expect("read");
    assert_eq!(answer, b"gnip");
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_go_into_a_layout_and_out_of_it() {
    let place = tempfile::tempdir().expect("dir");
    let stores = BTreeMap::from([("cache".to_owned(), place.path().to_owned())]);
    let session = connect(&Sessions::default(), Provider { stores, ..provider() }).await;
    let digest = format!("sha256:{}", "ab".repeat(32));
    let bytes = vec![3; 3_000_000];
    for _ in 0..2 {
        session.write_blob("cache", &digest, 3_000_000, &mut bytes.as_slice()).await.expect("written");
    }
    let mut back = Vec::new();
    assert_eq!(session.read_blob("cache", &digest, &mut back).await.expect("read"), 3_000_000);
    assert_eq!(back, bytes);
    for (store, digest) in [("cache", "sha256:../../x"), ("other", digest.as_str()), ("cache", "sha256:00")] {
        session.read_blob(store, digest, &mut Vec::new()).await.expect_err("refused");
    }
    let half = session.write_blob("cache", &format!("sha256:{}", "cd".repeat(32)), 10, &mut &b"short"[..]).await;
    half.expect_err("too short");
    assert_eq!(std::fs::read_dir(place.path().join("blobs/sha256")).expect("list").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_found_when_it_comes_and_gone_when_the_client_is() {
    let sessions = Sessions::default();
    let announcement = Announcement { id: "x".to_owned(), ..Announcement::default() };
    let missing = sessions.find("x", Duration::from_millis(1)).await.err();
    assert_eq!(missing, Some(SessionError::Missing("x".to_owned())));
    let place = sessions.reserve(announcement.clone()).expect("a place");
    assert_eq!(sessions.reserve(announcement.clone()).err(), Some(SessionError::Exists("x".to_owned())));
    let waiting = tokio::spawn({
        let sessions = sessions.clone();
        async move { sessions.find("x", Duration::from_secs(10)).await }
    });
    let (client, engine) = tokio::io::duplex(1 << 16);
    let client = tokio::spawn(grpc::serve(client, provider().routes()));
    let serving = tokio::spawn(place.serve(engine));
    let session = waiting.await.expect("joined").expect("a session");
    assert!(!session.supports("/moby.filesync.v1.FileSync/DiffCopy"), "it announced nothing");
    client.abort();
    session.closed().cancelled().await;
    let _ = serving.await;
    sessions.reserve(announcement).expect("the id is free again");
}
