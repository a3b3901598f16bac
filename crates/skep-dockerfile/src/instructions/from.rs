//! FROM.

use skep_types::{Platform, PlatformError};

use crate::expand::{ExpandError, Expander};
use crate::scope::Globals;
use crate::source::Escape;
use crate::suggest::{Hint, suggest};

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

/// A FROM that can't be used, whatever images exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FromError {
    /// The image can't be expanded.
    #[error(transparent)]
    Expand(#[from] ExpandError),
    /// The platform can't be expanded.
    #[error("failed to process arguments for platform : {0}")]
    ExpandPlatform(ExpandError),
    /// The image is an empty text.
    #[error("base name ({0}) should not be blank")]
    Blank(String),
    /// The platform is an empty text.
    #[error("empty platform value from expression {written}{hint}")]
    EmptyPlatform {
        /// The platform as written.
        written: String,
        /// What may be meant.
        hint: Hint,
    },
    /// The platform is none.
    #[error("failed to parse platform {written}: {error}{hint}")]
    Platform {
        /// The platform as written.
        written: String,
        /// Why not.
        error: PlatformError,
        /// What may be meant.
        hint: Hint,
    },
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

    /// The image's name and the platform.
    ///
    /// # Errors
    /// One of them is empty or makes no sense.
    pub fn resolve(&self, globals: &Globals, escape: Escape) -> Result<(String, Option<Platform>), FromError> {
        let image = Expander::new(escape, globals).word(&self.image)?;
        if image.is_empty() {
            return Err(FromError::Blank(self.image.clone()));
        }
        let Some(written) = &self.platform else { return Ok((image, None)) };
        let mut expander = Expander::new(escape, globals);
        let platform = expander.word(written).map_err(FromError::ExpandPlatform)?;
        let hint = || expander.unmatched.iter().find_map(|name| suggest(name, globals.names())).into();
        match platform.parse() {
            _ if platform.is_empty() => Err(FromError::EmptyPlatform { written: written.clone(), hint: hint() }),
            Ok(platform) => Ok((image, Some(platform))),
            Err(error) => Err(FromError::Platform { written: written.clone(), error, hint: hint() }),
        }
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
