//! Builds that can't be: what is said, in Docker's words, and that nothing is left.

use skep_testkit::{Engine, EngineKind, Outcome, until};

use super::engine;
use super::project::Project;

/// Builds a Dockerfile that is wrong.
#[track_caller]
fn fails(engine: &Engine, text: &str) -> Outcome {
    let project =
        Project::new(engine, "wrong", text).file("file", "").file("ignored", "").file(".dockerignore", "ignored\n");
    project.build(engine, &["--progress", "plain", "-t", "wrong"]).code_is(1)
}

#[test]
fn unknown_instructions_and_flags() {
    let engine = engine();
    let outcome = fails(&engine, "FROM busybox\nRUNN true\n");
    outcome
        .stderr_has("dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)")
        .stderr_has("   2 | >>> RUNN true");
    fails(&engine, "FROM busybox\nCOPY --nope=1 file /\n").stderr_has("unknown flag: --nope");
    fails(&engine, "FROM busybox\nRUN --mount=type=nope true\n").stderr_has("unsupported mount type \"nope\"");
    fails(&engine, "").stderr_has("the Dockerfile cannot be empty");
    fails(&engine, "RUN true\n").stderr_has("no build stage in current context");
    engine.run(["images", "-q", "wrong"]).success().stdout_is("");
}

#[test]
fn files_that_are_not_there() {
    let engine = engine();
    fails(&engine, "FROM busybox\nCOPY missing /\n").stderr_has("\"/missing\": not found");
    let outcome = fails(&engine, "FROM busybox\nCOPY ignored /\n").stderr_has("\"/ignored\": not found");
    if engine.kind() == EngineKind::Skep {
        // Docker doesn't say that it is there, but ignored.
        outcome.stderr_has("excluded by .dockerignore");
    }
    let project = Project::empty(&engine, "empty");
    project
        .build(&engine, &[])
        .code_is(1)
        .stderr_has("failed to read dockerfile: open Dockerfile: no such file or directory");
}

#[test]
fn stages_that_are_not_there() {
    let engine = engine();
    let project = Project::new(&engine, "stages", "FROM busybox AS one\n");
    project.build(&engine, &["--target", "two"]).code_is(1).stderr_has("target stage \"two\" could not be found");
    // A name that is no stage is an image, which nobody has.
    fails(&engine, "FROM busybox\nCOPY --from=127.0.0.1:1/none /x /\n").stderr_has("127.0.0.1:1/none");
    fails(&engine, "FROM busybox AS a\nCOPY --from=a /x /\n").stderr_has("circular dependency detected on stage: a");
    let cycle = "FROM busybox AS a\nCOPY --from=b /x /\nFROM busybox AS b\nCOPY --from=a /x /\n";
    let outcome = fails(&engine, cycle);
    assert!(outcome.stderr.contains("circular dependency") || outcome.stderr.contains("b"), "{outcome}");
}

#[test]
fn arguments_that_are_missing() {
    let engine = engine();
    fails(&engine, "ARG BASE\nFROM $BASE\n").stderr_has("base name ($BASE) should not be blank");
    fails(&engine, "FROM busybox\nARG V\nRUN echo ${V:?is not set}\n").stderr_has("exit code: 2");
    fails(&engine, "FROM busybox\nARG V\nENV X=${V:?is not set}\n").stderr_has("is not set");
}

#[test]
fn a_step_that_fails_shows_its_output_and_its_line() {
    let engine = engine();
    let outcome = fails(&engine, "FROM busybox\nRUN echo out; \\\n  echo err >&2; \\\n  exit 7\nRUN true\n");
    for part in [
        " out\n",
        " err\n",
        "   2 | >>> RUN echo out; \\",
        "   4 | >>>   exit 7",
        "did not complete successfully: exit code: 7",
    ] {
        assert!(outcome.stderr.contains(part), "{part:?} in {outcome}");
    }
    let project = Project::new(&engine, "quiet", "FROM busybox\nRUN echo out; exit 7\n");
    let quiet = project.build(&engine, &["-q"]).code_is(1);
    assert!(!quiet.stderr.contains("------\n >") && quiet.stderr.starts_with("Dockerfile:2\n"), "{quiet}");
}

#[test]
fn links_do_not_lead_out_of_the_context() {
    let engine = engine();
    let project = Project::new(&engine, "links", "FROM busybox\nCOPY out /out\n");
    std::fs::write(engine.scratch().join("outside"), "secret\n").unwrap();
    std::os::unix::fs::symlink("../outside", project.path().join("out")).unwrap();
    project.build(&engine, &[]).code_is(1).stderr_has("not found");
    let project = project.file("Dockerfile", "FROM busybox\nCOPY ../outside /out\n");
    project.build(&engine, &[]).code_is(1).stderr_has("\"/outside\": not found");
}

#[test]
fn contexts_and_flags_that_make_no_sense() {
    let engine = engine();
    engine.run(["build", "/no/such/folder"]).code_is(1).stderr_has("path \"/no/such/folder\" not found");
    let project = Project::new(&engine, "flags", "FROM busybox\n");
    project.build(&engine, &["-t", "UPPER:"]).code_is(1).stderr_has("invalid tag \"UPPER:\": invalid reference format");
    project.build(&engine, &["--add-host", "x:nope"]).code_is(1).stderr_has("invalid host x:nope");
    project.build(&engine, &["--progress", "nope"]).code_is(1).stderr_has("nope");
    project.build(&engine, &["--secret", "src=x"]).code_is(1).stderr_has("secret missing ID");
    project.build(&engine, &["--no-such-flag"]).stderr_has("unknown flag: --no-such-flag");
    project.build(&engine, &["--push"]).code_is(1).stderr_has("tag is needed when pushing to registry");
    engine.run(["build"]).code_is(1).stderr_has("requires 1 argument");
}

#[test]
fn interrupting_ends_what_runs() {
    let engine = engine();
    let project = Project::new(&engine, "long", "FROM busybox\nRUN echo begun; sleep 54321\n");
    let word = project.word();
    let mut terminal = engine.terminal(["build", "--progress", "plain", "-t", "wrong", &word]);
    terminal.expect(" begun");
    terminal.send([3]); // Ctrl-C
    assert_ne!(terminal.wait(), 0);
    until("the step has ended", || {
        let processes = skep_testkit::Command::new("ps", ["axo", "args"]).run().stdout;
        !processes.lines().any(|line| line.contains("sleep 54321") && !line.contains("begun"))
    });
    engine.run(["images", "-q", "wrong"]).success().stdout_is("");
}
