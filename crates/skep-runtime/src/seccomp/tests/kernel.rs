//! Filters in the running kernel. A filter is for one thread, so each test has a thread of its own; where the process is to be
//! killed, the test runs itself as a child.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, socket};

use super::*;
use crate::capability;

/// Runs `inside` in a thread under the filter.
fn under<T: Send + 'static>(seccomp: &Seccomp, inside: impl FnOnce() -> T + Send + 'static) -> T {
    let program = compile(seccomp).unwrap();
    let thread = std::thread::spawn(move || {
        rustix::thread::set_no_new_privs(true).unwrap();
        assert!(program.load().unwrap().is_none());
        inside()
    });
    thread.join().unwrap()
}

#[test]
fn errno_of_the_rule() {
    let mut deny = rule(&["mkdir", "mkdirat"], "ERRNO", &[]);
    deny.errno_ret = Some(Errno::NOSPC.raw_os_error().cast_unsigned());
    let error = under(&filter("SCMP_ACT_ALLOW", vec![deny]), || std::fs::create_dir("/tmp/never-made").unwrap_err());
    assert_eq!(error.raw_os_error(), Some(Errno::NOSPC.raw_os_error()));
}

#[test]
fn arguments_are_looked_at() {
    let deny = rule(&["socket"], "ERRNO", &[(0, "EQ", 10, 0), (1, "MASKED_EQ", 0xf, 2)]);
    let results = under(&filter("SCMP_ACT_ALLOW", vec![deny]), || {
        let refused = |family, kind| socket(family, kind, None).err() == Some(Errno::PERM);
        (
            refused(AddressFamily::INET6, SocketType::DGRAM),
            refused(AddressFamily::INET6, SocketType::STREAM),
            refused(AddressFamily::INET, SocketType::DGRAM),
        )
    });
    assert_eq!(results, (true, false, false));
}

#[test]
fn life_under_the_default_filter() {
    let results = under(&default_profile(&capability::DEFAULT), || {
        let file = std::fs::read_to_string("/proc/thread-self/status").map(|text| text.contains("Seccomp:\t2"));
        let threads = std::thread::spawn(|| 1 + 1).join().is_ok();
        let child = Command::new("/bin/true").status().map(|status| status.success());
        let alg = socket(AddressFamily::from_raw(38), SocketType::SEQPACKET, None).err();
        let vsock = socket(AddressFamily::from_raw(40), SocketType::STREAM, None).err();
        let tcp = socket(AddressFamily::INET, SocketType::STREAM, None).is_ok();
        let umount = rustix::mount::unmount("/nowhere-at-all", rustix::mount::UnmountFlags::empty()).err();
        (file.ok(), threads, child.ok(), alg, vsock, tcp, umount)
    });
    assert_eq!(results, (Some(true), true, Some(true), Some(Errno::PERM), Some(Errno::PERM), true, Some(Errno::PERM)));
}

#[test]
fn more_than_one_filter() {
    let outer = filter("SCMP_ACT_ALLOW", vec![rule(&["mkdir", "mkdirat"], "ERRNO", &[])]);
    let inner = compile(&default_profile(&capability::DEFAULT)).unwrap();
    let refused = under(&outer, move || {
        inner.load().unwrap();
        std::fs::create_dir("/tmp/never-made").unwrap_err().raw_os_error()
    });
    assert_eq!(refused, Some(Errno::PERM.raw_os_error()));
}

#[test]
fn notifications_have_a_descriptor() {
    let program = compile(&filter("SCMP_ACT_ALLOW", vec![rule(&["sethostname"], "NOTIFY", &[])])).unwrap();
    let descriptor = std::thread::spawn(move || {
        rustix::thread::set_no_new_privs(true).unwrap();
        program.load().unwrap().map(|fd| rustix::io::fcntl_getfd(fd).unwrap())
    });
    assert_eq!(descriptor.join().unwrap(), Some(rustix::io::FdFlags::CLOEXEC));
}

/// The status of this test's own program when it runs the named test in a child that has `CHILD` set.
fn in_child(test: &str) -> ExitStatus {
    let program = std::env::current_exe().unwrap();
    let test = format!("seccomp::tests::kernel::{test}");
    let output = Command::new(program).args([&test, "--exact", "--nocapture"]).env(CHILD, "1").output().unwrap();
    output.status
}

const CHILD: &str = "SKEP_TEST_SECCOMP_CHILD";

#[test]
fn killing() {
    if std::env::var_os(CHILD).is_some() {
        under(&filter("SCMP_ACT_ALLOW", vec![rule(&["sethostname"], "KILL_PROCESS", &[])]), || {
            rustix::system::sethostname(b"never").unwrap();
        });
        return;
    }
    assert_eq!(in_child("killing").signal(), Some(libc::SIGSYS));
}
