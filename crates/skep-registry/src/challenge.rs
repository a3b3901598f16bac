//! `WWW-Authenticate` headers (RFC 9110 section 11.6.1, RFC 6750 section 3).

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

use crate::error::{ApiError, known_message};

/// One way to authenticate that a server offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// In lower case: `bearer`, `basic`.
    pub(crate) scheme: String,
    /// Names in lower case.
    parameters: Vec<(String, String)>,
}

impl Challenge {
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// All challenges of an answer.
pub(crate) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|v| v.to_str().ok()).flat_map(parse).collect()
}

/// The error that a bearer challenge carries: the token is invalid or too weak.
pub(crate) fn bearer_error(headers: &HeaderMap) -> Option<ApiError> {
    challenges(headers).iter().filter(|c| c.scheme == "bearer").find_map(|c| {
        let code = match c.parameter("error")? {
            "invalid_token" => "UNAUTHORIZED",
            "insufficient_scope" => "DENIED",
            _ => return None,
        };
        let message = c.parameter("error_description").filter(|text| !text.is_empty());
        Some(ApiError { code: code.to_owned(), message: message.unwrap_or_else(|| known_message(code)).to_owned() })
    })
}

/// Parses one header value: a list of challenges, each a scheme and comma-separated parameters.
fn parse(value: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    let mut rest = value.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let (word, after) = token(rest);
        if word.is_empty() {
            break;
        }
        let trimmed = after.trim_start();
        rest = match (trimmed.strip_prefix('='), found.last_mut()) {
            (Some(text), Some(challenge)) => {
                let (text, after) = parameter_value(text.trim_start());
                challenge.parameters.push((word.to_ascii_lowercase(), text));
                after
            }
            _ => {
                found.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
                after
            }
        };
        rest = rest.trim_start_matches([' ', '\t', ',']);
    }
    found
}

fn token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    text.split_at(text.find(|c| !is_token(c)).unwrap_or(text.len()))
}

/// A token or a quoted string, and what follows it.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_and_basic_are_read() {
        let list =
            parse(r#"Bearer realm="https://auth.example/token",service="a \"b\"",scope="repository:x:pull,push""#);
        assert_eq!(list.len(), 1);
        assert_eq!(list[0].scheme, "bearer");
        assert_eq!(list[0].parameter("realm"), Some("https://auth.example/token"));
        assert_eq!(list[0].parameter("service"), Some("a \"b\""));
        assert_eq!(list[0].parameter("scope"), Some("repository:x:pull,push"));

        let list = parse(r#"Basic realm=simple, charset="UTF-8", Bearer realm="r""#);
        assert_eq!(list.iter().map(|c| c.scheme.as_str()).collect::<Vec<_>>(), ["basic", "bearer"]);
        assert_eq!(list[0].parameter("realm"), Some("simple"));
    }

    #[test]
    fn nonsense_ends() {
        for text in ["", ",", "=", "\"", "Bearer realm=\"", "Bearer =x", "Bearer realm=\"a\\", "ä", "Basic \u{0}"] {
            let _ = parse(text);
        }
    }
}
