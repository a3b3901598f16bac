//! Arguments by the grammar of their instruction.

use crate::instructions::Pair;
use crate::source::Escape;

use super::NodeArguments;
use super::error::SyntaxProblem;
use super::split::BLANKS;
use super::words::words;

/// Reads what follows the keyword and its flags. Unknown instructions have no arguments: they fail later, by name.
pub(super) fn read(keyword: &str, rest: &str, escape: Escape) -> Result<NodeArguments, SyntaxProblem> {
    Ok(match keyword.to_ascii_uppercase().as_str() {
        "ADD" | "COPY" | "VOLUME" => match json(rest)? {
            Some(list) => NodeArguments::Json(list),
            None => NodeArguments::Words(blank_separated(rest)),
        },
        "EXPOSE" | "FROM" => NodeArguments::Words(blank_separated(rest)),
        "CMD" | "ENTRYPOINT" | "RUN" | "SHELL" => command(rest)?,
        "MAINTAINER" | "STOPSIGNAL" | "USER" | "WORKDIR" => NodeArguments::Words(whole(rest)),
        "ARG" => NodeArguments::Words(words(rest, escape)),
        "ENV" => NodeArguments::Pairs(pairs("ENV", rest, escape)?),
        "LABEL" => NodeArguments::Pairs(pairs("LABEL", rest, escape)?),
        "HEALTHCHECK" if !rest.is_empty() => {
            let (kind, command_text) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            NodeArguments::Typed { kind: kind.to_owned(), command: Box::new(command(command_text.trim_start())?) }
        }
        _ => NodeArguments::Words(Vec::new()),
    })
}

fn whole(rest: &str) -> Vec<String> {
    if rest.is_empty() { Vec::new() } else { vec![rest.to_owned()] }
}

fn command(rest: &str) -> Result<NodeArguments, SyntaxProblem> {
    Ok(json(rest)?.map_or_else(|| NodeArguments::Words(whole(rest)), NodeArguments::Json))
}

fn blank_separated(rest: &str) -> Vec<String> {
    rest.split(BLANKS).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// A JSON array of strings. What isn't JSON at all is not meant as JSON; an array of other things is a mistake.
fn json(rest: &str) -> Result<Option<Vec<String>>, SyntaxProblem> {
    let rest = rest.trim_start();
    if !rest.starts_with('[') {
        return Ok(None);
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(rest) else { return Ok(None) };
    let strings = values.into_iter().map(|value| match value {
        serde_json::Value::String(text) => Ok(text),
        _ => Err(SyntaxProblem::NotStrings),
    });
    strings.collect::<Result<_, _>>().map(Some)
}

/// `name=value ...`, or in the old form `name value`: whichever of `=` and a blank comes first decides.
fn pairs(keyword: &'static str, rest: &str, escape: Escape) -> Result<Vec<Pair>, SyntaxProblem> {
    let words = words(rest, escape);
    let Some(first) = words.first() else { return Ok(Vec::new()) };
    if !first.contains('=') {
        let Some(at) = rest.find(BLANKS) else { return Err(SyntaxProblem::TwoArguments(keyword)) };
        let value = rest[at..].trim_start_matches(BLANKS).to_owned();
        return Ok(vec![Pair { name: rest[..at].to_owned(), value, is_legacy: true }]);
    }
    let pair = |word: &String| match word.split_once('=') {
        Some((name, value)) => Ok(Pair { name: name.to_owned(), value: value.to_owned(), is_legacy: false }),
        None => Err(SyntaxProblem::NoEquals(word.clone())),
    };
    words.iter().map(pair).collect()
}
