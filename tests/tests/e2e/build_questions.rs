//! What is said of a Dockerfile without building it, and of the command itself.

use skep_testkit::Engine;

use super::engine;
use super::project::Project;
use super::upkeep::own_words;

const TEXT: &str = "# check=skip=FromAsCasing\nARG V=1\nFROM busybox AS Base\nARG WHO=me\n\
    RUN --mount=type=secret,id=token,required --mount=type=ssh true\nFROM base AS second\nMAINTAINER me\n";

fn project(engine: &Engine) -> Project {
    Project::new(engine, "questions", TEXT)
        .file("Clean", "FROM busybox AS base\nRUN true\n")
        .file("Bad", "FROM a\nNOPE\n")
}

#[test]
fn checks() {
    let engine = engine();
    let project = project(&engine);
    let clean = project.path().join("Clean").display().to_string();
    project.build(&engine, &["--check", "-f", &clean]).success().stdout_is("Check complete, no warnings found.\n");
    let found = project.build(&engine, &["--check"]).code_is(1).stdout;
    assert!(found.starts_with("Check complete, 2 warnings have been found!\n\nWARNING: StageNameCasing - "), "{found}");
    let place = project.path().join("Dockerfile");
    assert!(found.contains(&format!("\n{}:7\n--------------------\n", place.display())), "{found}");
    let json = project.build(&engine, &["--call=check,format=json"]).code_is(1).json();
    assert_eq!(json["warnings"][1]["ruleName"], "MaintainerDeprecated", "{json}");
    project.build(&engine, &["--call=check,ignorestatus=true"]).success().stdout_has("2 warnings");
    let bad = project.path().join("Bad").display().to_string();
    let outcome = project.build(&engine, &["--check", "-f", &bad]).code_is(1);
    outcome.stderr_has("ERROR: dockerfile parse error on line 2: unknown instruction: NOPE");
    engine.run(["images", "-aq"]).success(); // nothing was built
}

#[test]
fn outlines_and_targets() {
    let engine = engine();
    let project = project(&engine);
    let targets = project.build(&engine, &["--call=targets"]).success();
    targets.stdout_is("TARGET           DESCRIPTION\nbase             \nsecond (default) \n");
    let json = project.build(&engine, &["--call=targets,format=json"]).success().json();
    assert_eq!((&json["targets"][0]["base"], &json["targets"][1]["default"]), (&"busybox".into(), &true.into()));
    let outline = project.build(&engine, &["--call=outline"]).success().stdout;
    assert!(outline.starts_with("TARGET: second\n\nBUILD ARG   VALUE   DESCRIPTION\n"), "{outline}");
    assert!(outline.contains("\nSECRET   REQUIRED\ntoken    true\n"), "{outline}");
    project.build(&engine, &["--call=nope"]).code_is(1).stderr_has("unsupported request frontend.nope");
}

#[test]
fn warnings_of_a_build_that_succeeds() {
    let engine = engine();
    let project = Project::new(&engine, "warned", "FROM busybox AS Base\nRUN true\n");
    let outcome = project.build(&engine, &["--progress=plain"]).success();
    outcome.stderr_has("1 warning found").stderr_has("StageNameCasing: Stage name 'Base' should be lowercase (line 1)");
    assert_eq!(project.build(&engine, &["-q"]).success().stderr, "");
}

#[test]
fn progress_as_json() {
    let engine = engine();
    let project = Project::new(&engine, "raw", "FROM busybox\nRUN echo text\n");
    let outcome = project.build(&engine, &["--progress=rawjson"]).success();
    let lines: Vec<serde_json::Value> = outcome
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let logged = lines.iter().flat_map(|line| line["logs"].as_array()).flatten().any(|log| log["data"] == "dGV4dAo=");
    assert!(logged, "{}", outcome.stderr);
}

#[test]
fn help() {
    let engine = engine();
    let help = engine.run(["build", "--help"]).success().stdout;
    for flag in
        ["--build-arg", "--build-context", "--cache-to", "--secret", "--ssh", "--metadata-file", "--no-cache-filter"]
    {
        assert!(help.contains(flag), "{flag} in {help}");
    }
}

#[test]
fn flags_are_completed() {
    if !own_words("flags_are_completed") {
        return;
    }
    let engine = engine();
    for (words, wanted) in [
        (["build", "--sec"], "--secret"),
        (["build", "--cache-f"], "--cache-from"),
        (["buildx", "hist"], "history"),
        (["builder", "ca"], "cache"),
    ] {
        let found = engine.run(["__complete"].iter().chain(&words)).success().stdout;
        let names: Vec<&str> = found.lines().filter_map(|line| line.split('\t').next()).collect();
        assert_eq!(names, [wanted], "{words:?}");
    }
    let found = engine.run(["__complete", "buildx", "history", "inspect", "--"]).success().stdout;
    assert!(found.contains("--format"), "{found}");
}

#[test]
fn pruning_the_cache() {
    let engine = engine();
    let project = Project::new(
        &engine,
        "pruned",
        "FROM busybox\nRUN echo some > /x\nRUN --mount=type=cache,target=/c date > /c/x\n",
    );
    project.build(&engine, &[]).success();
    engine
        .run(["builder", "prune", "--force", "--all", "--filter", "type=exec.cachemount"])
        .success()
        .stdout_has("Total");
    engine.run(["builder", "prune", "--force", "--all", "--filter", "unused-for=24h"]).success().stdout_has("Total");
    let again = project.build(&engine, &["--progress=plain"]).success();
    assert!(again.stderr.contains("CACHED"), "{again}");
    engine.run(["builder", "prune", "--force", "--all"]).success().stdout_has("Total");
    let fresh = project.build(&engine, &["--progress=plain"]).success();
    let ran = fresh.stderr.split("RUN echo some > /x\n").nth(1).unwrap_or_default();
    assert!(!ran.lines().next().unwrap_or_default().contains("CACHED"), "{fresh}");
}

#[test]
fn the_builder_is_the_engine() {
    let engine = engine();
    engine.run(["buildx", "ls"]).success().stdout_has("default*").stdout_has("linux/");
    engine.run(["buildx", "inspect"]).success().stdout_has("Driver:").stdout_has("Platforms:");
    engine.run(["buildx", "inspect", "nobody"]).code_is(1).stderr_has("no builder \"nobody\" found");
}
