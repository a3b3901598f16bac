//! Ways in which containers have got out of other runtimes, each by the name of its mechanism.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::bundle::Bundle;

/// CVE-2024-21626: a working directory that is a descriptor of the runtime's.
#[test]
fn a_descriptor_is_no_working_directory() {
    for number in (3..24).chain([64]) {
        let cwd = format!("/proc/self/fd/{number}");
        let bundle = Bundle::new().script("ls -d ../../..").with(|config| config["process"]["cwd"] = json!(cwd));
        let said = bundle.run();
        assert!(said.code == Some(1) && said.out.is_empty(), "{cwd}: {said:?}");
    }
    let bundle = Bundle::new().command(&["sleep", "100"]);
    assert_eq!(bundle.quietly(&["run", "-d", &bundle.id]).code, Some(0));
    for number in 3..16 {
        let cwd = format!("/proc/self/fd/{number}");
        let said = bundle.skep(&["exec", "--cwd", &cwd, &bundle.id, "ls", "-d", "../.."]);
        assert!(said.code == Some(1) && said.out.is_empty(), "{cwd}: {said:?}");
    }
}

/// CVE-2019-5736: the container's program is the runtime's own binary.
#[test]
fn the_runtimes_binary_cannot_be_written() {
    let before = fs::metadata(env!("CARGO_BIN_EXE_skep-runtime")).expect("the binary").modified().expect("a time");
    let bundle = Bundle::new().command(&["/bin/self"]).with(|config| config["root"]["readonly"] = json!(false));
    symlink("/proc/self/exe", bundle.rootfs().join("bin/self")).expect("a link");
    // The runtime starts as a container process here, and fails for want of a command; what counts is what it can be opened for.
    bundle.run();
    let bundle = Bundle::new().command(&["sleep", "100"]).with(|config| {
        config["root"]["readonly"] = json!(false);
        config["process"]["capabilities"] = json!({"bounding": ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"],
            "permitted": ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"], "effective": ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"]});
    });
    assert_eq!(bundle.quietly(&["run", "-d", &bundle.id]).code, Some(0));
    // A process that tries to write whatever other processes run, while others are executed.
    let attack = "n=0; while [ $n -lt 300 ]; do n=$((n+1)); for p in /proc/[0-9]*; do case $(readlink $p/exe) in *skep-runtime*) \
                  (echo x >> $p/exe) 2>/dev/null && echo written; echo seen;; esac; done; done";
    assert_eq!(
        bundle.skep(&["exec", "-d", &bundle.id, "sh", "-c", &format!("({attack}) > /result 2>&1")]).code,
        Some(0)
    );
    for _ in 0..20 {
        bundle.skep(&["exec", &bundle.id, "true"]);
    }
    let result = fs::read_to_string(bundle.rootfs().join("result")).expect("a result");
    assert!(!result.contains("written"), "{result}");
    let after = fs::metadata(env!("CARGO_BIN_EXE_skep-runtime")).expect("the binary").modified().expect("a time");
    assert_eq!(before, after);
}

/// Descriptors of the runtime's in the program.
#[test]
fn the_program_has_three_descriptors() {
    // The shell's own glob holds one more.
    let bundle = Bundle::new().script("echo /proc/self/fd/*");
    assert_eq!(bundle.output(), "/proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2 /proc/self/fd/3\n");
    let bundle = Bundle::new().command(&["sleep", "100"]);
    assert_eq!(bundle.quietly(&["run", "-d", &bundle.id]).code, Some(0));
    let said = bundle.skep(&["exec", &bundle.id, "sh", "-c", "echo /proc/self/fd/* /proc/1/fd/*"]);
    let expected =
        [0, 1, 2, 3].map(|n| format!("/proc/self/fd/{n}")).join(" ") + " /proc/1/fd/0 /proc/1/fd/1 /proc/1/fd/2\n";
    assert_eq!(said.out, expected);
}

/// CVE-2021-30465, CVE-2024-45310: links of the image lead mounts, devices and files out of the root.
#[test]
fn links_of_the_image_lead_nowhere() {
    let bundle = Bundle::new().script("true");
    let outside = bundle.top().join("outside");
    fs::create_dir(&outside).expect("a directory");
    symlink(&outside, bundle.rootfs().join("link")).expect("a link");
    symlink("../../../../../..", bundle.rootfs().join("up")).expect("a link");
    let bundle = bundle.with(|config| {
        let mounts = config["mounts"].as_array_mut().expect("mounts");
        mounts.push(json!({"destination": "/link/made", "type": "tmpfs", "source": "tmpfs"}));
        mounts
            .push(json!({"destination": "/up/up/made", "type": "bind", "source": "/etc", "options": ["rbind", "ro"]}));
        config["process"]["cwd"] = json!("/link/cwd");
        config["linux"]["devices"] = json!([{"path": "/link/null", "type": "c", "major": 1, "minor": 3}]);
    });
    assert_eq!(bundle.run().code, Some(0));
    assert_eq!(fs::read_dir(&outside).expect("a directory").count(), 0, "nothing was made outside");
    assert!(bundle.rootfs().join("made").is_dir());
}

/// CVE-2019-19921, runc's and crun's of 2026: /proc, /sys or /dev of the image are links.
#[test]
fn proc_sys_and_dev_are_no_links() {
    for name in ["proc", "sys", "dev"] {
        let bundle = Bundle::new().script("true");
        fs::create_dir(bundle.rootfs().join("evil")).expect("a directory");
        symlink("evil", bundle.rootfs().join(name)).expect("a link");
        let said = bundle.run();
        assert!(said.code == Some(1) && said.error.contains("not through a link"), "{name}: {said:?}");
    }
}

/// CVE-2019-16884: something of the image's is mounted over procfs.
#[test]
fn nothing_is_mounted_over_proc() {
    for destination in ["/proc/self", "/proc", "/proc/self/attr", "/proc/sys/kernel"] {
        let bundle = Bundle::new().script("true");
        let source = bundle.rootfs().join("bin");
        let mount = json!({"destination": destination, "type": "bind", "source": source, "options": ["bind"]});
        let bundle = bundle.with(|config| config["mounts"].as_array_mut().expect("mounts").push(mount));
        let said = bundle.run();
        assert!(said.code == Some(1) && said.error.contains("proc"), "{destination}: {said:?}");
    }
}

/// CVE-2022-29162: inheritable capabilities that nobody asked for.
#[test]
fn nothing_is_inheritable_by_default() {
    let bundle = Bundle::new().command(&["sleep", "100"]);
    assert_eq!(bundle.quietly(&["run", "-d", &bundle.id]).code, Some(0));
    for extra in [&[][..], &["--cap", "CAP_CHOWN"][..]] {
        let args = [&["exec"], extra, &[&bundle.id, "grep", "-E", "CapInh|CapAmb", "/proc/self/status"]].concat();
        assert_eq!(bundle.skep(&args).out, "CapInh:\t0000000000000000\nCapAmb:\t0000000000000000\n");
    }
    assert!(bundle.skep(&["exec", "-u", "4294967296", &bundle.id, "id"]).out.is_empty(), "never root by overflow");
}
