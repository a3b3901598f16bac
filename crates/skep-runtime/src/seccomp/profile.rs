//! The default filter: a list of what programs in containers may call. Everything else fails with EPERM.
//!
//! It allows no call that Docker's does not allow (a test compares them call by call where that profile is at hand), and denies
//! AF_ALG sockets besides, as Docker does since version 29. Not allowed at any capability, among others: io_uring, keyrings
//! (which have no namespaces), kexec, swap, userfaultfd and the NUMA moves of other processes.

use crate::capability;
use crate::spec::{Seccomp, SeccompArg, SeccompRule};

/// Files and directories by path or descriptor.
const FILES: &str = "access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 \
    fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync flock fstat \
    fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd getdents getdents64 ioctl lchown lchown32 link \
    linkat listmount _llseek lseek lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at newfstatat open openat openat2 \
    readahead readlink readlinkat rename renameat renameat2 rmdir stat stat64 statfs statfs64 statmount statx symlink symlinkat sync \
    sync_file_range syncfs truncate truncate64 umask unlink unlinkat utime utimensat utimensat_time64 utimes";

/// Extended attributes.
const ATTRIBUTES: &str = "fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr listxattrat \
    llistxattr lremovexattr lsetxattr removexattr removexattrat setxattr setxattrat";

/// Reading, writing, and waiting for either.
const TRANSFER: &str = "epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old \
    eventfd eventfd2 fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents \
    io_pgetevents io_pgetevents_time64 io_setup io_submit _newselect pipe pipe2 poll ppoll ppoll_time64 pread64 preadv preadv2 \
    pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readv select sendfile sendfile64 splice tee vmsplice write writev";

/// Memory.
const MEMORY: &str = "brk cachestat madvise map_shadow_stack memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2 \
    mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect process_mrelease remap_file_pages";

/// Sockets, once there are any.
const SOCKETS: &str = "accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg \
    recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair";

/// System V and POSIX communication between processes.
const IPC: &str = "ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 \
    mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget";

/// Processes, threads, and their scheduling.
const PROCESSES: &str = "execve execveat exit exit_group fork getcpu getpgid getpgrp getpid getppid getpriority get_robust_list \
    getrlimit getrusage getsid get_thread_area gettid ioprio_get ioprio_set membarrier pidfd_open pidfd_send_signal prctl prlimit64 \
    process_vm_readv process_vm_writev ptrace riscv_hwprobe rseq sched_getaffinity sched_getattr sched_getparam \
    sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 \
    sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield setpgid setpriority setrlimit set_robust_list \
    setsid set_thread_area set_tid_address ugetrlimit uretprobe vfork wait4 waitid waitpid";

/// Locks of user space.
const FUTEXES: &str = "futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake";

/// Signals.
const SIGNALS: &str = "alarm kill pause restart_syscall rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn \
    rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack signalfd signalfd4 sigprocmask sigreturn \
    tgkill tkill";

/// Time. Setting clocks by adjtimex and its kin needs CAP_SYS_TIME in the kernel's own check.
const TIME: &str = "adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 \
    clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time timer_create timer_delete \
    timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 timer_getoverrun timer_gettime \
    timer_gettime64 timer_settime timer_settime64 times";

/// Users, groups, capabilities, and giving up rights.
const IDENTITY: &str = "capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid \
    getresgid32 getresuid getresuid32 getuid getuid32 landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp \
    setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setregid setregid32 setresgid setresgid32 \
    setresuid setresuid32 setreuid setreuid32 setuid setuid32";

/// The machine.
const MACHINE: &str = "getrandom sysinfo uname";

const EVERYONE: [&str; 12] =
    [FILES, ATTRIBUTES, TRANSFER, MEMORY, SOCKETS, IPC, PROCESSES, FUTEXES, SIGNALS, TIME, IDENTITY, MACHINE];

/// What a capability allows besides.
const WITH_CAPABILITY: [(&str, &str); 14] = [
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "CAP_SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules \
         lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname \
         setns syslog umount umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module finit_module init_module"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
    ("CAP_SYS_RAWIO", "ioperm iopl"),
    ("CAP_SYS_TIME", "clock_settime clock_settime64 settimeofday stime"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("CAP_SYSLOG", "syslog"),
    ("CAP_BPF", "bpf"),
    ("CAP_PERFMON", "perf_event_open"),
];

/// Calls of one machine's architectures.
const X86_ONLY: &str = "arch_prctl modify_ldt";
const ARM_ONLY: &str = "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2";

/// Address families that `socket` refuses: AF_ALG (kernel cryptography, CVE-2026-31431) and AF_VSOCK (the hypervisor's sockets,
/// which have no namespaces).
const REFUSED_FAMILIES: [u64; 2] = [38, 40];

/// Execution domains for `personality`: Linux, and 32-bit; both also with ADDR_NO_RANDOMIZE; and the question which it is.
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The flags of clone(2) that make namespaces.
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;

/// An argument that is an int: the kernel ignores the upper half of the register, so a comparison has to as well.
const INT: u64 = 0xffff_ffff;

pub(super) fn build<S: AsRef<str>>(capabilities: &[S]) -> Seccomp {
    let (capabilities, _) = capability::CapabilitySet::from_names(capabilities);
    let has = |name| capability::number(name).is_some_and(|number| capabilities.contains(number));
    let names =
        |lists: &[&str]| lists.iter().flat_map(|list| list.split_ascii_whitespace()).map(str::to_owned).collect();

    let mut lists = EVERYONE.to_vec();
    lists.push(if cfg!(target_arch = "aarch64") { ARM_ONLY } else { X86_ONLY });
    lists.extend(WITH_CAPABILITY.iter().filter(|(name, _)| has(name)).map(|(_, list)| *list));
    lists.push("socket");
    let mut rules = vec![SeccompRule { names: names(&lists), action: ALLOW.to_owned(), ..SeccompRule::default() }];

    rules.extend(
        REFUSED_FAMILIES.map(|family| SeccompRule { args: vec![masked(0, INT, family)], ..rule(&["socket"], REFUSE) }),
    );
    rules.extend(PERSONALITIES.map(|domain| SeccompRule {
        args: vec![SeccompArg { index: 0, value: domain, value_two: None, op: "SCMP_CMP_EQ".to_owned() }],
        ..rule(&["personality"], ALLOW)
    }));
    if !has("CAP_SYS_ADMIN") {
        rules.push(SeccompRule { args: vec![masked(0, NAMESPACE_FLAGS, 0)], ..rule(&["clone"], ALLOW) });
        // Its flags are in memory, where a filter can't look; C libraries then take clone.
        rules.push(SeccompRule { errno_ret: Some(libc::ENOSYS.cast_unsigned()), ..rule(&["clone3"], REFUSE) });
    }
    Seccomp {
        default_action: REFUSE.to_owned(),
        default_errno_ret: Some(libc::EPERM.cast_unsigned()),
        architectures: ARCHITECTURES.iter().map(|name| (*name).to_owned()).collect(),
        syscalls: rules,
        ..Seccomp::default()
    }
}

const ALLOW: &str = "SCMP_ACT_ALLOW";
const REFUSE: &str = "SCMP_ACT_ERRNO";

/// What runs on the machine besides its own architecture.
const ARCHITECTURES: &[&str] = if cfg!(target_arch = "aarch64") {
    &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
} else {
    &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
};

fn rule(names: &[&str], action: &str) -> SeccompRule {
    SeccompRule {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        action: action.to_owned(),
        ..SeccompRule::default()
    }
}

fn masked(index: u32, mask: u64, value: u64) -> SeccompArg {
    SeccompArg { index, value: mask, value_two: Some(value), op: "SCMP_CMP_MASKED_EQ".to_owned() }
}
