//! Words with their quotes left in place: ENV, LABEL and ARG cut first and expand later.

use crate::source::Escape;

/// Cuts at blanks that are neither quoted nor escaped. Quotes and escapes stay, but for an escape that ends the text.
pub(super) fn words(text: &str, escape: Escape) -> Vec<String> {
    let escape = escape.char();
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote: Option<char> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == escape && quote != Some('\'') {
            if let Some(next) = chars.next() {
                word.extend([c, next]);
            }
            continue;
        }
        match quote {
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
        word.push(c);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}
