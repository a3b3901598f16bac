//! Paths and queries, decoded.

/// The parameters of a query; the first of a name counts.
#[derive(Debug, Default, Clone)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads what stands behind the `?`. What is no UTF-8 once decoded is left out.
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(&name.replace('+', " "))?, decode(&value.replace('+', " "))?))
        });
        Query(pairs.collect())
    }

    /// The value of a parameter, if it is there.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All values of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Replaces `%2F` and the like; `None` if an escape is cut off or the outcome is no UTF-8.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || u8::try_from(char::from(rest.next()?).to_digit(16)?).ok();
        let high = digit()?;
        bytes.push(high << 4 | digit()?);
    }
    String::from_utf8(bytes).ok()
}

/// Escapes a value for a query.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/' | b':') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parameters_are_found() {
        let query = Query::parse("n=5&last=a%2Fb&x&last=c&bad=%zz&plus=a+b");
        assert_eq!((query.get("n"), query.get("last"), query.get("x")), (Some("5"), Some("a/b"), Some("")));
        assert_eq!((query.get("bad"), query.get("plus"), query.get("none")), (None, Some("a b"), None));
    }

    proptest! {
        #[test]
        fn what_was_encoded_can_be_decoded(text in any::<String>()) {
            prop_assert_eq!(decode(&encode(&text)), Some(text));
        }

        #[test]
        fn nothing_panics(text in any::<String>()) {
            let _ = Query::parse(&text).get("n");
            let _ = decode(&text);
        }
    }
}
