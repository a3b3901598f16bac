//! A specification as it is written (CDI 0.3 to 1.1, SPEC.md of the Container Device Interface).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;

/// Versions that are understood.
const VERSIONS: [&str; 10] = ["0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"];

/// The largest file that is read, in bytes.
const MOST: u64 = 4 << 20;

/// What a file says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Specification {
    cdi_version: String,
    /// `vendor/class` of all devices in it.
    pub(super) kind: String,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) devices: Vec<Device>,
    /// For whoever gets any of the devices.
    #[serde(default)]
    pub(super) container_edits: Edits,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Device {
    pub(super) name: String,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) container_edits: Edits,
}

/// What a container needs for a device.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct Edits {
    pub(super) env: Vec<String>,
    pub(super) device_nodes: Vec<Node>,
    pub(super) hooks: Vec<Hook>,
    pub(super) mounts: Vec<Mount>,
    pub(super) additional_gids: Vec<u32>,
    intel_rdt: Option<IgnoredAny>,
    net_devices: Option<IgnoredAny>,
}

/// A device node. What it does not say is that of the host's node.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Node {
    pub(super) path: PathBuf,
    /// The host's, if it is another.
    pub(super) host_path: Option<PathBuf>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) major: Option<i64>,
    pub(super) minor: Option<i64>,
    pub(super) file_mode: Option<u32>,
    pub(super) permissions: Option<String>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Mount {
    pub(super) host_path: PathBuf,
    pub(super) container_path: PathBuf,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    #[serde(default)]
    pub(super) options: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Hook {
    pub(super) hook_name: String,
    pub(super) path: PathBuf,
    #[serde(default)]
    pub(super) args: Vec<String>,
    #[serde(default)]
    pub(super) env: Vec<String>,
    /// Seconds.
    pub(super) timeout: Option<u32>,
}

impl Specification {
    /// Reads a file, or says what is wrong with it.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
        if size > MOST {
            return Err(format!("{size} bytes are too many"));
        }
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        let parsed: Result<Self, String> = match path.extension().is_some_and(|extension| extension == "json") {
            true => serde_json::from_str(&text).map_err(|error| error.to_string()),
            false => serde_saphyr::from_str(&text).map_err(|error| error.to_string()),
        };
        parsed.and_then(Self::checked)
    }

    fn checked(self) -> Result<Self, String> {
        if !VERSIONS.contains(&self.cdi_version.as_str()) {
            return Err(format!("version {:?} of CDI is not known", self.cdi_version));
        }
        if !is_kind(&self.kind) {
            return Err(format!("{:?} is no kind of device: that is vendor/class", self.kind));
        }
        if let Some(device) = self.devices.iter().find(|device| !is_name(&device.name)) {
            return Err(format!("{:?} is no name of a device", device.name));
        }
        let all = self.devices.iter().map(|device| &device.container_edits).chain([&self.container_edits]);
        for edits in all {
            if edits.intel_rdt.is_some() || edits.net_devices.is_some() {
                return Err("intelRdt and netDevices are not supported by skep".to_owned());
            }
            if let Some(entry) = edits.env.iter().find(|entry| !entry.contains('=')) {
                return Err(format!("{entry:?} is no NAME=VALUE"));
            }
        }
        Ok(self)
    }
}

/// `vendor/class`.
pub(super) fn is_kind(text: &str) -> bool {
    let is_word = |word: &str, more: &[u8]| {
        let bytes = word.as_bytes();
        let ends =
            bytes.first().is_some_and(u8::is_ascii_alphabetic) && bytes.last().is_some_and(u8::is_ascii_alphanumeric);
        ends && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || more.contains(byte))
    };
    text.split_once('/').is_some_and(|(vendor, class)| is_word(vendor, b"_-.") && is_word(class, b"_-."))
}

fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = [bytes.first(), bytes.last()].iter().all(|byte| byte.is_some_and(u8::is_ascii_alphanumeric));
    ends && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_-.:".contains(byte))
}
