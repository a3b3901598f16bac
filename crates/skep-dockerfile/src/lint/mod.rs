//! The checks of `build --check`, which every build makes too.
//!
//! The order of findings is that of BuildKit, which finds them while it reads and converts: first what the text shows
//! ([`text`]), then stages and their names ([`stages`]), then instruction by instruction with the variables known ([`steps`]).
//! What is found before an error stays in the report.
//!
//! What base images have has to be known for some rules: the caller tells, through [`Images`].

mod error;
mod options;
pub mod rules;
mod stages;
mod steps;
mod text;

use skep_types::Platform;

use crate::dockerfile::assemble;
use crate::ignore::Matcher;
use crate::scope::BuildArguments;
use crate::source::Lines;
use crate::syntax;

pub use error::CheckError;
pub use options::{BUILD_ARGUMENT, OptionProblem, Options, OptionsError, Selection};
pub use rules::Rule;

/// Something that a rule is against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: &'static Rule,
    /// What it says here.
    pub message: String,
    /// Where.
    pub lines: Lines,
}

/// What a check came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// In the order in which they were found.
    pub findings: Vec<Finding>,
    /// Why the Dockerfile can't be built.
    pub error: Option<CheckError>,
}

/// What a Dockerfile is checked with.
pub struct Inputs<'i> {
    /// `--build-arg`.
    pub arguments: &'i BuildArguments,
    /// Where it is built.
    pub build_platform: &'i Platform,
    /// For what it is built.
    pub target_platform: &'i Platform,
    /// The stage to be built; the last one if none is named.
    pub target: Option<&'i str>,
    /// Whether stages that the target does not need are checked too: `--check` does that without `--target`, a build never.
    pub all_stages: bool,
    /// The patterns of `.dockerignore`, if there is one.
    pub ignored: Option<&'i Matcher>,
    /// The base images.
    pub images: &'i dyn Images,
}

/// What a check has to know of a base image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BaseImage {
    /// Its variables.
    pub environment: Vec<(String, String)>,
    /// Whether it has a SHELL of its own.
    pub has_shell: bool,
    /// Its WORKDIR, or an empty text.
    pub working_dir: String,
    /// Its ONBUILD instructions.
    pub triggers: Vec<String>,
    /// What it was made for, if known.
    pub platform: Option<Platform>,
}

/// Knows base images.
pub trait Images {
    /// The image, or `None` if nothing is known of it.
    fn image(&self, name: &str, platform: &Platform) -> Option<BaseImage>;
}

/// Nothing is known of any image.
impl Images for () {
    fn image(&self, _: &str, _: &Platform) -> Option<BaseImage> {
        None
    }
}

/// Checks a Dockerfile.
pub fn check(text: &[u8], inputs: &Inputs<'_>) -> Report {
    let options = match Options::of(text, inputs.arguments) {
        Ok(options) => options,
        Err(error) => return Report { findings: Vec::new(), error: Some(error.into()) },
    };
    let mut findings = Findings { options: &options, list: Vec::new() };
    let error = run(text, inputs, &mut findings).err();
    let violated = findings.list.iter().fold(Vec::new(), |mut names, finding| {
        if !names.contains(&finding.rule.name) {
            names.push(finding.rule.name);
        }
        names
    });
    let is_violation = options.is_error && !violated.is_empty();
    let error = error.or_else(|| is_violation.then_some(CheckError::Violations(violated)));
    Report { findings: findings.list, error }
}

fn run(text: &[u8], inputs: &Inputs<'_>, findings: &mut Findings<'_>) -> Result<(), CheckError> {
    let file = syntax::parse(text)?;
    for lines in &file.empty_continuations {
        findings.add(&rules::NO_EMPTY_CONTINUATION, *lines, || "Empty continuation line".to_owned());
    }
    let dockerfile = assemble(file, findings)?;
    let bases = stages::check(&dockerfile, inputs, findings)?;
    steps::check(&dockerfile, &bases, inputs, findings)
}

/// What was found, of the rules that are asked for.
struct Findings<'o> {
    options: &'o Options,
    list: Vec<Finding>,
}

impl Findings<'_> {
    fn add(&mut self, rule: &'static Rule, lines: Lines, message: impl FnOnce() -> String) {
        if self.options.checks(rule) {
            self.list.push(Finding { rule, message: message(), lines });
        }
    }
}

#[cfg(test)]
mod tests;
