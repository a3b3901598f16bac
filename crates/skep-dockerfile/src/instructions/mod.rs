//! Instructions with their arguments read and checked.
//!
//! One struct for each; [`read`] makes them from the nodes of [`crate::syntax`]. Texts are as written, quotes and variables
//! included, until `expand` is called with the variables that are set at that place:
//!
//! | instruction | what is expanded |
//! |---|---|
//! | FROM | image and `--platform`, by [`From::expand`], with the global arguments only |
//! | ARG | the default, by [`Argument::expand`], and only where no build argument replaces it |
//! | ENV, LABEL | names and values |
//! | ADD, COPY | sources, destination, `--chown`, `--chmod`, `--checksum`, and documents whose delimiter was not quoted |
//! | EXPOSE, VOLUME, USER, WORKDIR, STOPSIGNAL | every word; one of EXPOSE may become several |
//! | RUN | only `--mount`, by [`Run::mounts`]; the command's variables are the shell's |
//! | CMD, ENTRYPOINT, HEALTHCHECK, SHELL, MAINTAINER | nothing |
//! | ONBUILD | nothing now: the trigger is read again, and expanded, in the build that fires it |

mod arg;
mod command;
mod error;
mod expose;
mod files;
mod flags;
mod from;
mod health;
mod mount;
mod pairs;
mod plain;
mod read;
mod run;

use crate::expand::{ExpandError, Expander};
use crate::source::Source;

pub(crate) use arg::description;
pub use arg::{Arg, Argument};
pub use command::{Cmd, CommandLine, Entrypoint, Shell};
pub use error::InstructionError;
pub use expose::{ExposeError, PortWords};
pub use files::{Add, Copy, Document, Transfer};
pub use from::{From, FromError};
pub use health::{Healthcheck, Probe};
pub use mount::{Mount, MountFlag, MountKind, Sharing};
pub use pairs::{Env, Label, Pair};
pub use plain::{Expose, Maintainer, Onbuild, Stopsignal, User, Volume, Workdir};
pub use read::read;
pub use run::{Device, Network, Run, Script, Security};

/// One instruction of a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// `FROM`: begins a stage.
    From(From),
    /// `ARG`.
    Arg(Arg),
    /// `RUN`.
    Run(Run),
    /// `CMD`.
    Cmd(Cmd),
    /// `LABEL`.
    Label(Label),
    /// `MAINTAINER`.
    Maintainer(Maintainer),
    /// `EXPOSE`.
    Expose(Expose),
    /// `ENV`.
    Env(Env),
    /// `ADD`.
    Add(Add),
    /// `COPY`.
    Copy(Copy),
    /// `ENTRYPOINT`.
    Entrypoint(Entrypoint),
    /// `VOLUME`.
    Volume(Volume),
    /// `USER`.
    User(User),
    /// `WORKDIR`.
    Workdir(Workdir),
    /// `ONBUILD`.
    Onbuild(Onbuild),
    /// `STOPSIGNAL`.
    Stopsignal(Stopsignal),
    /// `HEALTHCHECK`.
    Healthcheck(Healthcheck),
    /// `SHELL`.
    Shell(Shell),
}

/// An instruction and how it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What it says.
    pub instruction: Instruction,
    /// Where and how.
    pub source: Source,
}

/// The names of all instructions, sorted.
pub const NAMES: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

impl Instruction {
    /// The name in capitals.
    pub fn name(&self) -> &'static str {
        match self {
            Instruction::From(_) => "FROM",
            Instruction::Arg(_) => "ARG",
            Instruction::Run(_) => "RUN",
            Instruction::Cmd(_) => "CMD",
            Instruction::Label(_) => "LABEL",
            Instruction::Maintainer(_) => "MAINTAINER",
            Instruction::Expose(_) => "EXPOSE",
            Instruction::Env(_) => "ENV",
            Instruction::Add(_) => "ADD",
            Instruction::Copy(_) => "COPY",
            Instruction::Entrypoint(_) => "ENTRYPOINT",
            Instruction::Volume(_) => "VOLUME",
            Instruction::User(_) => "USER",
            Instruction::Workdir(_) => "WORKDIR",
            Instruction::Onbuild(_) => "ONBUILD",
            Instruction::Stopsignal(_) => "STOPSIGNAL",
            Instruction::Healthcheck(_) => "HEALTHCHECK",
            Instruction::Shell(_) => "SHELL",
        }
    }

    /// Replaces variables, quotes and escapes in the fields that take them (the table above). FROM, ARG and the mounts of RUN
    /// are left: theirs depend on more than the variables, and have methods of their own.
    ///
    /// # Errors
    /// The first word that can't be expanded.
    pub fn expand(&mut self, expander: &mut Expander<'_>) -> Result<(), ExpandError> {
        match self {
            Instruction::Env(env) => pairs::expand(&mut env.pairs, expander),
            Instruction::Label(label) => pairs::expand(&mut label.pairs, expander),
            Instruction::Add(add) => add.expand(expander),
            Instruction::Copy(copy) => copy.expand(expander),
            Instruction::Expose(expose) => expander.words_in_place(&mut expose.ports),
            Instruction::Volume(volume) => expander.each_in_place(&mut volume.paths),
            Instruction::User(user) => expander.in_place(&mut user.user),
            Instruction::Workdir(workdir) => expander.in_place(&mut workdir.path),
            Instruction::Stopsignal(stopsignal) => expander.in_place(&mut stopsignal.signal),
            Instruction::From(_)
            | Instruction::Arg(_)
            | Instruction::Run(_)
            | Instruction::Cmd(_)
            | Instruction::Entrypoint(_)
            | Instruction::Healthcheck(_)
            | Instruction::Shell(_)
            | Instruction::Maintainer(_)
            | Instruction::Onbuild(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
