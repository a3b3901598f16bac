//! Why a registry could not give what was asked for, in the words that Docker uses.

use serde::Deserialize;
use skep_types::{Digest, ErrorKind, Reference};

use crate::manifest::ManifestError;

/// Why a request to a registry failed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No answer: the connection could not be made, or it broke.
    #[error("{method} {url:?}: {reason}")]
    Transport {
        /// `Get`, `Post`.
        method: &'static str,
        /// What was asked for.
        url: String,
        /// How far it came.
        phase: Phase,
        /// Why, as Go's network library says it.
        reason: String,
    },
    /// The registry has no such tag or digest.
    #[error("manifest for {reference} not found: {detail}")]
    ManifestUnknown {
        /// The reference as people write it.
        reference: String,
        /// The registry's words.
        detail: ApiError,
    },
    /// The registry has no such repository, or doesn't show it to this user.
    #[error("pull access denied for {name}, repository does not exist or may require 'docker login': {detail}")]
    Denied {
        /// The repository as people write it.
        name: String,
        /// The registry's words.
        detail: ApiError,
    },
    /// The registry has no such repository.
    #[error("repository {name} not found: {detail}")]
    NameUnknown {
        /// The repository as people write it.
        name: String,
        /// The registry's words.
        detail: ApiError,
    },
    /// Another error in the registry's own words.
    #[error("{0}")]
    Api(ApiError),
    /// The registry wants a name and a password, and there are none.
    #[error("{method} {url:?}: no basic auth credentials")]
    NoCredentials {
        /// `Get`.
        method: &'static str,
        /// What was asked for.
        url: String,
    },
    /// The authorization service gives no token.
    #[error("Get {url:?}: {detail}")]
    Token {
        /// What the token was for.
        url: String,
        /// The service's words.
        detail: ApiError,
    },
    /// A web server does not give a file.
    #[error("failed to GET {url} with status {status}: {said}")]
    Download {
        /// What was asked for.
        url: String,
        /// Number and words.
        status: String,
        /// The server's words, cut if long.
        said: String,
    },
    /// A search that can't be made.
    #[error("{0}")]
    Query(String),
    /// The registry does not take the credentials.
    #[error("login attempt to {url} failed with status: {status}")]
    Login {
        /// What was asked for.
        url: String,
        /// Number and words.
        status: String,
    },
    /// A login came to nothing for want of good credentials.
    #[error("{0}")]
    LoginRefused(Box<RegistryError>),
    /// An error whose body can't be understood.
    #[error("error parsing HTTP {status} response body: {reason}: {body:?}")]
    Unreadable {
        /// HTTP status.
        status: u16,
        /// Why.
        reason: String,
        /// The body, cut if long.
        body: String,
    },
    /// A status that the API doesn't know.
    #[error("received unexpected HTTP status: {0}")]
    Status(String),
    /// The token service's answer is of no use.
    #[error("authorization server did not include a token in the response")]
    NoToken,
    /// The registry's challenge can't be answered.
    #[error("{0}")]
    Challenge(String),
    /// The bytes are not those that were asked for.
    #[error("{what} verification failed for digest {expected}")]
    Digest {
        /// `manifest`, `filesystem layer`, `image config`.
        what: &'static str,
        /// What was asked for.
        expected: Digest,
    },
    /// More or fewer bytes than the manifest says.
    #[error("{what} {digest} has {actual} bytes, its manifest says {expected}")]
    Size {
        /// `blob`, `manifest`.
        what: &'static str,
        /// Which.
        digest: Digest,
        /// From the manifest.
        expected: u64,
        /// What came.
        actual: u64,
    },
    /// More bytes than the client takes.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// What it is.
        what: String,
        /// The bound.
        limit: u64,
    },
    /// More signatures beside an image than are looked at.
    #[error("the image has more than {0} signatures")]
    TooManySignatures(usize),
    /// A manifest that is not one.
    #[error("{0}")]
    Manifest(#[from] ManifestError),
    /// What is to be uploaded can't be read.
    #[error("{0}")]
    Source(std::io::Error),
    /// The client can't be set up: a certificate that can't be read, no certificate authorities.
    #[error("{0}")]
    Setup(String),
}

/// How far an exchange came before it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// No connection.
    Connect,
    /// Connected; no answer, or a part of it.
    Exchange,
    /// Sent from one address to the next without end.
    Redirect,
}

/// One entry of the `errors` in a registry's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// `MANIFEST_UNKNOWN`.
    pub code: String,
    /// Whatever the registry says.
    pub message: String,
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code.to_lowercase().replace('_', " "), self.message)
    }
}

impl RegistryError {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            RegistryError::ManifestUnknown { .. }
            | RegistryError::Denied { .. }
            | RegistryError::NameUnknown { .. } => ErrorKind::NotFound,
            RegistryError::Query(_) => ErrorKind::InvalidParameter,
            RegistryError::Login { .. } | RegistryError::LoginRefused(_) => ErrorKind::Unauthorized,
            RegistryError::Manifest(e) => e.kind(),
            RegistryError::Transport { .. } => ErrorKind::Unavailable,
            // Not Unauthorized, as in dockerd: clients would ask for a password in the middle of a script.
            RegistryError::Api(_)
            | RegistryError::NoCredentials { .. }
            | RegistryError::Token { .. }
            | RegistryError::Unreadable { .. }
            | RegistryError::Status(_)
            | RegistryError::NoToken
            | RegistryError::Challenge(_)
            | RegistryError::Digest { .. }
            | RegistryError::Size { .. }
            | RegistryError::TooLarge { .. }
            | RegistryError::TooManySignatures(_)
            | RegistryError::Source(_)
            | RegistryError::Download { .. }
            | RegistryError::Setup(_) => ErrorKind::System,
        }
    }

    /// Whether the same request may succeed a little later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            RegistryError::Transport { phase, .. } => *phase != Phase::Redirect,
            RegistryError::Status(status) => status.starts_with('5'),
            RegistryError::Api(e) => matches!(e.code.as_str(), "UNAVAILABLE" | "TOOMANYREQUESTS"),
            RegistryError::Unreadable { status, .. } => *status == 429,
            _ => false,
        }
    }

    /// Says which reference it was about, where Docker does.
    pub(crate) fn about(self, reference: &Reference) -> Self {
        match self {
            RegistryError::Api(detail) => match detail.code.as_str() {
                "DENIED" => RegistryError::Denied { name: reference.familiar_name(), detail },
                "MANIFEST_UNKNOWN" => {
                    RegistryError::ManifestUnknown { reference: reference.or_latest().familiar(), detail }
                }
                "NAME_UNKNOWN" => RegistryError::NameUnknown { name: reference.familiar_name(), detail },
                _ => RegistryError::Api(detail),
            },
            other => other,
        }
    }
}

/// The longest part of a body that is shown.
const SHOWN: usize = 1000;

/// Turns an answer with an error status into an error. `status_line` is number and words.
pub(crate) fn from_answer(
    status: u16,
    status_line: &str,
    bearer_error: Option<ApiError>,
    body: &[u8],
) -> RegistryError {
    if !(400..500).contains(&status) {
        return RegistryError::Status(status_line.to_owned());
    }
    if let Some(error) = bearer_error {
        return RegistryError::Api(error);
    }
    match read_errors(status, body) {
        Ok(error) => RegistryError::Api(error),
        Err(_) if status == 401 => RegistryError::Api(ApiError {
            code: "UNAUTHORIZED".to_owned(),
            message: "authentication required".to_owned(),
        }),
        Err(reason) => {
            let text = String::from_utf8_lossy(body);
            let body = text.char_indices().nth(SHOWN).map_or(&*text, |(end, _)| &text[..end]).to_owned();
            RegistryError::Unreadable { status, reason, body }
        }
    }
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    errors: Vec<Entry>,
    #[serde(default)]
    details: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// The first error of the body, or why there is none.
fn read_errors(status: u16, body: &[u8]) -> Result<ApiError, String> {
    if body.is_empty() {
        return Err("unexpected end of JSON input".to_owned());
    }
    let parsed: Body = serde_json::from_slice(body).map_err(|e| json_reason(&e, body))?;
    if let (Some(details), true) = (&parsed.details, parsed.errors.is_empty()) {
        let code = match status {
            401 => "UNAUTHORIZED",
            429 => "TOOMANYREQUESTS",
            _ => "UNKNOWN",
        };
        return Ok(ApiError { code: code.to_owned(), message: details.clone() });
    }
    let first = parsed.errors.into_iter().next();
    let first = first.ok_or_else(|| "no error details found in HTTP response body".to_owned())?;
    let code = if first.code.is_empty() { "UNKNOWN".to_owned() } else { first.code };
    let message = if first.message.is_empty() { known_message(&code).to_owned() } else { first.message };
    Ok(ApiError { code, message })
}

/// What the distribution specification's codes mean when a registry adds no words.
pub(crate) fn known_message(code: &str) -> &'static str {
    match code {
        "UNAUTHORIZED" => "authentication required",
        "DENIED" => "requested access to the resource is denied",
        "MANIFEST_UNKNOWN" => "manifest unknown",
        "NAME_UNKNOWN" => "repository name not known to registry",
        "BLOB_UNKNOWN" => "blob unknown to registry",
        "NAME_INVALID" => "invalid repository name",
        "TOOMANYREQUESTS" => "too many requests",
        "UNAVAILABLE" => "service unavailable",
        "UNSUPPORTED" => "The operation is unsupported.",
        _ => "unknown error",
    }
}

/// What Go's JSON decoder would say.
fn json_reason(error: &serde_json::Error, body: &[u8]) -> String {
    if error.is_eof() {
        return "unexpected end of JSON input".to_owned();
    }
    let text = String::from_utf8_lossy(body);
    match text.trim_start().chars().next() {
        Some(first) if !matches!(first, '{' | '[' | '"' | '-' | '0'..='9' | 't' | 'f' | 'n') => {
            format!("invalid character '{first}' looking for beginning of value")
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(status: u16, body: &str) -> String {
        let reference: Reference = "busybox:nope".parse().expect("a reference");
        from_answer(status, &format!("{status} Words"), None, body.as_bytes()).about(&reference).to_string()
    }

    #[test]
    fn texts_are_dockers() {
        for (status, body, text) in [
            (
                404,
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"nope"}}]}"#,
                "manifest for busybox:nope not found: manifest unknown: manifest unknown",
            ),
            (
                401,
                r#"{"errors":[{"code":"DENIED"}]}"#,
                "pull access denied for busybox, repository does not exist or may require 'docker login': denied: \
                 requested access to the resource is denied",
            ),
            (401, "go away", "unauthorized: authentication required"),
            (429, r#"{"details":"slow down"}"#, "toomanyrequests: slow down"),
            (
                404,
                "<html>",
                "error parsing HTTP 404 response body: invalid character '<' looking for beginning of value: \"<html>\"",
            ),
            (404, "", "error parsing HTTP 404 response body: unexpected end of JSON input: \"\""),
            (403, "{}", "error parsing HTTP 403 response body: no error details found in HTTP response body: \"{}\""),
            (500, "x", "received unexpected HTTP status: 500 Words"),
        ] {
            assert_eq!(about(status, body), text);
        }
    }
}
