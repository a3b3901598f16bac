//! Texts as Go's `%q` prints them, which is how they stand in BuildKit's messages.

/// `text` in double quotes, with Go's escapes.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if c.is_control() || (c.is_whitespace() && c != ' ') || ('\u{e000}'..='\u{f8ff}').contains(&c) => {
                out.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn as_go_prints_it() {
        for (text, expected) in [
            ("plain ü", "\"plain ü\""),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("\n\t\r\u{0}\u{7f}", r#""\n\t\r\x00\x7f""#),
            ("\u{a0}\u{2028}", r#""\u00a0\u2028""#),
        ] {
            assert_eq!(quoted(text), expected);
        }
    }
}
