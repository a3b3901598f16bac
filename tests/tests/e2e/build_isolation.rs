//! What a hostile Dockerfile, image, context or repository may not do. The names are those of the holes that other builders had.

use std::path::{Path, PathBuf};

use skep_testkit::{Engine, Image, ImageBuilder, Outcome, until};

use super::engine;
use super::serve::Server;
use super::upkeep::own_words;

/// What a step says that has got out.
const OUT: &str = "ESCAPED-42";

/// A folder with files, among them a Dockerfile.
fn project(engine: &Engine, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let folder = engine.scratch().join(name);
    for (path, text) in files {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

fn build(engine: &Engine, dockerfile: &str, arguments: &[&str]) -> Outcome {
    let folder = project(engine, "project", &[("Dockerfile", dockerfile)]).display().to_string();
    let words = ["build", "--progress=plain"].iter().chain(arguments).copied().chain([folder.as_str()]);
    engine.run(words.collect::<Vec<_>>())
}

/// A directory of the host with a file that nobody may read or touch.
struct Canary(PathBuf);

impl Canary {
    fn new(engine: &Engine) -> Canary {
        let folder = engine.scratch().join("canary");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("bird"), "alive").unwrap();
        Canary(folder)
    }

    /// A link that would lead there if it was followed from inside a container's file system.
    fn link(&self) -> String {
        format!("{}{}", "/..".repeat(12), self.0.display())
    }

    fn assert_alive(&self) {
        let names: Vec<_> = std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["bird"]);
        assert_eq!(std::fs::read_to_string(self.0.join("bird")).unwrap(), "alive");
    }
}

#[test]
fn cve_2024_21626_a_working_directory_among_descriptors() {
    let engine = engine();
    let canary = Canary::new(&engine);
    for number in [3, 5, 7, 8, 11] {
        let up = "../".repeat(14);
        let text = format!(
            "FROM busybox\nWORKDIR /proc/self/fd/{number}\n\
             RUN cat {up}{}/bird && echo ESCAPED-$((40 + 2))\n",
            canary.0.display().to_string().trim_start_matches('/')
        );
        let outcome = build(&engine, &text, &[]);
        assert!(outcome.code != 0 && !outcome.stderr.contains(OUT), "{outcome}");
    }
}

#[test]
fn cve_2024_23651_a_shared_cache_directory_is_filled_unseen() {
    let engine = engine();
    let canary = Canary::new(&engine);
    let racer = format!(
        "for i in $(seq 300); do rm -rf /c/d 2>/dev/null; ln -s {} /c/d 2>/dev/null; rm -f /c/d 2>/dev/null; mkdir -p /c/d; done",
        canary.link()
    );
    let text = format!(
        "FROM busybox AS seed\nRUN mkdir -p /seed/d && for i in $(seq 200); do echo x > /seed/d/f$i; done\n\
         FROM busybox AS one\nRUN --mount=type=cache,id=race,from=seed,source=/seed,target=/c {racer}; touch /one\n\
         FROM busybox AS two\nRUN --mount=type=cache,id=race,from=seed,source=/seed,target=/c {racer}; touch /two\n\
         FROM busybox\nCOPY --from=one /one /\nCOPY --from=two /two /\n"
    );
    build(&engine, &text, &[]).success();
    canary.assert_alive();
}

#[test]
fn cve_2024_23652_mount_points_are_not_cleared_away_on_the_host() {
    let engine = engine();
    let canary = Canary::new(&engine);
    let text = format!(
        "FROM busybox\nRUN ln -s {0} /link && ln -s {0}/bird /file && mkdir /own && ln -s /own /inner\n\
         RUN --mount=type=tmpfs,target=/link/new --mount=type=tmpfs,target=/inner/new true\n\
         RUN --mount=type=bind,target=/link/made/deep true\n\
         RUN --mount=type=secret,id=none,target=/file true\n",
        canary.link()
    );
    // Whether the mount is possible is not the question.
    let _ = build(&engine, &text, &[]);
    canary.assert_alive();
    build(&engine, "FROM busybox\nRUN --mount=type=tmpfs,target=/a/b/c touch /a/b/c/x\nRUN test ! -e /a/b/c/x\n", &[])
        .success();
}

#[test]
fn cve_2024_23653_privileges_have_to_be_allowed() {
    if !own_words("cve_2024_23653_privileges_have_to_be_allowed") {
        return;
    }
    let settings = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&settings, r#"{"builder": {"entitlements": {"security-insecure": true}}}"#).unwrap();
    let engine = Engine::builder().argument(format!("--config-file={}", settings.path().display())).start();
    engine.load(Image::busybox());
    let insecure =
        "FROM busybox\nRUN --security=insecure grep CapEff /proc/self/status && mkdir /m && mount -t tmpfs none /m\n";
    build(&engine, insecure, &[]).code_is(1).stderr_has("security.insecure is not allowed");
    build(&engine, insecure, &["--allow", "security.insecure"]).success();
    let host = "FROM busybox\nRUN --network=host ls /sys/class/net\n";
    build(&engine, host, &[]).code_is(1).stderr_has("network.host is not allowed");
    let bridge = engine.slot().bridge();
    build(&engine, host, &["--allow", "network.host"]).success().stderr_has(&bridge);
    let outcome =
        build(&engine, "FROM busybox\nRUN mkdir /m && mount -t tmpfs none /m\n", &["--allow", "security.insecure"]);
    assert_ne!(outcome.code, 0, "what is allowed is not given unasked: {outcome}");
}

#[test]
fn the_daemon_says_what_builds_may_be_allowed() {
    if !own_words("the_daemon_says_what_builds_may_be_allowed") {
        return;
    }
    let engine = engine();
    let text = "FROM busybox\nRUN --security=insecure true\n";
    let refused = "granting entitlement security.insecure is not allowed by build daemon configuration";
    build(&engine, text, &["--allow", "security.insecure"]).code_is(1).stderr_has(refused);
    build(&engine, text, &["--allow", "colour"]).code_is(1).stderr_has("unknown entitlement colour");
    build(&engine, "FROM busybox\nRUN true\n", &["--allow", "network.host"]).success();
}

#[test]
fn cve_2024_24557_the_cache_is_not_poisoned_by_an_image_that_tells_lies() {
    let engine = engine();
    let command = "/bin/sh -c echo good > /f";
    let lie = serde_json::json!({
        "config": { "Cmd": ["/bin/sh", "-c", "#(nop) CMD"], "Env": ["PATH=/bin"] },
        "container_config": { "Cmd": ["/bin/sh", "-c", "echo good > /f"] },
        "history": [
            { "created_by": "busybox" },
            { "created_by": command },
        ],
    });
    engine.load(&ImageBuilder::new("evil:latest").layer(&[("f", 0o644, b"evil\n")]).settings(lie).build());
    let mut archive = tar::Builder::new(Vec::new());
    let text = b"FROM busybox\nRUN echo good > /f\n";
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, "Dockerfile", &text[..]).unwrap();
    let archive = archive.into_inner().unwrap();
    for query in ["/build?version=1&t=classic", "/build?version=1&t=classic&cachefrom=%5B%22evil%22%5D"] {
        let reply = engine.api().send("POST", query, &[("content-type", "application/x-tar")], &archive).unwrap();
        assert!(reply.text().contains("Successfully built"), "{}", reply.text());
        engine.run(["run", "--rm", "classic", "cat", "/f"]).success().stdout_is("good\n");
    }
    build(&engine, "FROM busybox\nRUN echo good > /f\n", &["-t", "new", "--cache-from", "evil"]).success();
    engine.run(["run", "--rm", "new", "cat", "/f"]).success().stdout_is("good\n");
}

/// Links, and files with the same names, that lead out of an image.
fn evil(engine: &Engine, canary: &Canary) {
    let text = format!(
        "FROM busybox\nRUN ln -s {0} /out && ln -s {0}/bird /bird && mkdir /tree && ln -s ../out /tree/again && ln -s / /root2\n",
        canary.link()
    );
    build(engine, &text, &["-t", "evil"]).success();
}

#[test]
fn cve_2024_9675_and_others_links_of_an_image_lead_nowhere() {
    let engine = engine();
    let canary = Canary::new(&engine);
    evil(&engine, &canary);
    for step in [
        "COPY --from=evil /out/bird /x",
        "COPY --from=evil /tree/again/bird /x",
        "RUN --mount=type=bind,from=evil,source=/out,target=/m cat /m/bird",
        "RUN --mount=type=bind,from=evil,source=/bird,target=/m cat /m",
        "RUN --mount=type=bind,from=evil,source=/../../../../../../../../../out,target=/m cat /m/bird",
        "RUN --mount=type=cache,id=a,from=evil,source=/out,target=/m cat /m/bird",
        "RUN --mount=type=cache,id=../../../../../../tmp,target=/m touch /m/bird && test -e /m/../tmp/nothing",
        "COPY --from=evil /root2/proc/1/environ /x",
    ] {
        let outcome = build(&engine, &format!("FROM busybox\n{step}\n"), &[]);
        assert!(outcome.code != 0 && !outcome.stderr.contains("alive"), "{step}: {outcome}");
    }
    // What is written through such a link stays in the image.
    let text = "FROM evil\nCOPY Dockerfile /tree/again/written\nWORKDIR /out/made\nADD Dockerfile /bird\n";
    let _ = build(&engine, text, &[]);
    canary.assert_alive();
}

#[test]
fn links_of_a_context_lead_nowhere() {
    let engine = engine();
    let canary = Canary::new(&engine);
    let folder = project(&engine, "project", &[("Dockerfile", "")]);
    let links = [("dir", canary.0.clone()), ("file", canary.0.join("bird")), ("up", Path::new("../canary").to_owned())];
    for (name, target) in links {
        std::os::unix::fs::symlink(target, folder.join(name)).unwrap();
    }
    for step in ["COPY file /x", "COPY dir/bird /x", "COPY up/bird /x", "ADD dir /x", "COPY ../canary/bird /x"] {
        let outcome = build(&engine, &format!("FROM busybox\n{step}\nRUN cat /x /x/bird\n"), &[]);
        assert!(outcome.code != 0 && !outcome.stderr.contains("alive"), "{step}: {outcome}");
    }
    canary.assert_alive();
}

#[test]
fn cve_2025_4953_what_is_written_to_a_mount_is_gone() {
    let engine = engine();
    let text = "FROM busybox AS one\nRUN echo own > /own\n\
                FROM busybox\nRUN --mount=type=bind,target=/ctx,rw echo leak > /ctx/leak && echo more >> /ctx/Dockerfile\n\
                RUN --mount=type=bind,from=one,target=/one,rw echo leak > /one/leak && echo other > /one/own\n\
                RUN --mount=type=bind,target=/ctx test ! -e /ctx/leak && ! grep more\\$ /ctx/Dockerfile\n\
                RUN --mount=type=bind,from=one,target=/one test ! -e /one/leak && grep own /one/own\n\
                COPY . /all\nRUN test ! -e /all/leak\n";
    build(&engine, text, &[]).success();
    let folder = engine.scratch().join("project");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    assert_eq!(std::fs::read_to_string(folder.join("Dockerfile")).unwrap(), text);
}

#[test]
fn cve_2021_3602_the_environment_of_the_daemon_is_not_a_steps() {
    if !own_words("cve_2021_3602_the_environment_of_the_daemon_is_not_a_steps") {
        return;
    }
    let engine = Engine::builder().env("DAEMONS_OWN", "hidden-4711").start();
    engine.load(Image::busybox());
    let outcome = build(&engine, "FROM busybox\nRUN env && cat /proc/1/environ\n", &["--no-cache"]).success();
    assert!(!outcome.stderr.contains("hidden-4711") && !outcome.stderr.contains("DAEMONS_OWN"), "{outcome}");
}

#[test]
fn cve_2026_33747_no_foreign_frontend_is_run() {
    if !own_words("cve_2026_33747_no_foreign_frontend_is_run") {
        return;
    }
    let engine = engine();
    let text = "# syntax=busybox\nFROM busybox\nRUN true\n";
    build(&engine, text, &[]).code_is(1).stderr_has("busybox");
    build(&engine, "# syntax=docker/dockerfile:1.7-labs\nFROM busybox\nRUN true\n", &[]).success();
}

#[test]
fn a_step_is_confined_as_a_container_is() {
    let engine = engine();
    let wanted = "Cap|Seccomp:|NoNewPrivs|Groups";
    let command =
        format!("grep -E '{wanted}' /proc/self/status | sort; ls /proc/sys/net | sort; cat /proc/self/oom_score_adj");
    let container = engine.run(["run", "--rm", "busybox", "sh", "-c", &command]).success().stdout;
    let text = format!("FROM busybox\nRUN ({command}) > /seen\n");
    build(&engine, &text, &["-t", "seen"]).success();
    engine.run(["run", "--rm", "seen", "cat", "/seen"]).success().stdout_is(&container);
    for forbidden in [
        "mkdir /m && mount -t tmpfs none /m",
        "mknod /dev/sda b 8 0",
        "chroot /proc/1/root true",
        "unshare -U true",
        "dmesg",
    ] {
        let outcome = build(&engine, &format!("FROM busybox\nRUN {forbidden}\n"), &["--no-cache"]);
        let outside = forbidden.starts_with("mknod") || forbidden.starts_with("chroot");
        assert!(outcome.code != 0 || outside, "{forbidden}: {outcome}");
    }
}

fn git(folder: &Path, arguments: &[&str]) {
    let settings = ["-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "protocol.ext.allow=always"];
    let mut command = std::process::Command::new("git");
    let done = command.current_dir(folder).args(settings).args(arguments).output().unwrap();
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Also CVE-2026-33748 (a directory of the repository that leads out of it) and CVE-2023-26054 (passwords in what is recorded).
#[test]
fn cve_2019_13139_and_others_a_repository_runs_nothing_and_leads_nowhere() {
    if !own_words("cve_2019_13139_and_others_a_repository_runs_nothing_and_leads_nowhere") {
        return;
    }
    let engine = engine();
    let canary = Canary::new(&engine);
    let touch = format!("touch {}/pwned", canary.0.display());
    let folder = project(&engine, "evil", &[("Dockerfile", "FROM busybox\nCOPY . /all\nRUN cat /all/out/bird\n")]);
    std::os::unix::fs::symlink(canary.link(), folder.join("out")).unwrap();
    let modules = format!("[submodule \"sub\"]\n\tpath = sub\n\turl = ext::sh -c {}\n", touch.replace(' ', "% "));
    std::fs::write(folder.join(".gitmodules"), modules).unwrap();
    git(&folder, &["init", "-q", "-b", "main", "."]);
    git(&folder, &["add", "-A"]);
    git(&folder, &["commit", "-q", "-m", "plain"]);
    git(&folder, &["tag", "plain"]);
    let commit = "0123456789012345678901234567890123456789";
    git(&folder, &["update-index", "--add", "--cacheinfo", &format!("160000,{commit},sub")]);
    git(&folder, &["commit", "-q", "-m", "with a module"]);
    git(&engine.scratch(), &["clone", "-q", "--bare", "evil", "evil.git"]);
    let server = Server::start(engine.scratch());
    let url = format!("http://{}/evil.git", server.address());
    for context in [
        format!("{url}#plain"),
        format!("{url}#plain:out"),
        format!("{url}#plain:../../../../../../../../../../{}", canary.0.display()),
        format!("{url}#main"),
        format!("{url}#--upload-pack={touch}"),
        format!("{url}#main;{touch}"),
        format!("ext::sh -c {touch}"),
        format!("ssh://-oProxyCommand={}/x.git", touch.replace(' ', "%20")),
        format!("git@-oProxyCommand={touch}:x.git"),
        format!("git://127.0.0.1:1/x.git#$({touch})"),
        format!("http://user:swordfish@{}/none.git", server.address()),
    ] {
        let outcome = engine.run(["build", "--progress=plain", &context]);
        assert!(outcome.code != 0 && !outcome.stderr.contains("alive"), "{context}: {outcome}");
        assert!(!outcome.stderr.contains("swordfish"), "{outcome}");
        let outcome = build(&engine, &format!("FROM busybox\nADD {context} /x\nRUN cat /x/bird /x/out/bird\n"), &[]);
        assert!(outcome.code != 0, "{context}: {outcome}");
        canary.assert_alive();
    }
}

/// All files below a directory that hold a text, those of the kernel left out.
fn holding(root: &Path, text: &[u8], found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            holding(&entry.path(), text, found);
        } else if kind.is_file() {
            let bytes = std::fs::read(entry.path()).unwrap_or_default();
            if bytes.windows(text.len()).any(|window| window == text) {
                found.push(entry.path());
            }
        }
    }
}

#[test]
fn a_secret_is_nowhere_afterwards() {
    if !own_words("a_secret_is_nowhere_afterwards") {
        return;
    }
    let engine = engine();
    let value = format!("swordfish-{}", std::process::id());
    let file = engine.scratch().join("secret");
    std::fs::write(&file, &value).unwrap();
    let secret = format!("id=s,src={}", file.display());
    let text = "FROM busybox\nRUN --mount=type=secret,id=s,env=TOKEN --mount=type=secret,id=s test -n \"$TOKEN\" && wc -c < /run/secrets/s > /size\n\
                RUN --mount=type=secret,id=s,target=/etc/key test -s /etc/key\nRUN test ! -s /etc/key && test ! -e /run/secrets/s\n";
    let outcome = build(&engine, text, &["-t", "made", "--secret", &secret, "--provenance=mode=max"]).success();
    let history = engine.run(["history", "--no-trunc", "made"]).success();
    let inspected = engine.run(["image", "inspect", "made"]).success();
    for text in [&outcome.stderr, &history.stdout, &inspected.stdout, &engine.log()] {
        assert!(!text.contains(&value), "{text}");
    }
    std::fs::remove_file(&file).unwrap();
    let mut found = Vec::new();
    for root in [engine.data_root(), engine.exec_root()] {
        holding(&root, value.as_bytes(), &mut found);
    }
    assert_eq!(found, Vec::<PathBuf>::new());
    // The value is no part of the key: another one changes nothing.
    std::fs::write(&file, "another").unwrap();
    build(&engine, text, &["-t", "again", "--secret", &secret]).success().stderr_has("CACHED");
}

#[test]
fn the_network_of_a_step_ends_with_it() {
    if !own_words("the_network_of_a_step_ends_with_it") {
        return;
    }
    let engine = engine();
    let links = || std::fs::read_dir("/sys/class/net").unwrap().count();
    let before = links();
    let none =
        build(&engine, "FROM busybox\nRUN ls /sys/class/net > /n && test \"$(cat /n)\" = lo\n", &["--network=none"]);
    none.success();
    build(&engine, "FROM busybox\nRUN --network=none ! ping -c1 -W1 8.8.8.8 && ls /sys/class/net\n", &[]).success();
    let gateway = engine.slot().bip();
    let gateway = gateway.split('/').next().unwrap();
    build(&engine, &format!("FROM busybox\nRUN ping -c1 -W5 {gateway}\n"), &[]).success();
    let hosts =
        "FROM busybox\nRUN grep -w there /etc/hosts && test \"$(hostname)\" != \"\" && ! grep -w there /etc/passwd\n";
    build(&engine, hosts, &["--add-host", "there:10.1.2.3"]).success();
    build(&engine, "FROM busybox\nRUN ! grep -w there /etc/hosts\n", &[]).success();
    until("the devices of the steps are gone", || links() <= before);
}

#[test]
fn limits_hold_in_steps() {
    if !own_words("limits_hold_in_steps") {
        return;
    }
    let engine = engine();
    let text = "FROM busybox\nRUN test $(ulimit -n) = 111 && df -k /dev/shm | grep -w 16384\n";
    build(&engine, text, &["--ulimit", "nofile=111:222", "--shm-size=16m"]).success();
    let eater = "FROM busybox\nRUN head -c 200m /dev/zero | tail -c 150m > /dev/null\n";
    let outcome = build(&engine, eater, &["--memory=20m", "--memory-swap=20m"]);
    assert_ne!(outcome.code, 0, "{outcome}");
    build(&engine, "FROM busybox\nRUN true\n", &["--ulimit", "nofile=1:x"]).code_is(125);
}
