//! Steps that clients write down themselves (LLB): BuildKit's operations as the builder's own.
//!
//! ```text
//! pb.Definition: operations by digest, the last names the result ──▶ Graph, from the result down
//!   source ─▶ Image, Local, Git, Http, Given     exec ─▶ Run     file ─▶ Files     merge, diff ─▶ the same
//! ```
//! An operation may have several results (an exec one for each mount that it may write), a step has one: the others are refused when
//! something reads them. A directory (of a client, of a server) that has to be stood on becomes a layer first. What can't be
//! done as it is asked for is refused by its name.

mod exec;
mod file;
mod source;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ops::RangeInclusive;

use prost::Message;
use skep_build::graph::{Files, Given, Graph, Op, SourceFile, Step, StepId};
use skep_build::request::Allow;
use skep_build::{BuildError, Definition};
use skep_buildkit::proto::pb;
use skep_buildkit::proto::pb::op::Op as Wire;
use skep_types::{ErrorKind, Platform};

use super::result::sha256;
pub(crate) use source::{git, http};

type Result<T> = std::result::Result<T, BuildError>;

/// What a definition is read with.
pub(crate) struct Surroundings<'a> {
    /// Results that were handed out before, by ref.
    pub(crate) given: &'a dyn Fn(&str) -> Option<Given>,
    /// What the build may be allowed.
    pub(crate) allow: &'a Allow,
    /// The client's session.
    pub(crate) session: &'a str,
}

/// The steps of a definition.
///
/// # Errors
/// It is none, or asks for what is not there.
pub(crate) fn read(definition: &pb::Definition, around: &Surroundings<'_>) -> Result<Definition> {
    let loaded = Loader::new(definition, around).and_then(Loader::finish);
    loaded.map_err(|error| BuildError { message: format!("failed to load LLB: {}", error.message), ..error })
}

/// The op that a definition is the result of.
pub(crate) fn target(definition: &pb::Definition) -> Option<pb::Op> {
    let end = pb::Op::decode(definition.def.last()?.as_slice()).ok()?;
    let digest = &end.inputs.first()?.digest;
    let op = definition.def.iter().find(|bytes| sha256(bytes) == *digest)?;
    pb::Op::decode(op.as_slice()).ok()
}

fn refused(what: impl std::fmt::Display) -> BuildError {
    BuildError::new(ErrorKind::NotImplemented, format!("{what} is not supported by skep"))
}

/// One of the results of an operation.
#[derive(Debug, Clone)]
enum Output {
    Step(StepId),
    /// It can't be had; why.
    Refused(String),
}

/// An operation.
struct Vertex<'d> {
    op: pb::Op,
    meta: Option<&'d pb::OpMetadata>,
    lines: Option<RangeInclusive<usize>>,
    outputs: Option<Vec<Output>>,
}

struct Loader<'d> {
    around: &'d Surroundings<'d>,
    vertices: HashMap<String, Vertex<'d>>,
    end: pb::Input,
    graph: Graph,
    /// Layers that stand for directories.
    layered: HashMap<StepId, StepId>,
}

/// What all steps of an operation have in common.
#[derive(Clone)]
struct Common {
    name: String,
    platform: Platform,
    lines: Option<RangeInclusive<usize>>,
    ignore_cache: bool,
}

impl<'d> Loader<'d> {
    fn new(definition: &'d pb::Definition, around: &'d Surroundings<'d>) -> Result<Self> {
        let source = definition.source.as_ref();
        let mut vertices = HashMap::new();
        let mut last = None;
        for bytes in &definition.def {
            let op = pb::Op::decode(bytes.as_slice())
                .map_err(|error| BuildError::invalid(format!("failed to parse llb proto op: {error}")))?;
            let digest = sha256(bytes);
            let (meta, lines) = (definition.metadata.get(&digest), lines(source, &digest));
            vertices.insert(digest.clone(), Vertex { op, meta, lines, outputs: None });
            last = Some(digest);
        }
        let count = vertices.len();
        let end = last.filter(|_| count >= 2).and_then(|last| vertices.remove(&last));
        let end = end.ok_or_else(|| BuildError::invalid(format!("invalid LLB with {count} vertexes")))?;
        let end = end.op.inputs.into_iter().next();
        let end = end.ok_or_else(|| BuildError::invalid("invalid LLB with no inputs on last vertex"))?;
        let file = source.and_then(|source| source.infos.first());
        let source = file.map(|file| SourceFile {
            name: file.filename.clone(),
            text: String::from_utf8_lossy(&file.data).into_owned().into(),
        });
        let graph = Graph { steps: Vec::new(), source };
        Ok(Loader { around, vertices, end, graph, layered: HashMap::new() })
    }

    fn finish(mut self) -> Result<Definition> {
        self.load(&self.end.digest.clone())?;
        let end = self.end.clone();
        let target = self.base(&end)?;
        let platform = self.graph.steps[target.0].platform.clone();
        Ok(Definition { graph: self.graph, target, platform })
    }

    /// Makes the steps of an operation and of all that it reads, without recursion: a client says how deep it goes.
    fn load(&mut self, digest: &str) -> Result<()> {
        let mut open = vec![digest.to_owned()];
        while let Some(digest) = open.last().cloned() {
            let missing = || BuildError::invalid(format!("invalid missing input digest {digest}"));
            let vertex = self.vertices.get(&digest).ok_or_else(missing)?;
            let more = vertex.op.inputs.iter().map(|input| &input.digest);
            let more: Vec<String> = more
                .filter(|input| self.vertices.get(*input).is_none_or(|vertex| vertex.outputs.is_none()))
                .cloned()
                .collect();
            if vertex.outputs.is_some() || more.is_empty() {
                open.pop();
                if vertex.outputs.is_none() {
                    let outputs = self.vertex(&digest)?;
                    self.vertices.entry(digest).and_modify(|vertex| vertex.outputs = Some(outputs));
                }
                continue;
            }
            open.extend(more);
        }
        Ok(())
    }

    /// The steps of an operation whose inputs are there.
    fn vertex(&mut self, digest: &str) -> Result<Vec<Output>> {
        let vertex = &self.vertices[digest];
        let (op, meta) = (vertex.op.clone(), vertex.meta);
        let wire = op.op.ok_or_else(|| BuildError::invalid(format!("invalid op {digest} without a kind")))?;
        let own = meta.and_then(|meta| meta.description.get("llb.customname")).cloned();
        let common = Common {
            name: own.unwrap_or_else(|| name(&wire)),
            platform: op.platform.map_or_else(Platform::host, |given| Platform {
                os: given.os,
                architecture: given.architecture,
                variant: given.variant,
            }),
            lines: vertex.lines.clone(),
            ignore_cache: meta.is_some_and(|meta| meta.ignore_cache),
        };
        match wire {
            Wire::Source(source) => {
                let op = source::read(&source, self.around)?;
                Ok(vec![Output::Step(self.push(op, &common))])
            }
            Wire::Exec(exec) => self.exec(&exec, &op.inputs, &common),
            Wire::File(file) => self.file(&file, &op.inputs, &common),
            Wire::Merge(merge) => {
                let several = merge.inputs.iter().filter(|input| input.input >= 0);
                let several: Vec<StepId> =
                    several.map(|input| self.numbered(&op.inputs, input.input)).collect::<Result<_>>()?;
                Ok(vec![Output::Step(self.push(Op::Merge(several), &common))])
            }
            Wire::Diff(diff) => {
                let (lower, upper) = (diff.lower.map_or(-1, |one| one.input), diff.upper.map_or(-1, |one| one.input));
                if upper < 0 {
                    return Err(refused("a diff whose upper is nothing"));
                }
                let lower = (lower >= 0).then(|| self.numbered(&op.inputs, lower)).transpose()?;
                let upper = self.numbered(&op.inputs, upper)?;
                Ok(vec![Output::Step(self.push(Op::Diff { lower, upper }, &common))])
            }
            Wire::Build(_) => Err(refused("a build op")),
        }
    }

    fn push(&mut self, op: Op, common: &Common) -> StepId {
        let Common { name, platform, lines, ignore_cache } = common.clone();
        self.graph.steps.push(Step { op, name, platform, lines, ignore_cache });
        StepId(self.graph.steps.len() - 1)
    }

    /// What an input is.
    fn tree(&self, input: &pb::Input) -> Result<StepId> {
        let missing = || BuildError::invalid(format!("invalid missing input digest {}", input.digest));
        let outputs =
            self.vertices.get(&input.digest).and_then(|vertex| vertex.outputs.as_ref()).ok_or_else(missing)?;
        match usize::try_from(input.index).ok().and_then(|index| outputs.get(index)) {
            Some(Output::Step(step)) => Ok(*step),
            Some(Output::Refused(why)) => Err(refused(why)),
            None => Err(BuildError::invalid(format!("invalid output {} of {}", input.index, input.digest))),
        }
    }

    /// The same as layers.
    fn base(&mut self, input: &pb::Input) -> Result<StepId> {
        let step = self.tree(input)?;
        let from = &self.graph.steps[step.0];
        if !matches!(from.op, Op::Local(_) | Op::Git(_) | Op::Http(_)) {
            return Ok(step);
        }
        if let Some(known) = self.layered.get(&step) {
            return Ok(*known);
        }
        let common =
            Common { name: "copy / /".to_owned(), platform: from.platform.clone(), lines: None, ignore_cache: false };
        let base = self.scratch(&common);
        let files = Files::all_of(step, base);
        let made = self.push(Op::Files(Box::new(files)), &common);
        self.layered.insert(step, made);
        Ok(made)
    }

    fn scratch(&mut self, common: &Common) -> StepId {
        let name = "scratch".to_owned();
        self.push(Op::Scratch, &Common { name, lines: None, ignore_cache: false, ..common.clone() })
    }

    /// The layers that an operation names by the number of its input.
    fn numbered(&mut self, inputs: &[pb::Input], number: i64) -> Result<StepId> {
        let input = usize::try_from(number).ok().and_then(|number| inputs.get(number));
        let input = input.cloned().ok_or_else(|| BuildError::invalid(format!("invalid input {number}")))?;
        self.base(&input)
    }

    /// The same; nothing for a number below zero.
    fn numbered_or_scratch(&mut self, inputs: &[pb::Input], number: i64, common: &Common) -> Result<StepId> {
        if number < 0 { Ok(self.scratch(common)) } else { self.numbered(inputs, number) }
    }
}

/// The lines of the client's file that an operation comes from.
fn lines(source: Option<&pb::Source>, digest: &str) -> Option<RangeInclusive<usize>> {
    let places = &source?.locations.get(digest)?.locations;
    let ranges = &places.iter().find(|place| place.source_index == 0)?.ranges;
    let line = |place: &Option<pb::Position>| usize::try_from(place.as_ref()?.line).ok();
    let first = ranges.iter().filter_map(|range| line(&range.start)).min()?;
    let last = ranges.iter().filter_map(|range| line(&range.end)).max()?;
    (first >= 1 && first <= last).then_some(first..=last)
}

/// BuildKit's name for an operation that has none of its own.
fn name(op: &Wire) -> String {
    use pb::file_action::Action;
    match op {
        Wire::Source(source) => skep_build::without_password(&source.identifier),
        Wire::Exec(exec) => exec.meta.as_ref().map(|meta| meta.args.join(" ")).unwrap_or_default(),
        Wire::File(file) => {
            let one = |action: &pb::FileAction| {
                Some(match action.action.as_ref()? {
                    Action::Mkdir(made) => format!("mkdir {}", made.path),
                    Action::Mkfile(made) => format!("mkfile {}", made.path),
                    Action::Symlink(made) => format!("symlink {} -> {}", made.newpath, made.oldpath),
                    Action::Rm(gone) => format!("rm {}", gone.path),
                    Action::Copy(copy) => format!("copy {} {}", copy.src, copy.dest),
                })
            };
            file.actions.iter().filter_map(one).collect::<Vec<_>>().join(", ")
        }
        Wire::Build(_) => "build".to_owned(),
        Wire::Merge(_) => "merge".to_owned(),
        Wire::Diff(_) => "diff".to_owned(),
    }
}
