//! Networks and the containers in them: what can be made, joined, left and removed, and what is said where it can't.

use serde_json::{Value, json};
use skep_testkit::Engine;

use super::{engine, sleeper};

/// A container that does nothing, in a network.
fn member(engine: &Engine, name: &str, arguments: &[&str]) {
    let start = ["run", "-d", "--init", "--name", name];
    engine.run([&start, arguments, &["busybox", "sleep", "1000"]].concat()).success();
}

fn place(engine: &Engine, container: &str, network: &str) -> Value {
    engine.inspect(container)["NetworkSettings"]["Networks"][network].clone()
}

/// The IPv4 routes of a container: destination and interface.
fn routes(engine: &Engine, container: &str) -> Vec<String> {
    let table = engine.run(["exec", container, "ip", "route"]).success().stdout;
    let word_after = |line: &str, word: &str| {
        let mut words = line.split_whitespace().skip_while(|found| *found != word);
        words.nth(1).unwrap_or_default().to_owned()
    };
    let short =
        |line: &str| format!("{} {}", line.split_whitespace().next().unwrap_or_default(), word_after(line, "dev"));
    let mut routes: Vec<String> = table.lines().map(short).collect();
    routes.sort();
    routes
}

#[test]
fn a_network_is_made_shown_and_removed() {
    let engine = engine();
    let subnet = engine.slot().subnet(0);
    let id = engine.run(["network", "create", "--subnet", &subnet, "--label", "a=b", "one"]).success().word();
    let shown = engine.api().call("GET", "/networks/one", None);
    assert_eq!(shown["Id"], id);
    assert_eq!(shown["Driver"], "bridge");
    assert_eq!(shown["Labels"], json!({"a": "b"}));
    assert_eq!(shown["IPAM"]["Config"][0]["Subnet"], subnet);
    engine.run(["network", "create", "one"]).code_is(1).stderr_has("network with name one already exists");
    engine.run(["network", "rm", "one"]).success().stdout_is("one\n");
    engine.run(["network", "inspect", "one"]).code_is(1).stderr_has("network one not found");
}

#[test]
fn networks_of_containers_are_in_use() {
    let engine = engine();
    engine.run(["network", "create", "one"]).success();
    member(&engine, "web", &["--network", "one"]);
    let refused = engine.run(["network", "rm", "one"]).code_is(1);
    refused.stderr_has("error while removing network: network one has active endpoints (name:\"web\" id:\"");
    engine.run(["rm", "-f", "web"]).success();
    engine.run(["network", "rm", "one"]).success();
}

#[test]
fn wrong_networks_get_dockers_words() {
    let engine = engine();
    let subnet = engine.slot().subnet(0);
    engine.run(["network", "create", "--subnet", &subnet, "taken"]).success();
    let inside = subnet.replace(".0/24", ".128/25");
    let odd = subnet.replace(".0/24", ".1/24");
    let option = |text: &'static str| vec!["-o", text];
    let cases: Vec<(Vec<&str>, &str)> = vec![
        (vec!["--subnet", &inside], "Pool overlaps with other one on this address space"),
        (vec!["--subnet", &odd], "it should be"),
        (vec!["-d", "nosuch"], "plugin \"nosuch\" not found"),
        (vec!["-d", "host"], "only one instance of \"host\" network is allowed"),
        (vec!["--ipv4=false"], "IPv4 or IPv6 must be enabled"),
        (vec!["--config-from", "nosuch"], "configuration network \"nosuch\" does not exist"),
        (option("com.docker.network.driver.mtu=x"), "failed to parse com.docker.network.driver.mtu value: x"),
        (option("com.docker.network.bridge.gateway_mode_ipv4=x"), "unknown gateway mode x"),
    ];
    for (arguments, words) in cases {
        let command = [&["network", "create"], arguments.as_slice(), &["wrong"]].concat();
        engine.run(command).code_is(1).stderr_has(words);
    }
    for name in ["bridge", "host", "none"] {
        let refused = engine.run(["network", "create", name]).code_is(1);
        refused.stderr_has(&format!("operation is not permitted on predefined {name} network"));
        let refused = engine.run(["network", "rm", name]).code_is(1);
        refused.stderr_has(&format!("{name} is a pre-defined network and cannot be removed"));
    }
    let names = engine.run(["network", "ls", "--format", "{{.Name}}"]).success().stdout;
    assert!(!names.contains("wrong"), "nothing is left half made: {names}");
}

#[test]
fn wrong_places_get_dockers_words() {
    let engine = engine();
    let slot = engine.slot();
    engine.run(["network", "create", "--subnet", &slot.subnet(0), "given"]).success();
    engine.run(["network", "create", "chosen"]).success();
    sleeper(&engine, "web");
    let (outside, inside) = (slot.address(1, 9), slot.address(0, 9));
    let connect = |arguments: &[&str], words: &str| {
        engine.run([&["network", "connect"], arguments].concat()).code_is(1).stderr_has(words);
    };
    connect(&["--ip", &outside, "given", "web"], "no configured subnet or ip-range contain the IP address");
    connect(&["--ip", &inside, "chosen", "web"], "only when connecting to networks with user configured subnets");
    connect(&["host", "web"], "container must be created in host network mode");
    connect(&["none", "web"], "one of the networks in private (none) mode");
    connect(&["bridge", "web"], "endpoint with name web already exists in network bridge");
    connect(&["nosuch", "web"], "network nosuch not found");
    connect(&["given", "nosuch"], "No such container: nosuch");
    engine.run(["network", "connect", "--ip", &inside, "given", "web"]).success();
    sleeper(&engine, "other");
    connect(&["--ip", &inside, "given", "other"], "Address already in use");
    assert_eq!(place(&engine, "other", "given"), Value::Null);
    let left = engine.run(["network", "disconnect", "chosen", "web"]).code_is(1);
    left.stderr_has("is not connected to");
}

#[test]
fn a_start_whose_address_is_taken_leaves_nothing() {
    let engine = engine();
    let slot = engine.slot();
    engine.run(["network", "create", "--subnet", &slot.subnet(0), "given"]).success();
    let address = slot.address(0, 9);
    let run = |name: &str| {
        engine.run(["run", "-d", "--name", name, "--network", "given", "--ip", &address, "busybox", "sleep", "1000"])
    };
    run("first").success();
    run("second").code_is(125).stderr_has("Address already in use");
    let exits = || std::fs::read_dir(engine.exec_root().join("containers")).map_or(0, Iterator::count);
    assert_eq!(exits(), 1, "only the first one has files of a run");
    engine.run(["rm", "-f", "first"]).success();
    engine.run(["start", "second"]).success();
}

#[test]
fn a_running_container_joins_and_leaves_networks() {
    let engine = engine();
    let slot = engine.slot();
    for (number, name) in [(0, "back"), (1, "front")] {
        engine.run(["network", "create", "--subnet", &slot.subnet(number), name]).success();
    }
    member(&engine, "web", &["--network", "front"]);
    let whole = |number: u8| slot.subnet(number);
    assert_eq!(routes(&engine, "web"), [format!("{} eth0", whole(1)), "default eth0".to_owned()]);
    engine.run(["network", "connect", "--ip", &slot.address(0, 44), "back", "web"]).success();
    assert_eq!(place(&engine, "web", "back")["IPAddress"], slot.address(0, 44));
    let both = [format!("{} eth1", whole(0)), format!("{} eth0", whole(1))];
    assert_eq!(routes(&engine, "web"), [both[0].clone(), both[1].clone(), "default eth1".to_owned()], "by name");
    engine.run(["network", "disconnect", "back", "web"]).success();
    assert_eq!(routes(&engine, "web"), [both[1].clone(), "default eth0".to_owned()]);
    assert_eq!(place(&engine, "web", "back"), Value::Null);
    engine.run(["network", "connect", "--gw-priority", "-1", "back", "web"]).success();
    assert_eq!(routes(&engine, "web"), [both[0].clone(), both[1].clone(), "default eth0".to_owned()], "by priority");
}

#[test]
fn a_container_begins_in_several_networks() {
    let engine = engine();
    let slot = engine.slot();
    for (number, name) in [(0, "back"), (1, "front")] {
        engine.run(["network", "create", "--subnet", &slot.subnet(number), name]).success();
    }
    let front = format!("name=front,ip={},alias=www,gw-priority=1", slot.address(1, 7));
    let back = "name=back,mac-address=02:00:00:00:00:09,driver-opt=com.docker.network.endpoint.ifname=inner0";
    member(&engine, "web", &["--network", &front, "--network", back]);
    let expected =
        [format!("{} inner0", slot.subnet(0)), format!("{} eth0", slot.subnet(1)), "default eth0".to_owned()];
    assert_eq!(routes(&engine, "web"), expected);
    assert_eq!(place(&engine, "web", "back")["MacAddress"], "02:00:00:00:00:09");
    let front = place(&engine, "web", "front");
    assert_eq!(front["GwPriority"], 1);
    let names: Vec<_> = front["DNSNames"].as_array().unwrap().iter().take(2).cloned().collect();
    assert_eq!(names, [json!("web"), json!("www")]);
}

#[test]
fn ports_follow_the_default_route() {
    let engine = engine();
    let slot = engine.slot();
    for (number, name) in [(0, "back"), (1, "front")] {
        engine.run(["network", "create", "--subnet", &slot.subnet(number), name]).success();
    }
    super::network::server(&engine, "web", &["-p", "127.0.0.1::80", "--network", "front"]);
    let port = || engine.run(["port", "web", "80/tcp"]).success().word();
    let before = port();
    skep_testkit::until("the page is there", || super::network::ask(&before).is_some());
    engine.run(["network", "connect", "back", "web"]).success();
    assert_eq!(port(), before, "the same port of the host");
    skep_testkit::until("by the other network", || super::network::ask(&before).is_some());
    engine.run(["network", "disconnect", "back", "web"]).success();
    skep_testkit::until("and by the first one again", || super::network::ask(&before).is_some());
}

#[test]
fn ports_change_while_a_container_runs() {
    let engine = engine();
    super::network::server(&engine, "web", &["-p", "127.0.0.1::80"]);
    let change = |body: Value| engine.api().request("POST", "/skep/containers/web/ports", Some(&body)).unwrap();
    let ports = || engine.run(["port", "web"]).success().stdout;
    let first = engine.run(["port", "web", "80/tcp"]).success().word();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let wanted = taken.local_addr().unwrap().port().to_string();
    let swap = json!({
        "Publish": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": wanted}]},
        "Unpublish": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": first.rsplit(':').next()}]},
    });
    let refused = change(swap.clone());
    assert!(refused.status >= 400 && refused.text().contains("address already in use"), "{}", refused.text());
    assert_eq!(ports(), format!("80/tcp -> {first}\n"), "as it was");
    skep_testkit::until("the page is still there", || super::network::ask(&first).is_some());
    drop(taken);
    assert_eq!(change(swap).status, 200);
    assert_eq!(ports(), format!("80/tcp -> 127.0.0.1:{wanted}\n"));
    skep_testkit::until("the page is there", || super::network::ask(&format!("127.0.0.1:{wanted}")).is_some());
    assert_eq!(super::network::ask(&first), None);
    engine.run(["restart", "-t", "0", "web"]).success();
    assert_eq!(ports(), format!("80/tcp -> 127.0.0.1:{wanted}\n"), "and so it stays");
    assert_eq!(change(json!({"Unpublish": {"80/tcp": []}})).status, 200);
    assert_eq!(ports(), "");
    assert_eq!(change(json!({"Unpublish": {"80/tcp": []}})).status, 400, "there is none to take back");
}

#[test]
fn networks_survive_the_daemon() {
    let mut engine = engine();
    let (subnet, subnet6) = (engine.slot().subnet(0), engine.slot().subnet6(0));
    engine.run(["network", "create", "--subnet", &subnet, "back"]).success();
    engine.run(["network", "create", "--ipv6", "--subnet", &subnet6, "front"]).success();
    member(&engine, "web", &["--network", "back", "--network", "front"]);
    let before = engine.inspect("web")["NetworkSettings"].clone();
    let networks = engine.api().call("GET", "/networks/front", None);
    engine.kill();
    engine.launch();
    assert_eq!(engine.inspect("web")["NetworkSettings"], before);
    assert_eq!(engine.api().call("GET", "/networks/front", None), networks);
    engine.run(["network", "disconnect", "front", "web"]).success();
    engine.run(["network", "rm", "front"]).success();
    engine.run(["restart", "-t", "0", "web"]).success();
    assert_eq!(routes(&engine, "web"), [format!("{} eth0", subnet), "default eth0".to_owned()]);
}

#[test]
fn a_stopped_container_changes_its_networks() {
    let engine = engine();
    let slot = engine.slot();
    engine.run(["network", "create", "--subnet", &slot.subnet(0), "back"]).success();
    engine.run(["create", "--name", "web", "--init", "busybox", "sleep", "1000"]).success();
    engine.run(["network", "connect", "--ip", &slot.address(0, 5), "back", "web"]).success();
    engine.run(["network", "disconnect", "bridge", "web"]).success();
    engine.run(["start", "web"]).success();
    assert_eq!(place(&engine, "web", "back")["IPAddress"], slot.address(0, 5));
    assert_eq!(routes(&engine, "web"), [format!("{} eth0", slot.subnet(0)), "default eth0".to_owned()]);
}

#[test]
fn unused_networks_are_pruned() {
    let engine = engine();
    for (name, label) in [("used", "x"), ("idle", "x"), ("kept", "keep")] {
        engine.run(["network", "create", "--label", label, name]).success();
    }
    member(&engine, "web", &["--network", "used"]);
    let pruned = engine.run(["network", "prune", "-f", "--filter", "label!=keep"]).success();
    pruned.stdout_is("Deleted Networks:\nidle\n\n");
    let dangling = engine.run(["network", "ls", "--filter", "dangling=true", "--format", "{{.Name}}"]).success();
    dangling.stdout_is("kept\n");
    let of = engine.run(["ps", "--filter", "network=used", "--format", "{{.Names}}: {{.Networks}}"]).success();
    of.stdout_is("web: used\n");
}

#[test]
fn settings_are_shared_by_networks() {
    let engine = engine();
    let subnet = engine.slot().subnet(0);
    engine.run(["network", "create", "--config-only", "--subnet", &subnet, "settings"]).success();
    engine.run(["network", "create", "--config-from", "settings", "one"]).success();
    let one = engine.api().call("GET", "/networks/one", None);
    assert_eq!(one["IPAM"]["Config"][0]["Subnet"], subnet);
    assert_eq!(one["ConfigFrom"]["Network"], "settings");
    engine.run(["network", "rm", "settings"]).code_is(1).stderr_has("configuration network \"settings\" is in use");
    let refused = engine.run(["run", "--network", "settings", "busybox", "true"]).code_is(125);
    refused.stderr_has("configuration");
}

#[test]
fn exhausted_pools_are_named() {
    let engine = Engine::start();
    let made = (0..20).map(|number| engine.run(["network", "create", &format!("n{number}")])).collect::<Vec<_>>();
    let refused: Vec<_> = made.into_iter().filter(|outcome| outcome.code != 0).collect();
    assert_eq!(refused.len(), 4, "16 fit into the pool");
    for outcome in refused {
        outcome.stderr_has("all predefined address pools have been fully subnetted");
    }
}

/// A network is made and removed by a daemon that is killed at every place that this comes to: it is there or not, and nothing of it
/// is left.
#[test]
fn a_crash_leaves_no_half_a_network() {
    if !super::crash::can_crash("a_crash_leaves_no_half_a_network") {
        return;
    }
    let mut engine = engine();
    let links = |engine: &Engine| {
        let text = skep_testkit::Command::new("ip", ["-o", "-4", "addr", "show"]).run().stdout;
        text.lines().filter(|line| line.contains(&engine.slot().address(0, 1))).count()
    };
    for place in ["db-commit", "network-stored", "network-made", "network-unmade"] {
        let subnet = engine.slot().subnet(0);
        engine.crash_at(place);
        let made = engine.run(["network", "create", "--subnet", &subnet, "one"]);
        let removed = engine.run(["network", "rm", "one"]);
        assert!(engine.recover(), "{place}: the daemon came by");
        let there = engine.run(["network", "inspect", "one"]).code == 0;
        assert_eq!(links(&engine), usize::from(there), "{place}: {made}{removed}");
        if there {
            engine.run(["network", "rm", "one"]).success();
        }
        assert_eq!(links(&engine), 0, "{place}");
    }
}

#[test]
fn a_crash_while_networks_are_joined_and_left_leaves_no_half_a_place() {
    if !super::crash::can_crash("a_crash_while_networks_are_joined_and_left_leaves_no_half_a_place") {
        return;
    }
    let mut engine = engine();
    let subnet = engine.slot().subnet(0);
    // By its name, the way out is there while the container is in it.
    engine.run(["network", "create", "--subnet", &subnet, "apart"]).success();
    member(&engine, "web", &[]);
    for (verb, interfaces, way) in [("connect", 2, "default eth1"), ("disconnect", 1, "default eth0")] {
        engine.crash_at("networks-changed");
        let said = engine.run(["network", verb, "apart", "web"]);
        assert!(engine.recover(), "{verb}: the daemon came by: {said}");
        assert_eq!(place(&engine, "web", "apart").is_object(), verb == "connect", "{verb}");
        let listed = engine.run(["exec", "web", "ls", "/sys/class/net"]).success().stdout;
        let there = listed.split_whitespace().filter(|name| name.starts_with("eth")).count();
        assert_eq!(there, interfaces, "{verb}: {listed}");
        assert!(routes(&engine, "web").iter().any(|route| route == way), "{verb}: {:?}", routes(&engine, "web"));
    }
}
