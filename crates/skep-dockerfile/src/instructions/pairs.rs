//! ENV and LABEL.

use crate::expand::{ExpandError, Expander};

use super::InstructionError;
use super::flags::Flags;
use super::read::Arguments;

/// `NAME=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The name, not empty; with quotes and variables, until expanded.
    pub name: String,
    /// The value, likewise.
    pub value: String,
    /// Whether it is written in the old form, `ENV NAME all the rest`.
    pub is_legacy: bool,
}

/// `ENV NAME=VALUE ...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Env {
    /// At least one. A later value may not see an earlier one of the same instruction.
    pub pairs: Vec<Pair>,
}

/// `LABEL NAME=VALUE ...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// At least one.
    pub pairs: Vec<Pair>,
}

pub(super) fn expand(pairs: &mut [Pair], expander: &mut Expander<'_>) -> Result<(), ExpandError> {
    pairs.iter_mut().try_for_each(|pair| {
        expander.in_place(&mut pair.name)?;
        expander.in_place(&mut pair.value)
    })
}

pub(super) fn read(name: &'static str, arguments: &Arguments<'_>) -> Result<Vec<Pair>, InstructionError> {
    Flags::read(arguments.flags, &[])?;
    if arguments.pairs.is_empty() {
        return Err(InstructionError::AtLeastOne(name));
    }
    match arguments.pairs.iter().any(|pair| pair.name.is_empty()) {
        true => Err(InstructionError::BlankName(name)),
        false => Ok(arguments.pairs.to_vec()),
    }
}
