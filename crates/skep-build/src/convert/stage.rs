//! The instructions of a stage, one after the other.

use skep_dockerfile::expand::{Expander, Variables};
use skep_dockerfile::instructions::{Arg, CommandLine};
use skep_dockerfile::scope::Scope;
use skep_dockerfile::{Instruction, Lines, Source, Step as Line};
use skep_types::{Digest, Platform, Reference};

use crate::error::{BuildError, Result};
use crate::graph::{FileAction, Files, Op, Owner, Step, StepId};
use crate::image::{History, ImageConfig};
use crate::request::NoCache;

use super::Converter;
use super::plan::{Base, Options, Plan};
use super::text::{clean, shown};

/// The builder's name in the history.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// Settings of containers that older builders left in images.
const OF_CONTAINERS: [&str; 11] = [
    "AttachStderr",
    "AttachStdin",
    "AttachStdout",
    "Domainname",
    "Hostname",
    "Image",
    "MacAddress",
    "NetworkDisabled",
    "OpenStdin",
    "StdinOnce",
    "Tty",
];

/// A stage, as far as it was read.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) step: StepId,
    /// The step that the stage begins with, or the first of the stages it begins with.
    pub(super) below: StepId,
    pub(super) image: ImageConfig,
    pub(super) base: Option<(Reference, Option<Digest>)>,
    pub(super) platform: Platform,
    pub(super) scope: Scope,
    /// Whether there was a `CMD`.
    pub(super) has_command: bool,
    pub(super) ignore_cache: bool,
    /// The named context whose files a stage that begins with it uses.
    pub(super) context: Option<String>,
    label: Option<String>,
    done: usize,
    total: usize,
    is_trigger: bool,
}

/// What is the same for all instructions of a stage.
pub(super) struct Here<'h> {
    pub(super) plan: &'h Plan<'h>,
    pub(super) source: &'h Source,
}

impl State {
    /// The name of the next vertex of this stage.
    pub(super) fn vertex(&mut self, text: &str, options: &Options<'_>) -> String {
        if self.total == 0 {
            return text.to_owned();
        }
        self.done += 1;
        let mut out = String::from("[");
        if options.multi {
            out.push_str(&self.platform.to_string());
            let target = self.scope.get("TARGETPLATFORM").and_then(|text| text.parse::<Platform>().ok());
            if let Some(target) = target.filter(|target| target.architecture != self.platform.architecture) {
                let variant = if target.variant.is_empty() { String::new() } else { format!("/{}", target.variant) };
                out.push_str(&format!("->{}{variant}", target.architecture));
            }
            out.push(' ');
        }
        if let Some(label) = &self.label {
            out.push_str(label);
            out.push(' ');
        }
        let width = self.total.to_string().len();
        out.push_str(&format!("{:>width$}/{}] ", self.done, self.total));
        if self.is_trigger {
            out.push_str("ONBUILD ");
        }
        out + text
    }

    pub(super) fn history(&mut self, text: String, has_layer: bool, options: &Options<'_>) {
        self.image.history.push(History {
            created: options.epoch.map(Into::into),
            created_by: text,
            comment: COMMENT.to_owned(),
            empty_layer: !has_layer,
            ..History::default()
        });
    }

    pub(super) fn shell(&self, text: &str) -> Vec<String> {
        let mut words = match self.image.config.shell.is_empty() {
            true => vec!["/bin/sh".to_owned(), "-c".to_owned()],
            false => self.image.config.shell.clone(),
        };
        words.push(text.to_owned());
        words
    }

    pub(super) fn words(&self, command: &CommandLine) -> Vec<String> {
        match command {
            CommandLine::Exec(words) => words.clone(),
            CommandLine::Shell(text) => self.shell(text),
        }
    }

    /// Writes what is set for containers to the configuration.
    pub(super) fn environment(&mut self) {
        let pair = |(name, value): &(String, String)| format!("{name}={value}");
        self.image.config.env = self.scope.environment().iter().map(pair).collect();
    }

    pub(super) fn dir(&self) -> String {
        clean(&self.image.config.working_dir)
    }
}

impl Converter<'_> {
    pub(super) fn stage(&mut self, index: usize) -> Result<State> {
        let plan = self.plan;
        let stage = &plan.file.stages[index];
        let place = |error: BuildError, lines: Lines| error.at(plan.options.location(lines));
        let mut state = self.begin(index).map_err(|error| place(error, stage.source.lines))?;
        let classic = plan.options.request.classic;
        if classic {
            if matches!(plan.bases[index], Base::Scratch) {
                state.image.config.working_dir.clear();
            }
            self.mark_begin(&state, index);
        }
        for (number, line) in stage.steps.iter().enumerate() {
            state.is_trigger = number < plan.triggers[index];
            let below = state.step;
            let mut read = self.line(&mut state, line);
            if classic && read.is_ok() {
                let is_trigger = state.is_trigger;
                read = self.mark_line(&mut state, below, line, is_trigger, index);
            }
            read.map_err(|error| place(error, line.source.lines))?;
        }
        Ok(state)
    }

    fn begin(&mut self, index: usize) -> Result<State> {
        let plan = self.plan;
        let stage = &plan.file.stages[index];
        let (base, platform) = (&plan.bases[index], plan.platform(index));
        let counts = |line: &&Line| {
            let counted = matches!(
                line.instruction,
                Instruction::Add(_) | Instruction::Copy(_) | Instruction::Run(_) | Instruction::Workdir(_)
            );
            counted
        };
        let own = stage.steps.iter().skip(plan.triggers[index]).filter(counts).count();
        let from = usize::from(!matches!(base, Base::Scratch | Base::Stage(_)));
        let label = (!self.single).then(|| stage.label());
        let no_cache = match &plan.options.request.no_cache {
            NoCache::No => false,
            NoCache::All => true,
            NoCache::Stages(names) => {
                stage.name().is_some_and(|name| names.iter().any(|other| other.eq_ignore_ascii_case(name)))
            }
        };
        let mut state = State {
            step: StepId(0),
            below: StepId(0),
            image: ImageConfig::empty(&platform),
            base: None,
            platform: platform.clone(),
            scope: Scope::default(),
            has_command: false,
            ignore_cache: no_cache,
            context: None,
            label,
            done: 0,
            total: own + from,
            is_trigger: false,
        };
        self.inherit(&mut state, base, stage.source.lines)?;
        if !matches!(base, Base::Stage(_)) {
            let pair = |pair: &String| pair.split_once('=').map_or_else(|| (pair.clone(), String::new()), split_pair);
            state.scope = Scope::new(state.image.config.env.iter().map(pair));
        }
        state.environment();
        state.total += plan.triggers[index];
        Ok(state)
    }

    /// What the stage begins with.
    fn inherit(&mut self, state: &mut State, base: &Base, lines: Lines) -> Result<()> {
        let platform = state.platform.clone();
        let options = &self.plan.options;
        match base {
            Base::Scratch => state.step = self.push(Op::Scratch, "scratch".to_owned(), &platform),
            Base::Stage(index) => {
                let below =
                    self.states.get(index).ok_or_else(|| BuildError::invalid("a stage is used before it is built"))?;
                let State { step, image, base, scope, context, below: first, .. } = below.clone();
                *state = State { step, image, base, scope, context, below: first, ..state.clone() };
                state.image.config.on_build.clear();
                return Ok(());
            }
            Base::Image(source) => {
                let image = self.images.image(source, &platform).cloned();
                let image = image.ok_or_else(|| BuildError::invalid(format!("{} was not found", source.reference)))?;
                state.image = ImageConfig::parse(&image.resolved.config)?;
                let digest = image.resolved.digest;
                let shown = match digest.filter(|_| source.reference.digest().is_none()) {
                    Some(digest) => format!("{}@{digest}", source.reference),
                    None => source.reference.to_string(),
                };
                state.base = Some((source.reference.clone(), digest));
                let is_empty =
                    state.image.rootfs.diff_ids.is_empty() && state.image.history.iter().all(|step| step.empty_layer);
                let name = match self.plan.alias(source) {
                    Some(name) => name,
                    None => state.vertex(&format!("FROM {shown}"), options),
                };
                state.step = match is_empty {
                    true => self.push(Op::Scratch, name, &platform),
                    false => self.image_step(source, &name, &platform),
                };
                self.graph.steps[state.step.0].lines = Some(lines.start..=lines.end);
            }
            Base::Tree(name) => {
                let from = self.context(Some(name), "/")?;
                state.step = self.layered(from, format!("[context {name}] as a layer"), &platform);
                state.context = Some(name.clone());
            }
            Base::Built(name) => {
                let built = self.images.built(name, &platform);
                let built = built.ok_or_else(|| BuildError::invalid(format!("no result named {name}")))?;
                state.image = ImageConfig::parse(&built.config)?;
                state.base = built.base.clone();
                state.step = self.source_step(base, name, "/", &platform)?;
            }
        }
        state.below = state.step;
        state.image.created = None;
        state.image.config.others.retain(|name, _| !OF_CONTAINERS.contains(&name.as_str()));
        state.image.config.on_build.clear();
        if !state.image.config.working_dir.is_empty() {
            state.image.config.working_dir = clean(&state.image.config.working_dir);
        }
        Ok(())
    }

    fn line(&mut self, state: &mut State, line: &Line) -> Result<()> {
        let here = Here { plan: self.plan, source: &line.source };
        let mut instruction = line.instruction.clone();
        let mut expander = Expander::new(here.plan.file.escape(), &state.scope);
        instruction.expand(&mut expander).map_err(|error| BuildError::invalid(error.to_string()))?;
        match &instruction {
            Instruction::Run(run) => self.run(state, run, &here),
            Instruction::Copy(copy) => self.copy(state, copy, &here),
            Instruction::Add(add) => self.add(state, add, &here),
            Instruction::Workdir(workdir) => self.workdir(state, &workdir.path, &here),
            Instruction::Arg(arg) => self.argument(state, arg, &here),
            settings => state.settings(settings, &here.plan.options),
        }
    }

    fn workdir(&mut self, state: &mut State, path: &str, here: &Here<'_>) -> Result<()> {
        let dir = match path.starts_with('/') {
            true => clean(path),
            false => clean(&format!("{}/{path}", state.image.config.working_dir)),
        };
        // A slash at the end is kept for those who look at the image.
        let written = if path.ends_with('/') && dir != "/" { format!("{dir}/") } else { dir.clone() };
        state.image.config.working_dir = written.clone();
        let options = &here.plan.options;
        if dir != "/" {
            let owner = match state.image.config.user.as_str() {
                "" => Owner::Root,
                user => Owner::Named(user.to_owned()),
            };
            let make = FileAction::MakeDir { path: dir.clone().into(), parents: true, mode: 0o755, owner };
            let files = Files { base: state.step, actions: vec![make], link: false, time: options.epoch };
            let text = shown(&here.source.code, here.plan.file.escape(), &state.scope, false);
            let name = state.vertex(&text, options);
            state.step = self.layer(state, Op::Files(Box::new(files)), name, here);
            // BuildKit makes directories again only if something below them is made again.
            self.graph.steps[state.step.0].ignore_cache = false;
        }
        state.history(format!("WORKDIR {written}"), dir != "/", options);
        Ok(())
    }

    fn argument(&mut self, state: &mut State, arg: &Arg, here: &Here<'_>) -> Result<()> {
        let given = &here.plan.options.request.args;
        let mut texts = Vec::new();
        for argument in &arg.arguments {
            let (value, _) = state.scope.declare(argument, &here.plan.globals, given, here.plan.file.escape());
            let value = value.map_err(|error| BuildError::invalid(error.to_string()))?;
            texts.push(match &value {
                Some(value) => format!("{}={value}", argument.name),
                None => argument.name.clone(),
            });
            self.arguments.push((argument.clone(), value, here.source.lines));
        }
        state.history(format!("ARG {}", texts.join(" ")), false, &here.plan.options);
        Ok(())
    }

    /// A step of a stage that makes a layer.
    pub(super) fn layer(&mut self, state: &State, op: Op, name: String, here: &Here<'_>) -> StepId {
        let Lines { start, end } = here.source.lines;
        let (platform, ignore_cache) = (state.platform.clone(), state.ignore_cache);
        self.graph.steps.push(Step { op, name, platform, lines: Some(start..=end), ignore_cache });
        StepId(self.graph.steps.len() - 1)
    }
}

fn split_pair((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}
