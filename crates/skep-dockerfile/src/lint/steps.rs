//! Instructions one by one, with the variables that they see.

use std::collections::BTreeSet;

use crate::dockerfile::{Dockerfile, Stage, parse_trigger};
use crate::expand::Expander;
use crate::glob::clean;
use crate::instructions::{
    Arg, CommandLine, Instruction, InstructionError, Mount, MountKind, Pair, PortWords, Run, Step, Transfer,
};
use crate::scope::Scope;
use crate::source::{Escape, Lines, Source};
use crate::stages::Origin;
use crate::suggest::{Hint, suggest};

use super::error::{CheckError, StepProblem};
use super::stages::Bases;
use super::{BaseImage, Findings, Inputs, Rule, rules};

pub(super) fn check(
    dockerfile: &Dockerfile,
    bases: &Bases,
    inputs: &Inputs<'_>,
    findings: &mut Findings<'_>,
) -> Result<(), CheckError> {
    let origins: Vec<Origin> = bases.stages.iter().map(|(origin, _)| origin.clone()).collect();
    let target = dockerfile.target(inputs.target)?.index;
    let mut needed = dockerfile.needed(target, &origins)?;
    if inputs.all_stages {
        for index in 0..dockerfile.stages.len() {
            needed.append(&mut dockerfile.needed(index, &origins)?);
        }
    }
    bases.check_names(dockerfile)?;
    let mut walk = Walk { dockerfile, bases, inputs, findings, done: vec![None; dockerfile.stages.len()] };
    walk.stages(&needed)
}

struct Walk<'w, 'o, 'i> {
    dockerfile: &'w Dockerfile,
    bases: &'w Bases,
    inputs: &'w Inputs<'i>,
    findings: &'w mut Findings<'o>,
    done: Vec<Option<State>>,
}

/// What a stage hands on to those built from it.
#[derive(Debug, Clone, Default)]
struct State {
    scope: Scope,
    has_shell: bool,
    working_dir: String,
    /// Whether that is the Dockerfile's own.
    has_workdir: bool,
}

/// Where the last CMD, ENTRYPOINT and HEALTHCHECK of a stage stand.
#[derive(Default)]
struct Once {
    cmd: Option<Lines>,
    entrypoint: Option<Lines>,
    healthcheck: Option<Lines>,
}

/// Parts of names that tell a secret, unless `public` is another part.
const SECRETS: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];

/// Arguments that are no variables and are not missed.
const NO_VARIABLES: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

impl Walk<'_, '_, '_> {
    fn stages(&mut self, needed: &BTreeSet<usize>) -> Result<(), CheckError> {
        let dockerfile = self.dockerfile;
        for stage in dockerfile.stages.iter().filter(|stage| needed.contains(&stage.index)) {
            let (mut state, triggers) = self.begin(stage)?;
            let mut once = Once::default();
            for step in triggers.iter().chain(&stage.steps) {
                let checked = self.step(step.clone(), &mut state, &mut once);
                checked.map_err(CheckError::at(step.source.lines))?;
            }
            self.done[stage.index] = Some(state);
        }
        Ok(())
    }

    /// What a stage begins with, and the triggers of its base.
    fn begin(&mut self, stage: &Stage) -> Result<(State, Vec<Step>), CheckError> {
        let (origin, platform) = &self.bases.stages[stage.index];
        let lines = stage.source.lines;
        let (state, triggers) = match origin {
            Origin::Scratch => (State { scope: Scope::new([]), ..State::default() }, Vec::new()),
            Origin::Stage(index) => {
                let triggers = self.dockerfile.stages[*index].steps.iter().filter_map(|step| match &step.instruction {
                    Instruction::Onbuild(onbuild) => Some(onbuild.trigger.clone()),
                    _ => None,
                });
                (self.done[*index].clone().unwrap_or_default(), triggers.collect())
            }
            Origin::Image(name) => {
                let expected = platform.as_ref().unwrap_or(self.inputs.target_platform);
                let image = self.inputs.images.image(name, expected).unwrap_or_default();
                if let Some(actual) = image
                    .platform
                    .filter(|actual| (&actual.os, &actual.architecture) != (&expected.os, &expected.architecture))
                {
                    let (actual, expected) = (actual.to_string(), expected.to_string());
                    self.findings.add(&rules::INVALID_BASE_IMAGE_PLATFORM, lines, || {
                        format!("Base image {name} was pulled with platform {actual:?}, expected {expected:?} for current build")
                    });
                }
                let BaseImage { environment, has_shell, working_dir, triggers, .. } = image;
                (State { scope: Scope::new(environment), has_shell, working_dir, has_workdir: false }, triggers)
            }
        };
        let triggers = triggers.iter().map(|trigger| parse_trigger(trigger, lines)).collect::<Result<_, _>>();
        Ok((state, triggers.map_err(|error| CheckError::at(lines)(error.into()))?))
    }

    fn step(&mut self, step: Step, state: &mut State, once: &mut Once) -> Result<(), StepProblem> {
        let Step { mut instruction, source } = step;
        let escape = self.dockerfile.escape();
        let mut expander = Expander::new(escape, &state.scope);
        let expanded = match &instruction {
            Instruction::Run(run) => mounts(run, &mut expander, &state.working_dir).map_err(StepProblem::from),
            _ => instruction.expand(&mut expander).map_err(StepProblem::from),
        };
        let unmatched = expander.unmatched;
        // BuildKit does not ask this of ports.
        if !matches!(instruction, Instruction::Expose(_)) {
            self.undefined(&unmatched, &state.scope, &source);
        }
        expanded?;
        let lines = source.lines;
        match &instruction {
            Instruction::Env(env) => {
                self.legacy(&env.pairs, &source);
                for pair in &env.pairs {
                    self.secret("ENV", &pair.name, lines);
                    state.scope.set(&pair.name, pair.value.clone());
                }
            }
            Instruction::Label(label) => self.legacy(&label.pairs, &source),
            Instruction::Arg(arg) => self.arg(arg, state, &source, escape)?,
            Instruction::Cmd(cmd) => {
                self.once(&mut once.cmd, &source);
                self.shell_form(&cmd.command, state, &source);
            }
            Instruction::Entrypoint(entrypoint) => {
                self.once(&mut once.entrypoint, &source);
                self.shell_form(&entrypoint.command, state, &source);
            }
            Instruction::Healthcheck(_) => self.once(&mut once.healthcheck, &source),
            Instruction::Shell(_) => state.has_shell = true,
            Instruction::Workdir(workdir) => {
                if !state.has_workdir && !workdir.path.starts_with('/') {
                    self.findings.add(&rules::WORKDIR_RELATIVE_PATH, lines, || {
                        let path = crate::quote::quoted(&workdir.path);
                        format!("Relative workdir {path} can have unexpected results if the base image changes")
                    });
                }
                state.working_dir = clean(&match workdir.path.starts_with('/') {
                    true => workdir.path.clone(),
                    false => format!("/{}/{}", state.working_dir, workdir.path),
                });
                state.has_workdir = true;
            }
            Instruction::Add(add) => self.ignored("Add", &add.transfer, lines),
            Instruction::Copy(copy) if copy.from.is_none() => self.ignored("Copy", &copy.transfer, lines),
            Instruction::Expose(expose) => self.expose(&expose.ports, lines)?,
            Instruction::Volume(volume) if volume.paths.iter().any(String::is_empty) => {
                return Err(StepProblem::EmptyVolume);
            }
            Instruction::Stopsignal(stop) if !stop.is_signal() => {
                return Err(StepProblem::Signal(stop.signal.clone()));
            }
            _ => {}
        }
        Ok(())
    }

    fn undefined(&mut self, unmatched: &[String], scope: &Scope, source: &Source) {
        let missed = unmatched.iter().filter(|name| !scope.is_declared(name) && !NO_VARIABLES.contains(&name.as_str()));
        for name in missed {
            self.findings.add(&rules::UNDEFINED_VAR, source.lines, || {
                let known = scope.variables().iter().map(|(name, _)| name.as_str());
                let hint = Hint::from(suggest(name, known).map(|known| format!("${known}")));
                format!("Usage of undefined variable '${name}'{hint}")
            });
        }
    }

    fn arg(&mut self, arg: &Arg, state: &mut State, source: &Source, escape: Escape) -> Result<(), StepProblem> {
        for argument in &arg.arguments {
            self.secret("ARG", &argument.name, source.lines);
            let before = state.scope.clone();
            let (value, unmatched) = state.scope.declare(argument, &self.bases.globals, self.inputs.arguments, escape);
            self.undefined(&unmatched, &before, source);
            value?;
        }
        Ok(())
    }

    fn legacy(&mut self, pairs: &[Pair], source: &Source) {
        let name = &source.keyword;
        for _ in pairs.iter().filter(|pair| pair.is_legacy) {
            self.findings.add(&rules::LEGACY_KEY_VALUE_FORMAT, source.lines, || {
                format!("\"{name} key=value\" should be used instead of legacy \"{name} key value\" format")
            });
        }
    }

    fn secret(&mut self, instruction: &str, name: &str, lines: Lines) {
        let lower = name.to_lowercase();
        if lower.split('_').any(|part| SECRETS.contains(&part)) && !lower.split('_').any(|part| part == "public") {
            self.findings.add(&rules::SECRETS_USED_IN_ARG_OR_ENV, lines, || {
                let name = crate::quote::quoted(name);
                format!("Do not use ARG or ENV instructions for sensitive data ({instruction} {name})")
            });
        }
    }

    /// The earlier one is told, because it is the one without effect.
    fn once(&mut self, last: &mut Option<Lines>, source: &Source) {
        if let Some(lines) = last.replace(source.lines) {
            let name = &source.keyword;
            let end = "instructions should not be used in the same stage because only the last one will be used";
            let rule: &'static Rule = &rules::MULTIPLE_INSTRUCTIONS_DISALLOWED;
            self.findings.add(rule, lines, || format!("Multiple {name} {end}"));
        }
    }

    fn shell_form(&mut self, command: &CommandLine, state: &State, source: &Source) {
        if matches!(command, CommandLine::Shell(_)) && !state.has_shell {
            let name = &source.keyword;
            self.findings.add(&rules::JSON_ARGS_RECOMMENDED, source.lines, || {
                format!("JSON arguments recommended for {name} to prevent unintended behavior related to OS signals")
            });
        }
    }

    fn ignored(&mut self, verb: &str, transfer: &Transfer, lines: Lines) {
        let Some(matcher) = self.inputs.ignored else { return };
        let is_local =
            |source: &&String| !["http://", "https://", "git@"].iter().any(|start| source.starts_with(start));
        for path in transfer.sources.iter().filter(is_local).filter(|path| matcher.matches(path)) {
            self.findings.add(&rules::COPY_IGNORED_FILE, lines, || {
                let path = crate::quote::quoted(path);
                format!("Attempting to {verb} file {path} that is excluded by .dockerignore")
            });
        }
    }

    fn expose(&mut self, ports: &[String], lines: Lines) -> Result<(), StepProblem> {
        for port in ports {
            let words = PortWords::new(port)?;
            if words.has_capitals() {
                self.findings.add(&rules::EXPOSE_PROTO_CASING, lines, || {
                    format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase")
                });
            }
            if words.is_mapping() {
                self.findings.add(&rules::EXPOSE_INVALID_FORMAT, lines, || {
                    format!("EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'")
                });
            }
            words.ports()?;
        }
        Ok(())
    }
}

fn mounts(run: &Run, expander: &mut Expander<'_>, working_dir: &str) -> Result<(), InstructionError> {
    let mounts = run.mounts(expander)?;
    let needs_path = |mount: &&Mount| !matches!(mount.kind, MountKind::Secret | MountKind::Ssh);
    mounts.iter().filter(needs_path).try_for_each(|mount| mount.path(working_dir).map(|_| ()))
}
