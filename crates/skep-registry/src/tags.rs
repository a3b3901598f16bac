//! The tags of a repository (distribution spec, "Listing Tags"), which come in pages.

use reqwest::header::{HeaderMap, LINK};
use serde::Deserialize;
use url::Url;

use crate::manifest::ManifestError;
use crate::repository::Repository;
use crate::transport::read_body;
use crate::{RegistryError, Result};

/// The largest page, and the most tags that are taken in.
const MAX_PAGE: u64 = 4 << 20;
const MAX_TAGS: usize = 100_000;

#[derive(Deserialize)]
struct Page {
    /// `null` for a repository without tags.
    tags: Option<Vec<String>>,
}

impl Repository {
    /// All tags, in the registry's order.
    pub async fn tags(&self) -> Result<Vec<String>> {
        let mut tags = Vec::new();
        let mut next = Some(self.inner.url("tags/list")?);
        while let Some(url) = next {
            let response = self.inner.get_patiently(&url, &HeaderMap::new()).await;
            let response = response.map_err(|e| e.about(&self.inner.reference))?;
            next = next_page(&url, response.headers());
            let body = read_body(response, MAX_PAGE, "list of tags").await?;
            let page: Page = serde_json::from_slice(&body).map_err(ManifestError::from)?;
            let before = tags.len();
            tags.extend(page.tags.unwrap_or_default());
            if tags.len() > MAX_TAGS {
                return Err(RegistryError::TooLarge { what: "list of tags".to_owned(), limit: MAX_TAGS as u64 });
            }
            if tags.len() == before {
                break; // a page without tags that names another one could go on for ever
            }
        }
        Ok(tags)
    }
}

/// `Link: </v2/x/tags/list?last=b>; rel="next"`, if it leads to the same host.
pub(crate) fn next_page(from: &Url, headers: &HeaderMap) -> Option<Url> {
    let text = headers.get(LINK)?.to_str().ok()?;
    let (target, parameters) = text.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = parameters.split(';').any(|p| matches!(p.trim(), "rel=\"next\"" | "rel=next"));
    let next = from.join(target).ok()?;
    (is_next && next.origin() == from.origin()).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    #[test]
    fn pages_are_followed_on_the_same_host_only() {
        let from: Url = "http://h:1/v2/x/tags/list".parse().expect("a URL");
        let next = |text: &'static str| {
            let headers = HeaderMap::from_iter([(LINK, HeaderValue::from_static(text))]);
            next_page(&from, &headers).map(|url| url.to_string())
        };
        let second = Some("http://h:1/v2/x/tags/list?last=b".to_owned());
        assert_eq!(next("</v2/x/tags/list?last=b>; rel=\"next\""), second);
        assert_eq!(next("<http://h:1/v2/x/tags/list?last=b>;rel=next"), second);
        for bad in ["</v2/x>; rel=\"prev\"", "<http://other/v2/x>; rel=\"next\"", "x", "<>"] {
            assert_eq!(next(bad), None, "{bad}");
        }
    }
}
