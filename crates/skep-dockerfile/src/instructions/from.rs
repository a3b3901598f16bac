//! FROM.

use crate::expand::{ExpandError, Expander};

use super::InstructionError;
use super::flags::{Flag, Flags};
use super::read::Arguments;

/// `FROM [--platform=PLATFORM] IMAGE [AS NAME]`: begins a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct From {
    /// An image, an earlier stage, or `scratch`; with variables, until expanded.
    pub image: String,
    /// `--platform`, with variables until expanded.
    pub platform: Option<String>,
    /// The stage's name in lower case.
    pub name: Option<String>,
    /// The name as written, and the `AS` before it.
    pub written: Option<(String, String)>,
}

impl From {
    /// Expands the image and the platform. Only global arguments are to be in `expander`.
    ///
    /// # Errors
    /// The first word that can't be expanded.
    pub fn expand(&mut self, expander: &mut Expander<'_>) -> Result<(), ExpandError> {
        expander.in_place(&mut self.image)?;
        self.platform.as_mut().map_or(Ok(()), |platform| expander.in_place(platform))
    }
}

pub(super) fn read(arguments: &Arguments<'_>) -> Result<From, InstructionError> {
    let (image, written) = match arguments.words.as_slice() {
        [image] => (image, None),
        [image, keyword, name] if keyword.eq_ignore_ascii_case("as") => (image, Some((name.clone(), keyword.clone()))),
        _ => return Err(InstructionError::FromArguments),
    };
    let name = written.as_ref().map(|(name, _)| stage_name(name)).transpose()?;
    let mut flags = Flags::read(arguments.flags, &[Flag::text("platform")])?;
    Ok(From { image: image.clone(), platform: flags.text("platform").filter(|text| !text.is_empty()), name, written })
}

fn stage_name(written: &str) -> Result<String, InstructionError> {
    let name = written.to_lowercase();
    let is_good = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.'));
    if is_good { Ok(name) } else { Err(InstructionError::StageName(written.to_owned())) }
}
