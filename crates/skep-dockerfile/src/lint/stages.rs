//! Names of stages, the letters of keywords, and what FROM refers to.

use skep_types::{Platform, Reference};

use crate::dockerfile::{Dockerfile, Stage};
use crate::expand::Expander;
use crate::scope::{BuildArguments, Globals};
use crate::source::Source;
use crate::stages::Origin;
use crate::suggest::{Hint, suggest};

use super::error::{CheckError, StepProblem};
use super::{Findings, Inputs, rules};

/// What the stages begin with.
pub(super) struct Bases {
    pub(super) globals: Globals,
    /// For each stage, and the platform that its FROM asks for.
    pub(super) stages: Vec<(Origin, Option<Platform>)>,
}

pub(super) fn check(
    dockerfile: &Dockerfile,
    inputs: &Inputs<'_>,
    findings: &mut Findings<'_>,
) -> Result<Bases, CheckError> {
    names(&dockerfile.stages, findings);
    casing(&dockerfile.stages, findings);
    defaults(dockerfile, inputs, findings);
    let globals = globals(dockerfile, inputs, inputs.arguments)?;
    let mut stages = Vec::with_capacity(dockerfile.stages.len());
    for stage in &dockerfile.stages {
        variables(stage, dockerfile, &globals, findings);
        let resolved = stage.from.resolve(&globals, dockerfile.escape());
        let (image, platform) = resolved.map_err(|error| CheckError::at(stage.source.lines)(error.into()))?;
        stages.push((dockerfile.base(stage.index, &image), platform));
    }
    Ok(Bases { globals, stages })
}

fn names(stages: &[Stage], findings: &mut Findings<'_>) {
    for stage in stages {
        let (Some(name), lines) = (stage.name(), stage.source.lines) else { continue };
        if ["context", "scratch"].contains(&name) {
            findings.add(&rules::RESERVED_STAGE_NAME, lines, || {
                format!("Stage name should not use the same name as reserved stage {name:?}")
            });
        }
        if stages[..stage.index].iter().any(|earlier| earlier.name() == Some(name)) {
            findings.add(&rules::DUPLICATE_STAGE_NAME, lines, || {
                format!("Duplicate stage name {name:?}, stage names should be unique")
            });
        }
    }
}

/// The letters of most keywords are taken as those that are meant. Global arguments are not looked at.
fn casing(stages: &[Stage], findings: &mut Findings<'_>) {
    let steps = |stage: &Stage| stage.steps.iter().map(|step| step.source.clone()).collect::<Vec<_>>();
    let all: Vec<Source> =
        stages.iter().flat_map(|stage| std::iter::once(stage.source.clone()).chain(steps(stage))).collect();
    let is_lower = |source: &&Source| source.keyword == source.keyword.to_lowercase();
    let is_upper = |source: &&Source| source.keyword == source.keyword.to_uppercase();
    let mostly_lower = all.iter().filter(is_lower).count() > all.iter().filter(is_upper).count();
    for source in &all {
        let (fits, wanted) =
            if mostly_lower { (is_lower(&source), "lowercase") } else { (is_upper(&source), "uppercase") };
        if !fits {
            findings.add(&rules::CONSISTENT_INSTRUCTION_CASING, source.lines, || {
                format!("Command '{}' should match the case of the command majority ({wanted})", source.keyword)
            });
        }
    }
}

/// Whether images have names even if no build argument is given.
fn defaults(dockerfile: &Dockerfile, inputs: &Inputs<'_>, findings: &mut Findings<'_>) {
    // What is wrong here is wrong in the build as well, and told there.
    let Ok(globals) = globals(dockerfile, inputs, &BuildArguments::new()) else { return };
    for stage in &dockerfile.stages {
        let Ok(image) = Expander::new(dockerfile.escape(), &globals).word(&stage.from.image) else { return };
        if image.parse::<Reference>().is_err() {
            findings.add(&rules::INVALID_DEFAULT_ARG_IN_FROM, stage.source.lines, || {
                format!("Default value for ARG {} results in empty or invalid base image name", stage.from.image)
            });
        }
    }
}

/// Platform arguments may be overridden in any case; of the others, those that `given` has.
fn globals(dockerfile: &Dockerfile, inputs: &Inputs<'_>, given: &BuildArguments) -> Result<Globals, CheckError> {
    let last = dockerfile.stages.last().and_then(Stage::name);
    let target = inputs.target.filter(|target| !target.is_empty()).or(last);
    let mut globals = Globals::new(inputs.build_platform, inputs.target_platform, target, inputs.arguments);
    for (arg, source) in &dockerfile.global_arguments {
        let declared = globals.declare(arg, given, dockerfile.escape());
        declared.map_err(|error| CheckError::at(source.lines)(error.into()))?;
    }
    Ok(globals)
}

/// Variables of FROM, and its platform.
fn variables(stage: &Stage, dockerfile: &Dockerfile, globals: &Globals, findings: &mut Findings<'_>) {
    let lines = stage.source.lines;
    let undefined = |names: &[String], findings: &mut Findings<'_>| {
        for name in names.iter().filter(|name| !globals.is_declared(name)) {
            findings.add(&rules::UNDEFINED_ARG_IN_FROM, lines, || {
                format!("FROM argument '{name}' is not declared{}", Hint::from(suggest(name, globals.names())))
            });
        }
    };
    let mut expander = Expander::new(dockerfile.escape(), globals);
    let image = expander.word(&stage.from.image);
    undefined(&expander.unmatched, findings);
    // The error is told by those who need the image.
    let (Ok(_), Some(written)) = (image, &stage.from.platform) else { return };
    let mut expander = Expander::new(dockerfile.escape(), globals);
    let platform = expander.word(written).unwrap_or_default();
    undefined(&expander.unmatched, findings);
    let used: Vec<&str> = expander.matched.iter().map(String::as_str).collect();
    match (used.as_slice(), expander.unmatched.is_empty()) {
        (["TARGETPLATFORM"], true) if globals.value("TARGETPLATFORM") == Some(&platform) => {
            findings.add(&rules::REDUNDANT_TARGET_PLATFORM, lines, || {
                format!("Setting platform to predefined {written} in FROM is redundant as this is the default behavior")
            });
        }
        ([], true) if is_unexpected(&platform, stage.name().unwrap_or_default()) => {
            findings.add(&rules::FROM_PLATFORM_FLAG_CONST_DISALLOWED, lines, || {
                format!("FROM --platform flag should not use constant value {platform:?}")
            });
        }
        _ => {}
    }
}

/// A stage that has its platform in its name is meant for it.
fn is_unexpected(platform: &str, stage: &str) -> bool {
    platform.parse::<Platform>().is_ok_and(|p| !stage.contains(&p.os) && !stage.contains(&p.architecture))
}

impl Bases {
    /// An image's name has to be one, in whatever stage.
    pub(super) fn check_names(&self, dockerfile: &Dockerfile) -> Result<(), CheckError> {
        let mut names = Vec::new();
        for (stage, (origin, _)) in dockerfile.stages.iter().zip(&self.stages) {
            names.push((origin.clone(), stage.source.lines));
        }
        for step in dockerfile.stages.iter().flat_map(|stage| &stage.steps) {
            for from in step.origins() {
                names.push((dockerfile.origin(from, step.source.lines)?, step.source.lines));
            }
        }
        for (origin, lines) in names {
            if let Origin::Image(name) = origin
                && let Err(error) = name.parse::<Reference>()
            {
                return Err(CheckError::at(lines)(StepProblem::Image { name, error }));
            }
        }
        Ok(())
    }
}
