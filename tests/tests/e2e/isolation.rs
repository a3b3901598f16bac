//! What a container is kept from.

use super::{engine, sleeper};

#[test]
fn its_own_processes_name_and_mounts() {
    let engine = engine();
    let script = "echo $$; hostname; ls /proc | grep -c '^[0-9]'; ls /";
    let outcome = engine.run(["run", "--rm", "--hostname", "inside", "busybox", "sh", "-c", script]).success();
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines[..2], ["1", "inside"]);
    assert!(lines[2].parse::<u32>().unwrap() <= 3, "{outcome}");
    assert!(!lines.contains(&"lib64"), "{outcome}");
    engine.run(["run", "--rm", "busybox", "cat", "/proc/mounts"]).success().stdout_has(" / overlay ");
}

#[test]
fn capabilities_and_seccomp_by_default() {
    let engine = engine();
    let status = engine.run(["run", "--rm", "busybox", "cat", "/proc/1/status"]).success().stdout;
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {status}"));
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(field("CapEff:"), "00000000a80425fb");
    assert_eq!(field("CapBnd:"), "00000000a80425fb");
    assert_eq!(field("CapInh:"), "0000000000000000");
    assert_eq!(field("CapAmb:"), "0000000000000000");
    assert_eq!(field("Seccomp:"), "2");
}

#[test]
fn capabilities_as_asked() {
    let engine = engine();
    let effective = |arguments: &[&str]| {
        engine
            .run([&["run", "--rm"], arguments, &["busybox", "grep", "CapEff", "/proc/1/status"]].concat())
            .success()
            .stdout
            .split_whitespace()
            .nth(1)
            .unwrap()
            .to_owned()
    };
    assert_eq!(effective(&["--cap-drop", "ALL"]), "0000000000000000");
    assert_eq!(effective(&["--cap-drop", "ALL", "--cap-add", "NET_ADMIN"]), "0000000000001000");
    assert_eq!(effective(&["--user", "1000"]), "0000000000000000");
    engine.run(["run", "--rm", "--cap-add", "SYS_ADMIN", "busybox", "mount", "-t", "tmpfs", "none", "/tmp"]).success();
    assert_ne!(engine.run(["run", "--rm", "busybox", "mount", "-t", "tmpfs", "none", "/tmp"]).code, 0);
}

#[test]
fn devices_are_the_usual_ones() {
    let engine = engine();
    let script = "head -c 4 /dev/zero | wc -c; echo x > /dev/null; ls /dev | grep -c -E '^(sd|vd|nvme|mem|kmsg)'; \
                  mknod /tmp/kmsg c 1 11 && head -c 1 /tmp/kmsg 2>&1";
    let outcome = engine.run(["run", "--rm", "busybox", "sh", "-c", script]);
    assert!(outcome.stdout.starts_with("4\n0\n"), "{outcome}");
    outcome.stdout_has("Operation not permitted");
}

#[test]
fn proc_and_sys_are_masked() {
    let engine = engine();
    let script = "cat /proc/timer_list /proc/keys 2>/dev/null | wc -c; ls /proc/acpi /sys/firmware 2>/dev/null | grep -v : | grep -c .";
    engine.run(["run", "--rm", "busybox", "sh", "-c", script]).stdout_is("0\n0\n");
    for file in
        ["/proc/sys/kernel/panic", "/proc/irq/default_smp_affinity", "/sys/kernel/mm/transparent_hugepage/enabled"]
    {
        let script = format!("test ! -e {file} || echo 1 > {file}");
        let outcome = engine.run(["run", "--rm", "busybox", "sh", "-c", &script]);
        assert!(
            outcome.code == 0 && outcome.stderr.is_empty() || outcome.stderr.contains("Read-only file system"),
            "{outcome}"
        );
    }
}

#[test]
fn read_only_root_and_tmpfs() {
    let engine = engine();
    let script = "touch /x; touch /scratch/x && echo written";
    let outcome =
        engine.run(["run", "--rm", "--read-only", "--tmpfs", "/scratch", "busybox", "sh", "-c", script]).success();
    outcome.stderr_has("Read-only file system").stdout_is("written\n");
}

#[test]
fn descriptors_of_the_engine_stay_outside() {
    let engine = engine();
    let outcome = engine.run(["run", "--rm", "busybox", "sh", "-c", "ls /proc/self/fd"]).success();
    // 0, 1, 2, and that of ls itself.
    assert_eq!(outcome.stdout.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}

/// CVE-2024-21626: a working directory through a leaked descriptor.
#[test]
fn a_working_directory_in_proc_leads_nowhere() {
    let engine = engine();
    for descriptor in 3..12 {
        let dir = format!("/proc/self/fd/{descriptor}");
        let outcome = engine.run(["run", "--rm", "-w", &dir, "busybox", "cat", "../../../etc/shadow"]);
        assert_ne!(outcome.code, 0, "{outcome}");
        assert!(!outcome.stdout.contains("root:"), "{outcome}");
    }
}

#[test]
fn privileged_containers_see_devices() {
    let engine = engine();
    let outcome = engine.run([
        "run",
        "--rm",
        "--privileged",
        "busybox",
        "sh",
        "-c",
        "test -e /dev/kmsg && grep Seccomp: /proc/1/status",
    ]);
    assert_eq!(outcome.success().stdout.split_whitespace().nth(1), Some("0"));
}

#[test]
fn environment_of_a_process() {
    let engine = engine();
    let outcome =
        engine.run(["run", "--rm", "-e", "A=1", "-e", "B=two words", "-h", "box", "busybox", "env"]).success();
    let mut lines: Vec<&str> = outcome.stdout.lines().collect();
    lines.sort_unstable();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(lines, ["A=1", "B=two words", "HOME=/root", "HOSTNAME=box", path]);
}

#[test]
fn groups_of_a_user() {
    let engine = engine();
    engine
        .run(["run", "--rm", "-u", "user", "busybox", "id"])
        .success()
        .stdout_is("uid=1000(user) gid=1000(user) groups=1000(user),2000(extra)\n");
    engine
        .run(["run", "--rm", "-u", "1234:4321", "busybox", "id"])
        .success()
        .stdout_is("uid=1234 gid=4321 groups=4321\n");
    engine
        .run(["run", "--rm", "-u", "nobody-knows", "busybox", "id"])
        .code_is(125)
        .stderr_has("unable to find user nobody-knows");
    sleeper(&engine, "one");
}
