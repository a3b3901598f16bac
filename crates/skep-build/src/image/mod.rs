//! Configurations of images (OCI image specification, `config.md`, with Docker's additions): read from a base, changed, written.
//!
//! What a base has that is not known here is kept. Go writes `null` for empty lists and maps; it is read as such.

mod history;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, FixedOffset};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use skep_types::{Digest, Platform};

use crate::error::{BuildError, Result};

pub(crate) use history::complete_history;

/// Fields that are kept as they are.
pub type Others = BTreeMap<String, Value>;

/// A configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When the image was made.
    #[serde(default, deserialize_with = "time", skip_serializing_if = "Option::is_none")]
    pub created: Option<DateTime<FixedOffset>>,
    /// Who made it.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// GOARCH.
    #[serde(default, deserialize_with = "lenient")]
    pub architecture: String,
    /// Variant of the architecture.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// GOOS.
    #[serde(default, deserialize_with = "lenient")]
    pub os: String,
    /// What containers get.
    #[serde(default, deserialize_with = "lenient")]
    pub config: Settings,
    /// The layers.
    #[serde(default, deserialize_with = "lenient")]
    pub rootfs: RootFs,
    /// How it was made.
    #[serde(default, deserialize_with = "lenient")]
    pub history: Vec<History>,
    /// The rest.
    #[serde(flatten)]
    pub others: Others,
}

/// The layers of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The lowest first.
    #[serde(default, deserialize_with = "lenient")]
    pub diff_ids: Vec<Digest>,
}

impl Default for RootFs {
    fn default() -> Self {
        RootFs { kind: "layers".to_owned(), diff_ids: Vec::new() }
    }
}

/// One step of how an image was made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// When.
    #[serde(default, deserialize_with = "time", skip_serializing_if = "Option::is_none")]
    pub created: Option<DateTime<FixedOffset>>,
    /// By whom.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// The instruction.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// The builder.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Whether there is no layer for it.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
    /// The rest.
    #[serde(flatten)]
    pub others: Others,
}

/// What containers of an image get unless they say otherwise.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Settings {
    /// User and group.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `80/tcp`.
    #[serde(default, with = "set", skip_serializing_if = "BTreeSet::is_empty")]
    pub exposed_ports: BTreeSet<String>,
    /// `NAME=value`.
    #[serde(default, deserialize_with = "lenient")]
    pub env: Vec<String>,
    /// `ENTRYPOINT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// `CMD`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// `VOLUME`.
    #[serde(default, with = "set", skip_serializing_if = "BTreeSet::is_empty")]
    pub volumes: BTreeSet<String>,
    /// `WORKDIR`.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// `LABEL`.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `STOPSIGNAL`.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// `HEALTHCHECK`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Health>,
    /// Of interest to Windows only; BuildKit sets it with `CMD`.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "std::ops::Not::not")]
    pub args_escaped: bool,
    /// `ONBUILD`.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// `SHELL`.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
    /// The rest.
    #[serde(flatten)]
    pub others: Others,
}

/// How to see whether a container is well. Times in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Health {
    /// `NONE`, or `CMD` or `CMD-SHELL` and what to run.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Time between two looks.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// How long a look may take.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// How long failures don't count at the beginning.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Time between two looks at the beginning.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// After how many failures the container is unhealthy.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "is_zero")]
    pub retries: i64,
}

impl ImageConfig {
    /// That of an empty image.
    pub fn empty(platform: &Platform) -> Self {
        ImageConfig {
            architecture: platform.architecture.clone(),
            variant: platform.variant.clone(),
            os: platform.os.clone(),
            config: Settings {
                working_dir: "/".to_owned(),
                env: vec![format!("PATH={}", skep_dockerfile::scope::DEFAULT_PATH)],
                ..Settings::default()
            },
            ..ImageConfig::default()
        }
    }

    /// Reads a configuration.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes)
            .map_err(|error| BuildError::invalid(format!("failed to parse image config: {error}")))
    }

    /// Its bytes.
    ///
    /// # Errors
    /// None that can happen.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let system = |error: serde_json::Error| BuildError::new(skep_types::ErrorKind::System, error.to_string());
        serde_json::to_vec(self).map_err(system)
    }

    /// What it was made for.
    pub fn platform(&self) -> Platform {
        let (os, architecture, variant) = (self.os.clone(), self.architecture.clone(), self.variant.clone());
        Platform { os, architecture, variant }
    }
}

/// A client's configuration with the layers of another, whose times are those of the layers.
pub(crate) fn with_layers(own: &[u8], made: &[u8]) -> Result<Vec<u8>> {
    let (mut own, made) = (ImageConfig::parse(own)?, ImageConfig::parse(made)?);
    let times: Vec<_> =
        made.history.iter().filter(|step| !step.empty_layer).map(|step| step.created.map(Into::into)).collect();
    own.rootfs = made.rootfs;
    complete_history(&mut own, &times);
    if own.created.is_none() {
        own.created = own.history.iter().rev().find_map(|step| step.created);
    }
    own.to_bytes()
}

/// The layers that a configuration names.
pub(crate) fn diff_ids(config: &[u8]) -> Result<Vec<Digest>> {
    ImageConfig::parse(config).map(|config| config.rootfs.diff_ids)
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// `null` is as good as nothing.
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
mod set {
    use super::{BTreeMap, BTreeSet, Deserialize, Deserializer, Serializer};

    #[derive(serde::Serialize)]
    struct Empty {}

    pub(super) fn serialize<S: Serializer>(keys: &BTreeSet<String>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(keys.iter().map(|key| (key, Empty {})))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
        let map = Option::<BTreeMap<String, serde::de::IgnoredAny>>::deserialize(deserializer)?;
        Ok(map.unwrap_or_default().into_keys().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_kept() {
        let text = r#"{"architecture":"amd64","os":"linux","os.version":"1","config":{"Env":["A=b"],"Memory":7,"Cmd":null,
            "ExposedPorts":{"80/tcp":{}},"Volumes":null},"rootfs":{"type":"layers","diff_ids":null},
            "history":[{"created_by":"x","new":1}],"new":{"a":[]}}"#;
        let config = ImageConfig::parse(text.as_bytes()).expect("a configuration");
        assert_eq!(config.config.exposed_ports, BTreeSet::from(["80/tcp".to_owned()]));
        let back: Value = serde_json::from_slice(&config.to_bytes().expect("bytes")).expect("JSON");
        assert_eq!(back["os.version"], "1");
        assert_eq!(back["config"]["Memory"], 7);
        assert_eq!(back["history"][0]["new"], 1);
        assert_eq!(back["new"]["a"], serde_json::json!([]));
        assert_eq!(back["config"].get("Volumes"), None);
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        for bad in ["", "[]", r#"{"rootfs":{"type":"layers","diff_ids":["x"]}}"#, r#"{"created":"yesterday"}"#] {
            assert!(ImageConfig::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
