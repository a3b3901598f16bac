//! Flags of instructions: `--name=value`.

use super::InstructionError;
use crate::suggest::suggest;

/// A flag that an instruction has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flag {
    name: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bool,
    Text,
    Many,
}

impl Flag {
    pub(super) const fn bool(name: &'static str) -> Self {
        Flag { name, kind: Kind::Bool }
    }

    pub(super) const fn text(name: &'static str) -> Self {
        Flag { name, kind: Kind::Text }
    }

    pub(super) const fn many(name: &'static str) -> Self {
        Flag { name, kind: Kind::Many }
    }
}

/// The flags that are there, to be taken by name.
#[derive(Debug, Default)]
pub(super) struct Flags {
    bools: Vec<(&'static str, bool)>,
    texts: Vec<(&'static str, String)>,
}

impl Flags {
    pub(super) fn read(words: &[String], known: &[Flag]) -> Result<Flags, InstructionError> {
        let mut flags = Flags::default();
        for word in words {
            let text = word.strip_prefix("--").unwrap_or(word);
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (text, None),
            };
            let Some(flag) = known.iter().find(|flag| flag.name == name) else {
                let names = known.iter().map(|flag| flag.name);
                return Err(InstructionError::UnknownFlag { name: name.to_owned(), hint: suggest(name, names).into() });
            };
            let is_there = flags.bools.iter().any(|(known, _)| *known == name)
                || flags.texts.iter().any(|(known, _)| *known == name);
            if is_there && flag.kind != Kind::Many {
                return Err(InstructionError::DuplicateFlag(flag.name));
            }
            match (flag.kind, value) {
                (Kind::Bool, None) => flags.bools.push((flag.name, true)),
                (Kind::Bool, Some(value)) if value.eq_ignore_ascii_case("true") => flags.bools.push((flag.name, true)),
                (Kind::Bool, Some(value)) if value.eq_ignore_ascii_case("false") => {
                    flags.bools.push((flag.name, false))
                }
                (_, None) | (Kind::Bool, Some("")) => return Err(InstructionError::FlagValue(flag.name)),
                (Kind::Bool, Some(value)) => return Err(InstructionError::FlagBool(flag.name, value.to_owned())),
                (Kind::Text | Kind::Many, Some(value)) => flags.texts.push((flag.name, value.to_owned())),
            }
        }
        Ok(flags)
    }

    pub(super) fn bool(&self, name: &str) -> Option<bool> {
        self.bools.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        self.many(name).pop()
    }

    pub(super) fn many(&mut self, name: &str) -> Vec<String> {
        self.texts.extract_if(.., |(known, _)| *known == name).map(|(_, value)| value).collect()
    }
}
