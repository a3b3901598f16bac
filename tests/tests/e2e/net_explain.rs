//! Who can reach a container, as `network explain` says it.

use super::engine;
use super::network::server;

#[test]
fn a_port_on_loopback_is_for_this_host() {
    let engine = engine();
    server(&engine, "web", &["-p", "127.0.0.1::80"]);
    let port = engine.run(["port", "web", "80/tcp"]).success().stdout.trim().rsplit(':').next().unwrap().to_owned();
    let by_port = engine.run(["network", "explain", &port]).success().stdout;
    assert_eq!(engine.run(["network", "explain", "web"]).success().stdout, by_port, "asked by port or by name");
    let json = engine.run(["network", "explain", "--format", "json", "web"]).success().stdout;
    let found: serde_json::Value = serde_json::from_str(&json).unwrap();
    let ports = found["Containers"][0]["Ports"].as_array().unwrap();
    let published = ports.iter().find(|entry| entry["Published"] == format!("127.0.0.1:{port}")).unwrap();
    for answer in published["Answers"].as_array().unwrap() {
        let expected = if answer["From"] == "host" || answer["From"] == "same-network" { "yes" } else { "no" };
        assert_eq!(answer["Reach"], expected, "{answer}");
    }
    assert!(by_port.contains(&format!("127.0.0.1:{port} -> ")) && by_port.contains("this host"), "{by_port}");
}

#[test]
fn what_can_not_be_explained_is_named() {
    let engine = engine();
    engine.run(["network", "explain", "nobody"]).code_is(1).stderr_has("No such container: nobody");
    engine.run(["network", "explain", "1/udp"]).code_is(1).stderr_has("no running container publishes port 1/udp");
    engine.run(["create", "--name", "idle", "busybox", "true"]).success();
    engine.run(["network", "explain", "idle"]).code_is(1).stderr_has("container idle is not running");
    engine.run(["run", "-d", "--name", "alone", "--network", "none", "busybox", "sleep", "1000"]).success();
    engine.run(["network", "explain", "alone"]).success().stdout_has("nobody can reach it");
}
