//! From a request to images: the Dockerfile is read, images are found, all platforms become one graph, the graph is solved, and the
//! results get their configurations.
//!
//! ```text
//! load: definition, context ──▶ plan ⇄ load metadata, .dockerignore ──▶ convert, merge ──▶ solve ──▶ finish: history, squash
//! ```

mod classic;
mod definition;
mod describe;
mod finish;
mod import;
mod load;

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::future::try_join_all;
use skep_dockerfile::Dockerfile;
use skep_types::{ErrorKind, Platform};

use crate::attest::{self, Provenance, Sbom};
use crate::builder::{Attestation, Built, BuiltImage, Job};
use crate::cache::record_id;
use crate::convert::{Converted, Images, Options, Plan, Wanted, convert, merge};
use crate::error::{BuildError, Location, Result};
use crate::graph::{Graph, Names, Op, SourceFile, Step, StepId};
use crate::request::{BuildRequest, ExportKind};
use crate::solve::{Memo, Report, Solve, Solver, sha256};
use crate::worker::{Tree, Worker};

pub use definition::Definition;
pub use describe::Subject;
use finish::Finished;
use import::check_caches;
use load::Loaded;

/// One build.
pub(crate) struct Frontend<'f, W> {
    pub(crate) solver: &'f Solver<W>,
    pub(crate) request: &'f BuildRequest,
    pub(crate) job: &'f Job,
    pub(crate) memo: Memo,
}

impl<W: Worker> Frontend<'_, W> {
    /// Does all of it.
    pub(crate) async fn build(&self) -> Result<Built> {
        let started = Utc::now();
        attest::check(&self.request.attestations)?;
        check_caches(&self.request.cache_to)?;
        let loaded = self.load().await?;
        let platforms = self.platforms();
        let file = match self.parse(&loaded) {
            Ok(file) => file,
            Err(error) => return Err(self.warn_before(error, &loaded).await),
        };
        let ignored = self.ignored(&loaded);
        let planned = try_join_all(platforms.iter().map(|platform| self.plan(&file, &loaded, platform)));
        let imported = self.import();
        let (sources, planned, ()) = match futures_util::future::try_join3(ignored, planned, imported).await {
            Ok(found) => found,
            Err(error) => return Err(self.warn_before(error, &loaded).await),
        };
        if let Some((plan, images)) = planned.first() {
            if self.request.classic {
                return self.build_classic(plan, convert(plan, images, &sources)?).await;
            }
            self.warn(&loaded, &sources, plan, images).await?;
        }
        let mut graph = Graph::default();
        let mut parts = Vec::with_capacity(planned.len());
        for (plan, images) in &planned {
            let Converted { graph: own, target, image, base, below, .. } = convert(plan, images, &sources)?;
            let places = merge(&mut graph, own);
            parts.push((plan.options.platform.clone(), places[target.0], places[below.0], image, base));
        }
        let targets: Vec<StepId> = parts.iter().flat_map(|part| [part.1, part.2]).collect();
        let solve = Solve::new(&graph, self.job, &self.memo);
        let values = self.solver.solve(&solve, &targets).await?;
        if self.is_stored() {
            for (part, values) in parts.iter().zip(values.chunks(2)) {
                self.solver.ensure(&solve, part.1, &values[0]).await?;
            }
            self.keep_imported().await?;
        }
        let mut images = Vec::with_capacity(parts.len());
        let (statements, provenance) = self.provenance(&graph, started)?;
        let tops = values.chunks(2).flat_map(|values| &values[0].records).copied().collect();
        let (cache, guards) = self.to_export(&solve, tops).await?;
        for ((platform, _, _, image, base), values) in parts.into_iter().zip(values.chunks(2)) {
            let [value, below] = values else { continue };
            let finished = Finished { platform, image, base, value, below };
            let mut image = self.finish(finished).await?;
            image.attestations.extend(statements.clone());
            image.attestations.extend(self.packages(&image, started).await?);
            images.push(image);
        }
        let (multi, epoch) = (self.is_multi(), self.request.epoch()?);
        Ok(Built { images, multi, epoch, provenance: Some(provenance), cache, guards })
    }

    /// How all of it was made: as it is asked for, if it is, and for the history.
    fn provenance(&self, graph: &Graph, started: DateTime<Utc>) -> Result<(Option<Attestation>, Attestation)> {
        let wanted = attest::wanted(&self.request.attestations, "provenance");
        let digest_of = |step: &Step| match &step.op {
            Op::Image(source) => self.memo.image(source, &step.platform).map(|image| {
                // One that never was in a registry is known by its configuration.
                image.resolved.digest.unwrap_or_else(|| sha256(&image.resolved.config))
            }),
            _ => None,
        };
        let (finished, id) = (Utc::now(), build_id(graph, started));
        let materials = attest::materials(graph, digest_of);
        let said = |attributes: &Names| {
            let provenance = Provenance {
                request: self.request,
                attributes,
                graph,
                materials: materials.clone(),
                build_platform: &Platform::host(),
                started,
                finished,
                id: id.clone(),
            };
            provenance.attestation()
        };
        let mut whole = wanted.cloned().unwrap_or_default();
        whole.insert("mode".to_owned(), "max".to_owned());
        whole.remove("version");
        Ok((wanted.map(said).transpose()?, said(&whole)?))
    }

    /// What is installed in an image, if that is asked for.
    async fn packages(&self, image: &BuiltImage, started: DateTime<Utc>) -> Result<Option<Attestation>> {
        let wanted = attest::wanted(&self.request.attestations, "sbom").filter(|_| self.is_stored());
        let Some(attributes) = wanted else { return Ok(None) };
        let mut report = Report::internal(self.job.events.clone(), "[internal] listing packages for the SBOM");
        let tree = Tree::Layers(image.stack);
        let read = attest::read_packages(&*self.solver.worker, &tree);
        let packages: Sbom = report.during(read).await?;
        let time = self.request.epoch()?.unwrap_or(started);
        let id = sha256(&image.config).hex();
        let listed = packages.attestation(&image.platform.to_string(), &id, time)?;
        Ok(Some(Attestation { inline_only: attest::is_inline_only(attributes), ..listed }))
    }

    /// Whether anything is made of the layers.
    fn is_stored(&self) -> bool {
        let exports = &self.request.exports;
        exports.is_empty() || exports.iter().any(|export| export.kind != ExportKind::CacheOnly)
    }

    fn platforms(&self) -> Vec<Platform> {
        match self.request.platforms.is_empty() {
            true => vec![Platform::host()],
            false => self.request.platforms.clone(),
        }
    }

    fn is_multi(&self) -> bool {
        let asked =
            self.request.args.get("BUILDKIT_MULTI_PLATFORM").is_some_and(|value| value == "1" || value == "true");
        self.request.platforms.len() > 1 || asked
    }

    fn parse(&self, loaded: &Loaded) -> Result<Dockerfile> {
        if loaded.text.is_empty() {
            return Err(BuildError::invalid("the Dockerfile cannot be empty"));
        }
        let file = skep_dockerfile::parse(loaded.text.as_bytes()).map_err(|error| {
            let failed = BuildError::invalid(error.to_string());
            match error.lines() {
                Some(lines) => failed.at(Location {
                    file: loaded.name.clone(),
                    text: Arc::clone(&loaded.text),
                    lines: lines.start..=lines.end,
                }),
                None => failed,
            }
        })?;
        let syntax = file.directives.syntax.as_ref().map(|syntax| syntax.value.as_str());
        let wanted = self.request.args.get("BUILDKIT_SYNTAX").map(String::as_str).or(syntax);
        match wanted {
            Some(wanted) if !is_dockerfile_syntax(wanted) => {
                let text = format!(
                    "the frontend {wanted} is not run: skep reads Dockerfiles itself, and honours only docker/dockerfile as syntax"
                );
                Err(BuildError::new(ErrorKind::NotImplemented, text))
            }
            _ => Ok(file),
        }
    }

    /// Finds the images that a platform needs, until no trigger wants another.
    async fn plan(&self, file: &Dockerfile, loaded: &Loaded, platform: &Platform) -> Result<(Plan<'_>, Images)> {
        let options = Options {
            request: self.request,
            platform: platform.clone(),
            build_platform: Platform::host(),
            implicit: self.request.platforms.is_empty(),
            multi: self.is_multi(),
            epoch: self.request.epoch()?,
            source: SourceFile { name: loaded.name.clone(), text: Arc::clone(&loaded.text) },
        };
        let mut plan = Plan::new(file.clone(), options)?;
        let mut images = Images::new(self.job.inputs.clone());
        loop {
            let wanted: Vec<Wanted> = plan.wanted()?.into_iter().filter(|wanted| !images.has(wanted)).collect();
            let found = try_join_all(wanted.iter().map(|wanted| self.resolve(&plan, wanted))).await?;
            for (wanted, image) in wanted.iter().zip(found) {
                images.add(wanted, image);
            }
            if !plan.fire(&images)? {
                return Ok((plan, images));
            }
        }
    }

    async fn resolve(&self, plan: &Plan<'_>, wanted: &Wanted) -> Result<Arc<crate::solve::Image>> {
        let options = &plan.options;
        let reference = &wanted.source.reference;
        let prefix = if options.multi { format!("{} ", wanted.platform) } else { String::new() };
        let name = match plan.alias(&wanted.source) {
            Some(name) => name.replacen("] ", "] load metadata for ", 1),
            None => format!("[{prefix}internal] load metadata for {reference}"),
        };
        let mut report = Report::internal(self.job.events.clone(), &name);
        let context = self.job.context(report.id(), &wanted.platform);
        let resolve = async {
            let found = self.memo.resolve(&*self.solver.worker, &wanted.source, &context).await;
            found.map_err(|error| {
                if self.request.classic {
                    return error;
                }
                let what = format!("{}: failed to resolve source metadata for {reference}", wanted.name);
                BuildError { message: format!("{what}: {}", error.message), ..error }
            })
        };
        report.during(resolve).await.map_err(|error| error.at(options.location(wanted.lines)))
    }
}

/// A name that no other build has.
fn build_id(graph: &Graph, started: DateTime<Utc>) -> String {
    let text = format!("{started:?} {:p} {}", graph, std::process::id());
    record_id(&sha256(text.as_bytes()))
}

/// Whether a frontend's image is that of Docker's own, of a version that means the same here.
fn is_dockerfile_syntax(name: &str) -> bool {
    let Ok(reference) = name.split_whitespace().next().unwrap_or_default().parse::<skep_types::Reference>() else {
        return false;
    };
    matches!(reference.familiar_name().as_str(), "docker/dockerfile" | "docker/dockerfile-upstream")
        && reference.tag().is_none_or(|tag| !tag.starts_with('0') && !tag.starts_with('2'))
}

/// Patterns of `.dockerignore` by the name of the context.
type Ignores = BTreeMap<String, Vec<String>>;

#[cfg(test)]
mod tests;
