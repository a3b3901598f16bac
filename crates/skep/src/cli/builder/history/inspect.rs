//! `buildx history inspect`: what was asked for, how it went, what was made of what.

use std::collections::HashMap;

use chrono::SecondsFormat;
use serde::Serialize;
use serde_json::{Map, Value};
use skep_buildkit::errors;
use skep_buildkit::grpc::Channel;
use skep_buildkit::proto::moby::buildkit::v1::StatusRequest;
use skep_buildkit::proto::moby::buildkit::v1::control_client::ControlClient;
use tonic::{Code, Status};

use super::attachments::{self, Attachment};
use super::pretty::pretty;
use super::record::{self, Record};
use crate::cli::builder::worker;
use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome};
use crate::ui;
use crate::ui::template::{Format, Purpose};

flags! {
    pub(crate) struct InspectFlags {
        format: String = "pretty" => "format", "Format the output: \"pretty\", \"json\" or a Go template";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["buildx history inspect"],
    usage: "[OPTIONS] [REF]",
    about: "Inspect a build record",
    args: Args::AtMost(1),
    completion: Completion::Nothing,
    flags: InspectFlags::specs,
    run: runner!(InspectFlags, run),
};

/// All that there is to say, under the names that Docker's plugin has for it.
#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Inspected {
    pub(super) name: String,
    #[serde(rename = "Ref")]
    pub(super) id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) context: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) dockerfile: String,
    #[serde(rename = "VCSRepository", skip_serializing_if = "String::is_empty")]
    pub(super) repository: String,
    #[serde(rename = "VCSRevision", skip_serializing_if = "String::is_empty")]
    pub(super) revision: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) target: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) platform: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) named_contexts: Vec<Named>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) completed_at: Option<String>,
    /// Nanoseconds.
    pub(super) duration: i64,
    pub(super) status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<Failed>,
    pub(super) num_completed_steps: i32,
    pub(super) num_total_steps: i32,
    pub(super) num_cached_steps: i32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) build_args: Vec<Named>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) labels: Vec<Named>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(super) config: Map<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) materials: Vec<Material>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) attachments: Vec<Attachment>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Failed {
    pub(super) code: i32,
    pub(super) message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) logs: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) sources: String,
}

#[derive(Serialize)]
pub(super) struct Material {
    #[serde(rename = "URI")]
    pub(super) uri: String,
    #[serde(rename = "Digests", skip_serializing_if = "Vec::is_empty")]
    pub(super) digests: Vec<String>,
}

async fn run(cli: &Cli, flags: InspectFlags, words: Vec<String>) -> Outcome {
    let mut control = worker::control(cli).await?;
    let records = record::all(&mut control, Vec::new()).await?;
    let record = record::find(&records, words.first().map(String::as_str))?;
    let channel = worker::channel(cli).await?;
    let mut inspected = Inspected::of(record);
    let read = inspected.read(&channel, &mut control, record).await;
    read.map_err(|status| worker::failed(&status))?;
    match flags.format.as_str() {
        "pretty" | "" => ui::print(&pretty(&inspected, &cli.program)),
        "json" => ui::line(&serde_json::to_string_pretty(&inspected)?),
        template => {
            let format = Format::parse(template, Purpose::Data).map_err(Failure::message)?;
            let value = serde_json::to_value(&inspected)?;
            ui::line(&format.render(&value, "history.inspectOutput").map_err(Failure::message)?);
        }
    }
    Ok(())
}

impl Inspected {
    /// What the record itself says.
    fn of(record: &Record) -> Self {
        let wire = record.wire();
        let attribute = |name: &str| wire.frontend_attrs.get(name).cloned().unwrap_or_default();
        let named = |prefix: &str| -> Vec<Named> {
            let with = wire.frontend_attrs.iter().filter_map(|(key, value)| Some((key.strip_prefix(prefix)?, value)));
            let mut all: Vec<Named> =
                with.map(|(name, value)| Named { name: name.to_owned(), value: value.clone() }).collect();
            all.sort_by(|one, other| one.name.cmp(&other.name));
            all
        };
        let stamp = |at: chrono::DateTime<chrono::Utc>| at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        let filename = attribute("filename");
        Inspected {
            name: record.name(),
            id: record.id().to_owned(),
            context: attribute("context"),
            dockerfile: if filename.is_empty() { "Dockerfile".to_owned() } else { filename },
            repository: attribute("vcs:source"),
            revision: attribute("vcs:revision"),
            target: attribute("target"),
            platform: attribute("platform").split(',').filter(|one| !one.is_empty()).map(str::to_owned).collect(),
            named_contexts: named("context:"),
            started_at: record.created().map(stamp),
            completed_at: record.completed().map(stamp),
            duration: record.duration().num_nanoseconds().unwrap_or(i64::MAX),
            status: match record.status() {
                "Running" => "running",
                "Completed" => "completed",
                "Canceled" => "canceled",
                _ => "failed",
            },
            error: wire.error.as_ref().map(|error| Failed {
                code: error.code,
                message: error.message.clone(),
                name: String::new(),
                logs: Vec::new(),
                sources: String::new(),
            }),
            num_completed_steps: wire.num_completed_steps,
            num_total_steps: wire.num_total_steps,
            num_cached_steps: wire.num_cached_steps,
            build_args: named("build-arg:"),
            labels: named("label:"),
            config: config(&wire.frontend_attrs),
            ..Inspected::default()
        }
    }

    /// What is in the files of the build.
    async fn read(
        &mut self,
        channel: &Channel,
        control: &mut ControlClient<Channel>,
        record: &Record,
    ) -> Result<(), Status> {
        self.attachments = attachments::all(channel, record).await?;
        if let Some(said) = self.attachments.iter().find(|one| one.kind.starts_with("https://slsa.dev/provenance/")) {
            let bytes = attachments::read(channel, &said.digest).await?;
            self.materials = materials(&serde_json::from_slice(&bytes).unwrap_or_default());
        }
        let Some(error) = &mut self.error else { return Ok(()) };
        if let Some(failure) = &record.wire().external_error {
            let details = attachments::read(channel, &failure.digest).await?;
            let status = Status::with_details(Code::Unknown, "", details.into());
            error.sources = errors::sources(&status).iter().map(|source| source.excerpt() + "\n").collect();
        }
        let request = StatusRequest { r#ref: self.id.clone() };
        let mut updates = control.status(request).await?.into_inner();
        let (mut failed, mut logs) = (None, Vec::new());
        while let Some(update) = updates.message().await? {
            failed = update.vertexes.into_iter().rfind(|vertex| !vertex.error.is_empty()).or(failed);
            logs.extend(update.logs);
        }
        if let Some(vertex) = failed {
            let own = logs.iter().filter(|log| log.vertex == vertex.digest).flat_map(|log| &log.msg).copied();
            let text = String::from_utf8_lossy(&own.collect::<Vec<u8>>()).into_owned();
            error.logs = text.lines().map(str::to_owned).collect();
            error.name = vertex.name;
        }
        Ok(())
    }
}

/// Settings of the build, by their names in the output and in attributes.
pub(super) const SETTINGS: [(&str, &str, &str); 10] = [
    ("Network", "Network", "force-network-mode"),
    ("ExtraHosts", "Extra Hosts", "add-hosts"),
    ("Hostname", "Hostname", "hostname"),
    ("CgroupParent", "Cgroup Parent", "cgroup-parent"),
    ("ImageResolveMode", "Image Resolve Mode", "image-resolve-mode"),
    ("NoCache", "No Cache", "no-cache"),
    ("NoCacheFilter", "No Cache Filter", "no-cache"),
    ("ShmSize", "Shm Size", "shm-size"),
    ("Ulimit", "Ulimit", "ulimit"),
    ("SourceDateEpoch", "Source Date Epoch", "build-arg:SOURCE_DATE_EPOCH"),
];

/// Those that were said. `no-cache` without stages is for all of them.
fn config(attributes: &HashMap<String, String>) -> Map<String, Value> {
    let mut config = Map::new();
    for (name, _, key) in SETTINGS {
        let Some(value) = attributes.get(key) else { continue };
        let value = match name {
            "NoCache" if value.is_empty() => Value::from(true),
            "NoCacheFilter" if !value.is_empty() => value.split(',').collect::<Vec<_>>().into(),
            "NoCache" | "NoCacheFilter" => continue,
            _ if value.is_empty() => continue,
            _ => Value::from(value.as_str()),
        };
        config.insert(name.to_owned(), value);
    }
    config
}

/// What was used, of either version of the statement.
fn materials(said: &Value) -> Vec<Material> {
    let used = said["materials"].as_array().or(said["buildDefinition"]["resolvedDependencies"].as_array());
    let digests = |digest: &Value| -> Vec<String> {
        let all = digest.as_object().into_iter().flatten();
        all.filter_map(|(kind, value)| Some(format!("{kind}:{}", value.as_str()?))).collect()
    };
    let material =
        |one: &Value| Some(Material { uri: one["uri"].as_str()?.to_owned(), digests: digests(&one["digest"]) });
    used.into_iter().flatten().filter_map(material).collect()
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;

    #[test]
    fn what_is_known_of_a_build() {
        let inspected = Inspected::of(&record("abc", 60, Some(61), Some(2)));
        let text = pretty(&inspected, "skep");
        assert!(
            text.starts_with("Name:\t\tDockerfile (web)\nRef:\t\tabc\nDockerfile:\tDockerfile\nTarget:\t\tweb\n\n"),
            "{text}"
        );
        assert!(text.contains("Started:\t1970-01-01 00:01:00\nDuration:\t1.0s\nError:\t\tUnknown \n"), "{text}");
        assert!(text.ends_with("Print build logs: skep buildx history logs abc\n"), "{text}");
        let json = serde_json::to_value(&inspected).expect("a document");
        assert_eq!((&json["Status"], &json["Duration"]), (&"failed".into(), &1_000_000_000_i64.into()));
    }

    #[test]
    fn settings_and_materials() {
        let given = [("no-cache", "a,b"), ("force-network-mode", "host")];
        let given = given.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = config(&given.into());
        assert_eq!(config["NoCacheFilter"], serde_json::json!(["a", "b"]));
        assert_eq!((config.len(), &config["Network"]), (2, &"host".into()));
        let said =
            serde_json::json!({"materials": [{"uri": "pkg:docker/x", "digest": {"sha256": "ab"}}, {"uri": "y"}]});
        let found = materials(&said);
        assert_eq!((found.len(), found[0].digests[0].as_str()), (2, "sha256:ab"));
    }
}
