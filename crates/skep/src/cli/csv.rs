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
            let (field, behind) = quoted_field(quoted)?;
            fields.push(field);
            rest = behind;
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            if rest[..end].contains('"') {
                return Err("parse error on line 1, column 1: bare \" in non-quoted-field".to_owned());
            }
            fields.push(rest[..end].to_owned());
            rest = &rest[end..];
        }
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None if rest.is_empty() => return Ok(fields),
            None => return Err("parse error on line 1: extraneous or missing \" in quoted-field".to_owned()),
        }
    }
}

fn quoted_field(mut text: &str) -> Result<(String, &str), String> {
    let mut field = String::new();
    loop {
        let end = text.find('"').ok_or("parse error on line 1: extraneous or missing \" in quoted-field")?;
        field.push_str(&text[..end]);
        text = &text[end + 1..];
        match text.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                text = more;
            }
            None => return Ok((field, text)),
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
}
