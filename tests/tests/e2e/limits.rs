//! Limits, as the container meets them and the API shows them.

use std::path::Path;

use super::engine;

fn unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

#[test]
fn memory_is_limited_and_its_end_is_told() {
    let engine = engine();
    let eat = "x=a; while :; do x=$x$x; done";
    let command = ["run", "--name", "eater", "-m", "32m", "--memory-swap", "32m", "busybox", "sh", "-c", eat];
    engine.run(command).code_is(137);
    assert_eq!(engine.inspect("eater")["State"]["OOMKilled"], true);
    assert_eq!(engine.inspect("eater")["HostConfig"]["Memory"], 32 << 20);
}

#[test]
fn limits_are_in_the_cgroup() {
    let engine = engine();
    let limits = ["-m", "64m", "--cpus", "0.5", "--pids-limit", "50", "-c", "512", "--cpuset-cpus", "0"];
    engine.run([&["run", "-d", "--name", "one"][..], &limits, &["busybox", "sleep", "1000"]].concat()).success();
    let file = |v1: &str, v2: &str| {
        let file = if unified() { format!("/sys/fs/cgroup/{v2}") } else { format!("/sys/fs/cgroup/{v1}") };
        engine.run(["exec", "one", "cat", &file]).success().word()
    };
    assert_eq!(file("memory/memory.limit_in_bytes", "memory.max"), (64 << 20).to_string());
    assert_eq!(file("pids/pids.max", "pids.max"), "50");
    assert_eq!(file("cpuset/cpuset.cpus", "cpuset.cpus"), "0");
    if unified() {
        assert_eq!(file("", "cpu.max"), "50000 100000");
    } else {
        assert_eq!(file("cpu/cpu.cfs_quota_us", ""), "50000");
        assert_eq!(file("cpu/cpu.shares", ""), "512");
    }
}

#[test]
fn too_many_processes() {
    let engine = engine();
    let script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; wait";
    let outcome = engine.run(["run", "--rm", "--pids-limit", "5", "busybox", "sh", "-c", script]);
    outcome.stderr_has("can't fork");
}

#[test]
fn below_the_minimum() {
    let engine = engine();
    let outcome = engine.run(["run", "--rm", "-m", "1m", "busybox", "true"]).code_is(125);
    outcome.stderr_has("Minimum memory limit allowed is 6MB");
    engine.run(["ps", "-aq"]).success().stdout_is("");
}

#[test]
fn ulimits_and_sysctls() {
    let engine = engine();
    let command =
        ["run", "--rm", "--ulimit", "nofile=123:456", "--sysctl", "net.ipv4.ip_forward=0", "busybox", "sh", "-c"];
    let script = "ulimit -n; ulimit -Hn; cat /proc/sys/net/ipv4/ip_forward";
    let words: Vec<&str> = command.into_iter().chain([script]).collect();
    engine.run(words).success().stdout_is("123\n456\n0\n");
}

#[test]
fn use_is_shown() {
    let engine = engine();
    engine.run(["run", "-d", "--name", "one", "-m", "64m", "busybox", "sleep", "1000"]).success();
    let stats = engine.api().call("GET", "/containers/one/stats?stream=0&one-shot=1", None);
    assert!(stats["memory_stats"]["usage"].as_u64().unwrap() > 0, "{stats}");
    assert_eq!(stats["memory_stats"]["limit"], 64 << 20);
    assert!(stats["cpu_stats"]["cpu_usage"]["total_usage"].as_u64().unwrap() > 0, "{stats}");
    assert_eq!(stats["pids_stats"]["current"], 1);
}
