//! Instructions that change nothing but the configuration.

use skep_dockerfile::Instruction;
use skep_dockerfile::instructions::{CommandLine, Entrypoint, Expose, Healthcheck, Pair, PortWords, Probe, Volume};
use skep_types::Signal;

use crate::error::{BuildError, Result};
use crate::image::Health;

use super::plan::Options;
use super::stage::State;
use super::text::{plain_list, quoted_list};

impl State {
    /// Does what the instruction says, and writes it into the history. `ONBUILD` leaves nothing there.
    pub(super) fn settings(&mut self, instruction: &Instruction, options: &Options<'_>) -> Result<()> {
        let text = match instruction {
            Instruction::Onbuild(onbuild) => {
                self.image.config.on_build.push(onbuild.trigger.clone());
                return Ok(());
            }
            Instruction::Env(env) => {
                for pair in &env.pairs {
                    self.scope.set(&pair.name, pair.value.clone());
                }
                self.environment();
                pairs("ENV", &env.pairs)
            }
            Instruction::Label(label) => {
                let pair = |pair: &Pair| (pair.name.clone(), pair.value.clone());
                self.image.config.labels.extend(label.pairs.iter().map(pair));
                pairs("LABEL", &label.pairs)
            }
            Instruction::Maintainer(maintainer) => {
                self.image.author = maintainer.maintainer.clone();
                format!("MAINTAINER {}", maintainer.maintainer)
            }
            Instruction::Cmd(cmd) => self.command(&cmd.command),
            Instruction::Entrypoint(entrypoint) => self.entrypoint(entrypoint),
            Instruction::Shell(shell) => {
                self.image.config.shell = shell.shell.clone();
                format!("SHELL {}", plain_list(&shell.shell))
            }
            Instruction::User(user) => {
                self.image.config.user = user.user.clone();
                format!("USER {}", user.user)
            }
            Instruction::Volume(volume) => self.volumes(volume)?,
            Instruction::Expose(expose) => self.ports(expose)?,
            Instruction::Stopsignal(stopsignal) => self.stop_signal(&stopsignal.signal)?,
            Instruction::Healthcheck(check) => {
                let health = health(check);
                let text = format!("HEALTHCHECK {}", health_text(&health));
                self.image.config.healthcheck = Some(health);
                text
            }
            other => return Err(BuildError::invalid(format!("{} changes more than settings", other.name()))),
        };
        self.history(text, false, options);
        Ok(())
    }

    fn command(&mut self, command: &CommandLine) -> String {
        let words = self.words(command);
        let text = format!("CMD {}", quoted_list(&words));
        self.image.config.cmd = Some(words).filter(|words| !words.is_empty());
        self.image.config.args_escaped = true;
        self.has_command = true;
        text
    }

    /// An inherited `CMD` was meant for the inherited entrypoint, and goes.
    fn entrypoint(&mut self, entrypoint: &Entrypoint) -> String {
        let words = self.words(&entrypoint.command);
        let text = format!("ENTRYPOINT {}", quoted_list(&words));
        self.image.config.entrypoint = Some(words).filter(|words| !words.is_empty());
        if !self.has_command {
            self.image.config.cmd = None;
        }
        text
    }

    fn volumes(&mut self, volume: &Volume) -> Result<String> {
        if volume.paths.iter().any(String::is_empty) {
            return Err(BuildError::invalid("VOLUME specified can not be an empty string"));
        }
        self.image.config.volumes.extend(volume.paths.iter().cloned());
        Ok(format!("VOLUME {}", plain_list(&volume.paths)))
    }

    fn ports(&mut self, expose: &Expose) -> Result<String> {
        let mut ports = Vec::new();
        for word in &expose.ports {
            let found = PortWords::new(word).and_then(|words| words.ports());
            ports.extend(found.map_err(|error| BuildError::invalid(error.to_string()))?);
        }
        let text = format!("EXPOSE {}", plain_list(&ports));
        self.image.config.exposed_ports.extend(ports);
        Ok(text)
    }

    fn stop_signal(&mut self, signal: &str) -> Result<String> {
        signal.parse::<Signal>().map_err(|_| BuildError::invalid(format!("invalid signal: {signal}")))?;
        self.image.config.stop_signal = signal.to_owned();
        Ok(format!("STOPSIGNAL {signal}"))
    }
}

fn pairs(keyword: &str, pairs: &[Pair]) -> String {
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
