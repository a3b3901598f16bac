//! A whole Dockerfile: global arguments and stages.

use crate::instructions::{self, Arg, From, Instruction, InstructionError, Step};
use crate::source::{Escape, Lines, Source};
use crate::syntax::{self, Directives, Node, SyntaxError};

/// A Dockerfile whose instructions all make sense by themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// Parser directives.
    pub directives: Directives,
    /// ARG before the first FROM: global arguments.
    pub global_arguments: Vec<(Arg, Source)>,
    /// At least one.
    pub stages: Vec<Stage>,
    /// Instructions with empty lines between their continued lines.
    pub empty_continuations: Vec<Lines>,
}

/// From one FROM to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Its number, from 0.
    pub index: usize,
    /// What it begins with.
    pub from: From,
    /// How that is written.
    pub source: Source,
    /// The instructions after it; none of them is FROM.
    pub steps: Vec<Step>,
}

/// A Dockerfile that can't be built, whatever is around it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DockerfileError {
    /// It can't be cut into instructions.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// An instruction makes no sense.
    #[error("dockerfile parse error on line {}: {problem}", lines.start)]
    Instruction {
        /// Where.
        lines: Lines,
        /// What is wrong.
        problem: InstructionError,
    },
    /// Something else than ARG before the first FROM.
    #[error("no build stage in current context")]
    OutsideStage {
        /// Where.
        lines: Lines,
    },
    /// Only ARG.
    #[error("dockerfile contains no stages to build")]
    NoStages,
}

/// A trigger that can't be fired. The lines to name are those of the FROM that fires it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TriggerError {
    /// It can't be cut into instructions.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// It makes no sense.
    #[error(transparent)]
    Instruction(#[from] InstructionError),
    /// It is not exactly one instruction.
    #[error("onbuild trigger should be a single expression")]
    NotSingle,
    /// It is FROM.
    #[error("*instructions.Stage is not a command type")]
    From,
}

impl DockerfileError {
    /// The lines that it is about.
    pub fn lines(&self) -> Option<Lines> {
        match self {
            DockerfileError::Syntax(error) => Some(error.lines),
            DockerfileError::Instruction { lines, .. } | DockerfileError::OutsideStage { lines } => Some(*lines),
            DockerfileError::NoStages => None,
        }
    }
}

impl Dockerfile {
    /// The escape character.
    pub fn escape(&self) -> Escape {
        self.directives.escape
    }
}

impl Stage {
    /// The name after AS, in lower case.
    pub fn name(&self) -> Option<&str> {
        self.from.name.as_deref()
    }

    /// The name, or `stage-0` and so on: what progress shows.
    pub fn label(&self) -> String {
        self.name().map_or_else(|| format!("stage-{}", self.index), str::to_owned)
    }

    /// What the comment `# NAME text` before FROM says.
    pub fn description(&self) -> Option<String> {
        instructions::description(&self.source.comments, self.name()?)
    }
}

/// Reads a Dockerfile.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(text: &[u8]) -> Result<Dockerfile, DockerfileError> {
    assemble(syntax::parse(text)?, &mut ())
}

/// Who wants to see the instructions one by one while they are read.
pub(crate) trait Observer {
    /// Before it is known whether the instruction makes sense.
    fn before(&mut self, node: &Node);
    /// After that.
    fn after(&mut self, node: &Node, instruction: &Instruction);
}

impl Observer for () {
    fn before(&mut self, _: &Node) {}
    fn after(&mut self, _: &Node, _: &Instruction) {}
}

pub(crate) fn assemble(file: syntax::File, observer: &mut dyn Observer) -> Result<Dockerfile, DockerfileError> {
    let mut global_arguments = Vec::new();
    let mut stages: Vec<Stage> = Vec::new();
    for node in &file.nodes {
        observer.before(node);
        let lines = node.lines;
        let instruction =
            instructions::read(node).map_err(|problem| DockerfileError::Instruction { lines, problem })?;
        observer.after(node, &instruction);
        let source = node.source();
        match (instruction, stages.last_mut()) {
            (Instruction::From(from), _) => {
                stages.push(Stage { index: stages.len(), from, source, steps: Vec::new() });
            }
            (instruction, Some(stage)) => stage.steps.push(Step { instruction, source }),
            (Instruction::Arg(arg), None) => global_arguments.push((arg, source)),
            (_, None) => return Err(DockerfileError::OutsideStage { lines }),
        }
    }
    if stages.is_empty() {
        return Err(DockerfileError::NoStages);
    }
    let syntax::File { directives, empty_continuations, .. } = file;
    Ok(Dockerfile { directives, global_arguments, stages, empty_continuations })
}

/// Reads a trigger that a base image carries. `lines` are those of the FROM that fires it.
///
/// # Errors
/// It is not one instruction, or a wrong one.
pub fn parse_trigger(text: &str, lines: Lines) -> Result<Step, TriggerError> {
    let file = syntax::parse(text.as_bytes())?;
    let [node] = file.nodes.as_slice() else { return Err(TriggerError::NotSingle) };
    let source = Source { lines, ..node.source() };
    match instructions::read(node)? {
        Instruction::From(_) => Err(TriggerError::From),
        instruction => Ok(Step { instruction, source }),
    }
}
