//! Our default filter against Docker's: compiled both, and every call asked.
//!
//! Docker's profile is not part of this project. `SKEP_DOCKER_SECCOMP` names a copy of its `default.json`.

use std::collections::BTreeSet;

use super::super::arch::Arch;
use super::*;
use crate::capability;

const REFERENCE: &str = "SKEP_DOCKER_SECCOMP";

/// Docker's profile as it applies to x86-64 and a set of capabilities; a kernel new enough for all of it.
fn docker(profile: &serde_json::Value, capabilities: &[&str]) -> Seccomp {
    let strings = |value: &serde_json::Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let has_capability = |condition: &serde_json::Value| {
        strings(&condition["caps"]).iter().any(|name| capabilities.contains(&name.as_str()))
    };
    let has_arch = |condition: &serde_json::Value| strings(&condition["arches"]).iter().any(|arch| arch == "amd64");
    let applies = |rule: &serde_json::Value| {
        let (includes, excludes) = (&rule["includes"], &rule["excludes"]);
        (includes["caps"].is_null() || has_capability(includes))
            && (includes["arches"].is_null() || has_arch(includes))
            && !has_capability(excludes)
            && !has_arch(excludes)
    };
    let rules = profile["syscalls"].as_array().unwrap().iter().filter(|rule| applies(rule));
    let arg = |arg: &serde_json::Value| SeccompArg {
        index: u32::try_from(arg["index"].as_u64().unwrap()).unwrap(),
        value: arg["value"].as_u64().unwrap(),
        value_two: arg["valueTwo"].as_u64(),
        op: arg["op"].as_str().unwrap().to_owned(),
    };
    let rule = |rule: &serde_json::Value| SeccompRule {
        names: strings(&rule["names"]),
        action: rule["action"].as_str().unwrap().to_owned(),
        errno_ret: rule["errnoRet"].as_u64().map(|errno| u32::try_from(errno).unwrap()),
        args: rule["args"].as_array().into_iter().flatten().map(arg).collect(),
    };
    let mut seccomp = filter("SCMP_ACT_ERRNO", rules.map(rule).collect());
    seccomp.default_errno_ret = profile["defaultErrnoRet"].as_u64().map(|errno| u32::try_from(errno).unwrap());
    seccomp
}

/// Calls that differ for some filter: each first argument that either profile knows, with its neighbours.
fn arguments() -> Vec<[u64; 6]> {
    let values = [0, 1, 2, 8, 16, 37, 38, 39, 40, 41, 0x2_0000, 0x2_0008, 0x1200_0000, 0x7e02_0000, 0xffff_ffff];
    let high = values.map(|value| value | 0x1_0000_0000);
    let flags = (0..32).map(|bit| 1 << bit);
    values.into_iter().chain(high).chain(flags).map(|value| [value, 0, 0, 0, 0, 0]).collect()
}

#[test]
fn allows_no_more_than_docker() {
    let Some(path) = std::env::var_os(REFERENCE) else {
        eprintln!("SKIPPED allows_no_more_than_docker: {REFERENCE} does not name Docker's profile");
        return;
    };
    let profile: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let all: Vec<&str> = capability::all().collect();
    let mut sets: Vec<Vec<&str>> = vec![Vec::new(), capability::DEFAULT.to_vec(), all.clone()];
    sets.extend(all.iter().map(|name| vec![*name]));
    let mut denied_here_only = BTreeSet::new();
    for capabilities in sets {
        // Skipped by both if the capability is one that the profile does not know.
        let ours = compile(&default_profile(&capabilities)).unwrap();
        let theirs = compile(&docker(&profile, &capabilities)).unwrap();
        for arch in [Arch::X86_64, Arch::X86, Arch::X32] {
            let numbers = (0..700).map(|number| if arch == Arch::X32 { number | X32_BIT } else { number });
            for number in numbers.chain([u32::MAX]) {
                for args in arguments() {
                    let call = Call { audit: arch.audit(), number, args };
                    let (ours, theirs) = (run(&ours.instructions, call), run(&theirs.instructions, call));
                    assert!(ours != ALLOW || theirs == ALLOW, "{arch:?} {number} {args:x?} with {capabilities:?}");
                    if ours != ALLOW && theirs == ALLOW {
                        denied_here_only.insert((format!("{arch:?}"), number, args[0]));
                    }
                }
            }
        }
    }
    let only_sockets = |(arch, number, family): &(String, u32, u64)| {
        let socket = match arch.as_str() {
            "X86" => Arch::X86.number("socket"),
            "X32" => Arch::X32.number("socket"),
            _ => Arch::X86_64.number("socket"),
        };
        Some(*number) == socket && [38, 40].contains(&(family & 0xffff_ffff))
    };
    let other: Vec<_> = denied_here_only.iter().filter(|call| !only_sockets(call)).collect();
    assert!(other.is_empty(), "allowed by Docker and not by us: {other:?}");
}

#[test]
fn what_the_default_filter_is_about() {
    let program = compile(&default_profile(&capability::DEFAULT)).unwrap();
    let call = |name: &str, first: u64| {
        run(&program.instructions, Call::new(Arch::X86_64, Arch::X86_64.number(name).unwrap(), [first, 0, 0, 0, 0, 0]))
    };
    for refused in [
        "mount",
        "unshare",
        "setns",
        "bpf",
        "keyctl",
        "add_key",
        "io_uring_setup",
        "io_uring_enter",
        "userfaultfd",
        "kexec_load",
        "reboot",
        "init_module",
        "swapon",
        "open_by_handle_at",
        "perf_event_open",
        "move_pages",
        "pivot_root",
    ] {
        assert_eq!(call(refused, 0), EPERM, "{refused}");
    }
    for allowed in
        ["read", "execve", "openat2", "ptrace", "chroot", "clone", "socket", "seccomp", "landlock_restrict_self"]
    {
        assert_eq!(call(allowed, 0), ALLOW, "{allowed}");
    }
    assert_eq!(call("clone3", 0), ENOSYS);
    assert_eq!(call("clone", 0x1000_0000), EPERM); // CLONE_NEWUSER
    assert_eq!(call("socket", 38), EPERM);
    assert_eq!(call("socket", 0x1_0000_0026), EPERM); // the kernel takes only the lower half
    assert_eq!(call("personality", 0x40_0000), EPERM); // READ_IMPLIES_EXEC
    let with = |capability| compile(&default_profile(&[capability])).unwrap();
    let mount = Call::new(Arch::X86_64, Arch::X86_64.number("mount").unwrap(), [0; 6]);
    assert_eq!(run(&with("CAP_SYS_ADMIN").instructions, mount), ALLOW);
    assert_eq!(run(&with("CAP_SYS_NICE").instructions, mount), EPERM);
    // "ALL" and names from the future are for whoever makes the list; they allow nothing here.
    assert_eq!(run(&with("ALL").instructions, mount), EPERM);
}
