//! The command line: from words to a command, to an exit code.
//!
//! Every command is a [`Command`] in a file of its own, named in [`tree`]. Parsing follows pflag ([`flags`]), so that what
//! works with Docker's client works here.

pub(crate) mod build;
pub(crate) mod builder;
pub(crate) mod command;
pub(crate) mod completion;
pub(crate) mod config;
pub(crate) mod container;
pub(crate) mod credentials;
pub(crate) mod csv;
pub(crate) mod daemon;
pub(crate) mod failure;
pub(crate) mod flags;
pub(crate) mod globals;
pub(crate) mod image;
pub(crate) mod inspect;
pub(crate) mod manifest;
pub(crate) mod moment;
pub(crate) mod network;
pub(crate) mod reference;
pub(crate) mod registry;
pub(crate) mod system;
pub(crate) mod tree;
pub(crate) mod value;
pub(crate) mod volume;

pub(crate) use command::{Args, Command, Completion, Outcome};
pub(crate) use failure::Failure;
pub(crate) use globals::Cli;

use crate::ui;
use flags::{FlagError, Order};
use globals::GlobalFlags;

/// Runs the command that `words` name; `program` is what the user calls us. Returns the exit code.
pub(crate) fn main(program: &str, words: &[String]) -> i32 {
    match dispatch(program, words) {
        Ok(()) => 0,
        Err(failure) => {
            if !failure.text.is_empty() {
                ui::error_line(&failure.text);
            }
            failure.code
        }
    }
}

fn dispatch(program: &str, words: &[String]) -> Outcome {
    let parsed = flags::parse::<GlobalFlags>(words, Order::FlagsFirst);
    let (globals, words) = match parsed {
        Ok(parsed) => parsed,
        Err(FlagError::Help) => {
            ui::print(&tree::overview(program));
            return Ok(());
        }
        Err(FlagError::Wrong(text)) => {
            return Err(Failure::usage(format!(
                "{text}\n\nUsage:  {program} [OPTIONS] COMMAND [ARG...]\n\nRun '{program} --help' for more information"
            )));
        }
    };
    if globals.version {
        ui::line(&system::version::one_line(program));
        return Ok(());
    }
    match tree::find(&words) {
        tree::Found::Command(command, used) => {
            let cli = Cli::new(program, globals)?;
            command.start(&cli, &words[used..])
        }
        tree::Found::Group(group) => {
            ui::print(&tree::group_help(program, group));
            Ok(())
        }
        tree::Found::Nothing if words.is_empty() => {
            ui::print(&tree::overview(program));
            Ok(())
        }
        tree::Found::Nothing => Err(Failure::new(1, tree::unknown(program, &words))),
    }
}
