//! RUN.

use crate::csv;
use crate::expand::Expander;
use crate::suggest::suggest;
use crate::syntax::Heredoc;

use super::InstructionError;
use super::command::{CommandLine, command_line};
use super::flags::{Flag, Flags};
use super::mount::{Mount, MountFlag};
use super::read::Arguments;

/// `RUN [--FLAG ...] COMMAND`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The command. With heredocs it is always a text for the shell.
    pub command: CommandLine,
    /// The documents behind the command, in the order of their `<<`.
    pub heredocs: Vec<Heredoc>,
    /// `--mount`.
    pub mounts: Vec<MountFlag>,
    /// `--network`.
    pub network: Network,
    /// `--security`.
    pub security: Security,
    /// `--device`.
    pub devices: Vec<Device>,
}

/// `--network`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Network {
    /// That of the build.
    #[default]
    Default,
    /// Only loopback.
    None,
    /// The host's, if the build is entitled to it.
    Host,
}

/// `--security`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Security {
    /// The defaults.
    #[default]
    Sandbox,
    /// All capabilities, if the build is entitled to it.
    Insecure,
}

/// `--device=NAME[,required]`: a CDI device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Device {
    /// `vendor/class=name`, or a class alone; may be empty if only flags are written.
    pub name: String,
    /// Whether the step fails without it.
    pub required: bool,
}

/// How the command and its documents are to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Script<'r> {
    /// `["program", "argument"]`.
    Exec(&'r [String]),
    /// A text for the shell.
    Shell(String),
    /// A file with an interpreter line, to be run by itself.
    File {
        /// The file's name: the delimiter.
        name: &'r str,
        /// What is in it.
        content: String,
    },
}

impl Run {
    /// Reads the mounts with the variables known.
    ///
    /// # Errors
    /// The first mount that is wrong.
    pub fn mounts(&self, expander: &mut Expander<'_>) -> Result<Vec<Mount>, InstructionError> {
        self.mounts.iter().map(|flag| flag.resolve(expander)).collect()
    }

    /// What is to be run. A single document without a command before it is the script itself; with other text around it
    /// is put back behind the command, for the shell to read.
    pub fn script(&self) -> Script<'_> {
        let text = match &self.command {
            CommandLine::Exec(words) => return Script::Exec(words),
            CommandLine::Shell(text) => text,
        };
        match self.heredocs.as_slice() {
            [] => Script::Shell(text.clone()),
            [heredoc, ..] if Heredoc::mark(text).is_some() => {
                let content = heredoc.text();
                match content.starts_with("#!") {
                    true => Script::File { name: &heredoc.name, content },
                    false => Script::Shell(content),
                }
            }
            heredocs => {
                let mut all = text.clone();
                for heredoc in heredocs {
                    all.extend(["\n", &heredoc.content, &heredoc.name]);
                }
                Script::Shell(all)
            }
        }
    }
}

pub(super) fn read(arguments: &Arguments<'_>) -> Result<Run, InstructionError> {
    let known = [Flag::text("security"), Flag::many("device"), Flag::many("mount"), Flag::text("network")];
    let mut flags = Flags::read(arguments.flags, &known)?;
    Ok(Run {
        command: command_line(arguments),
        heredocs: arguments.heredocs.to_vec(),
        devices: flags.many("device").iter().map(|text| device(text)).collect::<Result<_, _>>()?,
        mounts: flags.many("mount").iter().map(|text| MountFlag::read(text)).collect::<Result<_, _>>()?,
        network: match flags.text("network").as_deref() {
            None | Some("default") => Network::Default,
            Some("none") => Network::None,
            Some("host") => Network::Host,
            Some(other) => return Err(InstructionError::Network(other.to_owned())),
        },
        security: match flags.text("security").as_deref() {
            None | Some("sandbox") => Security::Sandbox,
            Some("insecure") => Security::Insecure,
            Some(other) => return Err(InstructionError::Security(other.to_owned())),
        },
    })
}

fn device(text: &str) -> Result<Device, InstructionError> {
    let fields = csv::fields(text).map_err(|problem| InstructionError::Csv { what: "devices", problem })?;
    let mut device = Device::default();
    for field in fields {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value)),
            None => (field.to_lowercase(), None),
        };
        match (key.as_str(), value) {
            ("required", None) => device.required = true,
            ("required", Some(value)) => device.required = boolean(&key, value)?,
            ("name", Some(_)) if !device.name.is_empty() => return Err(InstructionError::DeviceName(device.name)),
            ("name", Some(value)) => device.name = value.to_owned(),
            // `vendor/class=name` has a `=` of its own.
            _ if device.name.is_empty() => device.name = field,
            (_, None) => return Err(InstructionError::NoPair(field)),
            (_, Some(_)) => {
                let hint = suggest(&key, ["name", "required"]).into();
                return Err(InstructionError::Key { key, field, hint });
            }
        }
    }
    Ok(device)
}

/// What Go's `strconv.ParseBool` reads.
pub(super) fn boolean(key: &str, value: &str) -> Result<bool, InstructionError> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(InstructionError::Value { key: key.to_owned(), value: value.to_owned() }),
    }
}
