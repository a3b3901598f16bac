//! What the classic builder says: instructions one after the other, and its own texts in the history.
//!
//! `/bin/sh -c #(nop)  CMD ["x"]` for what runs nothing, the plain command for `RUN`, with `|N NAME=value` before it if arguments are
//! seen. Layers and hashes of copied files are known only to the driver.

use skep_dockerfile::expand::Expander;
use skep_dockerfile::instructions::{Arg, Script, Transfer};
use skep_dockerfile::scope::proxies;
use skep_dockerfile::{Instruction, Step as Line};

use crate::error::{BuildError, Result};
use crate::graph::{Files, Op, StepId};
use crate::image::{Health, History, ImageConfig};

use super::Converter;
use super::stage::State;

/// An instruction, and what the image is after it.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    /// As it is written.
    pub(crate) text: String,
    pub(crate) kind: MarkKind,
    /// Triggers have no number of their own.
    pub(crate) is_trigger: bool,
    /// Its stage.
    pub(crate) stage: usize,
    /// The step whose result is the image's tree.
    pub(crate) step: StepId,
    /// The same before the instruction.
    pub(crate) below: StepId,
    /// The configuration, without layers and times.
    pub(crate) image: ImageConfig,
}

/// What an instruction does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MarkKind {
    /// `ARG` before the first stage.
    Global,
    /// Begins a stage with `triggers` to fire; from another stage, if it is one.
    From { triggers: usize, base: Option<usize> },
    /// Runs a program.
    Run(Vec<String>),
    /// Copies files: the history's text with a hole for the hash.
    /// `outside` is a source that leads out of the build context.
    Transfer { before: String, after: String, outside: Option<String> },
    /// Makes a directory, or changes nothing but the configuration.
    Plain,
}

/// Names that the classic builder knows in `FROM` only.
const PLATFORM: [&str; 2] = ["TARGET", "BUILD"];

impl Converter<'_> {
    /// The stage begins.
    pub(super) fn mark_begin(&mut self, state: &State, index: usize) {
        let stage = &self.plan.file.stages[index];
        let base = match &self.plan.bases[index] {
            super::Base::Stage(base) => Some(*base),
            _ => None,
        };
        let kind = MarkKind::From { triggers: self.plan.triggers[index], base };
        self.mark(state, state.step, stage.source.code.clone(), kind, false, index);
    }

    /// An instruction was read; the history is changed to the classic builder's.
    pub(super) fn mark_line(
        &mut self,
        state: &mut State,
        below: StepId,
        line: &Line,
        is_trigger: bool,
        index: usize,
    ) -> Result<()> {
        let mut instruction = line.instruction.clone();
        let mut expander = Expander::new(self.plan.file.escape(), &state.scope);
        instruction.expand(&mut expander).map_err(|error| BuildError::invalid(error.to_string()))?;
        let prefix = match state.image.config.shell.is_empty() {
            true => "/bin/sh -c".to_owned(),
            false => state.image.config.shell.join(" "),
        };
        if let Instruction::Onbuild(_) = instruction {
            state.image.history.push(History { empty_layer: true, ..History::default() });
        }
        let known = state.image.history.last().map(|step| step.created_by.clone()).unwrap_or_default();
        let mut kind = MarkKind::Plain;
        let text = match &instruction {
            Instruction::Run(run) => {
                let argv = match run.script() {
                    Script::Exec(words) => words.to_vec(),
                    Script::Shell(text) => state.shell(&text),
                    Script::File { content, .. } => state.shell(&content),
                };
                kind = MarkKind::Run(argv.clone());
                format!("{}{}", self.arguments(state), argv.join(" "))
            }
            Instruction::Copy(copy) => {
                self.transfer_text(&prefix, ("COPY", copy.from.is_some()), &copy.transfer, &mut kind)
            }
            Instruction::Add(add) => self.transfer_text(&prefix, ("ADD", false), &add.transfer, &mut kind),
            Instruction::Workdir(_) => format!("{prefix} #(nop) {known}"),
            Instruction::Onbuild(onbuild) => format!("{prefix} #(nop)  ONBUILD {}", onbuild.trigger),
            Instruction::Expose(expose) => format!("{prefix} #(nop)  EXPOSE {}", expose.ports.join(" ")),
            Instruction::Arg(arg) => format!("{prefix} #(nop)  ARG {}", written(arg)),
            Instruction::Healthcheck(_) => {
                let health = state.image.config.healthcheck.clone().unwrap_or_default();
                format!("{prefix} #(nop)  HEALTHCHECK {}", health_text(&health))
            }
            _ => format!("{prefix} #(nop)  {known}"),
        };
        let author = state.image.author.clone();
        if let Some(step) = state.image.history.last_mut() {
            step.created_by = text;
            step.comment.clear();
            step.author = author;
        }
        state.image.config.args_escaped = false;
        self.mark(state, below, line.source.code.clone(), kind, is_trigger, index);
        Ok(())
    }

    fn mark(&mut self, state: &State, below: StepId, text: String, kind: MarkKind, is_trigger: bool, stage: usize) {
        self.marks.push(Mark { text, kind, is_trigger, stage, step: state.step, below, image: state.image.clone() });
    }

    fn transfer_text(
        &self,
        prefix: &str,
        (keyword, is_stage): (&str, bool),
        transfer: &Transfer,
        kind: &mut MarkKind,
    ) -> String {
        let chown = transfer.chown.as_ref().map(|chown| format!("--chown={chown} ")).unwrap_or_default();
        let before = format!("{prefix} #(nop) {keyword} {chown}");
        let after = format!(" in {} ", transfer.destination);
        // Another stage's root can't be left, and what is above an address is its server's business.
        let local = |source: &&String| !is_stage && !source.contains("://") && is_outside(source);
        let outside = transfer.sources.iter().find(local).cloned();
        *kind = MarkKind::Transfer { before: before.clone(), after: after.clone(), outside };
        before + &after
    }

    /// The arguments that a command sees, as its history lists them.
    fn arguments(&self, state: &State) -> String {
        let environment = state.scope.environment();
        let mut seen: Vec<String> = Vec::new();
        for (name, value) in state.scope.used_arguments() {
            let is_platform = PLATFORM.iter().any(|prefix| name.starts_with(prefix));
            if !is_platform && !value.is_empty() && !environment.iter().any(|(known, _)| *known == name) {
                seen.push(format!("{name}={value}"));
            }
        }
        seen.sort();
        let any = !seen.is_empty() || !proxies(&self.plan.options.request.args).is_empty();
        if any {
            format!("|{} {}", seen.len(), seen.iter().map(|one| format!("{one} ")).collect::<String>())
        } else {
            String::new()
        }
    }

    /// `ARG` before the first stage.
    pub(super) fn mark_globals(&mut self) {
        for (_, source) in &self.plan.file.global_arguments {
            self.marks.push(Mark {
                text: source.code.clone(),
                kind: MarkKind::Global,
                is_trigger: false,
                stage: 0,
                step: StepId(0),
                below: StepId(0),
                image: ImageConfig::default(),
            });
        }
    }

    /// The labels of the request are an instruction at the end.
    pub(super) fn mark_labels(&mut self, state: &mut State, index: usize) {
        let labels = &self.plan.options.request.labels;
        if labels.is_empty() {
            return;
        }
        let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let text = format!("LABEL {}", pairs.join(" "));
        state.image.config.labels.extend(labels.clone());
        let created_by = format!("/bin/sh -c #(nop)  {text}");
        let author = state.image.author.clone();
        state.image.history.push(History { created_by, author, empty_layer: true, ..History::default() });
        self.mark(state, state.step, text, MarkKind::Plain, false, index);
    }
}

impl Mark {
    /// Whether it makes an image.
    pub(crate) fn has_image(&self) -> bool {
        !matches!(self.kind, MarkKind::Global | MarkKind::From { .. })
    }

    /// The copies of an instruction, if it has any.
    pub(crate) fn files<'o>(&self, op: &'o Op) -> Option<&'o Files> {
        match (&self.kind, op) {
            (MarkKind::Transfer { .. }, Op::Files(files)) => Some(files),
            _ => None,
        }
    }
}

/// Whether a path leads above the directory that it begins in.
fn is_outside(path: &str) -> bool {
    let mut depth = 0_i32;
    path.split('/').any(|part| {
        match part {
            "" | "." => {}
            ".." => depth -= 1,
            _ => depth += 1,
        }
        depth < 0
    })
}

fn written(arg: &Arg) -> String {
    let one = |argument: &skep_dockerfile::instructions::Argument| match &argument.default {
        Some(default) => format!("{}={default}", argument.name),
        None => argument.name.clone(),
    };
    arg.arguments.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// As Go prints a pointer to the struct with `%v`.
fn health_text(health: &Health) -> String {
    let time = |nanoseconds: i64| {
        let time = std::time::Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or_default());
        skep_types::format_go_duration(time)
    };
    format!(
        "&{{[{}] {} {} {} {} {}}}",
        health.test.join(" "),
        time(health.interval),
        time(health.timeout),
        time(health.start_period),
        time(health.start_interval),
        health.retries,
    )
}
