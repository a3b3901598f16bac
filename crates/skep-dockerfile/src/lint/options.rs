//! Which rules are checked: `# check=skip=A,B;error=true;experimental=all`, and the build argument of the same form.

use crate::quote::quoted;
use crate::scope::BuildArguments;
use crate::syntax;

use super::rules::Rule;

/// The build argument that replaces the directive.
pub const BUILD_ARGUMENT: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// Which rules are checked, and whether a finding is an error.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// Rules that are not checked.
    pub skip: Selection,
    /// Experimental rules that are.
    pub experimental: Selection,
    /// Whether a finding fails the build.
    pub is_error: bool,
}

/// Some rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Every one.
    All,
    /// By name. Names that no rule has are allowed.
    Named(Vec<String>),
}

impl Default for Selection {
    fn default() -> Self {
        Selection::Named(Vec::new())
    }
}

/// Options that make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// In the file.
    #[error("failed to parse check options: {0}")]
    Directive(OptionProblem),
    /// In the build argument.
    #[error("failed to parse build-arg:{BUILD_ARGUMENT}: {0}")]
    BuildArgument(OptionProblem),
}

/// What makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionProblem {
    /// Neither `skip` nor `experimental` nor `error`, or without a value.
    #[error("invalid check option {}", quoted(.0))]
    Unknown(String),
    /// `error=` of something that is not a truth value.
    #[error(
        "failed to parse check option {}: strconv.ParseBool: parsing {}: invalid syntax", quoted(.option), quoted(.value)
    )]
    Bool {
        /// The whole option.
        option: String,
        /// Its value.
        value: String,
    },
}

impl Options {
    /// The options of a build: those of the build argument, or else those of the file.
    ///
    /// # Errors
    /// They make no sense.
    pub fn of(text: &[u8], given: &BuildArguments) -> Result<Options, OptionsError> {
        if let Some(given) = given.get(BUILD_ARGUMENT) {
            return Options::read(given).map_err(OptionsError::BuildArgument);
        }
        let directive = syntax::directive("check", text).map(|directive| directive.value).unwrap_or_default();
        // Nothing after a blank counts.
        let value = directive.split(' ').next().unwrap_or_default();
        Options::read(value).map_err(OptionsError::Directive)
    }

    /// Reads the options.
    ///
    /// # Errors
    /// An option that doesn't exist, or has no value.
    pub fn read(text: &str) -> Result<Options, OptionProblem> {
        let mut options = Options::default();
        let text = text.trim();
        if text.is_empty() {
            return Ok(options);
        }
        // A third option reaches to the end.
        for option in text.splitn(3, ';') {
            let (name, value) = option.split_once('=').ok_or_else(|| OptionProblem::Unknown(option.to_owned()))?;
            let value = value.trim();
            match name.trim() {
                "skip" => options.skip = Selection::read(value),
                "experimental" => options.experimental = Selection::read(value),
                "error" => {
                    options.is_error = match value {
                        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
                        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
                        _ => return Err(OptionProblem::Bool { option: option.to_owned(), value: value.to_owned() }),
                    }
                }
                name => return Err(OptionProblem::Unknown(name.to_owned())),
            }
        }
        Ok(options)
    }

    /// Whether a rule is checked.
    pub fn checks(&self, rule: &Rule) -> bool {
        match rule.is_experimental {
            true => self.experimental.has(rule),
            false => !self.skip.has(rule),
        }
    }
}

impl Selection {
    fn read(value: &str) -> Selection {
        match value {
            "all" => Selection::All,
            names => Selection::Named(names.split(',').map(|name| name.trim().to_owned()).collect()),
        }
    }

    fn has(&self, rule: &Rule) -> bool {
        match self {
            Selection::All => true,
            Selection::Named(names) => names.iter().any(|name| name == rule.name),
        }
    }
}
