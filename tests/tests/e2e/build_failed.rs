//! A step that failed is entered: a shell with its files, what it wrote included.

use std::path::{Path, PathBuf};

use skep_testkit::{Engine, until};

use super::engine;
use super::upkeep::own_words;

/// A folder with a Dockerfile.
fn project(engine: &Engine, dockerfile: &str) -> PathBuf {
    let folder = engine.scratch().join("project");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("Dockerfile"), dockerfile).unwrap();
    folder
}

const FAILS: &str = "FROM busybox\nENV COLOUR=red\nWORKDIR /work\nUSER 1000:1000\nUSER 0\n\
    RUN --mount=type=cache,target=/cache echo kept > /cache/file\n\
    RUN --mount=type=cache,target=/cache --mount=type=secret,id=s --mount=type=tmpfs,target=/mem \
    echo half > done && sh -c 'exit 7'\n";

fn nothing_runs(engine: &Engine) {
    let builds = engine.exec_root().join("builds");
    let empty = |path: &Path| std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    until("nothing of the build runs", || !builds.exists() || empty(&builds));
}

#[test]
fn a_failed_step_is_entered_with_what_it_wrote() {
    if !own_words("a_failed_step_is_entered_with_what_it_wrote") {
        return;
    }
    let engine = engine();
    let folder = project(&engine, FAILS);
    std::fs::write(folder.join("secret"), "hidden").unwrap();
    let secret = format!("id=s,src={}", folder.join("secret").display());
    let script = "pwd; cat done; echo $COLOUR; cat /cache/file; cat /run/secrets/s; echo; mount | grep -c ' /mem '; \
                  echo more > done; exit 3\n";
    let arguments = ["build", "--on-error=shell", "--secret", &secret, &folder.display().to_string()];
    let outcome = engine.command(arguments).stdin(script).run().code_is(1);
    assert_eq!(outcome.stdout, "/work\nhalf\nred\nkept\nhidden\n1\n");
    let text = "ERROR: failed to build: failed to solve: process \"/bin/sh -c echo half > done && sh -c 'exit 7'\" \
                did not complete successfully: exit code: 7\n";
    assert!(outcome.stderr.ends_with(text), "{outcome}");
    // What was written in the shell is gone with it.
    let again = engine.command(arguments).stdin("cat done\n").run().code_is(1);
    assert_eq!(again.stdout, "half\n");
    nothing_runs(&engine);
}

#[test]
fn the_shell_of_a_failed_step_has_the_terminal() {
    if !own_words("the_shell_of_a_failed_step_has_the_terminal") {
        return;
    }
    let engine = engine();
    let folder = project(&engine, "FROM busybox\nRUN echo x > /left; false\n").display().to_string();
    let mut terminal = engine.terminal(["build", "--on-error=shell", "--progress=plain", &folder]);
    terminal.expect("/ #");
    terminal.send("echo $TERM; cat /left; sleep 1000\n");
    terminal.expect("x\r\n");
    terminal.resize(31, 97);
    terminal.send("\x03");
    terminal.expect("/ #");
    terminal.send("stty size\n");
    terminal.expect("31 97");
    terminal.send("\x04");
    terminal.expect("ERROR: failed to build");
    assert_eq!(terminal.wait(), 1);
    nothing_runs(&engine);
}

#[test]
fn a_build_that_does_not_fail_or_has_no_shell_just_ends() {
    if !own_words("a_build_that_does_not_fail_or_has_no_shell_just_ends") {
        return;
    }
    let engine = engine();
    let folder = project(&engine, "FROM busybox\nRUN echo x > /left\n").display().to_string();
    engine.command(["build", "-t", "made", "--on-error=shell", &folder]).stdin("exit 9\n").run().success();
    engine.run(["run", "--rm", "made", "cat", "/left"]).success().stdout_is("x\n");

    let text = "FROM busybox AS b\nFROM scratch\nCOPY --from=b /bin/busybox /only\nRUN [\"/only\", \"false\"]\n";
    let folder = project(&engine, text).display().to_string();
    let outcome = engine.command(["build", "--on-error=shell", &folder]).stdin("exit 9\n").run().code_is(1);
    let outcome = outcome.stderr_has("no shell where the step failed");
    outcome.stderr_has("did not complete successfully: exit code: 1");
    engine.run(["build", "--on-error=debug", &folder]).code_is(1).stderr_has("it can only be shell");
    nothing_runs(&engine);
}

#[test]
fn a_client_that_goes_away_takes_its_shell_along() {
    if !own_words("a_client_that_goes_away_takes_its_shell_along") {
        return;
    }
    let engine = engine();
    let folder = project(&engine, "FROM busybox\nRUN echo x > /left; false\n").display().to_string();
    let mut terminal = engine.terminal(["build", "--on-error=shell", "--progress=plain", &folder]);
    terminal.expect("/ #");
    terminal.send("sleep 1000\n");
    let steps = engine.exec_root().join("builds");
    until("the shell runs", || std::fs::read_dir(&steps).unwrap().count() == 1);
    drop(terminal);
    nothing_runs(&engine);
}
