//! Texts as Go prints them, and paths as BuildKit reads them.

use skep_dockerfile::expand::{Lexer, Uses, Variables};
use skep_dockerfile::{Escape, quoted};

/// `["a" "b"]`.
pub(crate) fn quoted_list(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!("[{}]", words.join(" "))
}

/// `[a b]`.
pub(crate) fn plain_list(words: &[String]) -> String {
    format!("[{}]", words.join(" "))
}

/// An absolute path without `.`, `..` and doubled slashes; `..` does not lead out of the root.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            other => parts.push(other),
        }
    }
    format!("/{}", parts.join("/"))
}

/// `path` seen from `dir`; the slash at its end stays, because it says "a directory".
pub(crate) fn destination(dir: &str, path: &str) -> String {
    let path = if path.is_empty() || path == "." { "./" } else { path };
    let is_dir = path.ends_with('/') || path.ends_with("/.") || path == "..";
    let full = if path.starts_with('/') { clean(path) } else { clean(&format!("{dir}/{path}")) };
    match is_dir && full != "/" {
        true => format!("{full}/"),
        false => full,
    }
}

/// The name of a vertex: variables replaced if that is possible. A shell's command keeps its quotes and what is not set.
pub(crate) fn shown(code: &str, escape: Escape, variables: &dyn Variables, is_shell: bool) -> String {
    let lexer = Lexer { keep_quotes: is_shell, keep_unset: is_shell, ..Lexer::new(escape) };
    let text = lexer.process(code, variables, &mut Uses::default());
    let text = text.map_or_else(|_| code.to_owned(), |expanded| expanded.word);
    match text.split_once(' ') {
        Some((keyword, rest)) => format!("{} {rest}", keyword.to_uppercase()),
        None => text.to_uppercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert_eq!(clean("a/./b/../c//"), "/a/c");
        assert_eq!(clean("../../x"), "/x");
        assert_eq!(destination("/w", "x"), "/w/x");
        assert_eq!(destination("/w", "x/"), "/w/x/");
        assert_eq!(destination("/w", "."), "/w/");
        assert_eq!(destination("/", ""), "/");
        assert_eq!(destination("/w", "/a/."), "/a/");
    }
}
