//! Failures of the connection, in the words of Go's network library, which scripts and people match on.

use std::error::Error;
use std::io;
use std::time::{Duration, SystemTime};

use reqwest::Response;
use reqwest::header::RETRY_AFTER;
use url::Url;

use crate::endpoint::host_of;
use crate::error::Phase;
use crate::{RegistryError, Result};

/// The last cause in the chain.
pub(crate) fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last: &(dyn Error + 'static) = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// Turns a failed request into an error that names address and reason.
pub(crate) async fn failed(method: &'static str, url: &Url, error: reqwest::Error) -> RegistryError {
    let phase = match () {
        () if error.is_redirect() => Phase::Redirect,
        () if error.is_connect() => Phase::Connect,
        () => Phase::Exchange,
    };
    let reason = if phase == Phase::Redirect {
        "stopped after 10 redirects".to_owned()
    } else if let Some(reason) = cause::<rustls::Error>(&error).map(|e| tls_reason(e, url)) {
        reason
    } else {
        connection_reason(&error, url).await
    };
    RegistryError::Transport { method, url: url.to_string(), phase, reason }
}

/// No answer within the time that a server has.
pub(crate) fn silent(method: &'static str, url: &Url) -> RegistryError {
    let reason = "net/http: timeout awaiting response headers".to_owned();
    RegistryError::Transport { method, url: url.to_string(), phase: Phase::Exchange, reason }
}

/// Sent from one address to the next without end.
pub(crate) fn endless(method: &'static str, url: &Url) -> RegistryError {
    let reason = "stopped after 10 redirects".to_owned();
    RegistryError::Transport { method, url: url.to_string(), phase: Phase::Redirect, reason }
}

/// How long a server that is busy wants to be left alone (RFC 9110 section 10.2.3: seconds or a date).
pub(crate) fn pause_asked_for(response: &Response) -> Option<Duration> {
    if !matches!(response.status().as_u16(), 429 | 503) {
        return None;
    }
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).ok(),
    }
}

/// A body that ended too early or got stuck.
pub(crate) fn broken_body(method: &'static str, url: &Url, error: &reqwest::Error) -> RegistryError {
    let reason = if error.is_timeout() {
        "read tcp: i/o timeout".to_owned()
    } else if cause::<io::Error>(error).is_some_and(|e| e.kind() == io::ErrorKind::ConnectionReset) {
        "read tcp: connection reset by peer".to_owned()
    } else {
        "unexpected EOF".to_owned()
    };
    RegistryError::Transport { method, url: url.to_string(), phase: Phase::Exchange, reason }
}

/// Reads a whole body, at most `limit` bytes.
pub(crate) async fn read_body(mut response: Response, limit: u64, what: &str) -> Result<Vec<u8>> {
    let too_large = || RegistryError::TooLarge { what: what.to_owned(), limit };
    if response.content_length().is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let url = response.url().clone();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| broken_body("Get", &url, &e))? {
        if body.len() as u64 + chunk.len() as u64 > limit {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        // An io::Error hides what it wraps from the chain of sources.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = inner.and_then(|inner| cause::<T>(inner)) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn tls_reason(error: &rustls::Error, url: &Url) -> String {
    use rustls::CertificateError as Bad;
    match error {
        rustls::Error::InvalidMessage(_) => "http: server gave HTTP response to HTTPS client".to_owned(),
        rustls::Error::InvalidCertificate(bad) => {
            let reason = match bad {
                Bad::UnknownIssuer => "certificate signed by unknown authority".to_owned(),
                Bad::Expired | Bad::ExpiredContext { .. } | Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                    "certificate has expired or is not yet valid".to_owned()
                }
                Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                    format!("certificate is not valid for {}", url.host_str().unwrap_or_default())
                }
                other => other.to_string(),
            };
            format!("tls: failed to verify certificate: x509: {reason}")
        }
        rustls::Error::AlertReceived(alert) => format!("remote error: tls: {}", alert_text(*alert)),
        other => format!("tls: {other}"),
    }
}

/// An alert in Go's words.
fn alert_text(alert: rustls::AlertDescription) -> String {
    use rustls::AlertDescription as Alert;
    let text = match alert {
        Alert::HandshakeFailure => "handshake failure",
        Alert::BadCertificate => "bad certificate",
        Alert::UnsupportedCertificate => "unsupported certificate",
        Alert::CertificateRevoked => "revoked certificate",
        Alert::CertificateExpired => "expired certificate",
        Alert::CertificateUnknown => "unknown certificate",
        Alert::UnknownCA => "unknown certificate authority",
        Alert::AccessDenied => "access denied",
        Alert::DecryptError => "error decrypting message",
        Alert::ProtocolVersion => "protocol version not supported",
        Alert::InsufficientSecurity => "insufficient security level",
        Alert::InternalError => "internal error",
        Alert::UnrecognisedName => "unrecognized name",
        Alert::CertificateRequired => "certificate required",
        Alert::NoApplicationProtocol => "no application protocol",
        other => return format!("alert({})", u8::from(other)),
    };
    text.to_owned()
}

async fn connection_reason(error: &reqwest::Error, url: &Url) -> String {
    let io_kind = cause::<io::Error>(error).map(io::Error::kind);
    if !error.is_connect() {
        return match io_kind {
            _ if error.is_timeout() => "net/http: timeout awaiting response headers".to_owned(),
            Some(io::ErrorKind::ConnectionReset) => "read: connection reset by peer".to_owned(),
            Some(io::ErrorKind::UnexpectedEof) | None => "EOF".to_owned(),
            Some(_) => innermost(error),
        };
    }
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(443);
    let Some(address) = tokio::net::lookup_host((host_of(host), port)).await.ok().and_then(|mut found| found.next())
    else {
        return format!("dial tcp: lookup {host}: no such host");
    };
    match io_kind {
        _ if error.is_timeout() => format!("dial tcp {address}: i/o timeout"),
        Some(io::ErrorKind::ConnectionRefused) => format!("dial tcp {address}: connect: connection refused"),
        Some(io::ErrorKind::NetworkUnreachable) => format!("dial tcp {address}: connect: network is unreachable"),
        Some(io::ErrorKind::HostUnreachable) => format!("dial tcp {address}: connect: no route to host"),
        Some(io::ErrorKind::UnexpectedEof) => "EOF".to_owned(),
        _ => format!("dial tcp {address}: {}", innermost(error)),
    }
}
