//! Provenance in the SLSA form that BuildKit writes: version 0.2, or 1 if `version=v1` is asked for.
//!
//! `mode=min` says what was built from what; `mode=max` adds build arguments, labels, the Dockerfile and the steps.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use skep_types::{Digest, Platform};

use crate::builder::Attestation;
use crate::error::{BuildError, Result};
use crate::graph::{FileAction, Graph, MountKind, Names, Op, Step};
use crate::request::{BuildRequest, Context, Dockerfile};

use super::{is_true, without_password};

const BUILD_TYPE: &str = "https://mobyproject.org/buildkit@v1";
const BUILD_TYPE_V1: &str = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";
const METADATA: &str = "https://mobyproject.org/buildkit@v1#metadata";
const PREDICATE: &str = "https://slsa.dev/provenance/v0.2";
const PREDICATE_V1: &str = "https://slsa.dev/provenance/v1";

/// Something that went into an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Material {
    pub(crate) uri: String,
    pub(crate) digest: Option<Digest>,
}

/// How an image was made.
#[derive(Debug)]
pub(crate) struct Provenance<'p> {
    pub(crate) request: &'p BuildRequest,
    pub(crate) attributes: &'p Names,
    pub(crate) graph: &'p Graph,
    pub(crate) materials: Vec<Material>,
    pub(crate) build_platform: &'p Platform,
    pub(crate) started: DateTime<Utc>,
    pub(crate) finished: DateTime<Utc>,
    /// Names this build.
    pub(crate) id: String,
}

/// What a graph is made from besides directories of the client. `digest_of` knows images.
pub(crate) fn materials(graph: &Graph, digest_of: impl Fn(&Step) -> Option<Digest>) -> Vec<Material> {
    let mut all: Vec<Material> = Vec::new();
    for step in &graph.steps {
        let one = match &step.op {
            Op::Image(source) => {
                let reference = &source.reference;
                let tag = reference.tag().map(|tag| format!("@{}", escape(tag))).unwrap_or_default();
                let mut query = Vec::new();
                query.extend(reference.digest().map(|digest| format!("digest={}", escape(&digest.to_string()))));
                query.push(format!("platform={}", escape(&step.platform.to_string())));
                let uri = format!("pkg:docker/{}{tag}?{}", reference.familiar_name(), query.join("&"));
                Material { uri, digest: digest_of(step).or(reference.digest()) }
            }
            Op::Http(http) => Material { uri: without_password(&http.url), digest: http.checksum },
            Op::Git(git) => {
                let reference = git.reference.as_ref().map(|reference| format!("#{reference}")).unwrap_or_default();
                Material { uri: format!("{}{reference}", without_password(&git.remote)), digest: None }
            }
            Op::Scratch | Op::Local(_) | Op::Run(_) | Op::Files(_) | Op::Given(_) | Op::Merge(_) | Op::Diff { .. } => {
                continue;
            }
        };
        if !all.contains(&one) {
            all.push(one);
        }
    }
    all
}

/// What may stand in a part of a URL stays.
fn escape(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~');
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match plain(c) {
            true => out.push(c),
            false => c.to_string().bytes().for_each(|byte| out.push_str(&format!("%{byte:02X}"))),
        }
    }
    out
}

impl Provenance<'_> {
    /// The statement's predicate.
    pub(crate) fn attestation(&self) -> Result<Attestation> {
        let is_v1 = self.attributes.get("version").is_some_and(|version| version == "v1");
        let (predicate_type, predicate) = match is_v1 {
            true => (PREDICATE_V1, self.version_1()),
            false => (PREDICATE, self.version_0_2()),
        };
        let system = |error: serde_json::Error| BuildError::new(skep_types::ErrorKind::System, error.to_string());
        let predicate = serde_json::to_vec(&predicate).map_err(system)?;
        let inline_only = super::is_inline_only(self.attributes);
        Ok(Attestation {
            predicate_type: predicate_type.to_owned(),
            predicate,
            file: self.attributes.get("filename").cloned().unwrap_or_else(|| "provenance.json".to_owned()),
            inline_only,
        })
    }

    fn is_max(&self) -> bool {
        self.attributes.get("mode").is_some_and(|mode| mode == "max")
    }

    fn builder(&self) -> &str {
        self.attributes.get("builder-id").map_or("", String::as_str)
    }

    fn is_reproducible(&self) -> bool {
        self.attributes.get("reproducible").is_some_and(|value| is_true(value))
    }

    fn version_0_2(&self) -> Value {
        let materials: Vec<Value> = self.materials.iter().map(material).collect();
        let mut predicate = json!({
            "builder": {"id": self.builder()},
            "buildType": BUILD_TYPE,
            "materials": materials,
            "invocation": {
                "configSource": self.config_source(),
                "parameters": self.parameters(),
                "environment": {"platform": self.build_platform.to_string()},
            },
            "metadata": {
                "buildInvocationID": self.id,
                "buildStartedOn": self.started,
                "buildFinishedOn": self.finished,
                "completeness": {"parameters": self.is_max(), "environment": true, "materials": self.is_complete()},
                "reproducible": self.is_reproducible(),
                METADATA: self.metadata(),
            },
        });
        if self.is_max() {
            predicate["buildConfig"] = json!({"llbDefinition": self.steps()});
        }
        predicate
    }

    fn version_1(&self) -> Value {
        let dependencies: Vec<Value> = self.materials.iter().map(material).collect();
        let mut internal = json!({"builderPlatform": self.build_platform.to_string()});
        if self.is_max() {
            internal["buildConfig"] = json!({"llbDefinition": self.steps()});
        }
        json!({
            "buildDefinition": {
                "buildType": BUILD_TYPE_V1,
                "externalParameters": {"configSource": self.config_source(), "request": self.parameters()},
                "internalParameters": internal,
                "resolvedDependencies": dependencies,
            },
            "runDetails": {
                "builder": {"id": self.builder()},
                "metadata": {
                    "invocationID": self.id,
                    "startedOn": self.started,
                    "finishedOn": self.finished,
                    "buildkit_metadata": self.metadata(),
                    "buildkit_hermetic": false,
                    "buildkit_completeness": {"request": self.is_max(), "resolvedDependencies": self.is_complete()},
                    "buildkit_reproducible": self.is_reproducible(),
                },
            },
        })
    }

    /// Whether all that was used is known by its digest.
    fn is_complete(&self) -> bool {
        let local = self.graph.steps.iter().any(|step| matches!(step.op, Op::Local(_) | Op::Given(_)));
        !local && self.materials.iter().all(|material| material.digest.is_some())
    }

    fn config_source(&self) -> Value {
        let mut source = Map::new();
        match &self.request.context {
            Context::Git(url) | Context::Http(url) => {
                drop(source.insert("uri".to_owned(), without_password(url).into()))
            }
            Context::Local(_) | Context::Result(_) | Context::Empty => {}
        }
        let path = match &self.request.dockerfile {
            Dockerfile::Local { path, .. } | Dockerfile::Result { path, .. } | Dockerfile::InContext(path) => {
                path.as_str()
            }
            Dockerfile::Text(_) => "Dockerfile",
        };
        source.insert("entryPoint".to_owned(), path.into());
        source.into()
    }

    fn parameters(&self) -> Value {
        let mut args = Map::new();
        let mut set = |name: &str, value: &str| drop(args.insert(name.to_owned(), value.into()));
        if let Some(target) = &self.request.target {
            set("target", target);
        }
        if self.is_max() {
            for (name, value) in &self.request.args {
                set(&format!("build-arg:{name}"), value);
            }
            for (name, value) in &self.request.labels {
                set(&format!("label:{name}"), value);
            }
        }
        let mut parameters = json!({"frontend": "dockerfile.v0", "args": args});
        let named = |names: Vec<&str>| names.into_iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
        let mut locals: Vec<&str> = Vec::new();
        if let Context::Local(name) = &self.request.context {
            locals.push(name);
        }
        if let Dockerfile::Local { name, .. } = &self.request.dockerfile
            && !locals.contains(&name.as_str())
        {
            locals.push(name);
        }
        if !locals.is_empty() {
            parameters["locals"] = named(locals).into();
        }
        for (key, list) in [("secrets", self.asked(true)), ("ssh", self.asked(false))] {
            if !list.is_empty() {
                parameters[key] = list.into();
            }
        }
        parameters
    }

    /// Names of the secrets, or of the agents, that steps asked for.
    fn asked(&self, secrets: bool) -> Vec<Value> {
        let mut all: Vec<Value> = Vec::new();
        let runs =
            self.graph.steps.iter().filter_map(|step| if let Op::Run(run) = &step.op { Some(run) } else { None });
        for mount in runs.flat_map(|run| &run.mounts) {
            let (id, required) = match &mount.kind {
                MountKind::Secret(secret) if secrets => (&secret.id, secret.required),
                MountKind::Ssh { id, required, .. } if !secrets => (id, *required),
                _ => continue,
            };
            let one = if required { json!({"id": id}) } else { json!({"id": id, "optional": true}) };
            if !all.contains(&one) {
                all.push(one);
            }
        }
        all
    }

    fn metadata(&self) -> Value {
        let vcs: Map<String, Value> = ["vcs:source", "vcs:revision", "vcs:localdir"]
            .iter()
            .filter_map(|name| {
                let value = self.attributes.get(*name)?;
                Some((name.trim_start_matches("vcs:").to_owned(), without_password(value).into()))
            })
            .collect();
        let mut metadata = Map::new();
        if !vcs.is_empty() {
            metadata.insert("vcs".to_owned(), vcs.into());
        }
        if let Some(source) = self.graph.source.as_ref().filter(|_| self.is_max()) {
            let data = base64(without_password(&source.text).as_bytes());
            let infos = json!([{"filename": source.name, "language": "Dockerfile", "data": data}]);
            metadata.insert("source".to_owned(), json!({"infos": infos, "locations": self.locations()}));
        }
        metadata.into()
    }

    fn locations(&self) -> Value {
        let places = self.graph.steps.iter().enumerate().filter_map(|(number, step)| {
            let lines = step.lines.as_ref()?;
            let range = json!({"start": {"line": lines.start()}, "end": {"line": lines.end()}});
            Some((format!("step{number}"), json!({"locations": [{"ranges": [range]}]})))
        });
        Value::Object(places.collect())
    }

    fn steps(&self) -> Vec<Value> {
        let describe = |(number, step): (usize, &Step)| {
            let inputs: Vec<String> = step.op.inputs().iter().map(|input| format!("step{}:0", input.0)).collect();
            let platform = json!({"OS": step.platform.os, "Architecture": step.platform.architecture});
            let mut op = describe(&step.op);
            op["platform"] = platform;
            op["description"] = json!({"llb.customname": step.name});
            json!({"id": format!("step{number}"), "op": op, "inputs": inputs})
        };
        self.graph.steps.iter().enumerate().map(describe).collect()
    }
}

fn describe(op: &Op) -> Value {
    match op {
        Op::Scratch => json!({"Op": {"scratch": {}}}),
        Op::Given(given) => json!({"Op": {"given": {"layers": given.diff_ids}}}),
        Op::Image(source) => {
            json!({"Op": {"source": {"identifier": format!("docker-image://{}", source.reference)}}})
        }
        Op::Local(local) => json!({"Op": {"source": {"identifier": format!("local://{}", local.name)}}}),
        Op::Http(http) => json!({"Op": {"source": {"identifier": without_password(&http.url)}}}),
        Op::Git(git) => {
            let reference = git.reference.as_ref().map(|reference| format!("#{reference}")).unwrap_or_default();
            json!({"Op": {"source": {"identifier": format!("git://{}{reference}", without_password(&git.remote))}}})
        }
        Op::Merge(several) => {
            let inputs: Vec<Value> = (0..several.len()).map(|input| json!({"input": input})).collect();
            json!({"Op": {"merge": {"inputs": inputs}}})
        }
        Op::Diff { lower, .. } => {
            let lower = if lower.is_some() { 1 } else { -1 };
            json!({"Op": {"diff": {"lower": {"input": lower}, "upper": {"input": 0}}}})
        }
        Op::Run(run) => {
            let mounts: Vec<Value> =
                run.mounts.iter().map(|mount| json!({"dest": mount.target.to_string_lossy()})).collect();
            json!({"Op": {"exec": {"meta": {"args": run.argv, "env": run.env, "cwd": run.cwd, "user": run.user}, "mounts": mounts}}})
        }
        Op::Files(files) => {
            let actions: Vec<Value> =
                files.actions.iter().map(|action| json!({"Action": describe_action(action)})).collect();
            json!({"Op": {"file": {"actions": actions}}})
        }
    }
}

/// In the names of BuildKit's messages, so that its clients read it. What is written stands in the Dockerfile.
fn describe_action(action: &FileAction) -> Value {
    match action {
        FileAction::MakeDir { path, mode, .. } => json!({"mkdir": {"path": path.to_string_lossy(), "mode": mode}}),
        FileAction::Write { path, name, .. } => {
            json!({"mkfile": {"path": format!("{}/{name}", path.trim_end_matches('/'))}})
        }
        FileAction::MakeFile { path, mode, .. } => json!({"mkfile": {"path": path.to_string_lossy(), "mode": mode}}),
        FileAction::MakeLink { path, target, .. } => {
            json!({"symlink": {"oldpath": target, "newpath": path.to_string_lossy()}})
        }
        FileAction::Remove { path, .. } => json!({"rm": {"path": path}}),
        FileAction::Copy(copy) => json!({"copy": {"src": copy.sources.join(" "), "dest": copy.dest}}),
    }
}

fn material(material: &Material) -> Value {
    match material.digest {
        Some(digest) => json!({"uri": material.uri, "digest": {"sha256": digest.hex()}}),
        None => json!({"uri": material.uri}),
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
