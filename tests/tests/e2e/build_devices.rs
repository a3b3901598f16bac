//! `RUN --device`: devices that their vendors describe (CDI).

use skep_testkit::{Engine, Image, Outcome};

use super::project::Project;
use super::upkeep::own_words;

const FOO: &str = r#"
cdiVersion: "0.6.0"
kind: "vendor1.com/device"
devices:
- name: foo
  annotations: {org.mobyproject.buildkit.device.class: group}
  containerEdits:
    env: ["FOO=injected"]
    deviceNodes: [{path: /dev/of-foo, hostPath: /dev/null}]
    mounts: [{hostPath: HERE/library, containerPath: /opt/library, options: [ro]}]
    hooks: [{hookName: createRuntime, path: /bin/sh, args: [sh, -c, "cat > /dev/null; echo ran > HERE/hook"]}]
- name: bar
  containerEdits:
    env: ["BAR=other"]
"#;

/// An engine with a directory of descriptions.
fn world() -> (tempfile::TempDir, Engine) {
    let vendors = tempfile::tempdir().unwrap();
    let here = vendors.path().display().to_string();
    std::fs::write(vendors.path().join("library"), "code\n").unwrap();
    std::fs::write(vendors.path().join("foo.yml"), FOO.replace("HERE", &here)).unwrap();
    std::fs::write(vendors.path().join("broken.json"), "{").unwrap();
    let engine = Engine::builder().argument(format!("--cdi-spec-dir={here}")).start();
    engine.load(Image::busybox());
    (vendors, engine)
}

fn build(engine: &Engine, lines: &str, flags: &[&str]) -> Outcome {
    let project = Project::new(engine, "devices", &format!("FROM busybox\n{lines}\n"));
    project.build(engine, &[&["--progress=plain", "--no-cache"], flags].concat())
}

#[test]
fn a_step_has_what_is_described_and_no_other_step() {
    if !own_words("a_step_has_what_is_described_and_no_other_step") {
        return;
    }
    let (vendors, engine) = world();
    let lines = "RUN --device=vendor1.com/device=foo echo $FOO-$BAR && test -c /dev/of-foo && echo x > /dev/of-foo && \
                 cat /opt/library\nRUN test -z \"$FOO\" && test ! -e /dev/of-foo && test ! -s /opt/library";
    build(&engine, lines, &["--allow", "device", "-t", "one"]).success().stderr_has("injected-\n").stderr_has("code\n");
    assert_eq!(std::fs::read_to_string(vendors.path().join("hook")).unwrap(), "ran\n");
    // Nothing of it is in the image.
    let left = engine.run(["run", "--rm", "one", "sh", "-c", "env; ls /dev"]).success().stdout;
    assert!(!left.contains("FOO") && !left.contains("of-foo"), "{left}");
    for (wanted, expected) in [("vendor1.com/device=*", "injected-other"), ("vendor1.com/device=group", "injected-\n")]
    {
        let line = format!("RUN --device={wanted} echo $FOO-$BAR");
        build(&engine, &line, &["--allow", "device"]).success().stderr_has(expected);
    }
}

#[test]
fn devices_have_to_be_allowed() {
    if !own_words("devices_have_to_be_allowed") {
        return;
    }
    let (_vendors, engine) = world();
    let line = "RUN --device=vendor1.com/device=foo echo $FOO-";
    build(&engine, line, &[]).code_is(1).stderr_has("device vendor1.com/device=foo is not allowed");
    let other = ["--allow", "device=vendor1.com/device=bar"];
    build(&engine, line, &other).code_is(1).stderr_has("device vendor1.com/device=foo is not allowed");
    for grant in ["device=vendor1.com/device=foo", "device=vendor1.com/device"] {
        build(&engine, line, &["--allow", grant]).success().stderr_has("injected-");
    }
    let alias = ["--allow", "device=vendor1.com/device=foo,alias=mine.org/any=one"];
    build(&engine, "RUN --device=mine.org/any=one echo $FOO-", &alias).success().stderr_has("injected-");
}

#[test]
fn devices_that_are_not_there() {
    if !own_words("devices_that_are_not_there") {
        return;
    }
    let (_vendors, engine) = world();
    let allow = ["--allow", "device"];
    build(&engine, "RUN --device=vendor2.com/device=foo echo went on", &allow).success().stderr_has("went on");
    let outcome = build(&engine, "RUN --device=vendor2.com/device=foo,required true", &allow).code_is(1);
    outcome.stderr_has("required device \"vendor2.com/device=foo\" is not registered").stderr_has("broken.json");
    build(&engine, "RUN --device=nonsense true", &allow).code_is(1).stderr_has("invalid device \"nonsense\"");
    engine.run(["info"]).success().stdout_has("CDI spec directories");
}
