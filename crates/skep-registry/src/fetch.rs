//! A file from a web server, for `import`.

use std::time::Duration;

use futures_util::{Stream, TryStreamExt};
use reqwest::Client;
use reqwest::redirect::Policy;
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
}

/// Asks for a file; `http` is meant where no scheme is written. Refused if the server refuses it.
pub async fn download(config: &RegistryConfig, text: &str) -> Result<Download> {
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&whole).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let url = url.ok_or_else(|| RegistryError::Query(format!("invalid URL: {text:?}")))?;
    let client = Client::builder()
        .user_agent(&config.user_agent)
        .connect_timeout(CONNECT)
        .read_timeout(config.stall_timeout)
        .redirect(Policy::limited(REDIRECTS))
        .build();
    let sent = match client {
        Ok(client) => client.get(url.clone()).send().await,
        Err(error) => Err(error),
    };
    let response = match sent {
        Ok(response) => response,
        Err(error) => return Err(failed("Get", &url, error).await),
    };
    let status = response.status();
    if status.is_success() {
        return Ok(Download { size: response.content_length(), response, url });
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

impl Download {
    /// Its bytes.
    pub fn into_stream(self) -> impl Stream<Item = Result<bytes::Bytes>> + Send + 'static {
        let url = self.url;
        self.response.bytes_stream().map_err(move |error| broken_body("Get", &url, &error))
    }
}
