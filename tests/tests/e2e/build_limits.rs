//! What steps may use, and what becomes of layers: flags that the real client only has without BuildKit.

use skep_testkit::{Engine, EngineKind};

use super::engine;
use super::project::{Project, cat, inspect};

/// Whether commands go through skep's own client.
fn own_client() -> bool {
    let docker = Engine::kind_under_test() == EngineKind::Docker;
    !docker && std::env::var("SKEP_TEST_CLIENT").map_or(true, |client| client == "skep")
}

/// Why a scenario is skipped.
const NO_FLAGS: &str = "SKIPPED limits of steps: Docker's client has no flags for them";

/// Writes the limits that a step sees to /limits, under either version of cgroups.
const TEXT: &str = "FROM busybox\nRUN cd /sys/fs/cgroup; for file in memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes \\\n\
    cpu/cpu.shares cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us cpuset/cpuset.cpus cpuset/cpuset.mems \\\n\
    memory.max cpu.max cpu.weight cpuset.cpus; do if [ -e $file ]; then echo $file $(cat $file); fi; done > /limits\n";

#[test]
fn limits_of_memory_and_processors_hold() {
    if !own_client() {
        return println!("{NO_FLAGS}");
    }
    let engine = engine();
    let project = Project::new(&engine, "limits", TEXT);
    let words = ["--memory=64m", "--memory-swap=128m", "--cpu-shares=512", "--cpu-quota=20000", "--cpu-period=50000"];
    project
        .build(&engine, &[&["-t", "one", "--cpuset-cpus=0", "--cpuset-mems=0"], words.as_slice()].concat())
        .success();
    let found = cat(&engine, "one", "/limits");
    let has = |line: &str| found.lines().any(|known| known == line);
    match found.contains("memory.max") {
        true => {
            assert!(has("memory.max 67108864") && has("cpu.max 20000 50000") && has("cpuset.cpus 0"), "{found}");
        }
        false => {
            assert!(has("memory/memory.limit_in_bytes 67108864") && has("cpu/cpu.shares 512"), "{found}");
            assert!(has("cpu/cpu.cfs_quota_us 20000") && has("cpu/cpu.cfs_period_us 50000"), "{found}");
            assert!(has("cpuset/cpuset.cpus 0") && has("cpuset/cpuset.mems 0"), "{found}");
        }
    }
}

#[test]
fn a_step_beyond_its_memory_is_killed() {
    if !own_client() {
        return println!("{NO_FLAGS}");
    }
    let engine = engine();
    let project = Project::new(&engine, "greedy", "FROM busybox\nRUN tail -c 200m /dev/zero > /dev/null\n");
    project.build(&engine, &["--memory=16m", "--memory-swap=16m"]).code_is(1).stderr_has("exit code: 137");
}

#[test]
fn squashed_layers_are_one_on_top_of_the_base() {
    if !own_client() {
        return println!("{NO_FLAGS}");
    }
    let engine = engine();
    let text = "FROM busybox\nRUN echo one > /one\nRUN echo two > /two && rm /one\nCOPY file /three\nENV A=b\n";
    let project = Project::new(&engine, "squashed", text).file("file", "three\n");
    project.build(&engine, &["-t", "one", "--squash"]).success();
    let layers = |image: &str| inspect(&engine, image)["RootFS"]["Layers"].as_array().unwrap().clone();
    let (base, squashed) = (layers("busybox"), layers("one"));
    assert_eq!(squashed.len(), base.len() + 1, "{squashed:?}");
    assert_eq!(squashed[..base.len()], base);
    assert_eq!(cat(&engine, "one", "/two") + &cat(&engine, "one", "/three"), "two\nthree\n");
    engine.run(["run", "--rm", "one", "test", "-e", "/one"]).code_is(1);
    assert_eq!(inspect(&engine, "one")["Config"]["Env"].as_array().unwrap().last(), Some(&"A=b".into()));
}
