//! What a container finds inside.

use serde_json::{Value, json};

use crate::bundle::Bundle;

fn mount(bundle: Bundle, mount: Value) -> Bundle {
    bundle.with(|config| config["mounts"].as_array_mut().expect("mounts").push(mount))
}

#[test]
fn identity_is_exactly_what_was_asked_for() {
    let bundle = Bundle::new()
        .script("grep -E 'Cap|Uid|Gid|Groups|Umask|NoNew' /proc/self/status; cat /proc/self/oom_score_adj")
        .with(|config| {
            let capabilities = json!(["CAP_CHOWN", "CAP_KILL"]);
            config["process"]["user"] = json!({"uid": 1000, "gid": 1001, "umask": 0o027, "additionalGids": [5, 6]});
            config["process"]["capabilities"] = json!({"bounding": capabilities, "permitted": capabilities});
            config["process"]["oomScoreAdj"] = json!(123);
            config["process"]["noNewPrivileges"] = json!(true);
        });
    let out = bundle.output();
    let expected = [
        "Umask:\t0027",
        "Uid:\t1000\t1000\t1000\t1000",
        "Gid:\t1001\t1001\t1001\t1001",
        "Groups:\t5 6 ",
        "CapInh:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000021",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
        "123",
    ];
    assert_eq!(out.lines().collect::<Vec<_>>(), expected, "execve by another user than root leaves no permitted set");
}

#[test]
fn bind_mounts_follow_their_options() {
    let bundle = Bundle::new();
    let source = bundle.top().join("source");
    std::fs::create_dir_all(source.join("deep")).expect("a directory");
    std::fs::write(source.join("file"), "text\n").expect("a file");
    let bundle = mount(bundle, json!({"destination": "/ro", "source": source, "options": ["rbind", "rro"]}));
    let bundle =
        mount(bundle, json!({"destination": "/rw/new", "source": source, "type": "bind", "options": ["bind"]}));
    let bundle =
        mount(bundle, json!({"destination": "/etc/file", "source": source.join("file"), "options": ["bind", "ro"]}));
    let bundle = mount(
        bundle,
        json!({"destination": "/t", "type": "tmpfs", "options": ["size=64k", "mode=1711", "uid=3", "ro"]}),
    );
    let out = bundle
        .script("cat /ro/file /etc/file; touch /ro/x 2>/dev/null || echo ro; touch /rw/new/deep/x && echo rw; stat -c '%a %u' /t; touch /t/x 2>/dev/null || echo ro")
        .output();
    assert_eq!(out, "text\ntext\nro\nrw\n1711 3\nro\n");
}

#[test]
fn masked_and_read_only_paths() {
    let bundle = Bundle::new().with(|config| {
        config["root"]["readonly"] = json!(false);
        config["linux"]["maskedPaths"] = json!(["/secret", "/file", "/nosuch"]);
        config["linux"]["readonlyPaths"] = json!(["/bin"]);
    });
    std::fs::create_dir_all(bundle.rootfs().join("secret/x")).expect("a directory");
    std::fs::write(bundle.rootfs().join("file"), "secret").expect("a file");
    let out = bundle
        .script("ls /secret; cat /file; touch /bin/x 2>/dev/null || echo ro; touch /y && echo rw; stat -c %t,%T /file; chmod 600 /file 2>/dev/null || echo kept")
        .output();
    assert_eq!(out, "ro\nrw\n1,3\nkept\n", "the host's /dev/null is not the container's to change");
}

#[test]
fn a_user_namespace_maps_ids() {
    let bundle = Bundle::new()
        .script("id; cat /proc/self/uid_map; stat -c '%u %t,%T' /dev/null /; echo x > /dev/null && echo ok")
        .with(|config| {
            let linux = &mut config["linux"];
            linux["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
            linux["uidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]);
            linux["gidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]);
        });
    for path in ["proc", "dev", "sys"] {
        std::fs::create_dir(bundle.rootfs().join(path)).expect("a directory");
    }
    let out = bundle.output();
    let lines: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        lines,
        [vec!["uid=0", "gid=0"], vec!["0", "100000", "1000"], vec!["65534", "1,3"], vec!["65534", "0,0"], vec!["ok"]]
    );
}

#[test]
fn owners_in_a_bind_mount_are_mapped_by_its_own_mappings() {
    let bundle = Bundle::new();
    let source = bundle.top().join("source");
    std::fs::create_dir_all(&source).expect("a directory");
    std::fs::write(source.join("file"), "").expect("a file");
    let mappings = json!([{"containerID": 0, "hostID": 5000, "size": 10}]);
    let of = |options: &[&str], more: bool| {
        let mut mount = json!({"destination": "/m", "source": source, "type": "bind", "options": options});
        if more {
            mount["uidMappings"] = mappings.clone();
            mount["gidMappings"] = mappings.clone();
        }
        mount
    };
    let script = "stat -c %u:%g /m/file";
    let bundle = mount(bundle, of(&["rbind", "ridmap"], true)).script(script);
    assert_eq!(bundle.output(), "5000:5000\n");
    let again = |bundle: Bundle, mount: Value| {
        bundle.with(|config| *config["mounts"].as_array_mut().and_then(|all| all.last_mut()).expect("a mount") = mount)
    };
    let bundle = again(bundle, of(&["bind"], true));
    assert_eq!(bundle.output(), "5000:5000\n", "mappings are enough");
    let bundle = again(bundle, of(&["bind", "idmap"], false));
    let said = bundle.run();
    assert!(said.code != Some(0) && said.error.contains("owners can only be mapped with mappings"), "{said:?}");
    let mut tmpfs = of(&["size=1m"], true);
    tmpfs["type"] = json!("tmpfs");
    let said = again(bundle, tmpfs).run();
    assert!(said.code != Some(0) && said.error.contains("only owners of bind mounts"), "{said:?}");
}

#[test]
fn a_seccomp_filter_is_in_force_with_and_without_privileges() {
    for no_new_privileges in [true, false] {
        let bundle = Bundle::new().script("grep Seccomp: /proc/self/status; hostname x 2>&1").with(|config| {
            config["process"]["noNewPrivileges"] = json!(no_new_privileges);
            config["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["sethostname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 6}],
            });
        });
        let out = bundle.run().out;
        assert!(out.starts_with("Seccomp:\t2\n") && out.contains("No such device or address"), "{out}");
    }
}

#[test]
fn sysctls_hostname_and_namespaces() {
    let bundle = Bundle::new().script("hostname; cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/shmmni").with(
        |config| {
            config["hostname"] = json!("queen");
            config["linux"]["sysctl"] = json!({"net.ipv4.ip_default_ttl": "77", "kernel.shmmni": "321"});
        },
    );
    assert_eq!(bundle.output(), "queen\n77\n321\n");
}

#[test]
fn a_terminal_is_the_containers_own() {
    let bundle = Bundle::new().script("tty; stat -c %t /dev/console; echo to-console > /dev/console").with(|config| {
        config["process"]["terminal"] = json!(true);
    });
    let out = bundle.run();
    assert_eq!((out.code, out.out.as_str()), (Some(0), "/dev/pts/0\r\n88\r\nto-console\r\n"), "{out:?}");
}
