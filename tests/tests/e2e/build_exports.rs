//! What becomes of a build: manifests, attestations, archives, files, and what clients are told of them.

use std::path::{Path, PathBuf};

use serde_json::Value;
use skep_testkit::{Command, Engine, EngineKind, Outcome, Registry};

use super::peers::Buildx;

/// A context with a Dockerfile of two layers that needs no image.
pub(crate) fn context(engine: &Engine) -> PathBuf {
    let dir = engine.scratch().join("context");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("Dockerfile"), "FROM scratch\nARG TOKEN\nCOPY one /one\nCOPY two /dir/two\n").unwrap();
    std::fs::write(dir.join("one"), "one\n".repeat(1000)).unwrap();
    std::fs::write(dir.join("two"), "two\n").unwrap();
    dir
}

/// Builds the context; `words` are flags.
pub(crate) fn build(engine: &Engine, context: &Path, words: &[&str]) -> Outcome {
    let context = context.display().to_string();
    engine.run(["build", "--progress", "plain"].iter().chain(words).copied().chain([context.as_str()]))
}

fn json_file(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn blob(layout: &Path, digest: &Value) -> Value {
    json_file(&layout.join("blobs/sha256").join(digest.as_str().unwrap().trim_start_matches("sha256:")))
}

/// Unpacks an archive.
fn unpacked(archive: &Path) -> PathBuf {
    let dir = archive.with_extension("d");
    std::fs::create_dir_all(&dir).unwrap();
    let (archive, to) = (archive.display().to_string(), dir.display().to_string());
    Command::new("tar", ["-xf", &archive, "-C", &to]).run().success();
    dir
}

/// dockerd's own store holds neither attestations nor OCI layouts.
fn is_docker(engine: &Engine) -> bool {
    engine.kind() == EngineKind::Docker
}

#[test]
fn an_image_that_stays_is_known_by_its_configuration() {
    let engine = Engine::start();
    let (context, dir) = (context(&engine), engine.scratch());
    let (metadata, id) = (dir.join("m.json"), dir.join("id"));
    let files = ["--metadata-file", metadata.to_str().unwrap(), "--iidfile", id.to_str().unwrap()];
    let built = build(&engine, &context, &[&["-t", "app:1"], files.as_slice()].concat()).success();
    let wanted = engine.run(["image", "inspect", "-f", "{{.Id}}", "app:1"]).success().word();
    let metadata = json_file(&metadata);
    assert_eq!(std::fs::read_to_string(id).unwrap(), wanted);
    assert_eq!(metadata["containerimage.config.digest"], wanted.as_str());
    assert_eq!(metadata["containerimage.digest"], wanted.as_str());
    assert_eq!(metadata["image.name"], "docker.io/library/app:1");
    for part in ["exporting to image", "exporting layers", "naming to docker.io/library/app:1"] {
        assert!(built.stderr.contains(part), "{built}");
    }
    assert!(built.stderr.contains(&format!("writing image {wanted}")), "{built}");
}

#[test]
fn what_an_exporter_does_not_do_is_refused_before_anything_is_built() {
    let engine = Engine::start();
    if is_docker(&engine) {
        return; // it ignores what it does not know
    }
    let context = context(&engine);
    for (output, text) in [
        ("type=image,name=x,compresion=zstd", "the image exporter has no option \"compresion\""),
        ("type=image,name=x,compression=estargz", "compression=estargz is not supported by skep"),
        ("type=oci,dest=-,annotation-x.a=b", "unrecognized annotation type"),
        ("type=image,push=true", "tag is needed when pushing to registry"),
    ] {
        let refused = build(&engine, &context, &["--output", output]).code_is(1);
        assert!(refused.stderr.contains(text), "{refused}");
        assert!(!refused.stderr.contains("COPY one"), "{refused}");
    }
    let refused = build(&engine, &context, &["--cache-to", "type=s3,bucket=b,region=r"]).code_is(1);
    assert!(refused.stderr.contains("unknown cache exporter: \"s3\""), "{refused}");
    let refused = build(&engine, &context, &["--attest", "type=sbom,generator=other/scanner"]).code_is(1);
    assert!(refused.stderr.contains("the generator other/scanner is not run"), "{refused}");
    engine.run(["images", "-q"]).success().stdout_is("");
}

#[test]
fn a_push_has_attestations_and_the_digest_of_its_index() {
    let (engine, registry) = (Engine::start(), Registry::start_own());
    if is_docker(&engine) {
        return;
    }
    let (context, metadata) = (context(&engine), engine.scratch().join("m.json"));
    let name = registry.name("team/app:1");
    let words = ["--push", "-t", &name, "--sbom=true", "--provenance=mode=min", "--build-arg", "TOKEN=hush"];
    let built =
        build(&engine, &context, &[&words, ["--metadata-file", metadata.to_str().unwrap()].as_slice()].concat());
    let built = built.success();
    let metadata = json_file(&metadata);
    let index = registry.api().call("GET", "/v2/team/app/manifests/1", None);
    let digest = metadata["containerimage.digest"].as_str().unwrap();
    assert!(built.stderr.contains(&format!("pushing manifest for {name}@{digest}")), "{built}");
    assert_eq!(metadata["containerimage.descriptor"]["mediaType"], "application/vnd.oci.image.index.v1+json");
    let (image, about) = (&index["manifests"][0], &index["manifests"][1]);
    assert_eq!(about["annotations"]["vnd.docker.reference.type"], "attestation-manifest");
    assert_eq!(about["annotations"]["vnd.docker.reference.digest"], image["digest"]);
    let get = |kind: &str, digest: &Value| {
        registry.api().call("GET", &format!("/v2/team/app/{kind}/{}", digest.as_str().unwrap()), None)
    };
    let layers = get("manifests", &about["digest"])["layers"].clone();
    let kinds: Vec<&str> = layers
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|layer| layer["annotations"]["in-toto.io/predicate-type"].as_str())
        .collect();
    assert_eq!(kinds, ["https://slsa.dev/provenance/v0.2", "https://spdx.dev/Document"]);
    let provenance = get("blobs", &layers[0]["digest"]);
    assert_eq!(format!("sha256:{}", provenance["subject"][0]["digest"]["sha256"].as_str().unwrap()), image["digest"]);
    assert!(!provenance.to_string().contains("hush"), "no build argument in mode=min: {provenance}");
    // What stays here is what is there.
    let digests = engine.run(["image", "inspect", "-f", "{{json .RepoDigests}}", &name]).success();
    assert!(digests.stdout.contains(digest), "{digests}");
    engine.run(["rmi", &name]).success();
    engine.run(["pull", &name]).success();
}

#[test]
fn attestations_stay_with_an_image_until_it_is_pushed() {
    let (engine, registry) = (Engine::start(), Registry::start_own());
    if is_docker(&engine) {
        return;
    }
    let context = context(&engine);
    let name = registry.name("later:1");
    let built = build(&engine, &context, &["-t", &name, "--sbom=true"]).success();
    assert!(built.stderr.contains("exporting attestation manifest sha256:"), "{built}");
    engine.run(["push", &name]).success();
    let index = registry.api().call("GET", "/v2/later/manifests/1", None);
    assert_eq!(index["manifests"][1]["annotations"]["vnd.docker.reference.type"], "attestation-manifest");
}

#[test]
fn an_oci_archive_is_as_it_was_wanted() {
    let engine = Engine::start();
    if is_docker(&engine) {
        return;
    }
    let (context, dir) = (context(&engine), engine.scratch());
    let archive = dir.join("zstd.tar");
    let output = format!("type=oci,dest={},name=app:1,compression=zstd", archive.display());
    build(&engine, &context, &["--output", &output, "--annotation", "who=me"]).success();
    let layout = unpacked(&archive);
    let line = &json_file(&layout.join("index.json"))["manifests"][0];
    assert_eq!(line["annotations"]["io.containerd.image.name"], "docker.io/library/app:1");
    let manifest = blob(&layout, &line["digest"]);
    assert_eq!(manifest["annotations"]["who"], "me");
    assert_eq!(manifest["layers"][1]["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
    for layer in manifest["layers"].as_array().unwrap() {
        let file = layout.join("blobs/sha256").join(layer["digest"].as_str().unwrap().trim_start_matches("sha256:"));
        assert_eq!(std::fs::metadata(file).unwrap().len(), layer["size"].as_u64().unwrap());
    }
    let loaded = engine.run(["load", "-i", archive.to_str().unwrap()]).success();
    assert!(loaded.stdout.contains("Loaded image: app:1"), "{loaded}");

    // A layout is also a context.
    std::fs::write(context.join("Layout"), "FROM made\nCOPY --from=made /one /again\n").unwrap();
    let directory = dir.join("layout");
    let output = format!("type=oci,tar=false,dest={}", directory.display());
    build(&engine, &context, &["--output", &output]).success();
    let line = &json_file(&directory.join("index.json"))["manifests"][0];
    assert_eq!(line["annotations"]["org.opencontainers.image.ref.name"], "latest");
    let manifest = blob(&directory, &line["digest"]);
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");

    let made = format!("made=oci-layout://{}", directory.display());
    let words = ["-f", &context.join("Layout").display().to_string(), "--build-context", &made, "-t", "on-layout"];
    engine.run(["builder", "prune", "-af"]).success();
    build(&engine, &context, &words).success();
    let layers = engine.run(["image", "inspect", "-f", "{{len .RootFS.Layers}}", "on-layout"]).success();
    layers.stdout_is("3\n");

    let words = ["--output", "type=image,name=x,annotation-index.a=b"];
    let refused = build(&engine, &context, &words).code_is(1);
    assert!(refused.stderr.contains("index annotations not supported for single platform export"), "{refused}");
}

#[test]
fn exported_files_have_statements_beside_them() {
    let engine = Engine::start();
    let (context, dir) = (context(&engine), engine.scratch());
    let plain = dir.join("plain");
    build(&engine, &context, &["--output", plain.to_str().unwrap()]).success();
    let names = |dir: &Path| {
        let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    };
    assert_eq!(names(&plain), ["dir", "one"]);
    if is_docker(&engine) {
        return;
    }
    let said = dir.join("said");
    let output = format!("type=local,dest={},attestation-prefix=x-", said.display());
    build(&engine, &context, &["--output", &output, "--provenance=mode=max", "--sbom=true"]).success();
    assert_eq!(names(&said), ["dir", "one", "x-provenance.json", "x-sbom.spdx.json"]);
    let provenance = json_file(&said.join("x-provenance.json"));
    let subjects: Vec<&str> =
        provenance["subject"].as_array().unwrap().iter().filter_map(|subject| subject["name"].as_str()).collect();
    assert_eq!(subjects, ["dir/two", "one"]);
}

#[test]
fn the_same_epoch_gives_the_same_archive() {
    let engine = super::engine();
    if is_docker(&engine) {
        return;
    }
    let (context, dir) = (context(&engine), engine.scratch());
    std::fs::write(context.join("Dockerfile"), "FROM busybox\nRUN mkdir /made && echo x > /made/file\n").unwrap();
    let digest = |number: u8| {
        let archive = dir.join(format!("{number}.tar"));
        let output = format!("type=oci,rewrite-timestamp=true,dest={}", archive.display());
        let words = ["--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=1700000000", "--output", &output];
        build(&engine, &context, &words).success();
        std::fs::read(archive).unwrap()
    };
    let first = digest(1);
    // Times are whole seconds.
    let begun = std::time::SystemTime::now();
    skep_testkit::until("another second has begun", || begun.elapsed().is_ok_and(|passed| passed.as_millis() > 1000));
    assert!(first == digest(2));
}

#[test]
fn the_history_of_builds_outlives_the_daemon() {
    let mut engine = Engine::start();
    let Some(buildx) = Buildx::find(&engine) else {
        println!("SKIPPED the history of builds: docker's buildx is not here (cargo xtask peers)");
        return;
    };
    let context = context(&engine);
    let run = |engine: &Engine, words: &[&str]| buildx.run(engine, words);
    let metadata = engine.scratch().join("m.json");
    let (path, file) = (context.display().to_string(), metadata.display().to_string());
    run(&engine, &["build", "--metadata-file", &file, "--build-arg", "TOKEN=x", &path]).success();
    assert_eq!(
        json_file(&metadata)["buildx.build.provenance"]["invocation"]["parameters"]["frontend"],
        "dockerfile.v0"
    );
    std::fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY nowhere /\n").unwrap();
    run(&engine, &["build", &path]).code_is(1);
    let list = |engine: &Engine, words: &[&str]| {
        let words = [&["history", "ls", "--format", "{{.Ref}} {{.Status}}"], words].concat();
        let listed = run(engine, &words).success().stdout;
        listed.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let before = list(&engine, &[]);
    assert!(before.len() == 2 && before[0].ends_with("Error") && before[1].ends_with("Completed"), "{before:?}");
    assert_eq!(list(&engine, &["--filter", "status=error"]), before[..1]);
    engine.stop();
    engine.launch();
    assert_eq!(list(&engine, &[]), before);
    let id = before[0].split(' ').next().unwrap();
    let logs = run(&engine, &["history", "logs", id]).success();
    assert!(logs.stderr.contains("COPY nowhere /") || logs.stdout.contains("COPY nowhere /"), "{logs}");
    let inspected = run(&engine, &["history", "inspect", id]).success();
    assert!(inspected.stdout.contains(">>> COPY nowhere /"), "{inspected}");
    let done = before[1].split(' ').next().unwrap();
    let inspected = run(&engine, &["history", "inspect", done]).success();
    assert!(inspected.stdout.contains("https://slsa.dev/provenance/v0.2"), "{inspected}");
    run(&engine, &["history", "rm", "--all"]).success();
    if engine.kind() == EngineKind::Docker {
        return println!("SKIPPED a list of no builds: dockerd closes the connection instead of an answer");
    }
    assert!(list(&engine, &[]).is_empty());
}

#[test]
fn a_record_has_the_documents_of_its_image() {
    let engine = Engine::start();
    let Some(buildx) = Buildx::find(&engine) else {
        println!("SKIPPED the documents of a build: docker's buildx is not here (cargo xtask peers)");
        return;
    };
    if is_docker(&engine) {
        return println!("SKIPPED the documents of a build: dockerd's own store makes none");
    }
    let context = context(&engine);
    let archive = engine.scratch().join("app.tar").display().to_string();
    let output = format!("type=oci,dest={archive}");
    build(&engine, &context, &["--provenance=mode=min", "--label", "a=b", "--output", &output]).success();
    let index = blob_of_top(&unpacked(Path::new(&archive)));
    let find = |run: &dyn Fn(&[&str]) -> Outcome| {
        let told = run(&["history", "inspect", "--format", "json"]).success().json();
        assert_eq!(told["Labels"][0]["Value"], "b", "{told}");
        let all = told["Attachments"].as_array().unwrap().clone();
        let of = |kind: &str| all.iter().find(|one| one["Type"] == kind).unwrap_or_else(|| panic!("{kind}: {all:?}"));
        assert_eq!(of("application/vnd.oci.image.index.v1+json")["Digest"], index.as_str());
        assert_eq!(of("application/vnd.oci.image.manifest.v1+json")["Platform"], platform());
        assert!(all.iter().any(|one| one["Type"].as_str().unwrap().starts_with("https://slsa.dev/provenance/")));
        let text = run(&["history", "inspect"]).success().stdout;
        assert!(text.contains("Build Steps:\t") && text.contains("Attachments:\nDIGEST\t"), "{text}");
        let attachment = |words: &[&str]| run(&[&["history", "inspect", "attachment"], words].concat());
        assert_eq!(attachment(&["--type", "index"]).success().json()["schemaVersion"], 2);
        let manifest = attachment(&["--platform", platform(), "--type", "manifest"]).success().json();
        assert_eq!(manifest["layers"].as_array().map(Vec::len), Some(2));
        assert!(attachment(&["--type", "provenance"]).success().stdout.contains("buildType"));
        attachment(&[]).code_is(1).stderr_has("at least one of --type, --platform or DIGEST must be specified");
        attachment(&["--type", "sbom"]).code_is(1).stderr_has("no matching attachment found");
    };
    find(&|words| buildx.run(&engine, words));
    find(&|words| engine.run(["buildx"].iter().chain(words)));
    std::fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY nowhere /\n").unwrap();
    build(&engine, &context, &["--no-cache"]).code_is(1);
    let failed = engine.run(["buildx", "history", "inspect"]).success().stdout;
    for part in ["Error:\t\t", "No Cache:\t", "   2 | >>> COPY nowhere /"] {
        assert!(failed.contains(part), "{part:?} in {failed}");
    }
    let status = engine.run(["buildx", "history", "inspect", "--format", "{{.Status}}"]).success();
    assert_eq!(status.stdout, "failed\n");
}

fn platform() -> &'static str {
    if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" }
}

/// The digest that the index of an OCI layout names.
fn blob_of_top(layout: &Path) -> String {
    json_file(&layout.join("index.json"))["manifests"][0]["digest"].as_str().unwrap().to_owned()
}

#[test]
fn the_command_line_knows_what_was_built() {
    let engine = Engine::start();
    if engine.kind() == EngineKind::Docker {
        return println!("SKIPPED the history of builds by skep's command line: it asks skep's engine");
    }
    let context = context(&engine);
    build(&engine, &context, &["-t", "first"]).success();
    std::fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY nowhere /\n").unwrap();
    build(&engine, &context, &[]).code_is(1);
    let history = |words: &[&str]| engine.run(["buildx", "history"].iter().chain(words));
    let listed = history(&["ls"]).success().stdout;
    let lines: Vec<&str> = listed.lines().collect();
    assert!(lines.len() == 3 && lines[1].contains("Error") && lines[2].contains("first"), "{listed}");
    history(&["logs"]).success().stderr_has("COPY nowhere /");
    history(&["logs", "^1"]).success().stderr_has("COPY two /dir/two");
    history(&["logs", "nowhere"]).code_is(1).stderr_has("no record found for ref \"nowhere\"");
    history(&["rm", "^1"]).success();
    assert_eq!(history(&["ls", "--filter", "status=completed"]).success().stdout.lines().count(), 1);
    history(&["rm", "--all"]).success();
    assert_eq!(history(&["ls"]).success().stdout.lines().count(), 1);
}
