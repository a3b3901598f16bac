//! Conversions there and back, on answers recorded from dockerd.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use chrono::{DateTime, Utc};
use skep_engine::EngineConfig;
use skep_engine::model::container::CreateContainer;
use skep_engine::model::host::PortBinding;
use skep_engine::model::network::{Attached, Endpoint, EndpointSettings};
use skep_engine::model::status::{Exited, Running, Status};
use skep_engine::model::view::{ContainerView, EngineFiles, MountKind, MountPoint, OverlayDirs};
use skep_types::{ContainerId, Digest, NetworkId, Platform};
use skep_wire::{ContainerCreateRequest, ContainerInspect};

use super::{create, host, inspect, summary};

macro_rules! recorded {
    ($name:literal) => {
        skep_wire::from_str::<ContainerInspect>(include_str!(concat!(
            "../../../skep-wire/tests/dockerd/",
            $name,
            ".json"
        )))
        .expect("recorded")
    };
}

fn converted(recorded: &ContainerInspect) -> CreateContainer {
    let request = ContainerCreateRequest {
        config: recorded.config.clone(),
        host_config: recorded.host_config.clone(),
        ..ContainerCreateRequest::default()
    };
    create::create("web", "linux/amd64", request).expect("a request")
}

#[test]
fn what_a_container_was_made_with_comes_back() {
    for recorded in
        [recorded!("container-inspect"), recorded!("container-inspect-mounts"), recorded!("container-inspect-failed")]
    {
        let made = converted(&recorded);
        assert_eq!(inspect::config(&made.config), recorded.config);
        let mut back = host::host(&made.host, 64 << 20);
        back.runtime.clone_from(&recorded.host_config.runtime);
        assert_eq!(back, recorded.host_config);
    }
}

fn time(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_238_609 + seconds, 123_000_000).expect("a time")
}

fn view(status: Status) -> ContainerView {
    let made = converted(&recorded!("container-inspect"));
    let volume = MountPoint {
        kind: MountKind::Volume,
        name: "data".to_owned(),
        subpath: String::new(),
        source: "/var/lib/skep/volumes/data/_data".to_owned(),
        destination: "/data".to_owned(),
        driver: "local".to_owned(),
        mode: "z".to_owned(),
        writable: true,
        propagation: String::new(),
    };
    let attached = Attached {
        endpoint_id: "e".repeat(64),
        address: Some(Ipv4Addr::new(172, 17, 0, 2)),
        prefix: 16,
        gateway: Some(Ipv4Addr::new(172, 17, 0, 1)),
        address6: None,
        gateway6: None,
        mac: "66:b8:f7:f0:b9:fe".to_owned(),
        host_link: "vethe".to_owned(),
    };
    let endpoint = Endpoint {
        network: NetworkId::from_bytes([0xaa; 32]),
        settings: EndpointSettings::default(),
        attached: status.running().map(|_| attached),
        names: Vec::new(),
    };
    let address = PortBinding { host_ip: "0.0.0.0".to_owned(), host_port: "8080".to_owned() };
    ContainerView {
        id: ContainerId::from_bytes([0x1c; 32]),
        name: made.name.expect("a name"),
        created: time(0),
        image_id: Digest::from_hex(&"1".repeat(64)).expect("a digest"),
        platform: made.platform.unwrap_or_else(Platform::host),
        config: made.config,
        host: made.host,
        argv: vec!["sleep".to_owned(), "1 000".to_owned()],
        status,
        last_exit: None,
        restart_count: 0,
        mounts: vec![volume],
        endpoints: BTreeMap::from([("bridge".to_owned(), endpoint)]),
        ports: BTreeMap::from([
            ("80/tcp".parse().expect("a port"), vec![address]),
            ("53/udp".parse().expect("a port"), Vec::new()),
        ]),
        sandbox_key: String::new(),
        sandbox_id: "5".repeat(64),
        exec_ids: Vec::new(),
        files: EngineFiles { hosts: "/var/lib/skep/containers/1c/hosts".to_owned(), ..EngineFiles::default() },
        rootfs: OverlayDirs {
            lower: vec!["/var/lib/skep/layers/b/fs".to_owned(), "/var/lib/skep/layers/a/fs".to_owned()],
            upper: "/var/lib/skep/containers/1c/rw/upper".to_owned(),
            work: "/var/lib/skep/containers/1c/rw/work".to_owned(),
        },
    }
}

fn states() -> [(&'static str, Status); 6] {
    let running = Running { pid: 42, start_time: 1, started_at: time(1) };
    let ended =
        Exited { code: 137, oom_killed: true, error: String::new(), started_at: Some(time(1)), finished_at: time(61) };
    let never = Exited {
        code: 127,
        oom_killed: false,
        error: "exec: \"nosuch\": executable file not found in $PATH".to_owned(),
        started_at: None,
        finished_at: time(2),
    };
    [
        ("created", Status::Created),
        ("running", Status::Running(running)),
        ("paused", Status::Paused(running)),
        ("restarting", Status::Restarting(ended.clone())),
        ("exited", Status::Exited(ended)),
        ("never started", Status::Exited(never)),
    ]
}

fn engine() -> EngineConfig {
    EngineConfig::new("/var/lib/skep".into(), "/run/skep".into(), "/usr/bin/skep-runtime".into())
}

#[test]
fn a_running_container_is_inspected() {
    let [_, (_, running), ..] = states();
    let shown = inspect::container(&view(running), None, &engine());
    insta::assert_snapshot!(serde_json::to_string_pretty(&shown).expect("json"));
}

#[test]
fn every_state_is_shown_as_docker_shows_it() {
    let mut shown = String::new();
    for (name, status) in states() {
        let view = view(status);
        let state = inspect::container(&view, None, &engine()).state;
        let row = summary::container(&view, Some(view.image_id), None, time(121));
        shown.push_str(&format!(
            "{name}\n  {}\n  {} | {} | {} | {} ports\n",
            serde_json::to_string(&state).expect("json"),
            row.state,
            row.status,
            row.command,
            row.ports.len(),
        ));
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn a_container_whose_image_lost_its_name_shows_the_id() {
    let view = view(Status::Created);
    assert_eq!(summary::container(&view, Some(view.image_id), None, time(0)).image, "bb:1");
    assert_eq!(summary::container(&view, None, None, time(0)).image, format!("sha256:{}", "1".repeat(64)));
}
