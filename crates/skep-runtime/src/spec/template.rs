//! The `config.json` that `spec` writes: the same container that `runc spec` describes.

use super::{
    Capabilities, DeviceRule, IdMapping, Linux, Mount, Namespace, NamespaceKind, Process, Resources, Rlimit, Root,
    Spec, VERSION,
};

impl Spec {
    /// A shell in a read-only root with a terminal, few capabilities and its own namespaces.
    pub fn example() -> Self {
        let capabilities: Vec<String> =
            ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"].map(str::to_owned).into();
        let kinds = [
            NamespaceKind::Pid,
            NamespaceKind::Network,
            NamespaceKind::Ipc,
            NamespaceKind::Uts,
            NamespaceKind::Mount,
            NamespaceKind::Cgroup,
        ];
        Spec {
            oci_version: VERSION.to_owned(),
            process: Some(Process {
                terminal: true,
                args: vec!["sh".to_owned()],
                env: vec![
                    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
                    "TERM=xterm".to_owned(),
                ],
                cwd: "/".into(),
                capabilities: Some(Capabilities {
                    bounding: capabilities.clone(),
                    effective: capabilities.clone(),
                    permitted: capabilities,
                    ..Capabilities::default()
                }),
                rlimits: vec![Rlimit { kind: "RLIMIT_NOFILE".to_owned(), hard: 1024, soft: 1024 }],
                no_new_privileges: true,
                ..Process::default()
            }),
            root: Some(Root { path: "rootfs".into(), readonly: true }),
            hostname: Some("skep".to_owned()),
            mounts: mounts(),
            linux: Some(Linux {
                resources: Some(Resources {
                    devices: vec![DeviceRule { access: Some("rwm".to_owned()), ..DeviceRule::default() }],
                    ..Resources::default()
                }),
                namespaces: kinds.map(|kind| Namespace { kind, path: None }).into(),
                masked_paths: [
                    "/proc/acpi",
                    "/proc/asound",
                    "/proc/kcore",
                    "/proc/keys",
                    "/proc/latency_stats",
                    "/proc/timer_list",
                    "/proc/timer_stats",
                    "/proc/sched_debug",
                    "/sys/firmware",
                    "/proc/scsi",
                ]
                .map(Into::into)
                .into(),
                readonly_paths: ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
                    .map(Into::into)
                    .into(),
                ..Linux::default()
            }),
            ..Spec::default()
        }
    }

    /// Changes a specification so that a user without privileges can run it, as that user and group.
    pub fn make_rootless(&mut self, uid: u32, gid: u32) {
        let linux = self.linux.get_or_insert_default();
        linux.namespaces.retain(|namespace| !matches!(namespace.kind, NamespaceKind::Network | NamespaceKind::User));
        linux.namespaces.push(Namespace { kind: NamespaceKind::User, path: None });
        linux.uid_mappings = vec![IdMapping { container_id: 0, host_id: uid, size: 1 }];
        linux.gid_mappings = vec![IdMapping { container_id: 0, host_id: gid, size: 1 }];
        linux.resources = None;
        for mount in &mut self.mounts {
            mount.options.retain(|option| !option.starts_with("gid=") && !option.starts_with("uid="));
            if mount.destination.as_os_str() == "/sys" {
                *mount = entry("/sys", "none", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"]);
            }
        }
    }
}

fn mounts() -> Vec<Mount> {
    vec![
        entry("/proc", "proc", "proc", &[]),
        entry("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        entry(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        entry("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        entry("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        entry("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        entry("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ]
}

fn entry(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: Some(kind.to_owned()),
        source: Some(source.into()),
        options: options.iter().map(|&option| option.to_owned()).collect(),
        ..Mount::default()
    }
}
