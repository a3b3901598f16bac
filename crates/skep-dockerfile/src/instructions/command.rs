//! Commands: CMD, ENTRYPOINT, SHELL, and what RUN and HEALTHCHECK have in common with them.

use super::InstructionError;
use super::flags::Flags;
use super::read::Arguments;

/// A command in one of its two forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// A text for the shell; empty if nothing is written.
    Shell(String),
    /// `["program", "argument"]`; `[]` is allowed.
    Exec(Vec<String>),
}

/// `CMD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cmd {
    /// The command, or arguments for the entrypoint.
    pub command: CommandLine,
}

/// `ENTRYPOINT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entrypoint {
    /// The program.
    pub command: CommandLine,
}

/// `SHELL ["program", "argument"]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shell {
    /// At least one word.
    pub shell: Vec<String>,
}

pub(super) fn command_line(arguments: &Arguments<'_>) -> CommandLine {
    match arguments.is_json {
        true => CommandLine::Exec(arguments.words.clone()),
        false => CommandLine::Shell(arguments.words.join(" ")),
    }
}

pub(super) fn read_cmd(arguments: &Arguments<'_>) -> Result<Cmd, InstructionError> {
    Flags::read(arguments.flags, &[])?;
    Ok(Cmd { command: command_line(arguments) })
}

pub(super) fn read_entrypoint(arguments: &Arguments<'_>) -> Result<Entrypoint, InstructionError> {
    Flags::read(arguments.flags, &[])?;
    Ok(Entrypoint { command: command_line(arguments) })
}

pub(super) fn read_shell(arguments: &Arguments<'_>) -> Result<Shell, InstructionError> {
    Flags::read(arguments.flags, &[])?;
    match command_line(arguments) {
        CommandLine::Exec(shell) if !shell.is_empty() => Ok(Shell { shell }),
        CommandLine::Shell(text) if !text.is_empty() => Err(InstructionError::NotJson("SHELL")),
        CommandLine::Exec(_) | CommandLine::Shell(_) => Err(InstructionError::AtLeastOne("SHELL")),
    }
}
