//! JSON as the engine sent it, indented or compacted without decoding: order and numbers stay as they were.

/// Indents `json` by four spaces per level, prefixed with `prefix` on every line but the first.
pub(crate) fn indent(json: &[u8], prefix: &str) -> Vec<u8> {
    indent_with(json, prefix, "    ")
}

/// As [`indent`], with `unit` per level.
pub(crate) fn indent_with(json: &[u8], prefix: &str, unit: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() * 2);
    let mut depth = 0usize;
    let mut in_string = false;
    let mut escaped = false;
    let mut just_opened = false;
    let newline = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.extend_from_slice(prefix.as_bytes());
        out.extend_from_slice(unit.repeat(depth).as_bytes());
    };
    for &byte in json {
        if in_string {
            out.push(byte);
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        if byte.is_ascii_whitespace() {
            continue;
        }
        if just_opened && !matches!(byte, b'}' | b']') {
            newline(&mut out, depth);
        }
        match byte {
            b'{' | b'[' => {
                depth += 1;
                out.push(byte);
                just_opened = true;
                continue;
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if !just_opened {
                    newline(&mut out, depth);
                }
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                newline(&mut out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            b'"' => {
                in_string = true;
                out.push(byte);
            }
            _ => out.push(byte),
        }
        just_opened = false;
    }
    out
}

/// Removes the white space between tokens.
pub(crate) fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for letter in json.chars() {
        if in_string {
            match letter {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => in_string = false,
                _ => {}
            }
        } else if letter.is_ascii_whitespace() {
            continue;
        } else if letter == '"' {
            in_string = true;
        }
        out.push(letter);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_containers_stay_on_one_line() {
        let json = br#"{"a":[],"b":{},"c":[1,{"d":"x: {,}\"["}],"e":null}"#;
        let text = String::from_utf8(indent(json, "")).expect("utf-8");
        insta::assert_snapshot!(text, @r#"
        {
            "a": [],
            "b": {},
            "c": [
                1,
                {
                    "d": "x: {,}\"["
                }
            ],
            "e": null
        }
        "#);
        assert_eq!(compact(&text).as_bytes(), json);
    }
}
