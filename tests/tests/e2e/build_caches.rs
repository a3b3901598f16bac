//! Caches elsewhere: written by one engine, of use to another.

use std::path::Path;

use skep_testkit::{Engine, EngineKind, Registry};

use super::build_exports::build;

/// A context of two stages, the first of which leaves one file in the result.
fn context(engine: &Engine) -> std::path::PathBuf {
    let dir = engine.scratch().join("context");
    std::fs::create_dir_all(&dir).unwrap();
    let text = "FROM busybox AS made\nRUN echo made > /made\nFROM busybox\nCOPY --from=made /made /\nRUN echo last > /last\n\
                COPY --link file /linked\n";
    std::fs::write(dir.join("Dockerfile"), text).unwrap();
    std::fs::write(dir.join("file"), "file\n").unwrap();
    dir
}

/// Builds with a cache that another engine wrote; returns which steps were run.
fn with_cache(context: &Path, from: &str) -> Vec<&'static str> {
    let engine = super::engine();
    let built = build(&engine, context, &["--cache-from", from, "-t", "app"]).success();
    engine.run(["run", "--rm", "app", "cat", "/made", "/last", "/linked"]).success().stdout_is("made\nlast\nfile\n");
    let steps = ["RUN echo made", "COPY --from=made", "RUN echo last", "COPY --link"];
    let lines: Vec<&str> = built.stderr.lines().collect();
    let is_cached = |step: &&str| {
        let line = lines.iter().find(|line| line.contains(step)).copied().unwrap_or_default();
        let number = line.split(' ').next().unwrap_or_default();
        lines.contains(&format!("{number} CACHED").as_str())
    };
    steps.into_iter().filter(|step| !is_cached(step)).collect()
}

fn is_docker() -> bool {
    Engine::kind_under_test() == EngineKind::Docker // its own store writes no caches
}

#[test]
fn a_cache_in_a_registry_is_of_use_to_another_engine() {
    if is_docker() {
        return;
    }
    let engine = super::engine();
    let context = context(&engine);
    // An index over layers is not what skep's own registry takes for one.
    let registries = [(Registry::start_own(), "", false), (Registry::start_foreign(), ",image-manifest=false", true)];
    for (registry, words, index) in registries {
        let name = registry.name("cache:1");
        let to = format!("type=registry,ref={name},mode=max{words}");
        let built = build(&engine, &context, &["--cache-to", &to]).success();
        assert!(built.stderr.contains("exporting cache to registry"), "{built}");
        let kinds =
            ["application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json"].join(", ");
        let answer = registry.api().send("GET", "/v2/cache/manifests/1", &[("Accept", &kinds)], &[]).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        let config =
            if index { manifest["manifests"].as_array().unwrap().last().unwrap() } else { &manifest["config"] };
        assert_eq!(config["mediaType"], "application/vnd.buildkit.cacheconfig.v0");
        assert!(with_cache(&context, &format!("type=registry,ref={name}")).is_empty());
    }
}

#[test]
fn a_cache_in_a_directory_is_of_use_to_another_engine() {
    if is_docker() {
        return;
    }
    let engine = super::engine();
    let context = context(&engine);
    let dir = engine.scratch().join("cache");
    let to = format!("type=local,dest={},mode=max,compression=zstd", dir.display());
    build(&engine, &context, &["--cache-to", &to]).success();
    assert!(with_cache(&context, &format!("type=local,src={}", dir.display())).is_empty());
    // The least cache has what is in the result, and not what only led there.
    let dir = engine.scratch().join("least");
    build(&engine, &context, &["--cache-to", &format!("type=local,dest={}", dir.display())]).success();
    assert_eq!(with_cache(&context, &format!("type=local,src={}", dir.display())), ["RUN echo made"]);
}

#[test]
fn an_image_carries_its_cache() {
    if is_docker() {
        return;
    }
    let registry = Registry::start_own();
    let name = registry.name("app:1");
    let engine = super::engine();
    let context = context(&engine);
    build(&engine, &context, &["--cache-to", "type=inline", "--push", "-t", &name]).success();
    let run = with_cache(&context, &format!("type=registry,ref={name}"));
    assert!(!run.contains(&"RUN echo last") && !run.contains(&"COPY --from=made"), "{run:?}");
}

#[test]
fn a_cache_that_is_missing_costs_a_warning() {
    let registry = Registry::start_own();
    let engine = super::engine();
    let context = context(&engine);
    let (none, missing) = (registry.name("none:1"), engine.scratch().join("none"));
    let sources = [format!("type=registry,ref={none}"), format!("type=local,src={}", missing.display())];
    let built = build(&engine, &context, &["--cache-from", &sources[0], "--cache-from", &sources[1]]).success();
    let text = format!("failed to configure registry cache importer: {none}: not found");
    assert!(built.stderr.contains(&text), "{built}");
    assert!(built.stderr.contains("WARNING: local cache import at"), "{built}");
    if is_docker() {
        return;
    }
    let to = format!("type=registry,ref={}/x,ignore-error=true", "127.0.0.1:1");
    build(&engine, &context, &["--cache-to", &to]).success();
    build(&engine, &context, &["--cache-to", &to.replace(",ignore-error=true", "")]).code_is(1);
}
