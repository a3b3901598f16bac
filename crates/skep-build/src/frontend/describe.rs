//! What can be said of a Dockerfile without building it, as JSON of BuildKit's subrequests; and the checks that every build makes.

use serde_json::{Map, Value, json};
use skep_dockerfile::ignore::Matcher;
use skep_dockerfile::lint::{self, BaseImage, CheckError, Report as Checks};
use skep_dockerfile::{Dockerfile, Lines};
use skep_types::{ErrorKind, Platform};

use crate::convert::{Converted, Images, Plan, Sources, convert};
use crate::error::{BuildError, Location, Result};
use crate::event::{BuildEvent, Warning};
use crate::graph::{MountKind, Op};
use crate::image::ImageConfig;
use crate::solve::internal_vertex;
use crate::worker::Worker;

use super::Frontend;
use super::load::Loaded;

/// What to say of a Dockerfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// `frontend.targets`: its stages.
    Targets,
    /// `frontend.outline`: arguments, secrets, agents and caches of a target.
    Outline,
    /// `frontend.lint`: what could be better.
    Checks,
}

impl<W: Worker> Frontend<'_, W> {
    /// Says it, as JSON.
    pub(crate) async fn describe(&self, subject: Subject) -> Result<Vec<u8>> {
        let loaded = self.load().await?;
        let answer = match subject {
            Subject::Targets => targets(&self.parse(&loaded)?, &loaded),
            Subject::Outline => {
                let (plan, images, sources) = self.prepared(&loaded).await?;
                outline(&plan, &convert(&plan, &images, &sources)?, &loaded)
            }
            Subject::Checks => self.checks(&loaded).await?,
        };
        serde_json::to_vec(&answer).map_err(|error| BuildError::new(ErrorKind::System, error.to_string()))
    }

    async fn prepared(&self, loaded: &Loaded) -> Result<(Plan<'_>, Images, Sources)> {
        let file = self.parse(loaded)?;
        let platforms = self.platforms();
        let (plan, images) = self.plan(&file, loaded, &platforms[0]).await?;
        Ok((plan, images, self.ignored(loaded).await?))
    }

    /// A Dockerfile that can't be built is checked as far as that goes.
    async fn checks(&self, loaded: &Loaded) -> Result<Value> {
        let all = self.request.target.as_deref().is_none_or(str::is_empty);
        let (report, failed) = match self.prepared(loaded).await {
            Ok((plan, images, sources)) => (self.check(loaded, Some(&sources), Some((&plan, &images)), all)?, None),
            Err(error) if error.kind == ErrorKind::Cancelled => return Err(error),
            Err(error) => {
                let sources = self.ignored(loaded).await?;
                (self.check(loaded, Some(&sources), None, all)?, Some(error))
            }
        };
        let error = match (&report.error, failed) {
            (Some(error), _) => Some((error.to_string(), error.lines().map(|lines| (lines.start, lines.end)))),
            (None, Some(failed)) => {
                let lines = failed.location.as_ref().map(|location| (*location.lines.start(), *location.lines.end()));
                Some((failed.message, lines))
            }
            (None, None) => None,
        };
        let warnings: Vec<Value> = report
            .findings
            .iter()
            .map(|finding| {
                json!({
                    "ruleName": finding.rule.name,
                    "description": finding.rule.description,
                    "url": finding.rule.url(),
                    "detail": finding.message,
                    "location": location(finding.lines.start, finding.lines.end),
                })
            })
            .collect();
        let source = json!({"filename": loaded.name, "language": "Dockerfile", "data": base64(&loaded.text)});
        let mut answer = json!({"warnings": warnings, "sources": [source]});
        if let Some((message, lines)) = error {
            let place = lines.map_or_else(|| json!({"ranges": []}), |(start, end)| location(start, end));
            answer["buildError"] = json!({"message": message, "location": place});
        }
        Ok(answer)
    }

    fn check(
        &self,
        loaded: &Loaded,
        sources: Option<&Sources>,
        known: Option<(&Plan<'_>, &Images)>,
        all_stages: bool,
    ) -> Result<Checks> {
        let ignored = match sources.map(|sources| &sources.main) {
            Some(Op::Local(local)) => Some(Matcher::new(&local.exclude)),
            _ => None,
        };
        let ignored = ignored.transpose().map_err(|error| BuildError::invalid(error.to_string()))?;
        let images = Known(known);
        let inputs = lint::Inputs {
            arguments: &self.request.args,
            build_platform: &Platform::host(),
            target_platform: &self.platforms()[0],
            target: self.request.target.as_deref(),
            all_stages,
            ignored: ignored.as_ref(),
            images: &images,
        };
        Ok(lint::check(loaded.text.as_bytes(), &inputs))
    }

    /// Tells what could be better; fails if the Dockerfile wants that.
    pub(super) async fn warn(
        &self,
        loaded: &Loaded,
        sources: &Sources,
        plan: &Plan<'_>,
        images: &Images,
    ) -> Result<()> {
        let report = self.check(loaded, Some(sources), Some((plan, images)), false)?;
        self.warnings(&report, loaded).await;
        match report.error {
            Some(error @ (CheckError::Violations(_) | CheckError::Options(_))) => {
                Err(BuildError::invalid(error.to_string()))
            }
            // The conversion says the same, with the place.
            _ => Ok(()),
        }
    }

    /// Tells what could be better of a Dockerfile that can't be built as it is written; returns why.
    pub(super) async fn warn_before(&self, error: BuildError, loaded: &Loaded) -> BuildError {
        match self.check(loaded, None, None, false) {
            Ok(report) if report.error.is_some() && !self.request.classic => self.warnings(&report, loaded).await,
            _ => {}
        }
        error
    }

    async fn warnings(&self, report: &Checks, loaded: &Loaded) {
        let vertex = internal_vertex(&loaded.vertex());
        for finding in &report.findings {
            let Lines { start, end } = finding.lines;
            let warning = Warning {
                vertex,
                short: format!("{}: {} (line {start})", finding.rule.name, finding.message),
                detail: vec![finding.rule.description.to_owned()],
                url: finding.rule.url(),
                location: Some(Location {
                    file: loaded.name.clone(),
                    text: std::sync::Arc::clone(&loaded.text),
                    lines: start..=end,
                }),
            };
            // Nobody has to listen.
            let _ = self.job.events.send(BuildEvent::Warning(warning)).await;
        }
    }
}

/// The base images of a plan.
struct Known<'k>(Option<(&'k Plan<'k>, &'k Images)>);

impl lint::Images for Known<'_> {
    fn image(&self, name: &str, platform: &Platform) -> Option<BaseImage> {
        let (plan, images) = self.0?;
        let config = images.named(plan, name, platform)?;
        let ImageConfig { config: settings, .. } = &config;
        let pair = |pair: &String| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        Some(BaseImage {
            environment: settings.env.iter().filter_map(pair).collect(),
            has_shell: !settings.shell.is_empty(),
            working_dir: settings.working_dir.clone(),
            triggers: settings.on_build.clone(),
            platform: Some(config.platform()).filter(|platform| !platform.os.is_empty()),
        })
    }
}

fn targets(file: &Dockerfile, loaded: &Loaded) -> Value {
    let count = file.stages.len();
    let one = |(index, stage): (usize, &skep_dockerfile::Stage)| {
        let mut target = Map::new();
        let mut set = |name: &str, value: Option<Value>| value.map(|value| target.insert(name.to_owned(), value));
        set("name", stage.name().map(Value::from));
        set("description", stage.description().map(Value::from));
        set("default", (index + 1 == count).then_some(Value::from(true)));
        set("base", Some(stage.from.image.clone().into()));
        set("platform", stage.from.platform.clone().map(Value::from));
        set("location", Some(location(stage.source.lines.start, stage.source.lines.end)));
        Value::Object(target)
    };
    let list: Vec<Value> = file.stages.iter().enumerate().map(one).collect();
    json!({"targets": list, "sources": [base64(&loaded.text)]})
}

fn outline(plan: &Plan<'_>, converted: &Converted, loaded: &Loaded) -> Value {
    let stage = &plan.file.stages[plan.target];
    let mut outline = Map::new();
    outline.extend(stage.name().map(|name| ("name".to_owned(), name.into())));
    outline.extend(stage.description().map(|text| ("description".to_owned(), text.into())));
    let args: Vec<Value> = converted
        .arguments
        .iter()
        .map(|(argument, value, lines)| {
            let mut one = Map::from_iter([("name".to_owned(), Value::from(argument.name.clone()))]);
            one.extend(argument.description.clone().map(|text| ("description".to_owned(), text.into())));
            one.extend(value.clone().filter(|value| !value.is_empty()).map(|value| ("value".to_owned(), value.into())));
            one.insert("location".to_owned(), location(lines.start, lines.end));
            Value::Object(one)
        })
        .collect();
    let mut lists = [("args", args), ("secrets", Vec::new()), ("ssh", Vec::new()), ("cache", Vec::new())];
    for step in &converted.graph.steps {
        let (Op::Run(run), Some(lines)) = (&step.op, &step.lines) else { continue };
        let place = location(*lines.start(), *lines.end());
        for mount in &run.mounts {
            let (list, mut one, required) = match &mount.kind {
                MountKind::Secret(secret) => (1, json!({"name": secret.id}), secret.required),
                MountKind::Ssh { id, required, .. } => (2, json!({"name": id}), *required),
                MountKind::Cache { id, .. } => (3, json!({"ID": id}), false),
                MountKind::Bind { .. } | MountKind::Tmpfs { .. } | MountKind::Inline { .. } => continue,
            };
            if required {
                one["required"] = true.into();
            }
            one["location"] = place.clone();
            let same = |other: &Value| other.get("name") == one.get("name") && other.get("ID") == one.get("ID");
            if !lists[list].1.iter().any(same) {
                lists[list].1.push(one);
            }
        }
    }
    for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        outline.insert(name.to_owned(), list.into());
    }
    outline.insert("sources".to_owned(), json!([base64(&loaded.text)]));
    outline.into()
}

fn location(start: usize, end: usize) -> Value {
    json!({"ranges": [{"start": {"line": start}, "end": {"line": end}}]})
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}
