//! From nodes to typed instructions.

use super::*;
use crate::suggest::suggest;
use crate::syntax::{Heredoc, Node, NodeArguments};

/// A node's arguments, in the form that the readers want.
pub(super) struct Arguments<'n> {
    /// Words; the whole rest of the line is one word for some.
    pub(super) words: Vec<String>,
    /// Whether the words stood in a JSON array.
    pub(super) is_json: bool,
    /// ENV's and LABEL's.
    pub(super) pairs: &'n [Pair],
    /// HEALTHCHECK's first word.
    pub(super) kind: Option<&'n str>,
    /// ONBUILD's instruction.
    pub(super) nested: Option<&'n Node>,
    pub(super) flags: &'n [String],
    pub(super) heredocs: &'n [Heredoc],
    pub(super) comments: &'n [String],
    /// All of the instruction's text.
    pub(super) code: &'n str,
}

impl<'n> Arguments<'n> {
    fn new(node: &'n Node) -> Self {
        let mut arguments = Arguments {
            words: Vec::new(),
            is_json: false,
            pairs: &[],
            kind: None,
            nested: None,
            flags: &node.flags,
            heredocs: &node.heredocs,
            comments: &node.comments,
            code: &node.code,
        };
        let mut rest = &node.arguments;
        if let NodeArguments::Typed { kind, command } = rest {
            arguments.kind = Some(kind);
            rest = command;
        }
        match rest {
            NodeArguments::Words(words) => arguments.words.clone_from(words),
            NodeArguments::Json(words) => {
                arguments.words.clone_from(words);
                arguments.is_json = true;
            }
            NodeArguments::Pairs(pairs) => arguments.pairs = pairs,
            NodeArguments::Nested(node) => arguments.nested = Some(node),
            NodeArguments::Typed { .. } => {}
        }
        arguments
    }
}

/// Reads one instruction.
///
/// # Errors
/// What is wrong with it; the caller knows where it stands.
pub fn read(node: &Node) -> Result<Instruction, InstructionError> {
    let arguments = &Arguments::new(node);
    let one = |name| plain::read_one(name, arguments);
    Ok(match node.keyword.to_ascii_uppercase().as_str() {
        "FROM" => Instruction::From(from::read(arguments)?),
        "ARG" => Instruction::Arg(arg::read(arguments)?),
        "RUN" => Instruction::Run(run::read(arguments)?),
        "CMD" => Instruction::Cmd(command::read_cmd(arguments)?),
        "LABEL" => Instruction::Label(Label { pairs: pairs::read("LABEL", arguments)? }),
        "MAINTAINER" => Instruction::Maintainer(Maintainer { maintainer: one("MAINTAINER")? }),
        "EXPOSE" => Instruction::Expose(plain::read_expose(arguments)?),
        "ENV" => Instruction::Env(Env { pairs: pairs::read("ENV", arguments)? }),
        "ADD" => Instruction::Add(files::read_add(arguments)?),
        "COPY" => Instruction::Copy(files::read_copy(arguments)?),
        "ENTRYPOINT" => Instruction::Entrypoint(command::read_entrypoint(arguments)?),
        "VOLUME" => Instruction::Volume(plain::read_volume(arguments)?),
        "USER" => Instruction::User(User { user: one("USER")? }),
        "WORKDIR" => Instruction::Workdir(Workdir { path: one("WORKDIR")? }),
        "ONBUILD" => Instruction::Onbuild(plain::read_onbuild(arguments)?),
        "STOPSIGNAL" => Instruction::Stopsignal(Stopsignal { signal: one("STOPSIGNAL")? }),
        "HEALTHCHECK" => Instruction::Healthcheck(health::read(arguments)?),
        "SHELL" => Instruction::Shell(command::read_shell(arguments)?),
        unknown => {
            let is_upper = node.keyword == unknown;
            let hint = suggest(unknown, NAMES).map(|name| if is_upper { name } else { name.to_lowercase() }).into();
            return Err(InstructionError::Unknown { name: node.keyword.clone(), hint });
        }
    })
}
