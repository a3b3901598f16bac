//! A file from a web server, for `import` and for builds.

use std::time::Duration;

use futures_util::{Stream, TryStreamExt};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, header};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::transport::{broken_body, failed};
use crate::{RegistryConfig, RegistryError, Result};

/// What is shown of a server's refusal, in bytes.
const SHOWN: usize = 1024;
const REDIRECTS: usize = 10;
/// A header that takes longer is not coming.
const CONNECT: Duration = Duration::from_secs(30);

/// A file that is being sent.
pub struct Download {
    /// Its length, if the server says it.
    pub size: Option<u64>,
    response: reqwest::Response,
    url: Url,
    seen: Seen,
}

/// What a server said of a file, by which it knows later whether the file is still the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// `ETag`.
    pub etag: Option<String>,
    /// `Last-Modified`.
    pub last_modified: Option<String>,
}

/// What a server says when it is asked for a file that was seen before.
pub enum Answer {
    /// The file.
    File(Box<Download>),
    /// It is still the same.
    Same,
    /// It has this status instead.
    Refused(u16),
}

/// Asks for a file; `http` is meant where no scheme is written. Refused if the server refuses it.
pub async fn download(config: &RegistryConfig, text: &str) -> Result<Download> {
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let (url, response) = get(config, &whole, None).await?;
    let status = response.status();
    if status.is_success() {
        return Ok(Download::new(url, response));
    }
    let mut said = Vec::new();
    let mut response = response;
    while let Ok(Some(piece)) = response.chunk().await {
        said.extend_from_slice(&piece);
        if said.len() >= SHOWN {
            said.truncate(SHOWN);
            break;
        }
    }
    Err(RegistryError::Download {
        url: url.to_string(),
        status: format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or_default()),
        said: String::from_utf8_lossy(&said).trim().to_owned(),
    })
}

/// Asks for a file, but not for one that is still as it was `seen`.
pub async fn download_unless(config: &RegistryConfig, url: &str, seen: Option<&Seen>) -> Result<Answer> {
    let (url, response) = get(config, url, seen).await?;
    match response.status() {
        status if status.is_success() => Ok(Answer::File(Box::new(Download::new(url, response)))),
        StatusCode::NOT_MODIFIED => Ok(Answer::Same),
        status => Ok(Answer::Refused(status.as_u16())),
    }
}

async fn get(config: &RegistryConfig, text: &str, seen: Option<&Seen>) -> Result<(Url, reqwest::Response)> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let url = url.ok_or_else(|| RegistryError::Query(format!("invalid URL: {text:?}")))?;
    let client = Client::builder()
        .user_agent(&config.user_agent)
        .connect_timeout(CONNECT)
        .read_timeout(config.stall_timeout)
        .redirect(Policy::limited(REDIRECTS))
        .build();
    let sent = match client {
        Ok(client) => {
            let mut request = client.get(url.clone());
            if let Some(etag) = seen.and_then(|seen| seen.etag.as_ref()) {
                request = request.header(header::IF_NONE_MATCH, etag);
            }
            if let Some(time) = seen.and_then(|seen| seen.last_modified.as_ref()) {
                request = request.header(header::IF_MODIFIED_SINCE, time);
            }
            request.send().await
        }
        Err(error) => Err(error),
    };
    match sent {
        Ok(response) => Ok((url, response)),
        Err(error) => Err(failed("Get", &url, error).await),
    }
}

impl Download {
    fn new(url: Url, response: reqwest::Response) -> Self {
        let text = |name| response.headers().get(name)?.to_str().ok().map(str::to_owned);
        let seen = Seen { etag: text(header::ETAG), last_modified: text(header::LAST_MODIFIED) };
        Download { size: response.content_length(), response, url, seen }
    }

    /// What the server said of it.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// The name that the server gives it (RFC 6266), as it says it.
    pub fn file_name(&self) -> Option<String> {
        let text = self.response.headers().get(header::CONTENT_DISPOSITION)?.to_str().ok()?;
        let parameters = text.split(';').skip(1).filter_map(|part| part.trim().split_once('='));
        let name = parameters.into_iter().find(|(key, _)| key.trim().eq_ignore_ascii_case("filename"))?.1.trim();
        let plain = name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or(name);
        Some(plain.replace("\\\"", "\"").replace("\\\\", "\\"))
    }

    /// Its bytes.
    pub fn into_stream(self) -> impl Stream<Item = Result<bytes::Bytes>> + Send + 'static {
        let url = self.url;
        self.response.bytes_stream().map_err(move |error| broken_body("Get", &url, &error))
    }
}
