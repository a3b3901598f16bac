//! `RUN`.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use bytes::Bytes;
use skep_build::Worker;
use skep_build::graph::*;
use skep_build::worker::{EMPTY_LAYER, Tree};
use skep_types::ErrorKind;

use crate::world::{Client, World, files, mount, shell, write};

#[tokio::test(flavor = "multi_thread")]
async fn a_step_leaves_what_it_changed_and_nothing_else() {
    let world = World::new().await;
    let layer = world.run(shell("echo hello > /file; rm /bin/busybox-gone 2>/dev/null; echo out; echo err >&2"), &[]);
    let layer = layer.await.unwrap();
    assert_eq!(world.changed(&layer), ["file"]);
    assert_eq!(world.read(layer.stack, "/file").await.as_deref(), Some("hello\n"));
    let empty = world.run(shell("true"), &[]).await.unwrap();
    assert_eq!((empty.diff_id, empty.size), (EMPTY_LAYER, 0));
    let (step, client) = (shell("cat /file"), world.context(Client::default()));
    world.machine.run(&step, Some(layer.stack), &[], &client).await.unwrap();
    drop(client);
    let (out, err) = world.end().await;
    assert_eq!((out.as_str(), err.as_str()), ("out\nhello\n", "err\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_fails_tells_how() {
    let world = World::new().await;
    // The error itself keeps what the step wrote.
    let fails = async |run| {
        let error = world.run(run, &[]).await.unwrap_err();
        (error.exit_code, error.message)
    };
    assert_eq!(
        fails(shell("echo bad >&2; exit 3")).await,
        (Some(3), "process \"/bin/sh -c echo bad >&2; exit 3\" did not complete successfully: exit code: 3".to_owned())
    );
    let missing = Run { argv: vec!["nosuch".to_owned()], ..shell("") };
    assert_eq!(fails(missing).await.1, "process \"nosuch\" did not complete successfully: exit code: 1");
    let stranger = Run { user: "nobody-here".to_owned(), ..shell("true") };
    let unknown = "unable to find user nobody-here: no matching entries in passwd file";
    assert_eq!(
        fails(stranger).await,
        (None, format!("process \"/bin/sh -c true\" did not complete successfully: {unknown}"))
    );
    let (_, err) = world.end().await;
    assert!(err.starts_with("bad\nunable to start container process: ") && err.contains("nosuch"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_surroundings_are_those_of_a_build() {
    let world = World::new().await;
    let run = Run {
        env: vec!["A=1".to_owned()],
        silent_env: vec!["http_proxy=http://p".to_owned(), "A=2".to_owned()],
        cwd: "/new/dir".into(),
        limits: Limits {
            extra_hosts: vec![("db".to_owned(), "10.0.0.9".to_owned())],
            ulimits: vec![("nofile".to_owned(), 77, 88)],
            shm_size: 1 << 20,
            ..Limits::default()
        },
        ..shell(
            "hostname; pwd; env | sort | grep -v SHLVL; cat /etc/hosts; ulimit -n; ulimit -Hn; \
             grep -c . /etc/resolv.conf > /dev/null && echo resolv; grep Seccomp: /proc/self/status; \
             df /dev/shm | tail -1 | awk '{print $2}'; ip link | grep -c mtu; grep CapEff /proc/self/status",
        )
    };
    let layer = world.run(run, &[]).await.unwrap();
    assert_eq!(world.changed(&layer), ["new", "new/dir"], "the working directory is made, as BuildKit does");
    let (out, err) = world.end().await;
    let wanted = "buildkitsandbox\n/new/dir\nA=1\nHOME=/root\n\
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nPWD=/new/dir\nhttp_proxy=http://p\n\
        127.0.0.1\tlocalhost buildkitsandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n10.0.0.9\tdb\n77\n88\nresolv\n\
        Seccomp:\t2\n1024\n1\nCapEff:\t00000000a80425fb\n";
    assert_eq!(out, wanted, "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_are_there_for_the_step_only() {
    let world = World::new().await;
    let context =
        world.context(Client { secrets: [("token".to_owned(), b"s3cret".to_vec())].into(), ..Client::default() });
    let made = files(vec![write("/src/data", "input\n"), write("/src/sub/more", "more\n")]);
    let input = world.machine.files(&made, None, &[], &context).await.unwrap();
    let bind = |source: &str| MountKind::Bind { from: StepId(1), source: PathBuf::from(source) };
    let secret = |file, env: Option<&str>| {
        MountKind::Secret(Secret {
            id: "token".to_owned(),
            required: true,
            env: env.map(str::to_owned),
            file,
            mode: 0o400,
            uid: 5,
            gid: 6,
        })
    };
    let script = "cat /in/data /one rel/more; echo x > /in/data 2>/dev/null || echo read-only; \
        echo changed > /rw/data && cat /rw/data; touch /tmpfs/x; stat -c '%a %u %g' /run/secrets/token; cat /run/secrets/token; \
        echo; echo $TOKEN; cat /inline; mount | grep -c ' /run/secrets/token '; mkdir /made; echo kept > /made/by-step";
    let run = Run {
        cwd: "/work".into(),
        mounts: vec![
            mount("/in", true, bind("/src")),
            mount("/one", true, bind("/src/data")),
            mount("rel", true, bind("src/sub")),
            mount("/rw", false, bind("/src")),
            mount("/tmpfs", false, MountKind::Tmpfs { size: 1 << 20 }),
            mount("/run/secrets/token", true, secret(true, None)),
            mount("/unused", true, secret(false, Some("TOKEN"))),
            mount("/inline", true, MountKind::Inline { data: Bytes::from_static(b"here\n"), mode: 0o644 }),
        ],
        ..shell(script)
    };
    let tree = Tree::Layers(Some(input.stack));
    let inputs = vec![tree.clone(), tree.clone(), tree.clone(), tree];
    let layer = world.machine.run(&run, world.base, &inputs, &context).await.unwrap();
    assert_eq!(world.changed(&layer), ["made", "made/by-step"], "no mount point is left");
    assert_eq!(
        world.read(input.stack, "/src/data").await.as_deref(),
        Some("input\n"),
        "what was written is thrown away"
    );
    let unknown = Run { mounts: vec![mount("/s", true, secret(true, None))], ..shell("true") };
    let error = world.run(unknown, &[]).await.unwrap_err();
    assert_eq!(error.message, "secret token: not found");
    drop(context);
    let (out, err) = world.end().await;
    assert_eq!(out, "input\ninput\nmore\nread-only\nchanged\n400 5 6\ns3cret\ns3cret\nhere\n1\n", "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cache_directories_stay() {
    let world = World::new().await;
    let cache = |sharing| MountKind::Cache { id: "apt".to_owned(), sharing, from: None, mode: 0o750, uid: 3, gid: 4 };
    let run = |script: &str, sharing| Run { mounts: vec![mount("/cache", false, cache(sharing))], ..shell(script) };
    world.run(run("stat -c '%a %u %g' /cache; echo one > /cache/file", Sharing::Shared), &[]).await.unwrap();
    let both = tokio::join!(
        world.run(run("cat /cache/file", Sharing::Locked), &[]),
        world.run(run("cat /cache/file", Sharing::Locked), &[])
    );
    let (first, second) = (both.0.unwrap(), both.1.unwrap());
    assert_eq!((first.diff_id, second.diff_id), (EMPTY_LAYER, EMPTY_LAYER));
    let (out, _) = world.end().await;
    assert_eq!(out, "750 3 4\none\none\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_directory_begins_with_files_of_another_step() {
    let world = World::new().await;
    let context = world.context(Client::default());
    let input = world.machine.files(&files(vec![write("/seed/file", "seed\n")]), None, &[], &context).await.unwrap();
    let kind = MountKind::Cache {
        id: "x".to_owned(),
        sharing: Sharing::Shared,
        from: Some((StepId(1), "/seed".into())),
        mode: 0o755,
        uid: 0,
        gid: 0,
    };
    let run = Run { mounts: vec![mount("/cache", false, kind)], ..shell("cat /cache/file; echo more >> /cache/file") };
    let inputs = [Tree::Layers(Some(input.stack))];
    for _ in 0..2 {
        world.run(run.clone(), &inputs).await.unwrap();
    }
    drop(context);
    assert_eq!(world.end().await.0, "seed\nseed\nmore\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_of_the_client_is_reached() {
    let world = World::new().await;
    let path = world.dir.path().join("agent.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let context = world.context(Client { agent: Some(path), ..Client::default() });
    let kind = |id: &str| MountKind::Ssh { id: id.to_owned(), required: true, mode: 0o600, uid: 0, gid: 0 };
    let run = Run {
        mounts: vec![
            mount("/run/agent.0", false, kind("default")),
            mount(
                "/done",
                false,
                MountKind::Cache {
                    id: "done".to_owned(),
                    sharing: Sharing::Shared,
                    from: None,
                    mode: 0o755,
                    uid: 0,
                    gid: 0,
                },
            ),
        ],
        ..shell("stat -c '%a %F' /run/agent.0; while [ ! -e /done/yes ]; do usleep 1000; done")
    };
    let running = world.machine.run(&run, world.base, &[], &context);
    let talking = async {
        let builds = world.dir.path().join("exec/builds");
        let connected = loop {
            let bundle = std::fs::read_dir(&builds).ok().and_then(|mut all| Some(all.next()?.ok()?.path()));
            // Through a short name: that of a socket may have only 107 bytes.
            let socket = bundle.map(|bundle| bundle.join("agents"));
            let dir = socket.as_ref().and_then(|dir| std::fs::File::open(dir).ok());
            if let Some(dir) = dir {
                use std::os::fd::AsRawFd;
                let name = format!("/proc/self/fd/{}/1", dir.as_raw_fd());
                if let Ok(stream) = tokio::net::UnixStream::connect(name).await {
                    break stream;
                }
            }
            tokio::task::yield_now().await;
        };
        let (mut agent, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut agent, b"hello").await.unwrap();
        drop(agent);
        let (mut text, mut connected) = (String::new(), connected);
        tokio::io::AsyncReadExt::read_to_string(&mut connected, &mut text).await.unwrap();
        let cache = std::fs::read_dir(world.dir.path().join("data/build/cache")).unwrap().next().unwrap().unwrap();
        std::fs::write(cache.path().join("yes"), "").unwrap();
        text
    };
    let (ran, text) = tokio::join!(running, talking);
    ran.unwrap();
    assert_eq!(text, "hello");
    let run = Run { mounts: vec![mount("/run/agent.0", false, kind("other"))], ..shell("true") };
    let error = world.machine.run(&run, world.base, &[], &context).await.unwrap_err();
    assert_eq!(error.message, "unset ssh forward key other");
    drop(context);
    assert_eq!(world.end().await.0, "600 socket\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_step_leaves_nothing() {
    let world = World::new().await;
    let context = world.context(Client::default());
    let cancel = context.cancel.clone();
    let run = shell("echo started; sleep 1000 & sleep 1000");
    let running = world.machine.run(&run, world.base, &[], &context);
    let cancelling = async {
        let builds = world.dir.path().join("exec/builds");
        let running = || {
            let bundle = std::fs::read_dir(&builds).ok()?.next()?.ok()?.path();
            let pid: i32 = std::fs::read_to_string(bundle.join("pid")).ok()?.parse().ok()?;
            std::fs::read_to_string(format!("/proc/{pid}/comm")).ok().filter(|name| name.trim() == "sleep").map(|_| pid)
        };
        let pid = loop {
            if let Some(pid) = running() {
                break pid;
            }
            tokio::task::yield_now().await;
        };
        cancel.cancel();
        pid
    };
    let (result, pid) = tokio::join!(running, cancelling);
    assert_eq!(result.unwrap_err().kind, ErrorKind::Cancelled);
    drop(context);
    world.end().await;
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "its processes are gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insecure_step_may_do_more() {
    let world = World::new().await;
    let run = Run {
        insecure: true,
        ..shell("grep Seccomp: /proc/self/status; mkdir -p /mnt && mount -t tmpfs none /mnt && echo mounted")
    };
    let layer = world.run(run, &[]).await.unwrap();
    let fs = world.layer(&layer);
    assert_eq!(std::fs::metadata(&fs).unwrap().mode() & 0o777, 0o755);
    assert_eq!(world.end().await.0, "Seccomp:\t0\nmounted\n");
}
