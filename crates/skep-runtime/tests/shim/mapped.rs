//! A container in a user namespace whose layers are shown as if they were its own.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;

use serde_json::json;
use skep_runtime::protocol::{OverlayOwners, OverlaySync, Reply, Rootfs};

use crate::harness::{OUTPUT, Setup, demultiplex, process, read_all, shell, until};

const BASE: u32 = 400_000;

/// A container in a user namespace over `rootfs` and one more layer.
fn mapped(script: &str) -> Setup {
    let setup = shell(script);
    let directory = setup.directory().to_owned();
    for name in ["rw/upper", "rw/work", "layer/replaced", "layer/home"] {
        fs::create_dir_all(directory.join(name)).unwrap();
    }
    for name in ["layer/gone", "layer/replaced/old", "layer/home/file"] {
        fs::write(directory.join(name), "text\n").unwrap();
        chown(directory.join(name), Some(1000), Some(50)).unwrap();
    }
    setup
        .with_config(|c| {
            c.rootfs = Rootfs::Overlay {
                lower: vec![directory.join("layer"), directory.join("bundle/rootfs")],
                upper: directory.join("rw/upper"),
                work: directory.join("rw/work"),
                sync: OverlaySync::Omitted,
                owners: OverlayOwners::Mapped,
            };
        })
        .with_spec(|s| {
            s["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
            for kind in ["uidMappings", "gidMappings"] {
                s["linux"][kind] = json!([{"containerID": 0, "hostID": BASE, "size": 65536}]);
            }
            let all = json!([
                "CAP_CHOWN",
                "CAP_DAC_OVERRIDE",
                "CAP_FOWNER",
                "CAP_FSETID",
                "CAP_SETFCAP",
                "CAP_MKNOD",
                "CAP_SETUID",
                "CAP_SETGID"
            ]);
            s["process"]["capabilities"] = json!({"bounding": all, "permitted": all, "effective": all});
        })
}

fn owner(path: &Path) -> (u32, u32) {
    let stat = fs::symlink_metadata(path).unwrap();
    (stat.uid(), stat.gid())
}

#[test]
fn what_it_writes_belongs_to_the_same_ids_on_the_disk() {
    let script = "set -e; busybox stat -c '%u:%g %n' / home/file; \
        echo new > new; chown 5:6 new; chmod 4755 new; busybox ln new home/link; \
        rm() { busybox rm -r $1; }; rm gone; rm replaced; busybox mkdir replaced; echo more >> home/file; \
        busybox ln -s x home/symbolic; busybox mkfifo home/fifo; busybox mknod null c 1 3 2>&1 || true";
    let mut container = mapped(script).start();
    assert_eq!(fs::metadata(format!("/proc/{}", container.pid)).unwrap().uid(), BASE, "the host's view of its process");
    assert_eq!(container.wait().code, 0, "{}", container.log());
    let log = container.log();
    assert!(log.starts_with("0:0 /\n1000:50 home/file\n"), "{log}");
    assert!(log.contains("null: Operation not permitted"), "{log}");
    let upper = container.directory().join("rw/upper");
    let at = |name: &str| upper.join(name);
    assert_eq!(owner(&at("new")), (5, 6));
    assert_eq!(fs::metadata(at("new")).unwrap().permissions().mode() & 0o7777, 0o4755);
    assert_eq!(fs::metadata(at("home/link")).unwrap().ino(), fs::metadata(at("new")).unwrap().ino());
    assert_eq!(owner(&at("home/file")), (1000, 50), "a copy of the layer's");
    for name in ["home/symbolic", "home/fifo", "replaced", "gone"] {
        assert_eq!(owner(&at(name)), (0, 0), "{name}");
    }
    assert!(fs::symlink_metadata(at("gone")).unwrap().file_type().is_char_device(), "a whiteout");
    let mut opaque = [0; 8];
    let length = rustix::fs::getxattr(at("replaced"), "trusted.overlay.opaque", &mut opaque).unwrap();
    assert_eq!(&opaque[..length], b"y");
    assert_eq!(owner(&container.directory().join("layer/home/file")), (1000, 50), "nothing was given away");
}

#[test]
fn bind_mounts_are_mapped_where_the_specification_says_so() {
    let script = "busybox stat -c %u:%g /plain/file /mapped/file; echo x > /mapped/new; busybox touch /plain/new 2>/dev/null || echo no";
    let setup = mapped(script);
    let source = setup.directory().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "").unwrap();
    chown(source.join("file"), Some(3), Some(4)).unwrap();
    let mut container = setup
        .with_spec(|s| {
            let mounts = s["mounts"].as_array_mut().unwrap();
            mounts.push(json!({"destination": "/plain", "type": "bind", "source": source, "options": ["rbind"]}));
            mounts.push(
                json!({"destination": "/mapped", "type": "bind", "source": source, "options": ["rbind", "ridmap"]}),
            );
        })
        .start();
    container.wait();
    let log = container.log();
    assert_eq!(log, "65534:65534\n3:4\nno\n");
    assert_eq!(owner(&source.join("new")), (0, 0));
}

#[test]
fn a_part_of_layers_is_mapped_too() {
    let setup = mapped("busybox stat -c %u:%g /part/file; echo x > /part/new; busybox stat -c %u /part/new");
    let directory = setup.directory().to_owned();
    for name in ["part/upper", "part/work"] {
        fs::create_dir_all(directory.join(name)).unwrap();
    }
    let mut container = setup
        .with_spec(|s| {
            let options = [
                ("lowerdir+", "layer"),
                ("lowerdir+", "bundle/rootfs"),
                ("upperdir", "part/upper"),
                ("workdir", "part/work"),
            ];
            let options = options.map(|(key, path)| format!("{key}={}", directory.join(path).display()));
            let options: Vec<String> = options.into_iter().chain(["idmap".to_owned()]).collect();
            s["mounts"].as_array_mut().unwrap().push(json!({
                "destination": "/part", "type": "overlay", "source": "overlay", "subpath": "home", "options": options,
            }));
        })
        .start();
    container.wait();
    assert_eq!(container.log(), "1000:50\n0\n");
    assert_eq!(owner(&directory.join("part/upper/home/new")), (0, 0));
}

#[test]
fn an_exec_enters_it_and_users_can_open_their_output_again() {
    let setup = mapped("echo again > /dev/stdout; busybox sleep 1000").with_spec(|s| {
        s["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    });
    let mut container = setup.start();
    until("its output", || container.log() == "again\n");
    let mut wanted = process(&["/bin/busybox", "sh", "-c", "id -u; echo error > /dev/stderr"]);
    wanted["user"] = json!({"uid": 7, "gid": 7});
    let (mut link, reply, stdio) = container.exec(&wanted, OUTPUT);
    assert!(matches!(reply, Reply::ExecStarted { .. }), "{reply:?}");
    assert_eq!(demultiplex(&read_all(&stdio)), (b"7\n".to_vec(), b"error\n".to_vec()));
    assert_eq!(link.exit().code, 0);
    container.kill();
    container.wait();
}

#[test]
fn owners_cannot_be_mapped_without_a_map() {
    let setup = mapped("true").with_spec(|s| {
        s["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "user");
    });
    let (Reply::Failed(failure), mut container) = setup.try_create() else { panic!() };
    assert!(failure.message.contains("a user namespace of the container's"), "{failure}");
    container.wait_for_shim();
}

#[test]
fn another_container_can_live_in_the_same_user_namespace() {
    let mut first = mapped("busybox sleep 1000").start();
    let (pid, net) = (first.pid, fs::read_link(format!("/proc/{}/ns/net", first.pid)).unwrap());
    let script = "id -u; echo $$; cat /proc/self/uid_map; echo x > /new; busybox readlink /proc/self/ns/net";
    let mut second = mapped(script)
        .with_spec(|s| {
            for namespace in s["linux"]["namespaces"].as_array_mut().unwrap() {
                match namespace["type"].as_str() {
                    Some("user") => namespace["path"] = json!(format!("/proc/{pid}/ns/user")),
                    Some("network") => namespace["path"] = json!(format!("/proc/{pid}/ns/net")),
                    _ => {}
                }
            }
        })
        .start();
    let (theirs, ours) = (format!("/proc/{}/ns/user", second.pid), format!("/proc/{pid}/ns/user"));
    assert_eq!(fs::read_link(theirs).unwrap(), fs::read_link(ours).unwrap());
    assert_eq!(second.wait().code, 0, "{}", second.log());
    let log = second.log();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!((lines[0], lines[1], lines[3]), ("0", "1", net.to_str().unwrap()), "{log}");
    assert_eq!(owner(&second.directory().join("rw/upper/new")), (0, 0));
    first.kill();
    first.wait();
}
