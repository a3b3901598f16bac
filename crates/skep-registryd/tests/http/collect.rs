//! Garbage collection, asked for over the control socket as the command line does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use skep_registryd::{Collection, Mode, Report, Untagged, control};

use crate::client::{OCI_INDEX, OCI_MANIFEST, Server, descriptor, sha256};

/// Collects at once what is garbage.
fn now() -> Collection {
    Collection { grace: Duration::ZERO, upload_age: Duration::from_secs(3600), ..Collection::default() }
}

#[track_caller]
fn collect(server: &Server, how: &Collection) -> Report {
    collect_with(server, how, None).expect("a report")
}

fn collect_with(server: &Server, how: &Collection, rules: Option<&Value>) -> Result<Report, control::ControlError> {
    // What came within this millisecond is not older than no grace at all.
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_millis(2) {
        std::thread::yield_now();
    }
    let file = rules.map(|rules| {
        let path = server.root().join("rules.json");
        std::fs::write(&path, rules.to_string()).expect("written");
        path
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let report = runtime.block_on(control::collect(server.root(), how, file.as_deref()))?;
    Ok(report.expect("the registry runs"))
}

/// How many contents are in the storage.
fn stored(server: &Server) -> usize {
    fn count(path: &std::path::Path) -> usize {
        let entries = std::fs::read_dir(path).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
        entries.iter().map(|entry| if entry.path().is_dir() { count(&entry.path()) } else { 1 }).sum()
    }
    count(&server.root().join("content"))
}

#[test]
fn what_a_deleted_tag_took_is_given_back() {
    let server = Server::start();
    let kept = server.image("a", "kept", "shared");
    let mut other = server.image_manifest("a", "shared");
    other["layers"].as_array_mut().expect("a list").push(descriptor("m/t", b"alone"));
    server.blob("a", b"alone");
    let gone = server.manifest("a", "gone", OCI_MANIFEST, &other);
    assert_eq!(collect(&server, &now()), Report::default());
    server.send("DELETE", "/v2/a/manifests/gone", &[], b"").expect(202);
    let dry = collect(&server, &Collection { mode: Mode::DryRun, ..now() });
    assert_eq!(stored(&server), 5);
    let report = collect(&server, &now());
    assert_eq!(dry, report);
    assert_eq!(report.manifests, [format!("a@{gone}")]);
    assert_eq!(report.blobs, [format!("a@{}", sha256(b"alone"))]);
    assert_eq!((report.contents, report.bytes), (2, (other.to_string().len() + 5) as u64));
    assert_eq!(stored(&server), 3);
    server.get(&format!("/v2/a/manifests/{kept}")).expect(200);
    server.get(&format!("/v2/a/blobs/{}", sha256(b"shared"))).expect(200);
    server.get(&format!("/v2/a/manifests/{gone}")).refused(404, "MANIFEST_UNKNOWN");
    // The last one gone, nothing is left, not even the repository.
    server.send("DELETE", "/v2/a/manifests/kept", &[], b"").expect(202);
    collect(&server, &now());
    assert_eq!(stored(&server), 0);
    assert_eq!(server.get("/v2/_catalog").json(), json!({"repositories": []}));
}

#[test]
fn the_grace_protects_what_is_young() {
    let server = Server::start();
    server.blob("a", b"a push that goes on");
    server.image("a", "v1", "x");
    server.send("DELETE", "/v2/a/manifests/v1", &[], b"").expect(202);
    let report = collect(&server, &Collection::default());
    assert_eq!(report, Report::default());
    assert_eq!(stored(&server), 4);
}

#[test]
fn an_index_holds_its_manifests_and_a_subject_its_referrers() {
    let server = Server::start();
    let child = server.image("a", "child", "x");
    let size = server.get("/v2/a/manifests/child").body.len();
    let entry = json!({"mediaType": OCI_MANIFEST, "digest": child, "size": size});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    server.manifest("a", "index", OCI_INDEX, &index);
    let mut signature = server.image_manifest("a", "signature");
    signature["subject"] = descriptor(OCI_INDEX, index.to_string().as_bytes());
    let bytes = signature.to_string();
    let signature = server.manifest("a", &sha256(bytes.as_bytes()), OCI_MANIFEST, &signature);
    server.send("DELETE", "/v2/a/manifests/child", &[], b"").expect(202);
    assert_eq!(collect(&server, &now()), Report::default());
    server.get(&format!("/v2/a/manifests/{child}")).expect(200);
    server.get(&format!("/v2/a/manifests/{signature}")).expect(200);
    server.send("DELETE", "/v2/a/manifests/index", &[], b"").expect(202);
    assert_eq!(collect(&server, &now()).manifests.len(), 3);
    assert_eq!(stored(&server), 0);
}

#[test]
fn what_was_only_pushed_by_digest_stays_unless_asked() {
    let server = Server::start();
    let manifest = server.image_manifest("a", "x");
    let digest = sha256(manifest.to_string().as_bytes());
    server.manifest("a", &digest, OCI_MANIFEST, &manifest);
    assert_eq!(collect(&server, &now()), Report::default());
    server.get(&format!("/v2/a/manifests/{digest}")).expect(200);
    let server = server.restart();
    let report = collect(&server, &Collection { untagged: Untagged::Remove, ..now() });
    assert_eq!((report.manifests.len(), stored(&server)), (1, 0));
}

#[test]
fn rules_decide_which_tags_stay() {
    let server = Server::start();
    for number in 0..5 {
        server.image("team/app", &format!("build-{number}"), &number.to_string());
    }
    server.image("team/app", "v1", "v1");
    server.image("other", "build-0", "other");
    let rules = json!({"rules": [{"repositories": "team/*", "keepLast": 2, "keepMatching": ["v*"]}]});
    let dry = collect_with(&server, &Collection { mode: Mode::DryRun, ..now() }, Some(&rules)).expect("a report");
    assert_eq!(server.get("/v2/team/app/tags/list").json()["tags"].as_array().map(Vec::len), Some(6));
    let report = collect_with(&server, &now(), Some(&rules)).expect("a report");
    assert_eq!(dry.tags, report.tags);
    assert_eq!(report.tags, ["team/app:build-0", "team/app:build-1", "team/app:build-2"]);
    assert_eq!((report.manifests.len(), report.contents), (3, 9));
    assert_eq!(server.get("/v2/team/app/tags/list").json()["tags"], json!(["build-3", "build-4", "v1"]));
    server.get("/v2/other/manifests/build-0").expect(200);
    let wrong = collect_with(&server, &now(), Some(&json!({"rules": 1}))).expect_err("wrong rules");
    assert!(wrong.to_string().contains("retention rules"), "{wrong}");
}

#[test]
fn what_a_crash_left_behind_goes_too() {
    let server = Server::start();
    server.image("a", "v1", "x");
    let bytes = b"stored, but never noted";
    let hex = sha256(bytes).split_off(7);
    let shard = server.root().join("content/sha256").join(&hex[..2]);
    std::fs::create_dir_all(&shard).expect("a directory");
    std::fs::write(shard.join(&hex), bytes).expect("written");
    let upload = server.upload("a");
    server.send("PATCH", &upload, &[], b"given up").expect(202);
    let report = collect(&server, &Collection { upload_age: Duration::ZERO, ..now() });
    assert_eq!((report.contents, report.uploads, report.bytes), (1, 1, (bytes.len() + 8) as u64));
    server.get(&upload).refused(404, "BLOB_UPLOAD_UNKNOWN");
    server.get("/v2/a/manifests/v1").expect(200);
}

#[test]
fn lost_content_is_told() {
    let server = Server::start();
    server.image("a", "v1", "x");
    let hex = sha256(b"x").split_off(7);
    std::fs::remove_file(server.root().join("content/sha256").join(&hex[..2]).join(&hex)).expect("removed");
    assert_eq!(collect(&server, &now()).missing, [format!("sha256:{hex}")]);
}

#[test]
fn pushes_and_collections_do_not_hurt_each_other() {
    let server = Server::start();
    let done = AtomicBool::new(false);
    let grace = Collection { grace: Duration::from_secs(5), ..now() };
    std::thread::scope(|scope| {
        let collector = scope.spawn(|| {
            let mut runs = 0;
            while !done.load(Ordering::Relaxed) {
                collect(&server, &grace);
                runs += 1;
            }
            runs
        });
        let pushers: Vec<_> = (0..3)
            .map(|pusher| {
                let server = &server;
                scope.spawn(move || {
                    for round in 0..20 {
                        // All push the same layers over and over, and delete them again.
                        let (tag, text) = (format!("p{pusher}"), format!("layer {}", round % 3));
                        let digest = server.image("shared", &tag, &text);
                        let got = server.get(&format!("/v2/shared/manifests/{tag}")).expect(200);
                        assert_eq!(sha256(&got.body), digest);
                        let layer = got.json()["layers"][0]["digest"].as_str().expect("a digest").to_owned();
                        let layer = server.get(&format!("/v2/shared/blobs/{layer}")).expect(200);
                        assert_eq!(layer.body, text.as_bytes());
                        server.send("DELETE", &format!("/v2/shared/manifests/{tag}"), &[], b"").expect(202);
                    }
                })
            })
            .collect();
        for pusher in pushers {
            pusher.join().expect("a pusher");
        }
        done.store(true, Ordering::Relaxed);
        assert!(collector.join().expect("the collector") > 0);
    });
    collect(&server, &now());
    assert_eq!(stored(&server), 0);
}

#[test]
fn without_any_grace_a_push_fails_but_nothing_breaks() {
    let server = Server::start();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                collect(&server, &now());
            }
        });
        for round in 0..40 {
            let (config, layer) = (format!("{{\"round\":{round}}}"), format!("layer {}", round % 2));
            server.blob("a", config.as_bytes());
            server.blob("a", layer.as_bytes());
            let manifest = json!({
                "schemaVersion": 2,
                "config": descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes()),
                "layers": [descriptor("m/t", layer.as_bytes())],
            });
            let put = server.send(
                "PUT",
                "/v2/a/manifests/t",
                &[("Content-Type", OCI_MANIFEST)],
                manifest.to_string().as_bytes(),
            );
            if put.status == 201 {
                // What was taken is whole.
                server.get("/v2/a/manifests/t").expect(200);
                assert_eq!(
                    server.get(&format!("/v2/a/blobs/{}", sha256(layer.as_bytes()))).expect(200).body,
                    layer.as_bytes()
                );
            } else {
                put.refused(404, "MANIFEST_BLOB_UNKNOWN");
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}
