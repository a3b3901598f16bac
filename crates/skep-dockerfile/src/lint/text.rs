//! What can be seen in an instruction by itself, before it is known whether it makes sense.

use crate::dockerfile::Observer;
use crate::instructions::Instruction;
use crate::syntax::{Node, NodeArguments};

use super::{Findings, rules};

impl Observer for Findings<'_> {
    fn before(&mut self, node: &Node) {
        let is = |name: &str| node.keyword.eq_ignore_ascii_case(name);
        if is("MAINTAINER") {
            self.add(&rules::MAINTAINER_DEPRECATED, node.lines, || {
                "Maintainer instruction is deprecated in favor of using label".to_owned()
            });
        }
        let NodeArguments::Words(words) = &node.arguments else { return };
        if let [_, keyword, name, rest @ ..] = words.as_slice()
            && is("FROM")
        {
            if rest.is_empty() && *name != name.to_lowercase() {
                self.add(&rules::STAGE_NAME_CASING, node.lines, || format!("Stage name '{name}' should be lowercase"));
            }
            if differs(&node.keyword, keyword) {
                self.add(&rules::FROM_AS_CASING, node.lines, || {
                    format!("'{keyword}' and '{}' keywords' casing do not match", node.keyword)
                });
            }
        }
    }

    fn after(&mut self, node: &Node, instruction: &Instruction) {
        let (name, keys): (_, Vec<&String>) = match instruction {
            Instruction::From(from) => ("FROM", from.name.iter().collect()),
            Instruction::Arg(arg) => ("ARG", arg.arguments.iter().map(|argument| &argument.name).collect()),
            _ => return,
        };
        let (Some(first), Some(comment)) = (keys.first(), node.comments.last()) else { return };
        let word = comment.split(' ').next().unwrap_or_default();
        if !keys.iter().any(|key| *key == word) {
            let key = if keys.len() > 1 { "<arg_key>" } else { first };
            self.add(&rules::INVALID_DEFINITION_DESCRIPTION, node.lines, || {
                format!("Comment for {name} should follow the format: `# {key} <description>`")
            });
        }
    }
}

/// Whether AS is not written as FROM is. A FROM of mixed letters is another rule's.
fn differs(from: &str, keyword: &str) -> bool {
    match (from == from.to_lowercase(), from == from.to_uppercase()) {
        (true, _) => keyword != keyword.to_lowercase(),
        (_, true) => keyword != keyword.to_uppercase(),
        _ => false,
    }
}
