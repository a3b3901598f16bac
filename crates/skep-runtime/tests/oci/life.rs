//! A container's life from command to command.

use serde_json::{Value, json};

use crate::bundle::Bundle;

fn status(bundle: &Bundle) -> String {
    let said = bundle.skep(&["state", &bundle.id]);
    let state: Value = serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("no state: {said:?}"));
    state["status"].as_str().expect("a status").to_owned()
}

#[test]
fn create_start_exec_kill_delete() {
    let bundle = Bundle::new().command(&["sleep", "1000"]);
    let id = bundle.id.as_str();
    let pid_file = bundle.top().join("pid");
    let said = bundle.quietly(&["create", "--pid-file", pid_file.to_str().expect("text"), id]);
    assert_eq!((said.code, said.error.as_str()), (Some(0), ""));
    assert_eq!(status(&bundle), "created");
    assert_eq!(bundle.skep(&["start", id]).code, Some(0));
    assert_eq!(status(&bundle), "running");
    assert!(bundle.skep(&["start", id]).error.contains("already running"));
    assert_eq!(bundle.quietly(&["create", id]).code, Some(1), "the id is taken");

    let said =
        bundle.skep(&["exec", "-e", "A=b", "--cwd", "/bin", "-u", "7:8", id, "sh", "-c", "id; pwd; echo $A; exit 5"]);
    assert_eq!((said.code, said.out.as_str()), (Some(5), "uid=7 gid=8\n/bin\nb\n"));
    let pid = std::fs::read_to_string(pid_file).expect("a pid file");
    let listed = bundle.skep(&["list", "-f", "json"]).out;
    let listed: Value = serde_json::from_str(&listed).expect("json");
    assert_eq!((&listed[0]["id"], listed[0]["pid"].to_string()), (&json!(id), pid));
    assert!(bundle.skep(&["ps", id]).out.contains("sleep 1000"));

    assert_eq!(bundle.skep(&["pause", id]).code, Some(0));
    assert_eq!(status(&bundle), "paused");
    assert!(bundle.skep(&["exec", id, "true"]).error.contains("paused"));
    assert_eq!(bundle.skep(&["resume", id]).code, Some(0));

    assert!(bundle.skep(&["delete", id]).error.contains("not stopped: running"));
    assert_eq!(bundle.skep(&["kill", id, "KILL"]).code, Some(0));
    while status(&bundle) != "stopped" {
        std::thread::yield_now();
    }
    assert!(bundle.skep(&["kill", id]).error.contains("not running"));
    assert_eq!(bundle.skep(&["delete", id]).code, Some(0));
    assert!(bundle.skep(&["state", id]).error.contains("does not exist"));
}

#[test]
fn exit_codes_are_the_programs() {
    assert_eq!(Bundle::new().script("exit 42").run().code, Some(42));
    assert_eq!(Bundle::new().command(&["nosuch"]).run().code, Some(127));
    assert_eq!(Bundle::new().command(&["/bin"]).run().code, Some(126));
    let bundle = Bundle::new().command(&["/bin/text"]);
    std::fs::write(bundle.rootfs().join("bin/text"), "no program").expect("a file");
    assert_eq!(bundle.run().code, Some(126));
    let bundle = Bundle::new().command(&["sleep", "9"]);
    assert_eq!(bundle.quietly(&["run", "-d", &bundle.id]).code, Some(0));
    assert_eq!(bundle.skep(&["exec", &bundle.id, "nosuch"]).code, Some(127));
    let said = bundle.skep(&["exec", &bundle.id, "sh", "-c", "kill -TERM $$; sleep 1"]);
    assert_eq!(said.code, Some(128 + 15));
}

#[test]
fn a_bundle_of_runc_is_the_same_container() {
    let script = "id; pwd; hostname; env | grep -v SHLVL; grep -E 'Cap|NoNew|Seccomp:|Groups|SigBlk' /proc/self/status; \
                  mount | grep -v ' / ' | grep -v cgroup; ls /dev /proc/self/ns; stat -c '%n %a %t,%T' /dev/null /dev/tty /tmp /dev/shm; \
                  cat /proc/sys/kernel/domainname; ls /proc/self/fd";
    let bundle = Bundle::of_runc().script(&format!("exec 2>&1; {script}"));
    let (ours, theirs) = (bundle.run(), bundle.run_with_runc());
    // What covers masked paths is the host's /dev/null for us and the container's for runc.
    let lines = |text: &str| {
        let on_proc = |line: &str| line.contains(" on /proc/") && line.contains("tmpfs (");
        let covers = |line: &str| on_proc(line) || line.starts_with("tmpfs on /sys/firmware");
        let mut lines: Vec<String> = text.lines().filter(|line| !covers(line)).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(ours.code, theirs.code, "{ours:?} {theirs:?}");
    assert_eq!(lines(&ours.out), lines(&theirs.out));
}

#[test]
fn hooks_run_in_their_places() {
    let bundle = Bundle::new().script("echo program");
    let log = bundle.top().join("log");
    let hook =
        |name: &str| json!([{ "path": "/bin/sh", "args": ["sh", "-c", format!("echo {name} >> {}", log.display())] }]);
    let bundle = bundle.with(|config| {
        config["hooks"] = json!({
            "prestart": hook("prestart"), "createRuntime": hook("createRuntime"), "createContainer": hook("createContainer"),
            "startContainer": [{ "path": "/bin/sh", "args": ["sh", "-c", "echo startContainer"] }],
            "poststart": hook("poststart"), "poststop": hook("poststop"),
        });
    });
    assert_eq!(bundle.output(), "program\n");
    let log = std::fs::read_to_string(log).expect("the hooks wrote");
    assert_eq!(log, "prestart\ncreateRuntime\ncreateContainer\npoststart\npoststop\n");

    let failing = Bundle::new().with(|config| config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/false" }] }));
    let said = failing.run();
    assert!(said.code == Some(1) && said.error.contains("createRuntime hook #0"), "{said:?}");
}

#[test]
fn wrong_input_is_refused_and_leaves_nothing() {
    let refused = |bundle: Bundle, text: &str| {
        let said = bundle.run();
        assert!(said.code == Some(1) && said.error.contains(text), "{text}: {said:?}");
    };
    refused(Bundle::new().command(&[]), "args must not be empty");
    refused(Bundle::new().with(|c| c["process"]["cwd"] = json!("x")), "Cwd must be an absolute path");
    refused(
        Bundle::new().with(|c| c["linux"]["sysctl"] = json!({"kernel.core_pattern": "|/x"})),
        "kernel.core_pattern",
    );
    refused(Bundle::new().with(|c| c["linux"]["namespaces"][2]["path"] = json!("/nosuch")), "/nosuch");
    refused(Bundle::new().with(|c| c["root"]["path"] = json!("nosuch")), "nosuch");
    let limit = json!([{"type": "RLIMIT_NOFILE", "hard": 1_u64 << 40, "soft": 5}]);
    refused(Bundle::new().with(|c| c["process"]["rlimits"] = limit), "RLIMIT_NOFILE");
    let bundle = Bundle::new();
    assert!(bundle.skep(&["run", "../x"]).error.contains("invalid container ID"));
    assert!(bundle.skep(&["--systemd-cgroup", "list"]).error.contains("cgroupfs"));
    assert!(bundle.skep(&["run", "--nosuch", "x"]).error.contains("--nosuch"));
}
