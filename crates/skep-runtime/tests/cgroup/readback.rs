//! Limits as the kernel shows them after they were set.

use skep_runtime::cgroup::{Limit, Reason};
use skep_runtime::spec::{Cpu, Memory, Pids, Rdma};

use super::*;

const MEGABYTE: i64 = 1 << 20;

fn unified() -> bool {
    kind() == Kind::Unified
}

#[test]
fn memory_limit_up_and_down() {
    if !has(Controllers::MEMORY, "memory_limit_up_and_down") {
        return;
    }
    let scratch = Scratch::new("memory");
    let set = |limit: i64, swap: i64, reservation: Option<i64>| {
        let memory = Memory { limit: Some(limit), swap: Some(swap), reservation, ..Memory::default() };
        let warnings = scratch.update(&Resources { memory: Some(memory), ..Resources::default() }).unwrap();
        // A kernel without swap accounting says so.
        assert!(warnings.iter().all(|warning| warning.limit == Limit::MemorySwap), "{warnings:?}");
        scratch.read(Controllers::MEMORY, if unified() { "memory.max" } else { "memory.limit_in_bytes" })
    };
    assert_eq!(set(64 * MEGABYTE, 128 * MEGABYTE, Some(32 * MEGABYTE)), "67108864");
    assert_eq!(set(512 * MEGABYTE, 512 * MEGABYTE, None), "536870912"); // above the old limit of memory and swap
    assert_eq!(set(32 * MEGABYTE, 32 * MEGABYTE, None), "33554432"); // below the old limit of memory
    let low = scratch.read(Controllers::MEMORY, if unified() { "memory.low" } else { "memory.soft_limit_in_bytes" });
    assert_eq!(low, "33554432");
    let none = set(-1, -1, None);
    assert!(none == "max" || none.parse::<u64>().unwrap() > 1 << 60, "{none}");
    assert_eq!(scratch.stats().unwrap().memory.unwrap().limit, None);
}

#[test]
fn a_limit_below_the_usage_is_refused_if_asked_for() {
    if !has(Controllers::MEMORY, "a_limit_below_the_usage_is_refused_if_asked_for") {
        return;
    }
    let scratch = Scratch::new("usage");
    let mut child = scratch.helper("wait");
    assert_eq!(helper::hear(&mut child).as_deref(), Some("ready"));
    let memory = Memory { limit: Some(4096), check_before_update: Some(true), ..Memory::default() };
    let error = scratch.update(&Resources { memory: Some(memory), ..Resources::default() }).unwrap_err();
    assert!(matches!(error, Error::Invalid { limit: Limit::Memory, .. }), "{error}");
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn cpu() {
    if !has(Controllers::CPU, "cpu") {
        return;
    }
    let cpu = Cpu { shares: Some(512), quota: Some(50_000), period: Some(100_000), ..Cpu::default() };
    let scratch = Scratch::with("cpu", &Resources { cpu: Some(cpu), ..Resources::default() });
    let read = |file| scratch.read(Controllers::CPU, file);
    if unified() {
        assert_eq!((read("cpu.weight"), read("cpu.max")), ("59".to_owned(), "50000 100000".to_owned()));
    } else {
        assert_eq!((read("cpu.shares"), read("cpu.cfs_quota_us")), ("512".to_owned(), "50000".to_owned()));
    }
    let cpu = Cpu { quota: Some(10_000), period: Some(20_000), ..Cpu::default() };
    scratch.update(&Resources { cpu: Some(cpu), ..Resources::default() }).unwrap();
    if unified() {
        assert_eq!((read("cpu.weight"), read("cpu.max")), ("59".to_owned(), "10000 20000".to_owned()));
    } else {
        assert_eq!((read("cpu.cfs_period_us"), read("cpu.cfs_quota_us")), ("20000".to_owned(), "10000".to_owned()));
    }
}

#[test]
fn cpuset() {
    if !has(Controllers::CPUSET, "cpuset") {
        return;
    }
    let cpus =
        |list: &str| Resources { cpu: Some(Cpu { cpus: Some(list.into()), ..Cpu::default() }), ..Resources::default() };
    let scratch = Scratch::with("cpuset", &cpus("0"));
    assert_eq!(scratch.read(Controllers::CPUSET, "cpuset.cpus"), "0");
    let error = scratch.update(&cpus("4000")).unwrap_err();
    assert!(matches!(error, Error::Limit { limit: Limit::CpusetCpus, .. }), "{error}");
    assert!(error.to_string().contains("4000"), "{error}");
}

#[test]
fn pids() {
    if !has(Controllers::PIDS, "pids") {
        return;
    }
    let pids = |limit| Resources { pids: Some(Pids { limit }), ..Resources::default() };
    let scratch = Scratch::with("pids", &pids(100));
    assert_eq!(scratch.stats().unwrap().pids.unwrap().limit, Some(100));
    scratch.update(&pids(-1)).unwrap();
    assert_eq!(scratch.read(Controllers::PIDS, "pids.max"), "max");
}

#[test]
fn what_the_machine_lacks_is_a_warning() {
    let controllers = Layout::of_this_machine().unwrap().controllers();
    if controllers.contains(Controllers::RDMA) {
        eprintln!("SKIPPED what_the_machine_lacks_is_a_warning: it has everything");
        return;
    }
    let scratch = Scratch::new("lacks");
    let rdma = Rdma { hca_handles: Some(1), hca_objects: None };
    let resources = Resources { rdma: [("mlx5_0".to_owned(), rdma)].into(), ..Resources::default() };
    let warnings = scratch.apply(&resources).unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!((&warnings[0].limit, warnings[0].value.as_str()), (&Limit::Rdma, "mlx5_0 hca_handle=1"));
    assert!(matches!(warnings[0].reason, Reason::NoController(_) | Reason::NoFile(_)), "{warnings:?}");
}

#[test]
fn what_only_v1_can_is_a_warning_on_v2() {
    if !has(Controllers::MEMORY, "what_only_v1_can_is_a_warning_on_v2") {
        return;
    }
    let scratch = Scratch::new("onlyv1");
    let memory = Memory {
        limit: Some(64 * MEGABYTE),
        swappiness: Some(10),
        disable_oom_killer: Some(true),
        ..Memory::default()
    };
    let warnings = scratch.apply(&Resources { memory: Some(memory), ..Resources::default() }).unwrap();
    if unified() {
        assert_eq!(
            warnings.iter().filter(|warning| warning.reason == Reason::NotInThisVersion).count(),
            2,
            "{warnings:?}"
        );
    } else {
        assert!(scratch.read(Controllers::MEMORY, "memory.oom_control").contains("oom_kill_disable 1"));
        assert_eq!(scratch.read(Controllers::MEMORY, "memory.swappiness"), "10");
    }
}

#[test]
fn files_by_name() {
    let scratch = Scratch::new("unified");
    let resources = |file: &str, value: &str| Resources {
        unified: [(file.to_owned(), value.to_owned())].into(),
        ..Resources::default()
    };
    let result = scratch.apply(&resources("memory.high", "67108864"));
    if unified() {
        assert!(result.unwrap().is_empty());
        assert_eq!(scratch.read(Controllers::MEMORY, "memory.high"), "67108864");
    } else if has(Controllers::MEMORY, "files_by_name") {
        assert!(matches!(result.unwrap_err(), Error::Invalid { .. }));
    }
}
