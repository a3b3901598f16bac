//! Images built from a Dockerfile: where its files come from, and what the flags of `build` do.

use skep_testkit::{Engine, EngineKind, ImageBuilder, Registry};

use super::engine;
use super::project::{Project, cat, inspect, repository};
use super::serve::Server;

const COPIES: &str = "FROM busybox\nCOPY greeting /greeting\n";

fn greeting(engine: &Engine, name: &str) -> Project {
    Project::new(engine, name, COPIES).file("greeting", format!("hello from {name}\n"))
}

#[test]
fn a_directory() {
    let engine = engine();
    let project = greeting(&engine, "here");
    project.build(&engine, &["-t", "one", "-t", "two:2"]).success();
    assert_eq!(cat(&engine, "one", "/greeting"), "hello from here\n");
    assert_eq!(inspect(&engine, "one")["Id"], inspect(&engine, "two:2")["Id"]);
}

#[test]
fn a_dockerfile_outside_the_context() {
    let engine = engine();
    let project = Project::empty(&engine, "files").file("greeting", "hi\n");
    let other = Project::empty(&engine, "elsewhere").file("My.Dockerfile", COPIES);
    let file = other.path().join("My.Dockerfile").display().to_string();
    project.build(&engine, &["-t", "one", "-f", &file]).success();
    assert_eq!(cat(&engine, "one", "/greeting"), "hi\n");
}

#[test]
fn a_dockerfile_on_stdin() {
    let engine = engine();
    let project = Project::empty(&engine, "files").file("greeting", "hi\n");
    project.build_command(&engine, &["-t", "one", "-f", "-"]).stdin(COPIES).run().success();
    assert_eq!(cat(&engine, "one", "/greeting"), "hi\n");
    engine.command(["build", "-t", "two", "-"]).stdin("FROM busybox\nRUN echo alone > /x\n").run().success();
    assert_eq!(cat(&engine, "two", "/x"), "alone\n");
}

#[test]
fn an_archive_on_stdin() {
    let engine = engine();
    let project = greeting(&engine, "packed").file("other/Dockerfile", "FROM busybox\nCOPY greeting /other\n");
    for (tag, compress) in [("plain", false), ("gzip", true)] {
        engine.command(["build", "-t", tag, "-"]).stdin(project.archive(compress)).run().success();
        assert_eq!(cat(&engine, tag, "/greeting"), "hello from packed\n");
    }
    let words = ["build", "-t", "named", "-f", "other/Dockerfile", "-"];
    engine.command(words).stdin(project.archive(false)).run().success();
    assert_eq!(cat(&engine, "named", "/other"), "hello from packed\n");
}

#[test]
fn a_web_server() {
    let engine = engine();
    let project = greeting(&engine, "served");
    let files = Project::empty(&engine, "web")
        .file("context.tar.gz", project.archive(true))
        .file("Only.Dockerfile", "FROM busybox\nRUN echo fetched > /x\n");
    let server = Server::start(files.path().to_owned());
    engine.run(["build", "-t", "one", &format!("http://{}/context.tar.gz", server.address())]).success();
    assert_eq!(cat(&engine, "one", "/greeting"), "hello from served\n");
    engine.run(["build", "-t", "two", &format!("http://{}/Only.Dockerfile", server.address())]).success();
    assert_eq!(cat(&engine, "two", "/x"), "fetched\n");
}

#[test]
fn a_git_repository() {
    let engine = engine();
    let project =
        greeting(&engine, "kept").file("sub/Dockerfile", "FROM busybox\nCOPY inner /\n").file("sub/inner", "in\n");
    let name = repository(&project);
    let server = Server::start(engine.scratch());
    let url = format!("http://{}/{name}", server.address());
    engine.run(["build", "-t", "one", &url]).success();
    assert_eq!(cat(&engine, "one", "/greeting"), "hello from kept\n");
    engine.run(["build", "-t", "two", &format!("{url}#main:sub")]).success();
    assert_eq!(cat(&engine, "two", "/inner"), "in\n");
}

#[test]
fn arguments_targets_and_labels() {
    let engine = engine();
    let text = "ARG BASE=none\nFROM ${BASE} AS first\nARG WHO=nobody\nRUN echo $WHO > /who\nFROM scratch AS second\n";
    let project = Project::new(&engine, "args", text);
    let words = ["--target", "first", "--build-arg", "BASE=busybox", "--build-arg", "WHO=me", "--label", "a=b=c"];
    project.build(&engine, &[&["-t", "one"], words.as_slice()].concat()).success();
    assert_eq!(cat(&engine, "one", "/who"), "me\n");
    assert_eq!(inspect(&engine, "one")["Config"]["Labels"]["a"], "b=c");
    // A name alone takes the client's value.
    let words = ["--target", "first", "--build-arg", "BASE=busybox", "--build-arg", "WHO", "-t", "two"];
    project.build_command(&engine, &words).env("WHO", "you").run().success();
    assert_eq!(cat(&engine, "two", "/who"), "you\n");
}

#[test]
fn what_is_written_about_a_result() {
    let engine = engine();
    let project = Project::new(&engine, "told", "FROM busybox\nRUN true\n");
    let folder = engine.scratch();
    let (id, metadata) = (folder.join("id"), folder.join("metadata.json"));
    let (id_word, metadata_word) = (id.display().to_string(), metadata.display().to_string());
    project.build(&engine, &["-t", "one", "--iidfile", &id_word, "--metadata-file", &metadata_word]).success();
    let known = inspect(&engine, "one")["Id"].as_str().unwrap().to_owned();
    assert_eq!(std::fs::read_to_string(id).unwrap(), known);
    let metadata: serde_json::Value = serde_json::from_slice(&std::fs::read(metadata).unwrap()).unwrap();
    assert_eq!(metadata["containerimage.config.digest"], known.as_str(), "{metadata}");
    // Docker's graph drivers leave out the tag that was not said; its containerd store, and skep, say it.
    let name = metadata["image.name"].as_str().unwrap().trim_end_matches(":latest");
    assert_eq!(name, "docker.io/library/one", "{metadata}");
    let quiet = project.build(&engine, &["-q"]).success();
    assert_eq!((quiet.stdout.trim(), quiet.stderr.as_str()), (known.as_str(), ""));
}

#[test]
fn secrets_reach_steps_and_nothing_else() {
    let engine = engine();
    let text = "FROM busybox\n\
        RUN --mount=type=secret,id=file test $(wc -c < /run/secrets/file) = 4\n\
        RUN --mount=type=secret,id=var,env=TOKEN test ${#TOKEN} = 7\n\
        RUN --mount=type=secret,id=optional test ! -e /run/secrets/optional && find / -xdev -name file -type f > /after\n";
    let project = Project::new(&engine, "secrets", text).file("../value", "hush");
    let file = format!("id=file,src={}", engine.scratch().join("value").display());
    let words = ["-t", "one", "--secret", &file, "--secret", "id=var,env=SOME_TOKEN"];
    project.build_command(&engine, &words).env("SOME_TOKEN", "whisper").run().success();
    assert!(!cat(&engine, "one", "/after").contains("secrets"));
    let history = engine.run(["history", "--no-trunc", "one"]).success().stdout;
    assert!(!history.contains("hush") && !history.contains("whisper"), "{history}");
}

#[test]
fn keys_of_ssh_are_offered_by_an_agent() {
    let engine = engine();
    let text = "FROM busybox\nRUN --mount=type=ssh,required test -S $SSH_AUTH_SOCK && echo there > /x\n";
    let project = Project::new(&engine, "ssh", text);
    let key = engine.scratch().join("key").display().to_string();
    skep_testkit::Command::new("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", &key]).run().success();
    project.build(&engine, &["-t", "one", "--ssh", &format!("default={key}")]).success();
    assert_eq!(cat(&engine, "one", "/x"), "there\n");
    project.build(&engine, &["--no-cache"]).code_is(1);
    project.build(&engine, &["--ssh", "default=/no/such/key"]).code_is(1).stderr_has("no such file or directory");
}

#[test]
fn contexts_by_name() {
    let engine = engine();
    let text = "FROM base\nCOPY --from=files greeting /from-files\nCOPY --from=image /etc/passwd /from-image\n";
    let project = Project::new(&engine, "named", text);
    let files = Project::empty(&engine, "files").file("greeting", "named\n");
    let contexts = [format!("files={}", files.word()), "base=docker-image://busybox".to_owned()];
    let words = ["-t", "one", "--build-context", &contexts[0], "--build-context", &contexts[1]];
    let more = ["--build-context", "image=docker-image://busybox:latest"];
    project.build(&engine, &[words.as_slice(), &more].concat()).success();
    assert_eq!(cat(&engine, "one", "/from-files"), "named\n");
    assert!(cat(&engine, "one", "/from-image").contains("root"));
}

/// A step whose result tells whether it ran again.
const TELLS_TIME: &str = "FROM busybox AS a\nRUN cat /proc/uptime /proc/sys/kernel/random/uuid > /a\n\
    FROM busybox AS b\nCOPY --from=a /a /a\nRUN cat /proc/sys/kernel/random/uuid > /b\n";

#[test]
fn what_is_known_is_used_unless_something_else_is_said() {
    let engine = engine();
    let project = Project::new(&engine, "cached", TELLS_TIME);
    let both = |flags: &[&str]| {
        project.build(&engine, &[&["-q", "-t", "one"], flags].concat()).success();
        (cat(&engine, "one", "/a"), cat(&engine, "one", "/b"))
    };
    let first = both(&[]);
    assert_eq!(both(&[]), first);
    let only_b = both(&["--no-cache-filter", "b"]);
    assert!(only_b.0 == first.0 && only_b.1 != first.1);
    let none = both(&["--no-cache"]);
    assert!(none.0 != first.0 && none.1 != only_b.1);
}

#[test]
fn bases_are_asked_for_anew_if_that_is_wanted() {
    let engine = engine();
    let registry = Registry::start();
    let image = |text: &[u8]| ImageBuilder::empty("base:1").layer(&[("f", 0o644, text)]).build();
    let name = engine.pull(&registry, &image(b"one"));
    let project = Project::new(&engine, "based", &format!("FROM {name}\nCOPY Dockerfile /\n"));
    // The same directory: both files have the same size and time.
    let out = engine.scratch().join("out");
    let built = |flags: &[&str]| {
        project.build(&engine, &[flags, &["--output", &out.display().to_string()]].concat()).success();
        std::fs::read_to_string(out.join("f")).unwrap()
    };
    registry.push("base:1", &image(b"two"));
    assert_eq!(built(&[]), "one", "what is here is used");
    assert_eq!(built(&["--pull"]), "two");
    assert_eq!(built(&["--pull"]), "two", "the same again");
}

#[test]
fn networks_of_steps() {
    let engine = engine();
    let project =
        Project::new(&engine, "net", "FROM busybox\nRUN ls /sys/class/net > /links; cat /etc/hosts > /hosts.kept\n");
    project.build(&engine, &["-t", "none", "--network", "none"]).success();
    assert_eq!(cat(&engine, "none", "/links"), "lo\n");
    project.build(&engine, &["-t", "host", "--network", "host"]).success();
    assert!(cat(&engine, "host", "/links").contains(&engine.slot().bridge()));
    let hosts = ["--add-host", "db:10.1.2.3", "--add-host", "six=[::7]", "--add-host", "me:host-gateway"];
    project.build(&engine, &[&["-t", "named"], hosts.as_slice()].concat()).success();
    let known = cat(&engine, "named", "/hosts.kept");
    let line = |name: &str| {
        known
            .lines()
            .find(|line| line.ends_with(name))
            .and_then(|line| line.split_whitespace().next())
            .map(str::to_owned)
    };
    assert_eq!((line("db").as_deref(), line("six").as_deref()), (Some("10.1.2.3"), Some("::7")), "{known}");
    assert!(line("me").is_some_and(|address| address.parse::<std::net::IpAddr>().is_ok()), "{known}");
}

#[test]
fn limits_of_processes() {
    let engine = engine();
    let project =
        Project::new(&engine, "ulimit", "FROM busybox\nRUN ulimit -n > /files; df -k /dev/shm | tail -1 > /shm\n");
    project.build(&engine, &["-t", "one", "--ulimit", "nofile=111:222", "--shm-size", "3m"]).success();
    assert_eq!(cat(&engine, "one", "/files"), "111\n");
    assert!(cat(&engine, "one", "/shm").contains(" 3072 "), "{}", cat(&engine, "one", "/shm"));
}

#[test]
fn proxies_of_the_config_file_are_known_to_steps_and_leave_no_trace() {
    let engine = engine();
    let text = "FROM busybox\nRUN echo \"$HTTP_PROXY $no_proxy\" > /proxies\n";
    let project = Project::new(&engine, "proxies", text);
    let config = Project::empty(&engine, "config");
    let plugins = engine.scratch().join("../home/.docker/cli-plugins");
    if plugins.exists() {
        std::os::unix::fs::symlink(plugins, config.path().join("cli-plugins")).unwrap();
    }
    let config = config.file("config.json", r#"{"proxies":{"default":{"httpProxy":"http://p:1","noProxy":"here"}}}"#);
    project.build_command(&engine, &["-t", "one"]).env("DOCKER_CONFIG", config.path()).run().success();
    assert_eq!(cat(&engine, "one", "/proxies"), "http://p:1 here\n");
    assert!(!inspect(&engine, "one").to_string().contains("http://p:1"));
    assert!(!engine.run(["history", "--no-trunc", "one"]).success().stdout.contains("http://p:1"));
}

#[test]
fn files_and_archives_come_back() {
    let engine = engine();
    let text =
        "FROM busybox AS build\nRUN mkdir /out && echo made > /out/file\nFROM scratch\nCOPY --from=build /out /\n";
    let project = Project::new(&engine, "output", text);
    let out = engine.scratch().join("out");
    project.build(&engine, &["--output", &out.display().to_string()]).success();
    assert_eq!(std::fs::read_to_string(out.join("file")).unwrap(), "made\n");
    let tar = engine.scratch().join("out.tar");
    project.build(&engine, &["--output", &format!("type=tar,dest={}", tar.display())]).success();
    let mut archive = tar::Archive::new(std::fs::File::open(&tar).unwrap());
    let names: Vec<_> = archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
    assert!(names.contains(&"file".into()), "{names:?}");
    if engine.kind() == EngineKind::Docker {
        return println!("SKIPPED an image as an archive: Docker's graph drivers have no such exporter");
    }
    let loadable = engine.scratch().join("image.tar");
    project.build(&engine, &["-t", "one", "--output", &format!("type=docker,dest={}", loadable.display())]).success();
    engine.run(["image", "inspect", "one"]).code_is(1);
    engine.run(["load", "-i", &loadable.display().to_string()]).success();
    engine.run(["image", "inspect", "one"]).success();
}

#[test]
fn platforms_without_steps_that_run_need_no_emulation() {
    let engine = engine();
    let project = Project::new(&engine, "foreign", "FROM scratch\nARG TARGETARCH\nCOPY file.$TARGETARCH /file\n")
        .file("file.arm64", "arm\n")
        .file("file.amd64", "amd\n");
    let out = engine.scratch().join("out");
    let platforms = ["--platform", "linux/arm64"];
    project.build(&engine, &[platforms[0], platforms[1], "-t", "one"]).success();
    assert_eq!(inspect(&engine, "one")["Architecture"], "arm64");
    project.build(&engine, &[platforms[0], platforms[1], "--output", &out.display().to_string()]).success();
    assert_eq!(std::fs::read_to_string(out.join("file")).unwrap(), "arm\n");
}
