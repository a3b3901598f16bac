//! ARG.

use crate::expand::{ExpandError, Expander};

use super::InstructionError;
use super::read::Arguments;

/// `ARG NAME[=DEFAULT] ...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arg {
    /// At least one.
    pub arguments: Vec<Argument>,
}

/// One argument that a build may be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// Its value where the build gives none; with variables, until expanded.
    pub default: Option<String>,
    /// What the comment `# NAME text` before the instruction says about it.
    pub description: Option<String>,
}

impl Argument {
    /// Expands the default. Not to be called where the build gives a value: a default that isn't used may be wrong.
    ///
    /// # Errors
    /// The default can't be expanded.
    pub fn expand(&mut self, expander: &mut Expander<'_>) -> Result<(), ExpandError> {
        self.default.as_mut().map_or(Ok(()), |default| expander.in_place(default))
    }
}

pub(super) fn read(arguments: &Arguments<'_>) -> Result<Arg, InstructionError> {
    if arguments.words.is_empty() {
        return Err(InstructionError::AtLeastOne("ARG"));
    }
    let read = |word: &String| {
        let (name, default) = match word.split_once('=') {
            Some(("", _)) => return Err(InstructionError::BlankName("ARG")),
            Some((name, default)) => (name.to_owned(), Some(default.to_owned())),
            None => (word.clone(), None),
        };
        let description = description(arguments.comments, &name);
        Ok(Argument { name, default, description })
    };
    Ok(Arg { arguments: arguments.words.iter().map(read).collect::<Result<_, _>>()? })
}

/// The text after the name, in the first comment that begins with it.
pub(crate) fn description(comments: &[String], name: &str) -> Option<String> {
    comments.iter().find_map(|comment| comment.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned))
}
