//! One line of comma-separated values, as Go's `encoding/csv` reads it: a field may be quoted.

/// Splits a line into its fields.
pub(crate) fn fields(line: &str) -> Result<Vec<String>, String> {
    if line.is_empty() {
        return Ok(Vec::new());
    }
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (field, behind) = quoted_field(quoted).ok_or_else(|| misquoted(line.len()))?;
            fields.push(field);
            rest = behind;
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            if let Some(quote) = rest[..end].find('"') {
                let column = line.len() - rest.len() + quote + 1;
                return Err(format!("parse error on line 1, column {column}: bare \" in non-quoted-field"));
            }
            fields.push(rest[..end].to_owned());
            rest = &rest[end..];
        }
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None if rest.is_empty() => return Ok(fields),
            None => return Err(misquoted(line.len() - rest.len() - 1)),
        }
    }
}

/// `before` is the number of bytes in front of the quote.
fn misquoted(before: usize) -> String {
    format!("parse error on line 1, column {}: extraneous or missing \" in quoted-field", before + 1)
}

/// A field behind its opening quote, and what follows it; None without a closing one.
fn quoted_field(mut text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    loop {
        let end = text.find('"')?;
        field.push_str(&text[..end]);
        text = &text[end + 1..];
        match text.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                text = more;
            }
            None => return Some((field, text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fields;

    #[test]
    fn quotes_protect_commas() {
        assert_eq!(fields(r#"a=1,"b=2,3",c="#), Ok(vec!["a=1".into(), "b=2,3".into(), "c=".into()]));
        assert_eq!(fields(r#""say ""hi""""#), Ok(vec![r#"say "hi""#.into()]));
        assert!(fields(r#""a"#).is_err());
        assert!(fields(r#""a"b"#).is_err());
        assert_eq!(fields(""), Ok(vec![]));
    }

    #[test]
    fn misplaced_quotes_are_told_with_their_place() {
        for (line, place) in [
            (r#"x,a"b"#, "4: bare \" in non-quoted-field"),
            (r#"x,"a"#, "5: extraneous or missing \" in quoted-field"),
            (r#""a"b"#, "3: extraneous or missing \" in quoted-field"),
        ] {
            assert_eq!(fields(line), Err(format!("parse error on line 1, column {place}")), "{line}");
        }
    }
}
