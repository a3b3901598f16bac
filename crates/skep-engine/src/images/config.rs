//! The configuration of an image, as it is stored (OCI image spec `config.md`, with Docker's additions).
//!
//! The bytes are an image's identity and are never written again from what was parsed: this is for reading, and for making
//! new images.

mod keys;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, FixedOffset};
use serde::{Deserialize, Deserializer, Serialize};
use skep_types::{Digest, Platform, Port};

use super::ImageError;
use crate::model::image::{ImageConfig, ImageHealthcheck};

/// The largest configuration that is read, in bytes.
pub(super) const MAX_CONFIG_SIZE: u64 = 8 << 20;
/// The most layers of an image, the same as of a manifest.
const MAX_LAYERS: usize = 1024;

/// The whole document.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ConfigFile {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) architecture: String,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub(super) variant: String,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub(super) author: String,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub(super) comment: String,
    pub(super) config: Option<ContainerDefaults>,
    #[serde(default, deserialize_with = "time", skip_serializing_if = "Option::is_none")]
    pub(super) created: Option<DateTime<FixedOffset>>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub(super) docker_version: String,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) history: Vec<HistoryStep>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) os: String,
    #[serde(default, deserialize_with = "lenient", rename = "os.version", skip_serializing_if = "String::is_empty")]
    pub(super) os_version: String,
    pub(super) rootfs: RootFs,
}

/// The layers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct RootFs {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) diff_ids: Vec<Digest>,
}

/// One step of how the image was made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct HistoryStep {
    #[serde(default, deserialize_with = "time", skip_serializing_if = "Option::is_none")]
    pub(super) created: Option<DateTime<FixedOffset>>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub(super) created_by: String,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub(super) author: String,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub(super) comment: String,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "std::ops::Not::not")]
    pub(super) empty_layer: bool,
}

/// An object whose keys are all that counts, as Go writes a set.
type KeySet = BTreeMap<String, serde::de::IgnoredAny>;

/// What containers get unless they say otherwise.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ContainerDefaults {
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub(super) user: String,
    #[serde(default, with = "key_set", skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) exposed_ports: BTreeSet<String>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Vec::is_empty")]
    pub(super) env: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) entrypoint: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cmd: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) healthcheck: Option<ImageHealthcheck>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "std::ops::Not::not")]
    pub(super) args_escaped: bool,
    #[serde(default, with = "key_set", skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) volumes: BTreeSet<String>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub(super) working_dir: String,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Vec::is_empty")]
    pub(super) on_build: Vec<String>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stop_signal: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stop_timeout: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) shell: Option<Vec<String>>,
}

impl ConfigFile {
    /// Reads and checks a configuration.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        let invalid = |why: &dyn std::fmt::Display| ImageError::Invalid(format!("invalid image configuration: {why}"));
        let text = std::str::from_utf8(bytes).map_err(|e| invalid(&e))?;
        let outline: keys::Tree = serde_json::from_str(text).map_err(|e| invalid(&e))?;
        if let Some(key) = outline.key_twice() {
            return Err(invalid(&format_args!("the key {key:?} is there twice")));
        }
        let file: ConfigFile = skep_wire::from_str(text).map_err(|e| invalid(&e))?;
        if file.rootfs.diff_ids.len() > MAX_LAYERS {
            let count = file.rootfs.diff_ids.len();
            return Err(ImageError::Invalid(format!(
                "invalid image configuration: {count} layers, more than {MAX_LAYERS}"
            )));
        }
        match file.rootfs.kind.as_str() {
            "layers" => Ok(file),
            other => Err(ImageError::Invalid(format!("invalid image configuration: unknown rootfs type {other:?}"))),
        }
    }

    /// What the image was made for; an empty os means linux.
    pub(super) fn platform(&self) -> Platform {
        let or = |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
        let host = Platform::host();
        Platform {
            os: or(&self.os, "linux"),
            architecture: or(&self.architecture, &host.architecture),
            variant: self.variant.clone(),
        }
    }

    /// The defaults for containers, in the engine's terms. Ports that are none are left out.
    pub(super) fn defaults(&self) -> ImageConfig {
        let config = self.config.clone().unwrap_or_default();
        let ports = config.exposed_ports.iter().filter_map(|text| text.parse::<Port>().ok());
        ImageConfig {
            user: config.user,
            exposed_ports: ports.collect(),
            env: config.env,
            entrypoint: config.entrypoint,
            cmd: config.cmd,
            volumes: config.volumes,
            working_dir: config.working_dir,
            labels: config.labels,
            stop_signal: config.stop_signal.filter(|text| !text.is_empty()),
            stop_timeout: config.stop_timeout,
            healthcheck: config.healthcheck,
            on_build: config.on_build,
            shell: config.shell,
            args_escaped: config.args_escaped,
        }
    }
}

/// `null` is as good as nothing: Go writes it for empty lists and maps.
fn lenient<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A time; an empty text is none.
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DateTime<FixedOffset>>, D::Error> {
    match Option::<String>::deserialize(deserializer)? {
        None => Ok(None),
        Some(text) if text.is_empty() => Ok(None),
        Some(text) => DateTime::parse_from_rfc3339(&text).map(Some).map_err(serde::de::Error::custom),
    }
}

/// Sets in Go's form: `{"80/tcp": {}}`.
mod key_set {
    use std::collections::BTreeSet;

    use serde::ser::SerializeMap;
    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(serde::Serialize)]
    struct Empty {}

    pub(super) fn serialize<S: Serializer>(keys: &BTreeSet<String>, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(keys.len()))?;
        for key in keys {
            map.serialize_entry(key, &Empty {})?;
        }
        map.end()
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
        let map = Option::<super::KeySet>::deserialize(deserializer)?;
        Ok(map.unwrap_or_default().into_keys().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_and_ocis_documents_are_read() {
        let file = ConfigFile::parse(
            br#"{"architecture":"arm64","variant":"v8","os":"linux","created":"2024-05-01T10:00:00.5+02:00","container":"x",
                "config":{"Hostname":"","Env":["PATH=/bin"],"Cmd":["sh"],"Entrypoint":null,"Volumes":{"/data":{}},
                "ExposedPorts":{"80/tcp":{},"nonsense":{}},"Labels":null,"OnBuild":null,"StopSignal":"SIGQUIT",
                "Healthcheck":{"Test":["CMD","true"],"Interval":5000000000}},
                "rootfs":{"type":"layers","diff_ids":null},"history":[{"created_by":"x","empty_layer":true}]}"#,
        )
        .expect("a configuration");
        assert_eq!(file.platform().to_string(), "linux/arm64/v8");
        let defaults = file.defaults();
        assert_eq!(defaults.cmd, Some(vec!["sh".to_owned()]));
        assert_eq!(defaults.entrypoint, None);
        assert_eq!(defaults.volumes.iter().collect::<Vec<_>>(), ["/data"]);
        assert_eq!(defaults.exposed_ports.len(), 1);
        assert_eq!(defaults.healthcheck.map(|h| h.interval), Some(5_000_000_000));
        assert!(file.history[0].empty_layer);
    }

    #[test]
    fn keys_are_read_as_go_does_and_only_once() {
        let file = ConfigFile::parse(
            br#"{"Architecture":"arm64","OS":"linux","config":{"cmd":["sh"],"ENV":["A=1"],"labels":{"x":"1","X":"2"}},
                "RootFS":{"Type":"layers","Diff_IDs":[]},"history":[{"Created_By":"x"}]}"#,
        )
        .expect("a configuration");
        assert_eq!(file.platform().to_string(), "linux/arm64");
        let defaults = file.defaults();
        assert_eq!(
            (defaults.cmd, defaults.env, defaults.labels.len()),
            (Some(vec!["sh".into()]), vec!["A=1".into()], 2)
        );
        assert_eq!(file.history[0].created_by, "x");
        for twice in [
            r#"{"rootfs":{"type":"layers"},"RootFs":{"type":"layers"}}"#,
            r#"{"rootfs":{"type":"layers","Type":"layers"}}"#,
            r#"{"rootfs":{"type":"layers"},"config":{"Cmd":["a"],"cmd":["b"]}}"#,
            r#"{"rootfs":{"type":"layers"},"history":[{"created_by":"a","Created_by":"b"}]}"#,
        ] {
            let error = ConfigFile::parse(twice.as_bytes()).expect_err("twice").to_string();
            assert!(error.ends_with("is there twice"), "{error}");
        }
    }

    #[test]
    fn bad_documents_are_refused() {
        for bad in [
            "{}",
            "[]",
            r#"{"rootfs":{"type":"squashfs"}}"#,
            r#"{"rootfs":{"type":"layers","diff_ids":["sha256:../.."]}}"#,
            r#"{"rootfs":{"type":"layers"},"created":"yesterday"}"#,
        ] {
            assert!(ConfigFile::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let file = ConfigFile {
            architecture: "amd64".into(),
            os: "linux".into(),
            config: Some(ContainerDefaults { volumes: ["/a".to_owned()].into(), ..Default::default() }),
            rootfs: RootFs { kind: "layers".into(), diff_ids: Vec::new() },
            ..ConfigFile::default()
        };
        let text = serde_json::to_string(&file).expect("JSON");
        assert!(text.contains(r#""Volumes":{"/a":{}}"#), "{text}");
        assert_eq!(ConfigFile::parse(text.as_bytes()).expect("a configuration"), file);
    }
}
