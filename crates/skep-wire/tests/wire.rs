//! The wire types against JSON from elsewhere: answers recorded from dockerd 28.5 (API 1.51), and the generated types of
//! bollard-stubs.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

macro_rules! recorded {
    ($name:literal) => {
        include_str!(concat!("dockerd/", $name, ".json"))
    };
}

/// Read and written again, the text must be the same to the byte: order of keys, null against missing, forms of times.
#[track_caller]
fn unchanged<T: DeserializeOwned + Serialize>(recorded: &str) {
    let value: T = skep_wire::from_str(recorded).expect("wire type");
    assert_eq!(serde_json::to_string(&value).expect("json"), recorded.trim_end());
}

/// The same but for what dockerd writes as `[]` or `null` by accident of how a list came to be, and for `ignored` keys.
#[track_caller]
fn equivalent<T: DeserializeOwned + Serialize>(recorded: &str, ignored: &[&str]) {
    let value: T = skep_wire::from_str(recorded).expect("wire type");
    let ours = serde_json::to_value(&value).expect("json");
    let theirs: Value = serde_json::from_str(recorded).expect("json");
    assert_eq!(without_emptiness(ours, ignored), without_emptiness(theirs, ignored));
}

fn without_emptiness(value: Value, ignored: &[&str]) -> Value {
    match value {
        Value::Array(items) if items.is_empty() => Value::Null,
        Value::Object(entries) if entries.is_empty() => Value::Null,
        Value::Array(items) => items.into_iter().map(|item| without_emptiness(item, ignored)).collect(),
        Value::Object(entries) => entries
            .into_iter()
            .filter(|(key, _)| !ignored.contains(&key.as_str()))
            .map(|(key, value)| (key, without_emptiness(value, ignored)))
            .collect(),
        other => other,
    }
}

#[test]
fn recorded_containers_come_back_to_the_byte() {
    unchanged::<skep_wire::ContainerInspect>(recorded!("container-inspect"));
    unchanged::<skep_wire::ContainerInspect>(recorded!("container-inspect-mounts"));
    unchanged::<skep_wire::ContainerInspect>(recorded!("container-inspect-failed"));
    unchanged::<Vec<skep_wire::ContainerSummary>>(recorded!("container-list"));
    unchanged::<Vec<skep_wire::ContainerSummary>>(recorded!("container-list-ended"));
    unchanged::<skep_wire::ExecInspect>(recorded!("exec-inspect"));
    unchanged::<skep_wire::ExecInspect>(recorded!("exec-inspect-ended"));
    unchanged::<skep_wire::ContainerTop>(recorded!("top"));
    unchanged::<Vec<skep_wire::FilesystemChange>>(recorded!("changes"));
    unchanged::<skep_wire::WaitResponse>(recorded!("wait"));
    equivalent::<skep_wire::Stats>(recorded!("stats"), &[]);
}

#[test]
fn recorded_images_volumes_and_networks_come_back_to_the_byte() {
    unchanged::<skep_wire::ImageInspect>(recorded!("image-inspect"));
    unchanged::<skep_wire::ImageInspect>(recorded!("image-inspect-full"));
    unchanged::<Vec<skep_wire::ImageSummary>>(recorded!("image-list"));
    unchanged::<Vec<skep_wire::ImageHistoryItem>>(recorded!("image-history"));
    unchanged::<Vec<skep_wire::Network>>(recorded!("network-list"));
    unchanged::<skep_wire::Network>(recorded!("network-inspect"));
    unchanged::<skep_wire::VolumeList>(recorded!("volume-list"));
    unchanged::<skep_wire::Volume>(recorded!("volume-inspect"));
}

#[test]
fn recorded_facts_of_the_engine_come_back() {
    unchanged::<skep_wire::Version>(recorded!("version"));
    equivalent::<skep_wire::Info>(recorded!("info"), &["Containerd"]);
    equivalent::<skep_wire::DiskUsage>(recorded!("system-df"), &[]);
    for line in include_str!("dockerd/events.jsonl").lines() {
        let event: skep_wire::Event = skep_wire::from_str(line).expect("an event");
        let theirs: Value = serde_json::from_str(line).expect("json");
        assert_eq!(serde_json::to_value(&event).expect("json"), theirs);
    }
}

/// What we write, a client with generated types must read, and keep what it knows.
#[track_caller]
fn understood<T: Serialize, U: DeserializeOwned + Serialize>(value: &T, unknown: &[&str]) {
    let ours = serde_json::to_value(value).expect("json");
    let theirs: U = serde_json::from_value(ours.clone()).expect("a generated type");
    let theirs = serde_json::to_value(&theirs).expect("json");
    assert_contained(&without_nothing(theirs), &without_nothing(ours), unknown, "");
}

/// Without fields that say nothing: generated types leave out what is absent, we leave out what is zero.
fn without_nothing(value: Value) -> Value {
    match value {
        Value::Object(entries) => {
            let entries = entries.into_iter().map(|(key, value)| (key, without_nothing(value)));
            let nothing = |value: &Value| match value {
                Value::Null | Value::Bool(false) => true,
                Value::String(text) => text.is_empty() || text.starts_with("0001-01-01"),
                Value::Number(number) => number.as_f64() == Some(0.0),
                Value::Array(items) => items.is_empty(),
                Value::Object(entries) => entries.is_empty(),
                Value::Bool(true) => false,
            };
            entries.filter(|(_, value)| !nothing(value)).collect()
        }
        Value::Array(items) => items.into_iter().map(without_nothing).collect(),
        other => other,
    }
}

#[track_caller]
fn assert_contained(part: &Value, whole: &Value, unknown: &[&str], path: &str) {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => {
            for (key, value) in whole {
                let path = format!("{path}.{key}");
                match part.get(key) {
                    Some(theirs) => assert_contained(theirs, value, unknown, &path),
                    None => assert!(unknown.contains(&key.as_str()), "{path} got lost"),
                }
            }
        }
        (Value::Array(part), Value::Array(whole)) => {
            assert_eq!(part.len(), whole.len(), "{path}");
            part.iter().zip(whole).for_each(|(part, whole)| assert_contained(part, whole, unknown, path));
        }
        (part, whole) => {
            let times = |value: &Value| value.as_str().and_then(|text| text.parse::<skep_wire::Timestamp>().ok());
            assert!(
                part == whole || times(part).is_some_and(|time| Some(time) == times(whole)),
                "{path}: {part} {whole}"
            );
        }
    }
}

fn read<T: DeserializeOwned>(recorded: &str) -> T {
    skep_wire::from_str(recorded).expect("wire type")
}

#[test]
fn generated_clients_understand_what_we_write() {
    use bollard_stubs::models as stubs;
    // bollard-stubs describes API 1.53, from which these fields have gone.
    let gone = [
        "Bridge",
        "HairpinMode",
        "EndpointID",
        "Gateway",
        "IPAddress",
        "IPPrefixLen",
        "MacAddress",
        "Links",
        "status",
        "id",
        "from",
        "DockerVersion",
        "Parent",
        "KernelMemoryTCP",
    ];
    for text in
        [recorded!("container-inspect"), recorded!("container-inspect-mounts"), recorded!("container-inspect-failed")]
    {
        understood::<_, stubs::ContainerInspectResponse>(&read::<skep_wire::ContainerInspect>(text), &gone);
        let host = read::<skep_wire::ContainerInspect>(text).host_config;
        understood::<_, stubs::HostConfig>(&host, &gone);
    }
    understood::<_, Vec<stubs::ContainerSummary>>(
        &read::<Vec<skep_wire::ContainerSummary>>(recorded!("container-list")),
        &gone,
    );
    understood::<_, stubs::ImageInspect>(&read::<skep_wire::ImageInspect>(recorded!("image-inspect-full")), &gone);
    understood::<_, Vec<stubs::ImageSummary>>(&read::<Vec<skep_wire::ImageSummary>>(recorded!("image-list")), &gone);
    understood::<_, stubs::VolumeListResponse>(&read::<skep_wire::VolumeList>(recorded!("volume-list")), &gone);
    understood::<_, stubs::NetworkInspect>(&read::<skep_wire::Network>(recorded!("network-inspect")), &gone);
    understood::<_, stubs::SystemInfo>(&read::<skep_wire::Info>(recorded!("info")), &gone);
    understood::<_, stubs::SystemVersion>(&read::<skep_wire::Version>(recorded!("version")), &gone);
    understood::<_, stubs::ContainerStatsResponse>(&read::<skep_wire::Stats>(recorded!("stats")), &gone);
    for line in include_str!("dockerd/events.jsonl").lines() {
        understood::<_, stubs::EventMessage>(&read::<skep_wire::Event>(line), &gone);
    }
}

#[test]
fn what_generated_clients_write_is_read_whole() {
    use bollard_stubs::models as stubs;
    let inspect: stubs::ContainerInspectResponse = serde_json::from_str(recorded!("container-inspect")).expect("stubs");
    let request = serde_json::json!({
        "Image": "bb:1",
        "Cmd": ["sh"],
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": inspect.host_config,
        "NetworkingConfig": {"EndpointsConfig": inspect.network_settings.and_then(|settings| settings.networks)},
    });
    let read: skep_wire::ContainerCreateRequest = skep_wire::from_value(request.clone()).expect("a request");
    let back = serde_json::to_value(&read).expect("json");
    assert_contained(&without_nothing(back), &without_nothing(request), &[], "");
}
