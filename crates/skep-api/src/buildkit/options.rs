//! Values of attributes: lists, numbers, switches.

use std::collections::BTreeMap;

use skep_build::BuildError;

/// A switch in Go's forms.
pub(crate) fn switch(name: &str, value: &str) -> Result<bool, BuildError> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" | "" => Ok(false),
        _ => Err(BuildError::invalid(format!("invalid boolean value for {name}: {value:?}"))),
    }
}

/// A number.
pub(crate) fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, BuildError> {
    value.parse().map_err(|_| BuildError::invalid(format!("invalid {name}: {value}")))
}

/// Fields of one record of comma separated values, quoted or not.
pub(crate) fn fields(text: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut quoted = false;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    fields.push(field);
    fields.retain(|field| !field.is_empty());
    fields
}

/// `NAME=VALUE` pairs of such a record; a name alone is true.
pub(crate) fn pairs(text: &str) -> BTreeMap<String, String> {
    let pair = |field: String| match field.split_once('=') {
        Some((name, value)) => (name.trim().to_owned(), value.to_owned()),
        None => (field, "true".to_owned()),
    };
    fields(text).into_iter().map(pair).collect()
}

/// `NAME=IP`, several separated by commas. The engine knows the address of the host (`host-gateway`).
pub(crate) fn hosts(text: &str) -> Result<Vec<(String, String)>, BuildError> {
    let host = |field: String| match field.split_once('=') {
        Some((name, address)) if address == "host-gateway" || address.parse::<std::net::IpAddr>().is_ok() => {
            Ok((name.to_owned(), address.to_owned()))
        }
        Some((_, address)) => Err(BuildError::invalid(format!("failed to parse IP {address:?}"))),
        None => Err(BuildError::invalid(format!("invalid key-value pair {field}"))),
    };
    fields(text).into_iter().map(host).collect()
}

/// `NAME=SOFT:HARD`, several separated by commas.
pub(crate) fn ulimits(text: &str) -> Result<Vec<(String, i64, i64)>, BuildError> {
    let ulimit = |field: String| {
        let invalid = || BuildError::invalid(format!("invalid ulimit argument: {field}"));
        let (name, limits) = field.split_once('=').ok_or_else(invalid)?;
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        let limit = |text: &str| text.parse().map_err(|_| invalid());
        Ok((name.to_owned(), limit(soft)?, limit(hard)?))
    };
    fields(text).into_iter().map(ulimit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_split_at_commas_outside_quotes() {
        assert_eq!(fields(r#"a,"b,c",d""e,"#), ["a", "b,c", "de"]);
        assert_eq!(fields(""), Vec::<String>::new());
        let pairs = pairs(r#"mode=max,"x=a,b",inline-only"#);
        assert_eq!(pairs.get("x").map(String::as_str), Some("a,b"));
        assert_eq!(pairs.get("inline-only").map(String::as_str), Some("true"));
    }

    #[test]
    fn limits_and_hosts() {
        assert_eq!(ulimits("nofile=1:2,core=-1").ok(), Some(vec![("nofile".into(), 1, 2), ("core".into(), -1, -1)]));
        assert!(ulimits("nofile").is_err());
        assert_eq!(hosts("a=1.2.3.4").ok(), Some(vec![("a".into(), "1.2.3.4".into())]));
        assert!(hosts("a=host-gateway").is_ok());
        assert!(hosts("a=b").is_err());
    }
}
