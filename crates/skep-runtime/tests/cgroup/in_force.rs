//! Limits as processes meet them.

use std::os::unix::process::ExitStatusExt;

use skep_runtime::spec::{DeviceRule, Memory, Pids};

use super::helper::{hear, outcome};
use super::*;

#[test]
fn too_much_memory_is_killed_and_counted() {
    if !has(Controllers::MEMORY, "too_much_memory_is_killed_and_counted") {
        return;
    }
    let limit = 48 << 20;
    let memory = Memory { limit: Some(limit), swap: Some(limit), ..Memory::default() };
    let scratch = Scratch::new("oom");
    scratch.apply(&Resources { memory: Some(memory), ..Resources::default() }).unwrap();
    assert_eq!(scratch.oom_kills().unwrap(), 0);
    let (said, status) = outcome(scratch.helper("eat 10"));
    assert_eq!((said.as_deref(), status.success()), (Some("ate 10"), true));
    let (said, status) = outcome(scratch.helper("eat 200"));
    assert_eq!((said, status.signal()), (None, Some(libc::SIGKILL)));
    assert_eq!(scratch.oom_kills().unwrap(), 1);
    let stats = scratch.stats().unwrap().memory.unwrap();
    assert_eq!(stats.limit, Some(limit.cast_unsigned()));
    assert!(stats.max_usage.is_none_or(|highest| highest > 40 << 20), "{stats:?}");
}

#[test]
fn too_many_tasks_are_refused() {
    if !has(Controllers::PIDS, "too_many_tasks_are_refused") {
        return;
    }
    let scratch = Scratch::with("tasks", &Resources { pids: Some(Pids { limit: 8 }), ..Resources::default() });
    let (said, status) = outcome(scratch.helper("threads 20"));
    assert!(status.success());
    let started: u32 = said.unwrap().trim_start_matches("started ").parse().unwrap();
    assert!((4..8).contains(&started), "{started}");
}

#[test]
fn devices_by_rule() {
    let rule = |allow, kind: &str, major, minor, access: &str| DeviceRule {
        allow,
        kind: Some(kind.to_owned()),
        major: Some(major),
        minor: Some(minor),
        access: Some(access.to_owned()),
    };
    let nodes = tempfile();
    let node = |name: &str, major, minor| {
        let path = nodes.0.join(name);
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        let device = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::CharacterDevice, mode, device).unwrap();
        path.display().to_string()
    };
    let (null, kmsg, port) = (node("null", 1, 3), node("kmsg", 1, 11), node("port", 1, 4));
    let open = |scratch: &Scratch, file: &str| outcome(scratch.helper(&format!("open {file}"))).0.unwrap();
    let refused = format!("error {}", libc::EPERM);

    let deny = Resources { devices: vec![rule(false, "a", -1, -1, "rwm")], ..Resources::default() };
    let scratch = Scratch::with("devices", &deny);
    assert_eq!(open(&scratch, &null), "opened"); // every container may
    assert_eq!(open(&scratch, &kmsg), refused);

    let allow = vec![rule(false, "a", -1, -1, "rwm"), rule(true, "c", 1, 11, "r"), rule(true, "c", 1, 11, "w")];
    let warnings = scratch.apply(&Resources { devices: allow, ..Resources::default() }).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(open(&scratch, &kmsg), "opened");
    assert_eq!(open(&scratch, &port), refused);
    // Other limits leave the rules alone.
    scratch.update(&Resources::default()).unwrap();
    assert_eq!(open(&scratch, &port), refused);

    let all = Resources { devices: vec![rule(true, "a", -1, -1, "rwm")], ..Resources::default() };
    let scratch = Scratch::with("devices-all", &all);
    assert_eq!(open(&scratch, &kmsg), "opened");
}

#[test]
fn use_is_counted() {
    let scratch = Scratch::new("stats");
    let mut child = scratch.helper("burn");
    assert_eq!(hear(&mut child).as_deref(), Some("burned"));
    let stats = scratch.stats().unwrap();
    // The clock of burning is wall time, so a busy machine may give it less of the CPU: no figure here, only that it counts.
    assert!(stats.cpu.total > 0, "{stats:?}");
    assert!(stats.cpu.user + stats.cpu.kernel > 0, "{stats:?}");
    if let Some(pids) = stats.pids {
        assert!(pids.current >= 1 && pids.limit.is_none(), "{pids:?}");
    }
    if let Some(memory) = stats.memory {
        assert!(memory.usage > 0 && memory.limit.is_none(), "{memory:?}");
        let expected = if kind() == Kind::Unified { "anon" } else { "rss" };
        assert!(memory.stats.iter().any(|(name, _)| name == expected), "{memory:?}");
    }
    drop(child.stdin.take());
    child.wait().unwrap();
}

struct Temporary(PathBuf);

fn tempfile() -> Temporary {
    let dir = std::env::temp_dir().join(format!("skep-cgroup-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    Temporary(dir)
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
