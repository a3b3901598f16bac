//! A cache in front of another registry, which is one of ours, or something that only pretends to be one.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use skep_registryd::{CacheConfig, Settings};

use crate::client::{OCI_INDEX, OCI_MANIFEST, Server, descriptor, sha256};

fn cache_of(upstreams: &Value, ttl: &str) -> Server {
    Server::with(|settings| caching(settings, upstreams, ttl))
}

fn caching(settings: &mut Settings, upstreams: &Value, ttl: &str) {
    let path = settings.root.join("upstreams.json");
    std::fs::write(&path, json!({"manifestTtl": ttl, "upstreams": upstreams}).to_string()).expect("written");
    settings.cache = Some(CacheConfig::read(&path).expect("upstreams"));
}

fn only(server: &Server) -> Value {
    json!([{"registry": server.address.to_string(), "prefix": "up/", "insecure": true}])
}

#[test]
fn what_is_asked_for_is_fetched_once() {
    let upstream = Server::start();
    let digest = upstream.image("team/app", "v1", "layer");
    let cache = cache_of(&only(&upstream), "1h");
    let layer = format!("/v2/up/team/app/blobs/{}", sha256(b"layer"));
    // Nobody has asked for a manifest that names it.
    cache.get(&layer).refused(404, "BLOB_UNKNOWN");
    for path in ["/v2/up/team/app/manifests/v1", &format!("/v2/up/team/app/manifests/{digest}")] {
        let got = cache.get(path).expect(200);
        assert_eq!(
            (got.header("docker-content-digest"), got.header("content-type")),
            (Some(digest.as_str()), Some(OCI_MANIFEST))
        );
    }
    let head = cache.send("HEAD", &layer, &[], b"").expect(200);
    assert_eq!(head.header("content-length"), Some("5"));
    assert_eq!(cache.get(&layer).expect(200).body, b"layer");
    assert_eq!(cache.send("GET", &layer, &[("Range", "bytes=1-2")], b"").expect(206).body, b"ay");
    drop(upstream);
    assert_eq!(cache.get(&layer).expect(200).body, b"layer");
    cache.get("/v2/up/team/app/manifests/v1").expect(200);
    assert_eq!(cache.get("/v2/up/team/app/tags/list").json()["tags"], json!(["v1"]));
}

#[test]
fn parts_of_what_is_not_here_yet_can_be_asked_for() {
    let upstream = Server::start();
    upstream.image("app", "v1", "layer");
    let cache = cache_of(&only(&upstream), "1h");
    cache.get("/v2/up/app/manifests/v1").expect(200);
    let layer = format!("/v2/up/app/blobs/{}", sha256(b"layer"));
    assert_eq!(cache.send("GET", &layer, &[("Range", "bytes=3-")], b"").expect(206).body, b"er");
}

#[test]
fn an_index_is_kept_without_its_manifests() {
    let upstream = Server::start();
    let child = upstream.image("app", "child", "x");
    let size = upstream.get("/v2/app/manifests/child").body.len();
    let index = json!({"schemaVersion": 2, "manifests": [{"mediaType": OCI_MANIFEST, "digest": child, "size": size}]});
    upstream.manifest("app", "multi", OCI_INDEX, &index);
    let cache = cache_of(&only(&upstream), "1h");
    assert_eq!(cache.get("/v2/up/app/manifests/multi").expect(200).json(), index);
    cache.get(&format!("/v2/up/app/manifests/{child}")).expect(200);
}

#[test]
fn tags_are_asked_for_again_and_served_stale_when_nobody_answers() {
    let upstream = Server::start();
    let first = upstream.image("app", "v1", "one");
    let cache = cache_of(&only(&upstream), "0s");
    let digest = || cache.get("/v2/up/app/manifests/v1").expect(200).header("docker-content-digest").map(str::to_owned);
    assert_eq!(digest(), Some(first));
    let second = upstream.image("app", "v1", "two");
    assert_eq!(digest(), Some(second.clone()));
    cache.get("/v2/up/app/manifests/v2").refused(404, "MANIFEST_UNKNOWN");
    drop(upstream);
    let stale = cache.get("/v2/up/app/manifests/v1").expect(200);
    assert_eq!(stale.header("docker-content-digest"), Some(second.as_str()));
    assert!(stale.header("warning").is_some_and(|warning| warning.starts_with("110 ")));
    cache.get("/v2/up/app/manifests/v2").refused(503, "UNAVAILABLE");
}

#[test]
fn only_registries_of_the_configuration_are_asked() {
    let (one, two) = (Server::start(), Server::start());
    one.image("app", "v1", "one");
    two.image("app", "v1", "two");
    let (first, second) = (one.address.to_string(), two.address.to_string());
    let cache = cache_of(
        &json!([{"registry": first, "insecure": true}, {"registry": second, "prefix": "second/", "insecure": true}]),
        "1h",
    );
    let layers = |path: &str| cache.get(path).expect(200).json()["layers"][0]["digest"].as_str().map(str::to_owned);
    assert_eq!(layers("/v2/app/manifests/v1"), Some(sha256(b"one")));
    assert_eq!(layers("/v2/second/app/manifests/v1"), Some(sha256(b"two")));
    assert_eq!(layers(&format!("/v2/app/manifests/v1?ns={second}")), Some(sha256(b"two")));
    assert_eq!(layers(&format!("/v2/app/manifests/v1?ns={first}")), Some(sha256(b"one")));
    let two = format!("/v2/app/blobs/{}?ns={second}", sha256(b"two"));
    assert_eq!(cache.get(&two).expect(200).body, b"two");
    cache.get("/v2/app/manifests/v1?ns=169.254.169.254").refused(404, "NAME_UNKNOWN");
    cache.get("/v2/app/manifests/v1?ns=").refused(404, "NAME_UNKNOWN");
    // A copy is not written to.
    cache.send("POST", "/v2/app/blobs/uploads/", &[], b"").refused(405, "UNSUPPORTED");
}

/// Answers like a registry, as `answer` says, and counts.
fn pretender(answer: impl Fn(&str, usize) -> Vec<u8> + Send + Sync + 'static) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = listener.local_addr().expect("an address").to_string();
    let count = Arc::new(AtomicUsize::new(0));
    let (counter, answer) = (count.clone(), Arc::new(answer));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let (counter, answer) = (counter.clone(), answer.clone());
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                    head.push(byte[0]);
                    // The beginning of TLS, which would wait for an answer in kind.
                    if head[0] == 0x16 {
                        return;
                    }
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let number = if head.contains("/blobs/") { counter.fetch_add(1, Ordering::SeqCst) } else { 0 };
                let _ = stream.write_all(&answer(&head, number));
            });
        }
    });
    (address, count)
}

fn ok(content_type: &str, body: &[u8]) -> Vec<u8> {
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(body);
    answer
}

fn manifest(layer: &[u8]) -> String {
    json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", b"{}"),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
    })
    .to_string()
}

fn pretending(layer: &'static [u8], served: &'static [u8]) -> (String, Arc<AtomicUsize>) {
    pretender(move |head, _| match head {
        _ if head.contains("/manifests/") => ok(OCI_MANIFEST, manifest(layer).as_bytes()),
        _ if head.contains("/blobs/") => {
            std::thread::sleep(Duration::from_millis(50));
            ok("application/octet-stream", served)
        }
        _ => ok("application/json", b"{}"),
    })
}

#[test]
fn many_clients_cause_one_download() {
    let layer: &'static [u8] = vec![7; 3 << 20].leak();
    let (address, downloads) = pretending(layer, layer);
    let cache = cache_of(&json!([{"registry": address, "insecure": true}]), "1h");
    cache.get("/v2/app/manifests/v1").expect(200);
    let path = format!("/v2/app/blobs/{}", sha256(layer));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert!(cache.get(&path).expect(200).body == layer));
        }
    });
    assert_eq!(downloads.load(Ordering::SeqCst), 1);
    assert!(cache.get(&path).expect(200).body == layer);
    assert_eq!(downloads.load(Ordering::SeqCst), 1);
}

/// Where a request wants its blob from.
fn asked_from(head: &str) -> usize {
    let range = head.to_ascii_lowercase();
    let from = range.split_once("range: bytes=").and_then(|(_, rest)| rest.split_once('-'));
    from.map_or(0, |(from, _)| from.parse().expect("a number"))
}

#[test]
fn a_download_goes_on_where_it_broke_off_after_a_restart() {
    let layer: &'static [u8] = (0..3_000_000_u32).map(|number| number.to_le_bytes()[1]).collect::<Vec<_>>().leak();
    let (half, whole) = (layer.len() / 2, Arc::new(AtomicBool::new(false)));
    let (asked, complete) = (Arc::new(Mutex::new(Vec::new())), whole.clone());
    let seen = asked.clone();
    let (address, _) = pretender(move |head, number| match head {
        _ if head.contains("/manifests/") => ok(OCI_MANIFEST, manifest(layer).as_bytes()),
        // The first is cut short, and then the upstream is at an end.
        _ if head.contains("/blobs/") && number > 0 && !complete.load(Ordering::SeqCst) => {
            b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_vec()
        }
        _ if head.contains("/blobs/") => {
            let from = asked_from(head);
            seen.lock().expect("nobody panicked").push(from);
            let status = if from == 0 { "200 OK" } else { "206 Partial Content" };
            let head = format!(
                "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{}/{}\r\n\r\n",
                layer.len() - from,
                layer.len() - 1,
                layer.len()
            );
            let end = if complete.load(Ordering::SeqCst) { layer.len() } else { half.max(from) };
            [head.as_bytes(), &layer[from..end]].concat()
        }
        _ => ok("application/json", b"{}"),
    });
    let upstreams = json!([{"registry": address, "insecure": true}]);
    let cache = cache_of(&upstreams, "1h");
    cache.get("/v2/app/manifests/v1").expect(200);
    let path = format!("/v2/app/blobs/{}", sha256(layer));
    let mut stream = cache.connect();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.len() < layer.len());
    let cache = cache.restart_with(|settings| caching(settings, &upstreams, "1h"));
    let before = std::mem::take(&mut *asked.lock().expect("nobody panicked"));
    assert_eq!(before[0], 0);
    whole.store(true, Ordering::SeqCst);
    assert!(cache.get(&path).expect(200).body == layer);
    assert_eq!(*asked.lock().expect("nobody panicked"), [half]);
    assert_eq!(std::fs::read_dir(cache.root().join("uploads")).expect("a directory").count(), 0);
}

#[test]
fn wrong_bytes_never_come_to_a_good_end() {
    let (address, _) = pretending(b"the right bytes", b"the wrong bytes");
    let cache = cache_of(&json!([{"registry": address, "insecure": true}]), "1h");
    cache.get("/v2/app/manifests/v1").expect(200);
    let path = format!("/v2/app/blobs/{}", sha256(b"the right bytes"));
    let mut stream = cache.connect();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.ends_with(b"the wrong bytes"), "{}", String::from_utf8_lossy(&answer));
    cache.send("HEAD", &path, &[], b"").expect(200);
    let left = std::fs::read_dir(cache.root().join("uploads")).expect("a directory").count();
    assert_eq!(left, 0);
}

/// CVE-2026-33540: the upstream names another host to send the credentials to.
#[test]
fn credentials_go_only_where_they_belong() {
    let (thief, stolen) = pretender(|_, _| ok("application/json", br#"{"token":"x"}"#));
    let seen = Arc::new(AtomicUsize::new(0));
    let (heard, port) = (seen.clone(), thief.rsplit_once(':').map(|(_, port)| port.to_owned()).unwrap_or_default());
    let (upstream, _) = pretender(move |head, _| {
        if head.to_ascii_lowercase().contains("authorization: basic") {
            heard.fetch_add(1, Ordering::SeqCst);
        }
        // Another name of the same machine is another host.
        format!("HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 0\r\nWWW-Authenticate: Bearer realm=\"http://localhost:{port}/blobs/token\",service=\"x\"\r\n\r\n").into_bytes()
    });
    let cache = Server::with(|settings| {
        let password = settings.root.join("password");
        std::fs::write(&password, "secret\n").expect("written");
        let upstreams = json!([{"registry": upstream, "insecure": true, "username": "ana", "passwordFile": password}]);
        caching(settings, &upstreams, "1h");
    });
    cache.get("/v2/app/manifests/v1").refused(503, "UNAVAILABLE");
    assert_eq!((stolen.load(Ordering::SeqCst), seen.load(Ordering::SeqCst)), (0, 0));
}
