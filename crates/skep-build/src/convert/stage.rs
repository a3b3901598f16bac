//! The instructions of a stage, one after the other.

use skep_dockerfile::expand::{Expander, Variables};
use skep_dockerfile::instructions::{Arg, CommandLine, ExposeError, Healthcheck, PortWords, Probe};
use skep_dockerfile::scope::Scope;
use skep_dockerfile::{Instruction, Lines, Source, Step as Line};
use skep_types::{Digest, Platform, Reference, Signal};

use crate::error::{BuildError, Result};
use crate::graph::{FileAction, Files, Op, Owner, Step, StepId};
use crate::image::{Health, History, ImageConfig};
use crate::request::NoCache;

use super::Converter;
use super::plan::{Base, Options, Plan};
use super::text::{clean, plain_list, quoted_list, shown};

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
    has_command: bool,
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

    fn words(&self, command: &CommandLine) -> Vec<String> {
        match command {
            CommandLine::Exec(words) => words.clone(),
            CommandLine::Shell(text) => self.shell(text),
        }
    }

    /// Writes what is set for containers to the configuration.
    fn environment(&mut self) {
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
                let name = state.vertex(&format!("FROM {shown}"), options);
                state.step = match is_empty {
                    true => self.push(Op::Scratch, name, &platform),
                    false => self.image_step(source, &name, &platform),
                };
                self.graph.steps[state.step.0].lines = Some(lines.start..=lines.end);
            }
            Base::Tree(name) => {
                let from = self.context(Some(name), "/")?;
                let vertex = state.vertex(&format!("FROM {name}"), options);
                state.step = self.layered(from, vertex, &platform);
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
        let options = &here.plan.options;
        match &instruction {
            Instruction::From(_) => return Err(BuildError::invalid("FROM inside of a stage")),
            Instruction::Run(run) => return self.run(state, run, &here),
            Instruction::Copy(copy) => return self.copy(state, copy, &here),
            Instruction::Add(add) => return self.add(state, add, &here),
            Instruction::Workdir(workdir) => return self.workdir(state, &workdir.path, &here),
            Instruction::Arg(arg) => return self.argument(state, arg, &here),
            Instruction::Onbuild(onbuild) => state.image.config.on_build.push(onbuild.trigger.clone()),
            Instruction::Env(env) => {
                for pair in &env.pairs {
                    state.scope.set(&pair.name, pair.value.clone());
                }
                state.environment();
                state.history(pairs("ENV", &env.pairs), false, options);
            }
            Instruction::Label(label) => {
                let pair = |pair: &skep_dockerfile::instructions::Pair| (pair.name.clone(), pair.value.clone());
                state.image.config.labels.extend(label.pairs.iter().map(pair));
                state.history(pairs("LABEL", &label.pairs), false, options);
            }
            Instruction::Maintainer(maintainer) => {
                state.image.author = maintainer.maintainer.clone();
                state.history(format!("MAINTAINER {}", maintainer.maintainer), false, options);
            }
            Instruction::Cmd(cmd) => {
                let words = state.words(&cmd.command);
                state.history(format!("CMD {}", quoted_list(&words)), false, options);
                state.image.config.cmd = Some(words).filter(|words| !words.is_empty());
                state.image.config.args_escaped = true;
                state.has_command = true;
            }
            Instruction::Entrypoint(entrypoint) => {
                let words = state.words(&entrypoint.command);
                state.history(format!("ENTRYPOINT {}", quoted_list(&words)), false, options);
                state.image.config.entrypoint = Some(words).filter(|words| !words.is_empty());
                if !state.has_command {
                    state.image.config.cmd = None;
                }
            }
            Instruction::Shell(shell) => {
                state.image.config.shell = shell.shell.clone();
                state.history(format!("SHELL {}", plain_list(&shell.shell)), false, options);
            }
            Instruction::User(user) => {
                state.image.config.user = user.user.clone();
                state.history(format!("USER {}", user.user), false, options);
            }
            Instruction::Volume(volume) => {
                if volume.paths.iter().any(String::is_empty) {
                    return Err(BuildError::invalid("VOLUME specified can not be an empty string"));
                }
                state.image.config.volumes.extend(volume.paths.iter().cloned());
                state.history(format!("VOLUME {}", plain_list(&volume.paths)), false, options);
            }
            Instruction::Expose(expose) => {
                let ports: Result<Vec<Vec<String>>, ExposeError> =
                    expose.ports.iter().map(|word| PortWords::new(word)?.ports()).collect();
                let ports = ports.map_err(|error| BuildError::invalid(error.to_string()))?.concat();
                state.history(format!("EXPOSE {}", plain_list(&ports)), false, options);
                state.image.config.exposed_ports.extend(ports);
            }
            Instruction::Stopsignal(stopsignal) => {
                let signal = &stopsignal.signal;
                signal.parse::<Signal>().map_err(|_| BuildError::invalid(format!("invalid signal: {signal}")))?;
                state.image.config.stop_signal = signal.clone();
                state.history(format!("STOPSIGNAL {signal}"), false, options);
            }
            Instruction::Healthcheck(check) => {
                let health = health(check);
                state.history(format!("HEALTHCHECK {}", health_text(&health)), false, options);
                state.image.config.healthcheck = Some(health);
            }
        }
        Ok(())
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
            let make = FileAction::MakeDir { path: dir.clone().into(), mode: 0o755, owner };
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

fn pairs(keyword: &str, pairs: &[skep_dockerfile::instructions::Pair]) -> String {
    let texts = pairs.iter().map(|pair| format!(" {}={}", pair.name, pair.value));
    keyword.to_owned() + &texts.collect::<String>()
}

fn health(check: &Healthcheck) -> Health {
    let nanoseconds = |time: std::time::Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    let test = match &check.probe {
        Probe::None => vec!["NONE".to_owned()],
        Probe::Command(CommandLine::Shell(text)) => vec!["CMD-SHELL".to_owned(), text.clone()],
        Probe::Command(CommandLine::Exec(words)) => std::iter::once("CMD".to_owned()).chain(words.clone()).collect(),
    };
    Health {
        test,
        interval: nanoseconds(check.interval),
        timeout: nanoseconds(check.timeout),
        start_period: nanoseconds(check.start_period),
        start_interval: nanoseconds(check.start_interval),
        retries: i64::from(check.retries),
    }
}

/// As Go prints a pointer to the struct with `%q`.
fn health_text(health: &Health) -> String {
    let time = |nanoseconds: i64| {
        let time = std::time::Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or_default());
        format!("\"{}\"", skep_types::format_go_duration(time))
    };
    let retries = match u32::try_from(health.retries).ok().and_then(char::from_u32) {
        Some(letter @ ('\'' | '\\')) => format!("'\\{letter}'"),
        Some(letter) if health.retries >= 32 => format!("'{letter}'"),
        _ => match health.retries {
            9 => "'\\t'".to_owned(),
            10 => "'\\n'".to_owned(),
            number => format!("'\\x{number:02x}'"),
        },
    };
    format!(
        "&{{{} {} {} {} {} {retries}}}",
        quoted_list(&health.test),
        time(health.interval),
        time(health.timeout),
        time(health.start_period),
        time(health.start_interval),
    )
}
