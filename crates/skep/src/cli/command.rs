//! One command: its names, its words, its help, and what it does.

use std::future::Future;
use std::pin::Pin;

use super::flags::{FlagError, FlagSet, FlagSpec, Order, describe, parse};
use super::{Cli, Failure};
use crate::ui;

/// What a command comes to.
pub(crate) type Outcome = Result<(), Failure>;

/// A command at work.
pub(crate) type Running<'a> = Pin<Box<dyn Future<Output = Outcome> + 'a>>;

/// How many words a command takes behind its flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Args {
    None,
    Exactly(usize),
    AtLeast(usize),
    AtMost(usize),
    Between(usize, usize),
}

/// What completes a command's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Completion {
    Nothing,
    Containers,
    RunningContainers,
    Images,
    Volumes,
    Networks,
    /// A network, and a container behind it.
    NetworkAndContainer,
    CacheMounts,
}

/// A command. `paths` are all ways to call it, the short one first.
pub(crate) struct Command {
    pub(crate) paths: &'static [&'static str],
    pub(crate) usage: &'static str,
    pub(crate) about: &'static str,
    pub(crate) args: Args,
    pub(crate) completion: Completion,
    pub(crate) flags: fn() -> Vec<FlagSpec>,
    pub(crate) run: for<'a> fn(&'a Cli, &'a [String]) -> Running<'a>,
}

/// Makes the `flags` and `run` members of a [`Command`] named COMMAND from a set of flags and an async function
/// `(cli, flags, words)`.
macro_rules! runner {
    ($flags:ty, $run:path) => {
        $crate::cli::command::runner!($flags, $run, $crate::cli::flags::Order::Mixed)
    };
    ($flags:ty, $run:path, $order:expr) => {
        |cli, words| {
            Box::pin(async move {
                match $crate::cli::command::read::<$flags>(&COMMAND, cli, words, $order)? {
                    Some((flags, words)) => $run(cli, flags, words).await,
                    None => Ok(()),
                }
            })
        }
    };
}

pub(crate) use runner;

impl Command {
    /// Runs the command to its end on a runtime of one thread: a client has little to do at once.
    pub(crate) fn start(&self, cli: &Cli, words: &[String]) -> Outcome {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let outcome = runtime.block_on((self.run)(cli, words));
        // A thread that still reads stdin must not keep the program alive.
        runtime.shutdown_background();
        outcome
    }

    /// The name in error texts and help: the first path.
    pub(crate) fn name(&self) -> &'static str {
        self.paths.first().copied().unwrap_or_default()
    }

    /// `skep run [OPTIONS] IMAGE`.
    pub(crate) fn usage_line(&self, program: &str) -> String {
        format!("{program} {} {}", self.name(), self.usage).trim_end().to_owned()
    }

    /// The whole help.
    pub(crate) fn help(&self, program: &str) -> String {
        let mut out = format!("Usage:  {}\n\n{}\n", self.usage_line(program), self.about);
        if self.paths.len() > 1 {
            let mut paths: Vec<String> = self.paths[1..].iter().map(|path| format!("{program} {path}")).collect();
            paths.push(format!("{program} {}", self.name()));
            out.push_str(&format!("\nAliases:\n  {}\n", paths.join(", ")));
        }
        let specs = (self.flags)();
        if !specs.is_empty() {
            out.push_str("\nOptions:\n");
            out.push_str(&describe(specs, ui::tty::columns()));
        }
        out
    }

    fn wrong_count(&self, program: &str, count: usize) -> Option<String> {
        let plural = |n: usize| if n == 1 { "argument" } else { "arguments" };
        // The two hints differ in Docker's client, too.
        let (problem, hint) = match self.args {
            Args::None if count > 0 => ("accepts no arguments".to_owned(), "Run"),
            Args::Exactly(n) if count != n => (format!("requires {n} {}", plural(n)), "Run"),
            Args::AtLeast(n) if count < n => (format!("requires at least {n} {}", plural(n)), "See"),
            Args::AtMost(n) if count > n => (format!("requires at most {n} {}", plural(n)), "Run"),
            Args::Between(low, high) if count < low || count > high => {
                (format!("requires at least {low} and at most {high} {}", plural(high)), "Run")
            }
            Args::None | Args::Exactly(_) | Args::AtLeast(_) | Args::AtMost(_) | Args::Between(..) => return None,
        };
        let name = self.name();
        Some(format!(
            "{program}: '{program} {name}' {problem}\n\nUsage:  {}\n\n{hint} '{program} {name} --help' for more information",
            self.usage_line(program)
        ))
    }
}

/// Reads a command's words; None if the user asked for help, which is printed.
pub(crate) fn read<F: FlagSet>(
    command: &Command,
    cli: &Cli,
    words: &[String],
    order: Order,
) -> Result<Option<(F, Vec<String>)>, Failure> {
    let program = &cli.program;
    match parse::<F>(words, order) {
        Ok((flags, rest)) => match command.wrong_count(program, rest.len()) {
            None => Ok(Some((flags, rest))),
            Some(text) => Err(Failure::message(text)),
        },
        Err(FlagError::Help) => {
            ui::print(&command.help(program));
            Ok(None)
        }
        Err(FlagError::Wrong(text)) => Err(Failure::usage(format!(
            "{text}\n\nUsage:  {}\n\nRun '{program} {} --help' for more information",
            command.usage_line(program),
            command.name()
        ))),
    }
}
