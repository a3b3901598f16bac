//! Instructions that have nothing but words: EXPOSE, VOLUME, USER, WORKDIR, STOPSIGNAL, MAINTAINER, ONBUILD.

use skep_types::Signal;

use super::InstructionError;
use super::flags::Flags;
use super::read::Arguments;
use crate::syntax::Heredoc;

/// `EXPOSE PORT[-PORT][/PROTOCOL] ...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expose {
    /// At least one before expansion; sorted.
    pub ports: Vec<String>,
}

/// `VOLUME PATH ...` or `VOLUME ["PATH"]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// At least one; none empty before expansion, which the builder has to check after it.
    pub paths: Vec<String>,
}

/// `USER NAME[:GROUP]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Names or numbers.
    pub user: String,
}

/// `WORKDIR PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workdir {
    /// Absolute, or from the directory before.
    pub path: String,
}

/// `STOPSIGNAL SIGNAL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopsignal {
    /// A name or a number.
    pub signal: String,
}

impl Stopsignal {
    /// Whether it is a signal's name, or any number but 0: which numbers there are is the machine's business.
    pub fn is_signal(&self) -> bool {
        self.signal.parse::<Signal>().is_ok() || self.signal.parse::<i64>().is_ok_and(|number| number != 0)
    }
}

/// `MAINTAINER TEXT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maintainer {
    /// The image's author.
    pub maintainer: String,
}

/// `ONBUILD INSTRUCTION`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Onbuild {
    /// The instruction, with its heredocs, as it goes into the image's configuration. It was not read: a trigger that is wrong
    /// fails where it fires.
    pub trigger: String,
}

pub(super) fn read_expose(arguments: &Arguments<'_>) -> Result<Expose, InstructionError> {
    if arguments.words.is_empty() {
        return Err(InstructionError::AtLeastOne("EXPOSE"));
    }
    Flags::read(arguments.flags, &[])?;
    let mut ports = arguments.words.clone();
    ports.sort();
    Ok(Expose { ports })
}

pub(super) fn read_volume(arguments: &Arguments<'_>) -> Result<Volume, InstructionError> {
    if arguments.words.is_empty() {
        return Err(InstructionError::AtLeastOne("VOLUME"));
    }
    Flags::read(arguments.flags, &[])?;
    let paths: Vec<String> = arguments.words.iter().map(|word| word.trim().to_owned()).collect();
    if paths.iter().any(String::is_empty) { Err(InstructionError::EmptyVolume) } else { Ok(Volume { paths }) }
}

/// The one argument of instructions that take the rest of the line as it is.
pub(super) fn read_one(name: &'static str, arguments: &Arguments<'_>) -> Result<String, InstructionError> {
    let [word] = arguments.words.as_slice() else {
        return Err(InstructionError::ExactlyOne(name));
    };
    // BuildKit does not look at the flags of STOPSIGNAL.
    if name != "STOPSIGNAL" {
        Flags::read(arguments.flags, &[])?;
    }
    Ok(word.clone())
}

pub(super) fn read_onbuild(arguments: &Arguments<'_>) -> Result<Onbuild, InstructionError> {
    let Some(nested) = arguments.nested else {
        return Err(InstructionError::AtLeastOne("ONBUILD"));
    };
    Flags::read(arguments.flags, &[])?;
    match nested.keyword.to_uppercase().as_str() {
        "ONBUILD" => return Err(InstructionError::OnbuildChain),
        keyword @ ("MAINTAINER" | "FROM") => return Err(InstructionError::OnbuildTrigger(keyword.to_owned())),
        _ => {}
    }
    let code = arguments.code.trim_start();
    let rest = code.get(.."ONBUILD".len()).filter(|start| start.eq_ignore_ascii_case("ONBUILD"));
    let mut trigger = rest.map_or(code, |start| code[start.len()..].trim_start()).to_owned();
    for Heredoc { name, content, .. } in arguments.heredocs {
        trigger.extend(["\n", content, name]);
    }
    Ok(Onbuild { trigger })
}
