//! Names of containers, as programs in them find them.

use skep_testkit::{Command, Engine, EngineKind, Image, ImageBuilder, Outcome, until};

use super::{engine, sleeper};

/// A network of this test's own. Tests run side by side, and must not cut the same subnets.
fn network(engine: &Engine, name: &str, number: u8, arguments: &[&str]) {
    let subnet = format!("10.{}.{}.0/24", 214 + number, engine.slot().number());
    let create = ["network", "create", "--subnet", &subnet];
    engine.run([&create, arguments, &[name]].concat()).success();
}

/// Removes a scenario's containers and networks. A link that is still being deleted keeps its network for a moment.
fn leave(engine: &Engine) {
    let list = |words: &[&str]| engine.run(words).success().stdout.clone();
    for id in list(&["ps", "-aq"]).lines() {
        engine.run(["rm", "-f", id]).success();
    }
    for name in list(&["network", "ls", "-q", "--filter", "type=custom"]).lines() {
        until("the network goes", || engine.run(["network", "rm", name]).code == 0);
    }
}

/// A container that waits in a network.
fn member(engine: &Engine, name: &str, network: &str, arguments: &[&str]) {
    let start = ["run", "-d", "--name", name, "--network", network];
    engine.run([&start, arguments, &["busybox", "sleep", "1000"]].concat()).success();
}

fn address(engine: &Engine, container: &str, network: &str) -> String {
    engine.inspect(container)["NetworkSettings"]["Networks"][network]["IPAddress"].as_str().unwrap().to_owned()
}

/// dig in the network of a container.
fn dig(engine: &Engine, container: &str, arguments: &[&str]) -> Outcome {
    let pid = engine.inspect(container)["State"]["Pid"].to_string();
    let enter = ["-t", &pid, "-n", "dig", "+time=5", "+tries=1", "@127.0.0.11"];
    Command::new("nsenter", [&enter, arguments].concat()).run()
}

/// The records that a name has.
fn records(engine: &Engine, container: &str, arguments: &[&str]) -> Vec<String> {
    let output = dig(engine, container, &[&["+short"], arguments].concat()).success().stdout.clone();
    output.lines().map(str::to_owned).collect()
}

#[test]
fn containers_of_a_network_find_each_other() {
    let engine = engine();
    network(&engine, "front", 0, &[]);
    member(&engine, "web", "front", &["--network-alias", "www", "--hostname", "hosted"]);
    member(&engine, "client", "front", &[]);
    sleeper(&engine, "stranger");
    let web = address(&engine, "web", "front");
    let id = engine.inspect("web")["Id"].as_str().unwrap()[..12].to_owned();
    for name in ["web", "WEB", "web.front", "www", &id, &format!("{id}.front")] {
        assert_eq!(records(&engine, "client", &[name]), [web.as_str()], "{name}");
        assert_eq!(records(&engine, "client", &["+tcp", name]), [web.as_str()], "{name} over TCP");
    }
    assert_eq!(records(&engine, "client", &["-x", &web]), ["web.front."]);
    let six = dig(&engine, "client", &["web", "AAAA"]).success();
    six.stdout_has("status: NOERROR").stdout_has("ANSWER: 0");
    engine.run(["exec", "client", "nslookup", "web"]).stdout_has(&web);
    assert!(records(&engine, "stranger", &["web"]).is_empty(), "the default bridge has no names");
    leave(&engine);
}

#[test]
fn names_follow_what_happens_to_containers() {
    let engine = engine();
    network(&engine, "front", 0, &[]);
    network(&engine, "back", 1, &[]);
    member(&engine, "client", "front", &[]);
    member(&engine, "web", "front", &[]);
    let web = address(&engine, "web", "front");
    assert_eq!(records(&engine, "client", &["web"]), [web.as_str()]);
    engine.run(["rename", "web", "site"]).success();
    assert!(records(&engine, "client", &["web"]).is_empty());
    assert_eq!(records(&engine, "client", &["site"]), [web.as_str()]);
    engine.run(["network", "connect", "--alias", "store", "back", "client"]).success();
    member(&engine, "db", "back", &[]);
    assert_eq!(records(&engine, "client", &["db"]), [address(&engine, "db", "back")]);
    assert_eq!(records(&engine, "db", &["store"]), [address(&engine, "client", "back")]);
    engine.run(["network", "disconnect", "back", "client"]).success();
    assert!(records(&engine, "client", &["db"]).is_empty());
    assert!(records(&engine, "db", &["store"]).is_empty());
    engine.run(["rm", "-f", "site"]).success();
    assert!(records(&engine, "client", &["site"]).is_empty());
    leave(&engine);
}

#[test]
fn those_who_share_a_name_take_turns() {
    let engine = engine();
    network(&engine, "front", 0, &[]);
    for name in ["one", "two", "three"] {
        member(&engine, name, "front", &["--network-alias", "all"]);
    }
    let mut expected = ["one", "two", "three"].map(|name| address(&engine, name, "front"));
    expected.sort();
    let mut first = std::collections::BTreeSet::new();
    until("each has been the first", || {
        let mut found = records(&engine, "one", &["all"]);
        first.insert(found[0].clone());
        found.sort();
        assert_eq!(found, expected);
        first.len() == 3
    });
    leave(&engine);
}

#[test]
fn an_internal_network_has_names_and_asks_nobody() {
    let engine = engine();
    network(&engine, "inside", 0, &["--internal"]);
    member(&engine, "web", "inside", &[]);
    member(&engine, "client", "inside", &["--dns", "10.0.0.1"]);
    assert_eq!(records(&engine, "client", &["web"]), [address(&engine, "web", "inside")]);
    dig(&engine, "client", &["secret.example.org"]).success().stdout_has("status: SERVFAIL");
    dig(&engine, "client", &["+tcp", "secret.example.org"]).success().stdout_has("status: SERVFAIL");
    leave(&engine);
}

#[test]
fn names_go_on_while_no_daemon_runs() {
    let mut engine = engine();
    if engine.kind() != EngineKind::Skep {
        return;
    }
    network(&engine, "front", 0, &[]);
    member(&engine, "web", "front", &[]);
    member(&engine, "client", "front", &[]);
    let web = address(&engine, "web", "front");
    let pid = engine.inspect("client")["State"]["Pid"].to_string();
    engine.kill();
    let enter = ["-t", &pid, "-n", "dig", "+short", "+time=5", "+tries=1", "@127.0.0.11"];
    let ask = |name: &str| Command::new("nsenter", [&enter[..], &[name]].concat()).run().success().stdout.clone();
    assert_eq!(ask("web").trim(), web);
    engine.launch();
    assert_eq!(ask("web").trim(), web);
    member(&engine, "later", "front", &[]);
    assert_eq!(ask("later").trim(), address(&engine, "later", "front"));
    leave(&engine);
}

#[test]
fn a_shared_network_has_one_name_server() {
    let engine = engine();
    network(&engine, "front", 0, &[]);
    member(&engine, "web", "front", &[]);
    member(&engine, "client", "front", &[]);
    let web = address(&engine, "web", "front");
    engine.run(["run", "--rm", "--network", "container:client", "busybox", "nslookup", "web"]).stdout_has(&web);
    leave(&engine);
}

#[test]
fn links_are_names_of_one_container() {
    let engine = engine();
    network(&engine, "front", 0, &[]);
    member(&engine, "web", "front", &[]);
    member(&engine, "client", "front", &["--link", "web:store"]);
    member(&engine, "other", "front", &[]);
    assert_eq!(records(&engine, "client", &["store"]), [address(&engine, "web", "front")]);
    assert!(records(&engine, "other", &["store"]).is_empty());
    leave(&engine);
}

#[test]
fn resolv_conf_names_the_server() {
    let engine = engine();
    network(&engine, "front", 0, &[]);
    let own = ["--dns", "10.1.2.3", "--dns-search", "a.example", "--dns-option", "timeout:1"];
    member(&engine, "one", "front", &own);
    let conf = |name: &str| engine.run(["exec", name, "cat", "/etc/resolv.conf"]).success().stdout.clone();
    let text = conf("one");
    for line in
        ["nameserver 127.0.0.11\n", "search a.example\n", "options timeout:1 ndots:0\n", "# ExtServers: [10.1.2.3]"]
    {
        assert!(text.contains(line), "{line:?} in {text}");
    }
    // On the default bridge it is the user's servers, until there are names.
    let start = ["run", "-d", "--name", "two", "--dns", "10.1.2.3", "busybox", "sleep", "1000"];
    engine.run(start).success();
    assert!(conf("two").contains("nameserver 10.1.2.3\n"));
    engine.run(["network", "connect", "front", "two"]).success();
    assert!(conf("two").contains("nameserver 127.0.0.11\n"));
    // What the user has written stays.
    engine.run(["exec", "two", "sh", "-c", "echo nameserver 10.9.9.9 > /etc/resolv.conf"]).success();
    engine.run(["network", "disconnect", "front", "two"]).success();
    assert_eq!(conf("two"), "nameserver 10.9.9.9\n");
    leave(&engine);
}

#[test]
fn every_container_knows_the_host() {
    let engine = engine();
    if engine.kind() != EngineKind::Skep {
        return;
    }
    network(&engine, "front", 0, &[]);
    member(&engine, "one", "front", &[]);
    let host = engine.slot().bip().split('/').next().unwrap().to_owned();
    assert_eq!(records(&engine, "one", &["host.docker.internal"]), [host.as_str()]);
    let added = ["run", "--rm", "--add-host", "host:host-gateway", "busybox", "cat", "/etc/hosts"];
    engine.run(added).success().stdout_has(&format!("{host}\thost\n"));
    leave(&engine);
}

/// The C library that most programs have, with its program to look names up.
fn glibc() -> Image {
    let read = |path: &str| std::fs::read(path).unwrap();
    ImageBuilder::new("glibc")
        .layer(&[
            ("usr/bin/getent", 0o755, &read("/usr/bin/getent")),
            ("lib64/ld-linux-x86-64.so.2", 0o755, &read("/lib64/ld-linux-x86-64.so.2")),
            ("lib/x86_64-linux-gnu/libc.so.6", 0o755, &read("/lib/x86_64-linux-gnu/libc.so.6")),
            ("etc/nsswitch.conf", 0o644, b"hosts: files dns\n"),
        ])
        .build()
}

#[test]
fn the_c_library_finds_names() {
    let engine = engine();
    let image = glibc();
    engine.load(&image);
    network(&engine, "front", 0, &[]);
    member(&engine, "web", "front", &[]);
    let web = address(&engine, "web", "front");
    let look = |words: &[&str]| {
        let start = ["run", "--rm", "--network", "front", "glibc", "getent"];
        engine.run([&start, words].concat()).success().stdout.clone()
    };
    assert!(look(&["ahostsv4", "web"]).starts_with(&web));
    assert!(look(&["hosts", "web"]).contains(&web));
    assert!(look(&["hosts", &web]).contains("web.front"));
    leave(&engine);
}

#[test]
fn old_links_tell_of_a_container() {
    let engine = engine();
    let database = ["run", "-d", "--name", "db", "--expose", "5432", "-e", "MODE=fast", "busybox", "sleep", "1000"];
    engine.run(database).success();
    let ip = address(&engine, "db", "bridge");
    let id = engine.inspect("db")["Id"].as_str().unwrap()[..12].to_owned();
    let start = ["run", "--rm", "--name", "web", "--link", "db:my-store", "busybox"];
    let out = engine.run([&start[..], &["sh", "-c", "cat /etc/hosts; env"]].concat()).success().stdout.clone();
    for line in [
        format!("{ip}\tmy-store {id} db"),
        format!("MY_STORE_PORT=tcp://{ip}:5432"),
        format!("MY_STORE_PORT_5432_TCP_ADDR={ip}"),
        "MY_STORE_NAME=/web/my-store".to_owned(),
        "MY_STORE_ENV_MODE=fast".to_owned(),
    ] {
        assert!(out.lines().any(|found| found == line), "{line:?} in {out}");
    }
    engine.run(["create", "--name", "web", "--link", "db:store", "busybox", "true"]).success();
    assert_eq!(engine.inspect("web")["HostConfig"]["Links"], serde_json::json!(["/db:/web/store"]));
    engine.run(["stop", "-t", "0", "db"]).success();
    engine.run(["start", "web"]).stderr_has("Cannot link to a non running container: /db AS /web/store");
    engine.run(["create", "--link", "nobody:x", "busybox"]).stderr_has("could not get container for nobody");
}
