//! Which stage needs which.
//!
//! FROM refers backwards only: a name that no earlier stage has is an image. COPY and mounts may name any stage, and must not
//! name themselves or form a circle.

use std::collections::BTreeSet;

use crate::dockerfile::{Dockerfile, Stage};
use crate::expand::{ExpandError, Lexer, Nothing, Uses};
use crate::instructions::{Instruction, Step};
use crate::source::Lines;
use crate::suggest::{Hint, suggest};

/// What a stage begins with, or files are taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nothing.
    Scratch,
    /// A stage by its index.
    Stage(usize),
    /// A named context of the build, or else an image.
    Image(String),
}

/// Stages that don't fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StageError {
    /// `--target` names none.
    #[error("target stage {target:?} could not be found{hint}")]
    Target {
        /// What was asked for.
        target: String,
        /// The nearest name.
        hint: Hint,
    },
    /// `--from=7` of fewer stages.
    #[error("invalid stage index {index}")]
    Index {
        /// What was asked for.
        index: i64,
        /// Where.
        lines: Lines,
    },
    /// `--from=$STAGE`.
    #[error(
        "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround"
    )]
    Variable {
        /// Where.
        lines: Lines,
    },
    /// `--from="stage`.
    #[error(transparent)]
    Expand(#[from] ExpandError),
    /// A stage needs itself.
    #[error("circular dependency detected on stage: {stage}")]
    Circle {
        /// One of the circle.
        stage: String,
        /// The instruction that closes the circle.
        lines: Lines,
    },
    /// COPY takes from a stage that comes after it.
    #[error("cannot copy from stage {from:?}, it needs to be defined before current stage {stage:?}")]
    CopyFromLater {
        /// What was asked for.
        from: String,
        /// Who asked.
        stage: String,
        /// Where.
        lines: Lines,
    },
    /// A mount takes from a stage that comes after it.
    #[error("cannot mount from stage {from:?} to {target:?}, stage needs to be defined before current command")]
    MountFromLater {
        /// What was asked for.
        from: String,
        /// Where it was to be seen.
        target: String,
        /// Where.
        lines: Lines,
    },
}

impl StageError {
    /// The lines that it is about.
    pub fn lines(&self) -> Option<Lines> {
        match self {
            StageError::Target { .. } | StageError::Expand(_) => None,
            StageError::Index { lines, .. }
            | StageError::Variable { lines }
            | StageError::Circle { lines, .. }
            | StageError::CopyFromLater { lines, .. }
            | StageError::MountFromLater { lines, .. } => Some(*lines),
        }
    }
}

impl Dockerfile {
    /// The stage with a name, in any case; the last one if several have it.
    pub fn stage_named(&self, name: &str) -> Option<&Stage> {
        self.last_named(&self.stages, &name.to_lowercase())
    }

    fn last_named<'s>(&self, stages: &'s [Stage], name: &str) -> Option<&'s Stage> {
        stages.iter().rev().find(|stage| stage.name() == Some(name))
    }

    /// The stage to be built: the last one, or that with the name `target`, or the number.
    ///
    /// # Errors
    /// There is none.
    pub fn target(&self, target: Option<&str>) -> Result<&Stage, StageError> {
        let Some(target) = target.filter(|target| !target.is_empty()) else {
            return Ok(&self.stages[self.stages.len() - 1]);
        };
        self.stage_named(target).ok_or_else(|| StageError::Target {
            target: target.to_owned(),
            hint: suggest(target, self.stages.iter().map(Stage::label).collect::<Vec<_>>().iter().map(String::as_str))
                .into(),
        })
    }

    /// What the stage `index` begins with; `image` is that of its FROM, expanded. The case of letters counts here.
    pub fn base(&self, index: usize, image: &str) -> Origin {
        match self.last_named(&self.stages[..index], image) {
            Some(stage) => Origin::Stage(stage.index),
            None if image == "scratch" => Origin::Scratch,
            None => Origin::Image(image.to_owned()),
        }
    }

    /// What `--from=` or `from=` refers to.
    ///
    /// # Errors
    /// A number that is no stage's, or a variable.
    pub fn origin(&self, from: &str, lines: Lines) -> Result<Origin, StageError> {
        let plain = Lexer::new(self.escape()).process(from, &Nothing, &mut Uses::default())?;
        if plain.word != from {
            return Err(StageError::Variable { lines });
        }
        match from.parse::<i64>() {
            Ok(index) => match usize::try_from(index).ok().filter(|index| *index < self.stages.len()) {
                Some(index) => Ok(Origin::Stage(index)),
                None => Err(StageError::Index { index, lines }),
            },
            Err(_) => Ok(match self.stage_named(from) {
                Some(stage) => Origin::Stage(stage.index),
                None if from == "scratch" => Origin::Scratch,
                None => Origin::Image(from.to_owned()),
            }),
        }
    }

    /// All stages that stage `target` needs, itself included, in the order of the file; `bases` are those of all stages.
    ///
    /// # Errors
    /// A number that is no stage's, or a circle, in any stage; a reference to a later stage, in those that are needed.
    pub fn needed(&self, target: usize, bases: &[Origin]) -> Result<BTreeSet<usize>, StageError> {
        let edges = self.edges(bases)?;
        self.check_circles(&edges)?;
        let mut needed = BTreeSet::from([target]);
        let mut open = vec![target];
        while let Some(index) = open.pop() {
            open.extend(edges[index].iter().map(|(next, _)| *next).filter(|next| needed.insert(*next)));
        }
        needed.iter().try_for_each(|index| self.check_order(&self.stages[*index]))?;
        Ok(needed)
    }

    /// For each stage, the stages that it names, and where.
    fn edges(&self, bases: &[Origin]) -> Result<Vec<Vec<(usize, Lines)>>, StageError> {
        let mut edges = Vec::with_capacity(self.stages.len());
        for (stage, base) in self.stages.iter().zip(bases) {
            let mut own = Vec::new();
            if let Origin::Stage(index) = base {
                own.push((*index, stage.source.lines));
            }
            for step in &stage.steps {
                for from in step.origins() {
                    if let Origin::Stage(index) = self.origin(from, step.source.lines)? {
                        own.push((index, step.source.lines));
                    }
                }
            }
            edges.push(own);
        }
        Ok(edges)
    }

    fn check_order(&self, stage: &Stage) -> Result<(), StageError> {
        for step in &stage.steps {
            let lines = step.source.lines;
            for from in step.origins() {
                if !matches!(self.origin(from, lines)?, Origin::Stage(index) if index >= stage.index) {
                    continue;
                }
                let from = from.to_owned();
                return Err(match &step.instruction {
                    Instruction::Run(run) => {
                        let mount = run.mounts.iter().find(|mount| mount.from.as_ref() == Some(&from));
                        let target = mount.map(|mount| mount.target()).unwrap_or_default();
                        StageError::MountFromLater { from, target, lines }
                    }
                    _ => StageError::CopyFromLater { from, stage: stage.label(), lines },
                });
            }
        }
        Ok(())
    }

    /// Depth first, with a stack of our own: there may be many stages.
    fn check_circles(&self, edges: &[Vec<(usize, Lines)>]) -> Result<(), StageError> {
        #[derive(Clone, Copy, PartialEq)]
        enum Mark {
            New,
            Open,
            Done,
        }
        let mut marks = vec![Mark::New; edges.len()];
        for start in 0..edges.len() {
            let mut path = vec![(start, 0)];
            while let Some((index, next)) = path.pop() {
                if next == 0 && marks[index] == Mark::Done {
                    continue;
                }
                marks[index] = Mark::Open;
                match edges[index].get(next) {
                    None => marks[index] = Mark::Done,
                    Some((other, lines)) if marks[*other] == Mark::Open => {
                        return Err(StageError::Circle { stage: self.stages[*other].label(), lines: *lines });
                    }
                    Some((other, _)) => path.extend([(index, next + 1), (*other, 0)]),
                }
            }
        }
        Ok(())
    }
}

impl Step {
    /// What `--from` of COPY and `from` of mounts name. Triggers of ONBUILD are not looked into.
    pub fn origins(&self) -> Vec<&str> {
        match &self.instruction {
            Instruction::Copy(copy) => copy.from.as_deref().into_iter().collect(),
            Instruction::Run(run) => run.mounts.iter().filter_map(|mount| mount.from.as_deref()).collect(),
            _ => Vec::new(),
        }
    }
}
