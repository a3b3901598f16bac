//! A Dockerfile becomes a graph and the configuration of an image, for one platform, as BuildKit's frontend does it.
//!
//! Pure: images have been found before, patterns of `.dockerignore` have been read. What a stage inherits, which variables an
//! instruction sees, what the history says and how vertices are called is decided here.
//!
//! | file | what |
//! |---|---|
//! | `plan` | stages, what they begin with, which are needed, triggers |
//! | `stage` | the instructions of a stage, one after the other |
//! | `run`, `copy` | those that make layers |
//! | `settings` | those that change only the configuration |
//! | `classic` | marks for the classic builder |
//! | `git`, `text` | words |
//! | `merge` | graphs of several platforms become one |

mod classic;
mod copy;
mod git;
mod merge;
mod plan;
mod run;
mod settings;
mod stage;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use skep_dockerfile::instructions::Argument;
use skep_dockerfile::stages::Origin;
use skep_dockerfile::{Instruction, Lines};
use skep_types::{Digest, Platform, Reference};

use crate::attest::without_password;
use crate::builder::{Built, BuiltImage};
use crate::error::{BuildError, Result};
use crate::graph::{Files, Given, Graph, HttpSource, ImageSource, LocalPart, LocalSource, Op, Step, StepId};
use crate::image::ImageConfig;
use crate::request::NamedContext;
use crate::solve::Image;

pub(crate) use classic::{Mark, MarkKind};
pub(crate) use git::git_source;
pub(crate) use merge::merge;
pub(crate) use plan::{Options, Plan, Wanted};

use plan::Base;
use stage::State;

/// What was found before the conversion.
#[derive(Debug, Clone, Default)]
pub(crate) struct Images {
    found: BTreeMap<(ImageSource, String), Arc<Image>>,
    inputs: BTreeMap<String, Arc<Built>>,
}

/// Where the files of the build come from.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    /// The build context.
    pub(crate) main: Op,
    /// How it is called.
    pub(crate) name: String,
    /// Patterns of `.dockerignore` of named contexts.
    pub(crate) ignores: BTreeMap<String, Vec<String>>,
}

/// What a Dockerfile says.
#[derive(Debug)]
pub(crate) struct Converted {
    pub(crate) graph: Graph,
    /// The step whose result is the image.
    pub(crate) target: StepId,
    /// Its configuration, without layers and times.
    pub(crate) image: ImageConfig,
    /// The image that the last stage begins with.
    pub(crate) base: Option<(Reference, Option<Digest>)>,
    /// The step that the last stage begins with.
    pub(crate) below: StepId,
    /// For the classic builder: what there is after each instruction.
    pub(crate) marks: Vec<Mark>,
    /// The arguments that are declared, with their values and places.
    pub(crate) arguments: Vec<Declared>,
}

/// An argument, its value, and where it is declared.
pub(crate) type Declared = (Argument, Option<String>, Lines);

impl Images {
    pub(crate) fn new(inputs: BTreeMap<String, Arc<Built>>) -> Self {
        Images { found: BTreeMap::new(), inputs }
    }

    pub(crate) fn has(&self, wanted: &Wanted) -> bool {
        self.image(&wanted.source, &wanted.platform).is_some()
    }

    pub(crate) fn add(&mut self, wanted: &Wanted, image: Arc<Image>) {
        self.found.insert((wanted.source.clone(), wanted.platform.to_string()), image);
    }

    fn image(&self, source: &ImageSource, platform: &Platform) -> Option<&Arc<Image>> {
        self.found.get(&(source.clone(), platform.to_string()))
    }

    /// The configuration of an image that a name in the Dockerfile leads to.
    pub(crate) fn named(&self, plan: &Plan<'_>, name: &str, platform: &Platform) -> Option<ImageConfig> {
        match plan.outside(name).ok()? {
            Base::Image(source) => ImageConfig::parse(&self.image(&source, platform)?.resolved.config).ok(),
            Base::Built(name) => ImageConfig::parse(&self.built(&name, platform)?.config).ok(),
            Base::Scratch | Base::Stage(_) | Base::Tree(_) => None,
        }
    }

    fn built(&self, name: &str, platform: &Platform) -> Option<&BuiltImage> {
        let images = &self.inputs.get(name)?.images;
        images.iter().find(|image| image.platform == *platform).or_else(|| images.first())
    }
}

/// A stage by stage conversion.
struct Converter<'c> {
    plan: &'c Plan<'c>,
    images: &'c Images,
    sources: &'c Sources,
    graph: Graph,
    states: BTreeMap<usize, State>,
    /// Steps of contexts, and the paths that are used of them.
    contexts: BTreeMap<Option<String>, (StepId, BTreeSet<String>)>,
    /// Whether names of vertices leave out the stage: there is only one.
    single: bool,
    marks: Vec<Mark>,
    arguments: Vec<Declared>,
}

/// Converts the stages that the target needs.
pub(crate) fn convert(plan: &Plan<'_>, images: &Images, sources: &Sources) -> Result<Converted> {
    let mut converter = Converter {
        plan,
        images,
        sources,
        graph: Graph { steps: Vec::new(), source: Some(plan.options.source.clone()) },
        states: BTreeMap::new(),
        contexts: BTreeMap::new(),
        single: is_single(plan),
        marks: Vec::new(),
        arguments: Vec::new(),
    };
    for (arg, source) in &plan.file.global_arguments {
        let declared = |one: &Argument| (one.clone(), plan.globals.value(&one.name).map(str::to_owned), source.lines);
        converter.arguments.extend(arg.arguments.iter().map(declared));
    }
    if plan.options.request.classic {
        converter.mark_globals();
    }
    for index in plan.needed.iter().filter(|index| !is_mere_tree(plan, **index)) {
        let state = converter.stage(*index)?;
        converter.states.insert(*index, state);
    }
    converter.restrict_contexts();
    let state = converter.states.remove(&plan.target);
    let mut state = state.ok_or_else(|| BuildError::invalid("there is no such stage"))?;
    if plan.options.request.classic {
        converter.mark_labels(&mut state, plan.target);
    }
    let mut image = state.image;
    image.config.labels.extend(plan.options.request.labels.clone());
    finish_platform(&mut image, &plan.options);
    let Converter { graph, marks, arguments, .. } = converter;
    Ok(Converted { graph, target: state.step, image, base: state.base, below: state.below, marks, arguments })
}

/// Whether there is one stage, and nothing that BuildKit counts as another: an image that is copied from, or anything mounted.
fn is_single(plan: &Plan<'_>) -> bool {
    let counts = |line: &skep_dockerfile::Step| match &line.instruction {
        Instruction::Run(run) => !run.mounts.is_empty(),
        _ => false,
    };
    let from_stage = |from: &&str, lines| matches!(plan.file.origin(from, lines), Ok(Origin::Stage(_)));
    let mut lines = plan.file.stages.iter().flat_map(|stage| &stage.steps);
    plan.file.stages.len() == 1
        && !lines.any(|line| counts(line) || line.origins().iter().any(|from| !from_stage(from, line.source.lines)))
}

/// Whether a stage is nothing but a directory that others take files from: it needs no layers.
fn is_mere_tree(plan: &Plan<'_>, index: usize) -> bool {
    matches!(plan.bases[index], Base::Tree(_))
        && plan.file.stages[index].steps.is_empty()
        && index != plan.target
        && !plan.needed.iter().any(|other| plan.bases[*other] == Base::Stage(index))
}

fn finish_platform(image: &mut ImageConfig, options: &Options<'_>) {
    if !options.implicit {
        let target = &options.platform;
        let same = target.os == image.os && target.architecture == image.architecture;
        if !target.variant.is_empty() || !same {
            image.variant = target.variant.clone();
        }
        (image.os, image.architecture) = (target.os.clone(), target.architecture.clone());
    }
    // arm64 without a variant is v8 and is written without.
    if image.architecture == "arm64" && image.variant == "v8" {
        image.variant.clear();
    }
}

impl Converter<'_> {
    fn push(&mut self, op: Op, name: String, platform: &Platform) -> StepId {
        self.graph.steps.push(Step { op, name, platform: platform.clone(), lines: None, ignore_cache: false });
        StepId(self.graph.steps.len() - 1)
    }

    /// The build context (`None`) or a named one; `path` is used of it.
    fn context(&mut self, name: Option<&str>, path: &str) -> Result<StepId> {
        let key = name.map(str::to_owned);
        if let Some((step, paths)) = self.contexts.get_mut(&key) {
            paths.insert(path.to_owned());
            return Ok(*step);
        }
        let platform = self.plan.options.build_platform.clone();
        let (op, shown) = match name {
            None => (self.sources.main.clone(), self.sources.name.clone()),
            Some(name) => {
                let tree = self.tree(name)?;
                let shown = match (&tree, self.plan.options.request.contexts.get(name)) {
                    (_, Some(NamedContext::Git(url))) => {
                        format!("[internal] load git source {}", without_password(url))
                    }
                    (Op::Http(http), _) => format!("[context {name}] {}", without_password(&http.url)),
                    _ => format!("[context {name}] load from client"),
                };
                (tree, shown)
            }
        };
        let step = self.push(op, shown, &platform);
        self.contexts.insert(key, (step, BTreeSet::from([path.to_owned()])));
        Ok(step)
    }

    fn tree(&self, name: &str) -> Result<Op> {
        let unknown = || BuildError::invalid(format!("no context named {name}"));
        Ok(match self.plan.options.request.contexts.get(name).ok_or_else(unknown)? {
            NamedContext::Local(local) => Op::Local(LocalSource {
                name: local.clone(),
                part: LocalPart::Files,
                include: Vec::new(),
                exclude: self.sources.ignores.get(name).cloned().unwrap_or_default(),
                follow: Vec::new(),
            }),
            NamedContext::Git(url) => {
                let no_git = || BuildError::invalid(format!("{url} is no git repository"));
                Op::Git(git_source(url)?.ok_or_else(no_git)?)
            }
            NamedContext::Http(url) => Op::Http(HttpSource { url: url.clone(), checksum: None, name: None }),
            NamedContext::Image(_) | NamedContext::OciLayout { .. } | NamedContext::Result(_) => return Err(unknown()),
        })
    }

    /// The step that a name outside the stages stands for, to take `path` from.
    fn source_step(&mut self, base: &Base, shown: &str, path: &str, platform: &Platform) -> Result<StepId> {
        match base {
            Base::Scratch => Ok(self.push(Op::Scratch, "scratch".to_owned(), platform)),
            Base::Stage(index) => {
                if let Base::Tree(name) = &self.plan.bases[*index]
                    && self.plan.file.stages[*index].steps.is_empty()
                {
                    return self.context(Some(name), path);
                }
                let state = self.states.get(index);
                state.map(|state| state.step).ok_or_else(|| BuildError::invalid("a stage is used before it is built"))
            }
            Base::Image(source) => Ok(self.image_step(source, shown, platform)),
            Base::Tree(name) => self.context(Some(name), path),
            Base::Built(name) => {
                let built = self.images.built(name, platform);
                let built = built.ok_or_else(|| BuildError::invalid(format!("no result named {name}")))?;
                let given = Given { stack: built.stack, diff_ids: built.diff_ids.clone() };
                Ok(self.push(Op::Given(given), shown.to_owned(), platform))
            }
        }
    }

    fn image_step(&mut self, source: &ImageSource, shown: &str, platform: &Platform) -> StepId {
        let known = self.graph.steps.iter().position(|step| {
            matches!(&step.op, Op::Image(other) if other == source) && step.platform == *platform && step.name == shown
        });
        known.map(StepId).unwrap_or_else(|| self.push(Op::Image(source.clone()), shown.to_owned(), platform))
    }

    /// A directory as layers, so that a stage can begin with it.
    fn layered(&mut self, from: StepId, name: String, platform: &Platform) -> StepId {
        let base = self.push(Op::Scratch, "scratch".to_owned(), platform);
        let files = Files::all_of(from, base);
        self.push(Op::Files(Box::new(files)), name, platform)
    }

    /// Only what is used of a client's directory is sent.
    fn restrict_contexts(&mut self) {
        for (step, paths) in self.contexts.values() {
            if let Op::Local(local) = &mut self.graph.steps[step.0].op
                && !paths.contains("/")
            {
                local.follow = paths.iter().map(|path| path.trim_start_matches('/').to_owned()).collect();
            }
        }
    }
}
