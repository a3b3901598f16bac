//! One line of comma-separated fields, as the values of `--mount` and `--device` are written (RFC 4180 quotes).

/// The fields, or what is wrong in the words of Go's reader.
pub(crate) fn fields(line: &str) -> Result<Vec<String>, String> {
    let wrong = |column: usize, why: &str| Err(format!("parse error on line 1, column {column}: {why}"));
    let place = |rest: &str| line.len() - rest.len();
    let mut fields = Vec::new();
    let mut rest = line;
    if line.is_empty() {
        return Err("EOF".to_owned());
    }
    loop {
        let Some(quoted) = rest.strip_prefix('"') else {
            let (field, after) = match rest.split_once(',') {
                Some((field, after)) => (field, Some(after)),
                None => (rest, None),
            };
            if let Some(quote) = field.find('"') {
                return wrong(place(&rest[quote..]) + 1, "bare \" in non-quoted-field");
            }
            fields.push(field.to_owned());
            match after {
                Some(after) => rest = after,
                None => return Ok(fields),
            }
            continue;
        };
        let mut field = String::new();
        rest = quoted;
        loop {
            let Some((text, after)) = rest.split_once('"') else {
                return wrong(line.len(), "extraneous or missing \" in quoted-field");
            };
            field.push_str(text);
            match after.strip_prefix('"') {
                Some(after) => {
                    field.push('"');
                    rest = after;
                }
                None => {
                    rest = after;
                    break;
                }
            }
        }
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.is_empty() => return Ok(fields),
            None => return wrong(place(rest), "extraneous or missing \" in quoted-field"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fields;

    #[test]
    fn quotes_and_mistakes() {
        for (line, expected) in [
            ("a=1", vec!["a=1"]),
            ("a,,b,", vec!["a", "", "b", ""]),
            ("\"a,b\",c", vec!["a,b", "c"]),
            ("\"say \"\"hi\"\"\"", vec!["say \"hi\""]),
        ] {
            assert_eq!(fields(line).expect(line), expected);
        }
        for line in ["", "a\"b", "\"open", "\"a\"b"] {
            assert!(fields(line).is_err(), "{line}");
        }
    }
}
