//! What builds keep on the disk: listed, pruned as it is said, and the directories of cache mounts by their names.

use skep_testkit::{Engine, Outcome};

use super::engine;
use super::project::{Project, cat};
use super::upkeep::own_words;

const TEXT: &str = "FROM busybox AS made\n\
    RUN --mount=type=cache,target=/c,id=apt echo $(($(cat /c/count 2>/dev/null || echo 0) + 1)) > /c/count && cp /c/count /count\n\
    FROM busybox\nCOPY --from=made /count /\nCOPY Dockerfile /\n";

fn built(engine: &Engine) -> Project {
    let project = Project::new(engine, "kept", TEXT);
    project.build(engine, &["-t", "kept"]).success();
    project
}

/// The ids that `du` shows for a filter.
fn listed(engine: &Engine, filter: &str) -> Vec<String> {
    let shown = engine.run(["buildx", "du", "--filter", filter]).success().stdout;
    let id = |line: &str| line.split_whitespace().next().unwrap().trim_end_matches('*').to_owned();
    shown.lines().skip(1).map(id).collect()
}

#[test]
fn disk_usage_is_filtered_and_formatted() {
    let engine = engine();
    built(&engine);
    let mounts = listed(&engine, "type=exec.cachemount");
    assert_eq!(mounts.len(), 1);
    assert_eq!(listed(&engine, &format!("id={}", &mounts[0][..9])), mounts);
    assert!(listed(&engine, "type!=exec.cachemount").iter().all(|id| *id != mounts[0]));
    assert_eq!(listed(&engine, "description~=apt"), mounts);
    assert_eq!(listed(&engine, "id=nothing"), Vec::<String>::new());
    let du = |words: &[&str]| engine.run(["buildx", "du"].iter().chain(words)).success();
    let lines = du(&["--format", "{{.ID}} {{.Type}} {{.Mutable}}"]).stdout;
    assert!(lines.lines().any(|line| line == format!("{} exec.cachemount true", mounts[0])), "{lines}");
    let lines = du(&["--format", "json"]).stdout;
    let one: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert!(one["Size"].is_string() && one["UsageCount"].is_number() && one["Reclaimable"] == true, "{one}");
    du(&["--verbose", "--filter", "type=exec.cachemount"]).stdout_has("Mutable:      true\n");
    du(&[]).stdout_has("Reclaimable:\t").stdout_has("Total:\t\t");
    engine.run(["buildx", "du", "--filter", "shared"]).code_is(125);
    engine.run(["system", "df", "-v"]).success().stdout_has("exec.cachemount");
}

#[test]
fn only_what_is_picked_is_pruned() {
    let engine = engine();
    built(&engine);
    let prune = |words: &[&str]| engine.run(["builder", "prune", "--force"].iter().chain(words));
    let total = |outcome: Outcome| outcome.stdout.lines().last().unwrap_or_default().to_owned();
    assert_eq!(total(prune(&["--filter", "until=24h"]).success()), "Total:\t0B");
    assert_eq!(total(prune(&["--keep-storage", "1gb"]).success()), "Total:\t0B");
    assert_eq!(total(prune(&["--reserved-space", "1gb"]).success()), "Total:\t0B");
    assert_eq!(total(prune(&["--max-used-space", "1gb"]).success()), "Total:\t0B");
    prune(&["--reserved-space", "much"]).stderr_has("invalid size: 'much'");
    prune(&["--filter", "until=soon"]).code_is(1).stderr_has("expects a duration");
    let mounts = listed(&engine, "type=exec.cachemount");
    let gone = prune(&["--filter", "type=exec.cachemount", "--verbose"]).success();
    assert!(gone.stdout.contains(&mounts[0]) && gone.stdout.contains("Total:\t"), "{gone}");
    assert_eq!(listed(&engine, "type=exec.cachemount"), Vec::<String>::new());
    assert!(!listed(&engine, "type=regular").is_empty());
    prune(&["--all"]).success().stdout_has("RECLAIMABLE");
    assert_eq!(listed(&engine, "type=regular"), Vec::<String>::new());
    assert_eq!(cat(&engine, "kept", "/count"), "1\n");
}

#[test]
fn a_prune_is_shown_before_it_is_done() {
    if !own_words("a_prune_is_shown_before_it_is_done") {
        return;
    }
    let engine = engine();
    built(&engine);
    let prune = |words: &[&str]| engine.run(["builder", "prune"].iter().chain(words)).success();
    let ids = |outcome: &Outcome| -> Vec<String> {
        let first = |line: &str| line.split(['\t', '*', ' ']).next().unwrap().to_owned();
        outcome.stdout.lines().filter(|line| line.contains("true")).map(first).collect()
    };
    for words in [&["--all"][..], &["--filter", "type=exec.cachemount"], &["--reserved-space", "1gb"]] {
        let would = prune(&[words, &["--dry-run"]].concat());
        assert!(would.stdout.contains("Total reclaimable space: "), "{would}");
        let before = listed(&engine, "id~=.");
        assert!(ids(&would).iter().all(|id| before.contains(id)), "nothing has gone: {would}");
        let mut gone = ids(&prune(&[words, &["--force"]].concat()));
        let mut would = ids(&would);
        gone.sort();
        would.sort();
        assert_eq!(gone, would);
        built(&engine);
    }
    assert!(!listed(&engine, "id~=.").is_empty());
    engine.run(["system", "prune", "--dry-run", "--all"]).success().stdout_has("Would delete build cache objects:");
}

#[test]
fn cache_mounts_have_names() {
    if !own_words("cache_mounts_have_names") {
        return;
    }
    let engine = engine();
    let project = built(&engine);
    let cache = |words: &[&str]| engine.run(["builder", "cache"].iter().chain(words));
    cache(&["ls", "-q"]).success().stdout_is("apt\n");
    let line = cache(&["ls", "--format", "{{.ID}} {{.Name}} {{.UsageCount}} {{.InUse}}"]).success().stdout;
    assert_eq!(line, format!("{} apt 1 false\n", listed(&engine, "type=exec.cachemount")[0]));
    // What one engine has collected is of use to another.
    let file = engine.scratch().join("apt.tar").display().to_string();
    cache(&["export", "-o", &file, "/apt"]).success();
    let other = super::engine();
    other.run(["builder", "cache", "import", &file, "apt"]).success().stdout_is("apt\n");
    project.build(&other, &["-t", "kept"]).success();
    assert_eq!(cat(&other, "kept", "/count"), "2\n");
    let names = other.run(["__complete", "builder", "cache", "rm", ""]).stdout;
    assert!(names.lines().any(|name| name == "apt"), "{names}");
    // What it held goes.
    other.run(["builder", "cache", "import", &file, "apt"]).success();
    project.build(&other, &["-t", "kept", "--no-cache"]).success();
    assert_eq!(cat(&other, "kept", "/count"), "2\n");
    cache(&["export", "-o", &file, "nothing"]).code_is(1).stderr_has("no such cache mount: nothing");
    other.command(["builder", "cache", "import", "-", "apt"]).stdin("no archive").run().code_is(1);
    other.run(["builder", "cache", "ls", "-q"]).success().stdout_is("apt\n");
    cache(&["rm", "apt"]).success().stdout_is("apt\n");
    cache(&["ls", "-q"]).success().stdout_is("");
    cache(&["rm", "apt"]).code_is(1).stderr_has("no such cache mount: apt");
}

#[test]
fn an_archive_of_a_cache_leads_nowhere_else() {
    if !own_words("an_archive_of_a_cache_leads_nowhere_else") {
        return;
    }
    let engine = engine();
    let canary = engine.scratch().join("canary");
    std::fs::write(&canary, "safe").unwrap();
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    archive.append_link(&mut header, "out", canary.parent().unwrap()).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_size(4);
    header.set_mode(0o644);
    archive.append_data(&mut header, "out/canary", &b"dead"[..]).unwrap();
    let archive = archive.into_inner().unwrap();
    let _ = engine.command(["builder", "cache", "import", "-", "evil"]).stdin(archive).run(); // refused or confined
    assert_eq!(std::fs::read_to_string(&canary).unwrap(), "safe");
}
