//! Images: pulling, loading, saving, removing.

use skep_testkit::{Engine, Image, ImageBuilder, Registry};

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
