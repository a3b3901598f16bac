//! Projects of `docker compose` with networks: the plugin as it comes, against this engine.

use std::path::PathBuf;

use skep_testkit::{Command, Engine, Outcome};

use super::project::Project;
use super::{engine, peers};

/// Why a scenario is skipped.
const NO_PLUGIN: &str = "SKIPPED docker compose: `cargo xtask peers` has not fetched it";

/// `docker compose` with one project.
struct Compose<'e> {
    engine: &'e Engine,
    docker: PathBuf,
    project: Project,
}

impl<'e> Compose<'e> {
    /// None if the plugin is not here.
    fn new(engine: &'e Engine, file: &str) -> Option<Compose<'e>> {
        let plugin = peers::target().join("peers/tree/usr/libexec/docker/cli-plugins/docker-compose");
        let docker = peers::fetched("docker").filter(|_| plugin.exists())?;
        let plugins = engine.scratch().join("docker/cli-plugins");
        std::fs::create_dir_all(&plugins).unwrap();
        std::os::unix::fs::symlink(plugin, plugins.join("docker-compose")).unwrap();
        Some(Compose { engine, docker, project: Project::empty(engine, "shop").file("compose.yaml", file) })
    }

    fn run(&self, words: &[&str]) -> Outcome {
        let home = self.engine.scratch().join("docker");
        Command::new(&self.docker, ["compose", "--progress", "plain"].iter().chain(words))
            .current_dir(self.project.path())
            .env("DOCKER_HOST", format!("unix://{}", self.engine.socket().display()))
            .env("DOCKER_CONFIG", &home)
            .env("HOME", home)
            .run()
    }
}

#[test]
fn a_project_with_two_networks() {
    let engine = engine();
    let (front, back) = (engine.slot().subnet(0), engine.slot().subnet(1));
    let address = engine.slot().address(1, 77);
    let file = format!(
        "services:
  web:
    image: busybox
    command: [sleep, '1000']
    init: true
    ports: ['127.0.0.1::80']
    networks:
      front: {{aliases: [shop]}}
      back: {{}}
  db:
    image: busybox
    command: [sleep, '1000']
    init: true
    networks:
      back:
        ipv4_address: {address}
        mac_address: 02:42:0a:00:00:4d
networks:
  front:
    ipam: {{config: [{{subnet: {front}}}]}}
  back:
    internal: true
    labels: {{tier: back}}
    ipam: {{config: [{{subnet: {back}}}]}}
"
    );
    let Some(compose) = Compose::new(&engine, &file) else { return println!("{NO_PLUGIN}") };
    compose.run(&["up", "-d"]).success();
    let web = engine.inspect("shop-web-1")["NetworkSettings"]["Networks"].clone();
    let names: Vec<&String> = web.as_object().unwrap().keys().collect();
    assert_eq!(names, ["shop_back", "shop_front"]);
    let aliases = web["shop_front"]["DNSNames"].to_string();
    assert!(aliases.contains("\"shop\"") && aliases.contains("\"web\""), "{aliases}");
    let db = engine.inspect("shop-db-1")["NetworkSettings"]["Networks"]["shop_back"].clone();
    assert_eq!((db["IPAddress"].as_str(), db["MacAddress"].as_str()), (Some(&*address), Some("02:42:0a:00:00:4d")));
    engine.run(["exec", "shop-web-1", "ping", "-c", "1", "-W", "5", &address]).success();
    assert_eq!(engine.api().call("GET", "/networks/shop_back", None)["Labels"]["tier"], "back");
    // A second time nothing is to be done.
    let before = engine.inspect("shop-web-1")["Id"].clone();
    compose.run(&["up", "-d"]).success();
    assert_eq!(engine.inspect("shop-web-1")["Id"], before);
    compose.run(&["down"]).success();
    engine.run(["network", "ls", "-q", "-f", "type=custom"]).success().stdout_is("");
}

#[test]
fn a_network_from_elsewhere_and_one_that_changes() {
    let engine = engine();
    let file = |subnet: &str| {
        format!(
            "services:
  web:
    image: busybox
    command: [sleep, '1000']
    init: true
    networks: {{own: {{}}, shared: {{gw_priority: 1}}}}
networks:
  own: {{ipam: {{config: [{{subnet: {subnet}}}]}}}}
  shared: {{external: true}}
"
        )
    };
    let Some(mut compose) = Compose::new(&engine, &file(&engine.slot().subnet(0))) else {
        return println!("{NO_PLUGIN}");
    };
    compose.run(&["up", "-d"]).code_is(1).stderr_has("network shared declared as external, but could not be found");
    engine.run(["network", "create", "--subnet", &engine.slot().subnet(2), "shared"]).success();
    compose.run(&["up", "-d"]).success();
    let gateway = engine.slot().address(2, 1);
    engine.run(["exec", "shop-web-1", "ip", "route"]).success().stdout_has(&format!("default via {gateway} "));
    compose.project = compose.project.file("compose.yaml", file(&engine.slot().subnet(1)));
    compose.run(&["up", "-d"]).success();
    let subnet = &engine.api().call("GET", "/networks/shop_own", None)["IPAM"]["Config"][0]["Subnet"];
    assert_eq!(*subnet, engine.slot().subnet(1));
    compose.run(&["down"]).success();
    engine.run(["network", "ls", "-f", "type=custom", "--format", "{{.Name}}"]).success().stdout_is("shared\n");
}
