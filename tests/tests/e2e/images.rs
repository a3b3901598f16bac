//! Images: pulling, loading, saving, removing.

use skep_testkit::{Command, Engine, Image, ImageBuilder, Registry};

use super::engine;

#[test]
fn pulled_and_run() {
    let (engine, registry) = (Engine::start(), Registry::start());
    let name = engine.pull(&registry, Image::busybox());
    engine.run(["run", "--rm", &name, "echo", "pulled"]).success().stdout_is("pulled\n");
    engine.run(["images", "-q", "--no-trunc"]).success().stdout_is(&format!("{}\n", Image::busybox().id()));
    engine.run(["pull", &name]).success().stdout_has("Status: Image is up to date");
}

#[test]
fn run_pulls_what_is_missing() {
    let (engine, registry) = (Engine::start(), Registry::start());
    registry.push("auto:1", Image::busybox());
    let name = registry.name("auto:1");
    engine.run(["run", "--rm", "--pull", "never", &name, "true"]).code_is(125).stderr_has("No such image");
    engine
        .run(["run", "--rm", &name, "echo", "there"])
        .success()
        .stderr_has("Unable to find image")
        .stdout_is("there\n");
}

#[test]
fn settings_of_the_image_apply() {
    let engine = Engine::start();
    let settings = serde_json::json!({
        "Entrypoint": ["echo", "entry"], "Cmd": ["default"], "Env": ["A=b"], "User": "1000", "WorkingDir": "/made",
    });
    engine.load(&ImageBuilder::new("set:1").settings(settings).build());
    engine.run(["run", "--rm", "set:1"]).success().stdout_is("entry default\n");
    engine.run(["run", "--rm", "set:1", "other"]).success().stdout_is("entry other\n");
    let script = "echo $A $(id -u) $(pwd)";
    engine.run(["run", "--rm", "--entrypoint", "sh", "set:1", "-c", script]).success().stdout_is("b 1000 /made\n");
}

#[test]
fn saved_and_loaded_again() {
    let engine = engine();
    let file = engine.scratch().join("image.tar").display().to_string();
    engine.run(["save", "-o", &file, "busybox"]).success();
    engine.run(["rmi", "busybox"]).success().stdout_has("Untagged: busybox:latest");
    engine.run(["images", "-q"]).success().stdout_is("");
    engine.run(["load", "-i", &file]).success().stdout_has("Loaded image: busybox:latest");
    engine.run(["images", "-q", "--no-trunc"]).success().stdout_is(&format!("{}\n", Image::busybox().id()));
    engine.run(["run", "--rm", "busybox", "true"]).success();
}

#[test]
fn upper_layers_hide_lower_ones() {
    let engine = Engine::start();
    let image = ImageBuilder::new("layers:1")
        .layer(&[("data/one", 0o644, b"one"), ("data/gone", 0o644, b"gone"), ("opaque/old", 0o644, b"old")])
        .layer(&[
            ("data/one", 0o600, b"changed"),
            ("data/.wh.gone", 0o644, b""),
            ("opaque/.wh..wh..opq", 0o644, b""),
            ("opaque/new", 0o644, b""),
        ])
        .build();
    engine.load(&image);
    let script = "cat /data/one; ls /data /opaque; stat -c %a /data/one";
    engine
        .run(["run", "--rm", "layers:1", "sh", "-c", script])
        .success()
        .stdout_is("changed/data:\none\n\n/opaque:\nnew\n600\n");
}

#[test]
fn a_used_image_is_not_removed() {
    let engine = engine();
    engine.run(["create", "--name", "one", "busybox"]).success();
    let outcome = engine.run(["rmi", "busybox"]).code_is(1);
    outcome.stderr_has("conflict: unable to remove repository reference \"busybox\" (must force)");
    engine.run(["rm", "one"]).success();
    engine.run(["rmi", "busybox"]).success().stdout_has("Deleted: sha256:");
}

#[test]
fn a_corrupted_layer_is_refused() {
    let (engine, registry) = (Engine::start(), Registry::start());
    let mut image = Image::busybox().clone();
    image.layers[0][5000] ^= 1; // the configuration has the digest of the true layer
    registry.push("bad:1", &image);
    let outcome = engine.run(["pull", &registry.name("bad:1")]);
    assert_ne!(outcome.code, 0, "{outcome}");
    engine.run(["images", "-aq"]).success().stdout_is("");
}

#[test]
fn another_architecture() {
    let engine = Engine::start();
    engine.load(&ImageBuilder::new("foreign:1").architecture("s390x").build());
    let outcome = engine.run(["run", "--rm", "foreign:1", "echo", "runs"]);
    outcome.stderr_has("The requested image's platform (linux/s390x) does not match the detected host platform");
}

#[test]
fn tags_and_inspection() {
    let engine = engine();
    engine.run(["tag", "busybox", "other/name:v2"]).success();
    engine
        .run(["image", "inspect", "-f", "{{.Id}}", "other/name:v2"])
        .success()
        .stdout_is(&format!("{}\n", Image::busybox().id()));
    engine.run(["images", "--format", "{{.Repository}}:{{.Tag}}", "other/name"]).success().stdout_is("other/name:v2\n");
    engine.run(["history", "-q", "--no-trunc", "busybox"]).success().stdout_has(&Image::busybox().id());
    engine.run(["rmi", "other/name:v2"]).success().stdout_is("Untagged: other/name:v2\n");
}

#[test]
fn platforms_share_a_name() {
    let (engine, registry) = (Engine::start(), Registry::start());
    let image = |architecture: &str| {
        let file: (&str, u32, &[u8]) = ("arch", 0o644, architecture.as_bytes());
        ImageBuilder::new(&format!("multi:{architecture}")).architecture(architecture).layer(&[file]).build()
    };
    let mut manifests = Vec::new();
    for architecture in ["amd64", "s390x"] {
        let image = image(architecture);
        let name = format!("multi:{architecture}");
        let digest = registry.push(&name, &image);
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let reply =
            registry.api().send("GET", &format!("/v2/multi/manifests/{digest}"), &[("Accept", media_type)], b"");
        manifests.push(serde_json::json!({
            "mediaType": media_type, "digest": digest, "size": reply.unwrap().body.len(),
            "platform": {"os": "linux", "architecture": architecture},
        }));
    }
    let index_type = "application/vnd.oci.image.index.v1+json";
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": index_type, "manifests": manifests}).to_string();
    registry.put_manifest("multi", "all", index_type, index.as_bytes());
    let name = registry.name("multi:all");
    engine.run(["pull", "--platform", "linux/s390x", &name]).success();
    engine.run(["pull", &name]).success();
    // One line, whose id is the host's image; scripts that saw one of the ids can go on.
    engine.run(["images", "-q", "--no-trunc"]).success().stdout_is(&format!("{}\n", image("amd64").id()));
    let tree = engine.run(["images", "--tree"]).success();
    tree.stdout_has("├─ linux/amd64").stdout_has("└─ linux/s390x");
    let architecture = |arguments: &[&str]| {
        let format = ["image", "inspect", "-f", "{{.Architecture}}"];
        engine.run([&format[..], arguments].concat()).success().word()
    };
    assert_eq!(architecture(&[&name]), "amd64");
    assert_eq!(architecture(&["--platform", "linux/s390x", &name]), "s390x");
    assert_eq!(architecture(&[&image("s390x").id()]), "s390x");
    engine.run(["create", "--name", "one", "--platform", "linux/s390x", &name]).success();
    assert_eq!(engine.inspect("one")["Image"], image("s390x").id());
    engine
        .run(["ps", "-a", "--format", "{{.Platform}} {{.Image}}"])
        .success()
        .stdout_is(&format!("linux/s390x {name}\n"));
    let row = engine.run(["ps", "-a", "--format", "json"]).success().json();
    assert_eq!(row["Platform"], serde_json::json!({"architecture": "s390x", "os": "linux"}));
    engine.run(["history", "--platform", "linux/mips", &name]).code_is(1).stderr_has("(linux/mips)");

    let file = engine.scratch().join("multi.tar").display().to_string();
    engine.run(["save", "-o", &file, &name]).success();
    let removed = engine.run(["rmi", "--platform", "linux/amd64", &name]).success();
    removed.stdout_has(&format!("Deleted: {}\n", image("amd64").id()));
    assert_eq!(architecture(&[&name]), "s390x");
    engine.run(["load", "-i", &file]).success().stdout_is(&format!("Loaded image: {name}\n"));
    assert_eq!(architecture(&[&name]), "amd64");
    engine.run(["rmi", &name]).code_is(1).stderr_has("is using its referenced image");
    engine.run(["rm", "one"]).success();
    engine.run(["rmi", &name]).success();
    engine.run(["images", "-aq"]).success().stdout_is("");
}

/// Three images, one made from the other: `base:1`, `mid:1` with labels, `top:1`.
fn family(engine: &Engine) {
    let files: [(&str, u32, &[u8]); 2] = [("one", 0o644, b"1"), ("two", 0o644, b"2")];
    engine.load(&ImageBuilder::new("base:1").layer(&files[..1]).build());
    for (from, to, label) in [("base:1", "mid:1", "role=mid"), ("mid:1", "top:1", "role=top")] {
        let made = engine.run(["create", "--name", "maker", from, "true"]).success().word();
        engine.run(["commit", "-c", &format!("LABEL {label}"), &made, to]).success();
        engine.run(["rm", "maker"]).success();
    }
}

#[test]
fn filters_of_images() {
    let engine = Engine::start();
    family(&engine);
    let listed = |filters: &[&str]| {
        let flags = filters.iter().flat_map(|filter| ["--filter", filter]);
        let words = ["images", "--format", "{{.Repository}}"].into_iter().chain(flags);
        let mut names: Vec<String> = engine.run(words).success().stdout.lines().map(str::to_owned).collect();
        names.sort();
        names.join(" ")
    };
    for (filters, wanted) in [
        (&["before=mid:1"][..], "base"),
        (&["since=mid:1"], "top"),
        (&["since=base:1", "before=top:1"], "mid"),
        (&["label=role"], "mid top"),
        (&["label=role=mid"], "mid"),
        (&["reference=base"], "base"),
        (&["reference=*:1"], "base mid top"),
        (&["reference=base:*", "reference=mid"], "base mid"),
        (&["dangling=true"], ""),
        (&["until=2001-02-03"], ""),
        (&["until=2001-02-03T04:05:06"], ""),
    ] {
        assert_eq!(listed(filters), wanted, "{filters:?}");
    }
    for (filter, text) in [
        ("label!=role", "invalid filter 'label!'"),
        ("reference=[", "syntax error in pattern"),
        ("until=bad", "failed to parse value as time or duration: \"bad\""),
        ("before=nope", "No such image: nope:latest"),
        ("dangling=maybe", "invalid filter 'dangling=[maybe]'"),
        ("nope=1", "invalid filter 'nope'"),
    ] {
        engine.run(["images", "--filter", filter]).code_is(1).stderr_has(text);
    }
    engine.run(["images", "--format", "{{.Nope}}"]).code_is(1).stderr_has(
        "template parsing error: template: :1:2: executing \"\" at <.Nope>: can't evaluate field Nope in type *formatter.imageContext",
    );
    engine.run(["images", "--format", "json", "base"]).success().stdout_has("\"Digest\":\"\\u003cnone\\u003e\"");
}

#[test]
fn tags_that_are_none() {
    let engine = engine();
    let wrong = |name: &str| {
        format!("Error parsing reference: {name:?} is not a valid repository/tag: invalid reference format")
    };
    for target in ["Bad", "a/b/C", "x:bad~tag"] {
        engine.run(["tag", "busybox", target]).code_is(1).stderr_has(&wrong(target));
    }
    engine.run(["tag", "busybox", ""]).code_is(1).stderr_has(&wrong(""));
    engine.run(["tag", "", "x"]).code_is(1).stderr_has(&wrong(""));
    engine.run(["tag", "nope", "x"]).code_is(1).stderr_has("No such image: nope:latest");
    let digest = format!("x@sha256:{}", "a".repeat(64));
    engine.run(["tag", "busybox", &digest]).code_is(1).stderr_has("refusing to create a tag with a digest reference");
    engine.run(["tag", "busybox", "localhost:5000/x"]).success();
    engine.run(["rmi", "localhost:5000/x"]).success().stdout_is("Untagged: localhost:5000/x:latest\n");
}

#[test]
fn containers_of_an_image_and_of_what_was_made_from_it() {
    let engine = Engine::start();
    family(&engine);
    for name in ["base", "mid", "top"] {
        engine.run(["create", "--name", name, &format!("{name}:1"), "true"]).success();
    }
    let id = engine.run(["images", "-q", "mid:1"]).success().word();
    for (ancestor, wanted) in
        [("base:1", "base mid top"), ("mid:1", "mid top"), (id.as_str(), "mid top"), ("top:1", "top"), ("nope", "")]
    {
        let filter = format!("ancestor={ancestor}");
        let listed = engine.run(["ps", "-a", "--format", "{{.Names}}", "--filter", &filter]).success().stdout;
        let mut names: Vec<&str> = listed.lines().collect();
        names.sort_unstable();
        assert_eq!(names.join(" "), wanted, "{ancestor}");
    }
    engine.run(["rm", "base", "mid", "top"]).success();
}

#[test]
fn archives_of_xz_and_bzip2() {
    let engine = engine();
    let archive = engine.scratch().join("busybox.tar");
    let plain = archive.to_str().unwrap();
    engine.run(["save", "-o", plain, "busybox"]).success();
    Command::new("xz", ["-k", "-0", plain]).run().success();
    Command::new("bzip2", ["-k", "-1", plain]).run().success();
    for ending in ["xz", "bz2"] {
        engine.run(["rmi", "-f", "busybox"]).success();
        engine
            .run(["load", "-q", "-i", &format!("{plain}.{ending}")])
            .success()
            .stdout_is("Loaded image: busybox:latest\n");
        engine.run(["import", &format!("{plain}.{ending}"), "files:1"]).success();
        engine.run(["create", "--name", "files", "files:1", "x"]).success();
        engine.run(["cp", "files:/oci-layout", "-"]).success();
        engine.run(["rm", "files"]).success();
    }
}
