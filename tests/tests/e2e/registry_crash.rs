//! The registry is killed again and again while many clients push. What it has acknowledged is there, whole; what it has not is there
//! whole or not at all; and a garbage collection leaves nothing but what somebody can reach.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};
use skep_testkit::{Api, Command, Registry, program, sha256, until};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CLIENTS: u64 = 6;

fn kills() -> usize {
    std::env::var("SKEP_KILL_ROUNDS").map_or(5, |text| text.parse().expect("SKEP_KILL_ROUNDS is a number"))
}

/// What the registry has said yes to.
#[derive(Default)]
struct Acknowledged {
    /// With their repositories.
    blobs: Vec<(String, String)>,
    /// Digests by repository and tag.
    manifests: BTreeMap<(String, String), String>,
}

/// Bytes that nobody else has.
fn bytes(client: u64, number: u64) -> Vec<u8> {
    let mut state = client << 32 | number << 1 | 1;
    let length = 20_000 + usize::try_from(client * 97_001 + number * 31_337).unwrap() % 1_500_000;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..length).map(next).collect()
}

/// The path of a new upload.
fn begin(api: &Api, name: &str) -> Option<String> {
    let begun = api.send("POST", &format!("/v2/{name}/blobs/uploads/"), &[], &[]).ok()?;
    (begun.status == 202).then(|| begun.header("location").unwrap().to_owned())
}

/// Pushes a blob in one request, in two, or in pieces; whether the registry has said that it has it.
fn push_blob(api: &Api, name: &str, bytes: &[u8], way: u64) -> Option<String> {
    let digest = sha256(bytes);
    let created = |method: &str, path: &str, body: &[u8]| Some(api.send(method, path, &[], body).ok()?.status == 201);
    let done = match way % 3 {
        0 => created("POST", &format!("/v2/{name}/blobs/uploads/?digest={digest}"), bytes)?,
        1 => created("PUT", &format!("{}?digest={digest}", begin(api, name)?), bytes)?,
        _ => {
            let upload = begin(api, name)?;
            let mut at = 0;
            for piece in bytes.chunks(300_000) {
                let range = format!("{at}-{}", at + piece.len() - 1);
                let reply = api.send("PATCH", &upload, &[("Content-Range", &range)], piece).ok()?;
                if reply.status != 202 {
                    return None;
                }
                at += piece.len();
            }
            created("PUT", &format!("{upload}?digest={digest}"), &[])?
        }
    };
    done.then_some(digest)
}

/// Pushes an image; what came of it is in `known`.
fn push(api: &Api, client: u64, number: u64, known: &mut Acknowledged) -> Option<()> {
    let (name, tag) = (format!("team/app{}", client % 3), format!("c{client}-{number}"));
    let config = json!({"architecture": "amd64", "os": "linux", "comment": tag}).to_string();
    // One layer is everybody's, one is the image's own.
    let parts = [config.into_bytes(), bytes(99, 0), bytes(client, number)];
    let mut descriptors = Vec::new();
    for (way, part) in (number..).zip(&parts) {
        let digest = push_blob(api, &name, part, way)?;
        known.blobs.push((name.clone(), digest.clone()));
        descriptors.push(json!({"mediaType": "application/octet-stream", "digest": digest, "size": part.len()}));
    }
    let manifest =
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptors[0], "layers": descriptors[1..]});
    let text = manifest.to_string();
    let path = format!("/v2/{name}/manifests/{tag}");
    let reply = api.send("PUT", &path, &[("Content-Type", MANIFEST)], text.as_bytes()).ok()?;
    (reply.status == 201).then(|| drop(known.manifests.insert((name, tag), sha256(text.as_bytes()))))
}

/// Fetches a manifest and all its parts, and checks each; their digests.
#[track_caller]
fn pull(api: &Api, name: &str, reference: &str) -> BTreeSet<String> {
    let got = api.send("GET", &format!("/v2/{name}/manifests/{reference}"), &[("Accept", MANIFEST)], &[]).unwrap();
    assert_eq!(got.status, 200, "{name}:{reference}: {}", got.text());
    let digest = sha256(&got.body);
    assert_eq!(got.header("docker-content-digest"), Some(digest.as_str()), "{name}:{reference}");
    let manifest = got.json();
    let mut digests = BTreeSet::from([digest]);
    for part in manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"]]) {
        let digest = part["digest"].as_str().unwrap();
        let blob = api.send("GET", &format!("/v2/{name}/blobs/{digest}"), &[], &[]).unwrap();
        assert_eq!((blob.status, sha256(&blob.body).as_str()), (200, digest), "{name}:{reference}");
        digests.insert(digest.to_owned());
    }
    digests
}

/// Digests of all files below the registry's content.
fn stored(dir: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(stored(&entry.path()));
        } else {
            found.insert(format!("sha256:{}", entry.file_name().to_str().unwrap()));
        }
    }
    found
}

fn collect(registry: &Registry) {
    let root = registry.root().display().to_string();
    let words = ["registry", "gc", "--grace", "0", "--upload-age", "0", "--untagged", "--root", &root];
    Command::new(program("skep"), words).run().success();
}

#[test]
fn what_was_acknowledged_survives() {
    let mut registry = Registry::start_own();
    let (api, stop, done) = (registry.api(), AtomicBool::new(false), AtomicUsize::new(0));
    let known: Vec<Acknowledged> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (api, stop, done) = (&api, &stop, &done);
                scope.spawn(move || {
                    let mut known = Acknowledged::default();
                    for number in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        if push(api, client, number, &mut known).is_some() {
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    known
                })
            })
            .collect();
        for kill in 0..kills() {
            let before = done.load(Ordering::Relaxed);
            until("some pushes are done", || done.load(Ordering::Relaxed) > before + kill % 3);
            registry.kill();
            registry.launch();
        }
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    for known in &known {
        for (name, digest) in &known.blobs {
            let reply = api.send("HEAD", &format!("/v2/{name}/blobs/{digest}"), &[], &[]).unwrap();
            assert_eq!(reply.status, 200, "{name}@{digest} is gone");
        }
        for ((name, tag), digest) in &known.manifests {
            assert!(pull(&api, name, tag).contains(digest), "{name}:{tag} is something else");
            pull(&api, name, digest);
        }
    }
    // A tag that was not acknowledged may be there: then it is whole.
    let mut reachable = BTreeSet::new();
    for name in (0..3).map(|number| format!("team/app{number}")) {
        let tags = api.call("GET", &format!("/v2/{name}/tags/list"), None);
        for tag in tags["tags"].as_array().unwrap().iter().filter_map(Value::as_str) {
            reachable.extend(pull(&api, &name, tag));
        }
    }
    collect(&registry);
    assert_eq!(stored(&registry.root().join("content")), reachable);
    assert_eq!(std::fs::read_dir(registry.root().join("uploads")).unwrap().count(), 0, "uploads are left");
    registry.kill();
    registry.launch();
    for ((name, tag), _) in known.iter().flat_map(|known| &known.manifests) {
        pull(&api, name, tag);
    }
}
