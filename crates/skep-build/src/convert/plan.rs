//! Which stages are built from what, before any image is known; and again with the triggers of the images that are.
//!
//! ```text
//! Plan::new ──▶ wanted: images to be found ──▶ fire: ONBUILD triggers put in, which may want more ──▶ … ──▶ convert
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use skep_dockerfile::scope::Globals;
use skep_dockerfile::stages::Origin;
use skep_dockerfile::{Dockerfile, Instruction, Lines, parse_trigger};
use skep_types::{Platform, Reference};

use crate::error::{BuildError, Location, Result};
use crate::graph::{ImageSource, SourceFile};
use crate::image::ImageConfig;
use crate::request::{BuildRequest, NamedContext};

use super::Images;

/// More stages than this are not built: each inherits all that is below it.
const MAX_STAGES: usize = 1000;

/// What is the same for all stages.
#[derive(Debug, Clone)]
pub(crate) struct Options<'r> {
    pub(crate) request: &'r BuildRequest,
    /// For what the image is made.
    pub(crate) platform: Platform,
    /// Where it is made.
    pub(crate) build_platform: Platform,
    /// Whether nobody asked for a platform.
    pub(crate) implicit: bool,
    /// Whether names of vertices begin with the platform.
    pub(crate) multi: bool,
    pub(crate) source: SourceFile,
    /// The time that everything gets.
    pub(crate) epoch: Option<DateTime<Utc>>,
}

/// What a stage begins with, or files are taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Base {
    Scratch,
    Stage(usize),
    Image(ImageSource),
    /// A named context of the build that is a tree, by its name.
    Tree(String),
    /// The result of another build, by its name.
    Built(String),
}

/// The stages and what they need.
#[derive(Debug, Clone)]
pub(crate) struct Plan<'r> {
    pub(crate) options: Options<'r>,
    /// With triggers put in, and without the instructions of stages that a named context stands for.
    pub(crate) file: Dockerfile,
    pub(crate) globals: Globals,
    pub(crate) bases: Vec<Base>,
    platforms: Vec<Platform>,
    /// How many instructions at the beginning of each stage are triggers.
    pub(crate) triggers: Vec<usize>,
    pub(crate) target: usize,
    pub(crate) needed: BTreeSet<usize>,
    fired: BTreeSet<usize>,
}

/// An image to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) source: ImageSource,
    pub(crate) platform: Platform,
    /// As it is written.
    pub(crate) name: String,
    pub(crate) lines: Lines,
}

impl Options<'_> {
    /// A place in the Dockerfile.
    pub(crate) fn location(&self, lines: Lines) -> Location {
        Location { file: self.source.name.clone(), text: Arc::clone(&self.source.text), lines: lines.start..=lines.end }
    }
}

impl<'r> Plan<'r> {
    /// Expands what the stages begin with, and sees which are needed.
    pub(crate) fn new(mut file: Dockerfile, options: Options<'r>) -> Result<Self> {
        let request = options.request;
        if file.stages.len() > MAX_STAGES {
            return Err(BuildError::invalid(format!("{} stages, more than {MAX_STAGES}", file.stages.len())));
        }
        let last = file.stages.last().and_then(|stage| stage.name()).unwrap_or_default().to_owned();
        let stage = request.target.clone().filter(|target| !target.is_empty()).unwrap_or(last);
        let mut globals = Globals::new(&options.build_platform, &options.platform, Some(&stage), &request.args);
        for (arg, source) in &file.global_arguments {
            let declared = globals.declare(arg, &request.args, file.escape());
            declared.map_err(|error| BuildError::invalid(error.to_string()).at(options.location(source.lines)))?;
        }
        let target = target(&file, request)?;
        let count = file.stages.len();
        let mut plan = Plan {
            file: file.clone(),
            globals,
            bases: Vec::with_capacity(count),
            platforms: Vec::with_capacity(count),
            triggers: vec![0; count],
            target,
            needed: BTreeSet::new(),
            fired: BTreeSet::new(),
            options,
        };
        for stage in &mut file.stages {
            let lines = stage.source.lines;
            let place = |error: BuildError| error.at(plan.options.location(lines));
            let (base, platform) = plan.begin(stage.index).map_err(place)?;
            plan.bases.push(base);
            let platform = match (platform, &plan.bases[stage.index]) {
                // Nothing is for no other platform than the result.
                (_, Base::Scratch) | (None, Base::Image(_) | Base::Tree(_) | Base::Built(_)) => {
                    plan.options.platform.clone()
                }
                (Some(platform), _) => platform,
                (None, Base::Stage(base)) => plan.platforms[*base].clone(),
            };
            plan.platforms.push(platform);
            if stage.name().is_some_and(|name| named_context(request, name).is_some()) {
                plan.file.stages[stage.index].steps.clear();
            }
        }
        plan.follow()?;
        Ok(plan)
    }

    fn begin(&self, index: usize) -> Result<(Base, Option<Platform>)> {
        let stage = &self.file.stages[index];
        let resolved = stage.from.resolve(&self.globals, self.file.escape());
        let (image, platform) = resolved.map_err(|error| BuildError::invalid(error.to_string()))?;
        if let Some(name) = stage.name()
            && let Some(base) = self.context_base(name)?
        {
            return Ok((base, platform));
        }
        let base = match self.file.base(index, &image) {
            Origin::Scratch => Base::Scratch,
            Origin::Stage(index) => Base::Stage(index),
            Origin::Image(name) => self.outside(&name)?,
        };
        Ok((base, platform))
    }

    /// What `--from` or `from` refers to.
    pub(crate) fn origin(&self, from: &str, lines: Lines) -> Result<Base> {
        let origin = self.file.origin(from, lines).map_err(|error| BuildError::invalid(error.to_string()))?;
        match origin {
            Origin::Scratch => Ok(Base::Scratch),
            Origin::Stage(index) => Ok(Base::Stage(index)),
            Origin::Image(name) => self.outside(&name),
        }
    }

    /// What a name refers to that no stage has: a named context, or an image.
    pub(super) fn outside(&self, name: &str) -> Result<Base> {
        let error = |error| BuildError::invalid(format!("failed to parse stage name {name:?}: {error}"));
        let reference: Reference = name.parse().map_err(error)?;
        if let Some(base) = self.context_base(name)? {
            return Ok(base);
        }
        let pull = self.options.request.pull;
        Ok(Base::Image(ImageSource { reference: reference.or_latest(), layout: None, pull }))
    }

    fn context_base(&self, name: &str) -> Result<Option<Base>> {
        let pull = self.options.request.pull;
        let Some((name, context)) = named_context(self.options.request, name) else { return Ok(None) };
        Ok(Some(match context {
            NamedContext::Local(_) | NamedContext::Git(_) | NamedContext::Http(_) => Base::Tree(name.to_owned()),
            NamedContext::Image(reference) => {
                Base::Image(ImageSource { reference: reference.or_latest(), layout: None, pull })
            }
            NamedContext::OciLayout { store, reference } => {
                let error = |error| BuildError::invalid(format!("could not parse oci-layout reference: {error}"));
                let reference = reference.parse().map_err(error)?;
                Base::Image(ImageSource { reference, layout: Some(store.clone()), pull })
            }
            NamedContext::Result(built) => Base::Built(built.clone()),
        }))
    }

    /// How an image is called that a named context has brought in the place of another.
    pub(crate) fn alias(&self, source: &ImageSource) -> Option<String> {
        let is_it = |context: &NamedContext| matches!(context, NamedContext::Image(image) if image.or_latest() == source.reference);
        let (name, _) = self.options.request.contexts.iter().find(|(_, context)| is_it(context))?;
        Some(format!("[context {name}] {}", source.reference.familiar()))
    }

    fn follow(&mut self) -> Result<()> {
        let origins: Vec<Origin> = self
            .bases
            .iter()
            .map(|base| match base {
                Base::Stage(index) => Origin::Stage(*index),
                Base::Scratch | Base::Image(_) | Base::Tree(_) | Base::Built(_) => Origin::Scratch,
            })
            .collect();
        self.needed = self.file.needed(self.target, &origins).map_err(|error| {
            let failed = BuildError::invalid(error.to_string());
            match error.lines() {
                Some(lines) => failed.at(self.options.location(lines)),
                None => failed,
            }
        })?;
        if self.options.request.classic {
            self.needed = (0..=self.target).collect(); // the classic builder leaves nothing out
        }
        Ok(())
    }

    /// The platform that a stage is for.
    pub(crate) fn platform(&self, index: usize) -> Platform {
        self.platforms[index].clone()
    }

    /// The images that the needed stages begin with or take files from.
    pub(crate) fn wanted(&self) -> Result<Vec<Wanted>> {
        let mut all: Vec<Wanted> = Vec::new();
        for index in &self.needed {
            let stage = &self.file.stages[*index];
            let mut add = |base: &Base, name: &str, platform: Platform, lines: Lines| {
                if let Base::Image(source) = base {
                    let one = Wanted { source: source.clone(), platform, name: name.to_owned(), lines };
                    if !all.iter().any(|other| other.source == one.source && other.platform == one.platform) {
                        all.push(one);
                    }
                }
            };
            add(&self.bases[*index], &stage.from.image, self.platform(*index), stage.source.lines);
            for step in &stage.steps {
                for from in step.origins() {
                    let base = self.origin(from, step.source.lines)?;
                    add(&base, from, self.options.platform.clone(), step.source.lines);
                }
            }
        }
        Ok(all)
    }

    /// Puts in the triggers of the images and stages that the needed stages begin with. Returns whether there were any.
    pub(crate) fn fire(&mut self, images: &Images) -> Result<bool> {
        let waiting: Vec<usize> = self.needed.difference(&self.fired).copied().collect();
        let mut any = false;
        for index in waiting {
            self.fired.insert(index);
            let lines = self.file.stages[index].source.lines;
            let place = |error: BuildError| error.at(self.options.location(lines));
            let texts = self.trigger_texts(index, images).map_err(place)?;
            let mut steps = Vec::with_capacity(texts.len());
            for text in &texts {
                let step = parse_trigger(text, lines).map_err(|error| place(BuildError::invalid(error.to_string())))?;
                steps.push(step);
            }
            any |= !steps.is_empty();
            self.triggers[index] = steps.len();
            self.file.stages[index].steps.splice(0..0, steps);
        }
        if any {
            self.follow()?;
        }
        Ok(any)
    }

    fn trigger_texts(&self, index: usize, images: &Images) -> Result<Vec<String>> {
        match &self.bases[index] {
            Base::Scratch | Base::Tree(_) => Ok(Vec::new()),
            Base::Stage(base) => {
                let steps = self.file.stages[*base].steps.iter();
                let texts = steps.filter_map(|step| match &step.instruction {
                    Instruction::Onbuild(onbuild) => Some(onbuild.trigger.clone()),
                    _ => None,
                });
                Ok(texts.collect())
            }
            Base::Image(source) => match images.image(source, &self.platform(index)) {
                Some(image) => Ok(ImageConfig::parse(&image.resolved.config)?.config.on_build),
                None => Ok(Vec::new()),
            },
            Base::Built(name) => match images.built(name, &self.platform(index)) {
                Some(built) => Ok(ImageConfig::parse(&built.config)?.config.on_build),
                None => Ok(Vec::new()),
            },
        }
    }
}

/// The stage that is asked for, by name; by number only of the classic builder.
fn target(file: &Dockerfile, request: &BuildRequest) -> Result<usize> {
    let wanted = request.target.as_deref();
    let found = file.target(wanted).map(|stage| stage.index);
    let number = wanted.filter(|_| request.classic).and_then(|text| text.parse::<usize>().ok());
    let by_number = || number.filter(|index| *index < file.stages.len());
    found.or_else(|error| by_number().ok_or_else(|| BuildError::invalid(error.to_string())))
}

/// The named context that replaces what has this name: a stage or an image.
fn named_context<'r>(request: &'r BuildRequest, name: &str) -> Option<(&'r str, &'r NamedContext)> {
    if name.eq_ignore_ascii_case("scratch") || name.eq_ignore_ascii_case("context") {
        return None;
    }
    let plain = request.contexts.get_key_value(name);
    let found = plain.or_else(|| {
        let familiar = name.parse::<Reference>().ok()?.familiar();
        let familiar = familiar.strip_suffix(":latest").unwrap_or(&familiar).to_owned();
        request.contexts.get_key_value(&familiar)
    });
    found.map(|(name, context)| (name.as_str(), context))
}
