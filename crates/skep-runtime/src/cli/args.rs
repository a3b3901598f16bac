//! Reading the command line: options as Go's programs take them (`-x`, `--name value`, `--name=value`, `--flag=false`), without a table to
//! interpret. Each command asks for one item after the other.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::str::FromStr;

use skep_runtime::container::{LaunchError, Result};

/// The arguments that are left.
#[derive(Debug)]
pub(crate) struct Args {
    rest: VecDeque<String>,
    /// The value of the last option, if it came with `=`.
    value: Option<String>,
    /// The last option, as it was written.
    option: String,
}

/// One argument.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// An option, without its dashes.
    Option(String),
    /// Anything else.
    Word(String),
}

impl Args {
    /// Takes the arguments after the program's name.
    pub(crate) fn new(arguments: impl IntoIterator<Item = OsString>) -> Result<Self> {
        let text = |argument: OsString| {
            argument.into_string().map_err(|bad| LaunchError::invalid(format!("argument {bad:?} is not UTF-8")))
        };
        let rest = arguments.into_iter().map(text).collect::<Result<_>>()?;
        Ok(Self { rest, value: None, option: String::new() })
    }

    /// The next argument.
    pub(crate) fn next(&mut self) -> Result<Option<Item>> {
        if self.value.is_some() {
            return Err(LaunchError::invalid(format!("option {} takes no value", self.option)));
        }
        let Some(argument) = self.rest.pop_front() else { return Ok(None) };
        let name = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-'));
        match name {
            Some("") if argument == "--" => Ok(self.rest.pop_front().map(Item::Word)),
            None | Some("") => Ok(Some(Item::Word(argument))),
            Some(name) => {
                let (name, value) = match name.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (name, None),
                };
                let name = name.to_owned();
                self.option = argument;
                self.value = value;
                Ok(Some(Item::Option(name)))
            }
        }
    }

    /// The value of the option just read.
    pub(crate) fn value(&mut self) -> Result<String> {
        let value = self.value.take().or_else(|| self.rest.pop_front());
        value.ok_or_else(|| LaunchError::invalid(format!("option {} needs a value", self.option)))
    }

    /// The value of the option just read, as a number or the like.
    pub(crate) fn parsed<T: FromStr>(&mut self) -> Result<T> {
        let value = self.value()?;
        value.parse().map_err(|_| LaunchError::invalid(format!("invalid value {value:?} for option {}", self.option)))
    }

    /// Whether the flag just read is set; `=false` clears it.
    pub(crate) fn flag(&mut self) -> Result<bool> {
        match self.value.take().as_deref() {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(LaunchError::invalid(format!("invalid value {other:?} for option {}", self.option))),
        }
    }

    /// The error for an option that the command does not have.
    pub(crate) fn unknown(&self) -> LaunchError {
        LaunchError::invalid(format!("unknown option {}: see --help", self.option))
    }

    /// All that is left, as it is.
    pub(crate) fn remaining(&mut self) -> Vec<String> {
        self.rest.drain(..).collect()
    }
}

/// The only word of a command that takes one, mostly the container's id.
pub(crate) fn only(words: Vec<String>, what: &str) -> Result<String> {
    let mut words = words.into_iter();
    match (words.next(), words.next()) {
        (Some(word), None) => Ok(word),
        (None, _) => Err(LaunchError::invalid(format!("{what} is missing: see --help"))),
        (Some(_), Some(extra)) => Err(LaunchError::invalid(format!("unexpected argument {extra:?}: see --help"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> Args {
        Args::new(text.split(' ').map(OsString::from)).expect("arguments")
    }

    #[test]
    fn options_come_in_all_of_gos_forms() {
        let mut args = args("--root /a -b=c --force --all=false id -x -- -y");
        assert_eq!(args.next().unwrap(), Some(Item::Option("root".into())));
        assert_eq!(args.value().unwrap(), "/a");
        assert_eq!(args.next().unwrap(), Some(Item::Option("b".into())));
        assert_eq!(args.value().unwrap(), "c");
        assert_eq!(args.next().unwrap(), Some(Item::Option("force".into())));
        assert!(args.flag().unwrap());
        assert_eq!(args.next().unwrap(), Some(Item::Option("all".into())));
        assert!(!args.flag().unwrap());
        assert_eq!(args.next().unwrap(), Some(Item::Word("id".into())));
        assert_eq!(args.next().unwrap(), Some(Item::Option("x".into())));
        assert!(args.unknown().to_string().contains("-x"));
        assert_eq!(args.next().unwrap(), Some(Item::Word("-y".into())));
        assert_eq!(args.next().unwrap(), None);
    }

    #[test]
    fn a_value_nobody_asked_for_is_an_error() {
        let mut args = args("--detach=x y");
        args.next().unwrap();
        assert!(args.next().is_err());
        let mut args = self::args("--bundle");
        args.next().unwrap();
        assert!(args.value().is_err());
    }
}
