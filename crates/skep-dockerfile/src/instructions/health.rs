//! HEALTHCHECK.

use std::time::Duration;

use skep_types::{format_go_duration, parse_go_duration};

use super::InstructionError;
use super::command::{CommandLine, command_line};
use super::flags::{Flag, Flags};
use super::read::Arguments;

/// `HEALTHCHECK NONE` or `HEALTHCHECK [--FLAG=VALUE ...] CMD COMMAND`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healthcheck {
    /// What is run.
    pub probe: Probe,
    /// `--interval`; zero is "not said", as in all of these.
    pub interval: Duration,
    /// `--timeout`.
    pub timeout: Duration,
    /// `--start-period`.
    pub start_period: Duration,
    /// `--start-interval`.
    pub start_interval: Duration,
    /// `--retries`.
    pub retries: u32,
}

/// What tells whether a container is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Nothing, not even what the base image has.
    None,
    /// A command; not empty.
    Command(CommandLine),
}

/// The shortest interval that is allowed.
const MINIMUM: Duration = Duration::from_millis(1);

pub(super) fn read(arguments: &Arguments<'_>) -> Result<Healthcheck, InstructionError> {
    let Some(kind) = arguments.kind else {
        return Err(InstructionError::AtLeastOne("HEALTHCHECK"));
    };
    let kind = kind.to_uppercase();
    if kind == "NONE" {
        if !arguments.words.is_empty() {
            return Err(InstructionError::HealthcheckNone);
        }
        let zero = Duration::ZERO;
        let (interval, timeout, start_period, start_interval) = (zero, zero, zero, zero);
        return Ok(Healthcheck { probe: Probe::None, interval, timeout, start_period, start_interval, retries: 0 });
    }
    let names = ["interval", "timeout", "start-period", "start-interval", "retries"];
    let mut flags = Flags::read(arguments.flags, &names.map(Flag::text))?;
    if kind != "CMD" {
        return Err(InstructionError::HealthcheckKind(kind));
    }
    if arguments.words.is_empty() {
        return Err(InstructionError::HealthcheckCommand);
    }
    Ok(Healthcheck {
        probe: Probe::Command(command_line(arguments)),
        interval: duration(&mut flags, "interval")?,
        timeout: duration(&mut flags, "timeout")?,
        start_period: duration(&mut flags, "start-period")?,
        start_interval: duration(&mut flags, "start-interval")?,
        retries: retries(&flags.text("retries").unwrap_or_default())?,
    })
}

fn duration(flags: &mut Flags, name: &'static str) -> Result<Duration, InstructionError> {
    let text = flags.text(name).unwrap_or_default();
    if text.is_empty() {
        return Ok(Duration::ZERO);
    }
    let is_negative = text.starts_with('-');
    let duration = parse_go_duration(text.strip_prefix('-').unwrap_or(&text))
        .map_err(|_| InstructionError::Duration(unit_problem(&text)))?;
    if !duration.is_zero() && (is_negative || duration < MINIMUM) {
        return Err(InstructionError::Interval { name, minimum: format_go_duration(MINIMUM) });
    }
    Ok(duration)
}

/// Go's complaint about a duration: a number without a unit, or with one it doesn't know, has a text of its own.
fn unit_problem(text: &str) -> String {
    use crate::quote::quoted;
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    while !rest.is_empty() {
        let number = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        if !rest[..number].contains(|c: char| c.is_ascii_digit()) || rest[..number].matches('.').count() > 1 {
            break;
        }
        rest = &rest[number..];
        let unit = &rest[..rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len())];
        if unit.is_empty() {
            return format!("time: missing unit in duration {}", quoted(text));
        }
        if !["ns", "us", "µs", "μs", "ms", "s", "m", "h"].contains(&unit) {
            return format!("time: unknown unit {} in duration {}", quoted(unit), quoted(text));
        }
        rest = &rest[unit.len()..];
    }
    format!("time: invalid duration {}", quoted(text))
}

fn retries(text: &str) -> Result<u32, InstructionError> {
    if text.is_empty() {
        return Ok(0);
    }
    let number = text.parse::<i32>().map_err(|_| {
        let is_number = text.strip_prefix(['-', '+']).unwrap_or(text).bytes().all(|c| c.is_ascii_digit());
        let reason = if is_number && text.len() > 1 { "value out of range" } else { "invalid syntax" };
        InstructionError::Number { text: text.to_owned(), reason }
    })?;
    u32::try_from(number).map_err(|_| InstructionError::Retries(number))
}
