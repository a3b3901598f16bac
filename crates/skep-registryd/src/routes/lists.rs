//! Lists: the catalogue, tags, referrers. Every answer is a page of bounded size (CVE-2023-2253), and links to the next.

use http::header::{HeaderName, LINK};
use serde_json::json;

use crate::auth::{Action, Caller};
use crate::content::referrers_index;
use crate::digest::ContentDigest;
use crate::error::{Code, Refusal, Result};
use crate::http::Request;
use crate::http::answer::Answer;
use crate::http::query::encode;
use crate::http::server::Shared;
use crate::manifest::media_type;
use crate::name::RepositoryName;

/// Entries of a page when the client does not say, and the most it can ask for.
const PAGE: usize = 1000;

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// `GET /v2/_catalog`.
pub(crate) async fn catalog(shared: &Shared, request: &Request) -> Result<Answer> {
    let limit = limit(request)?;
    let page = shared
        .content
        .repositories(request.query.get("last").unwrap_or_default(), limit, seen(shared, request))
        .await?;
    let names: Vec<&str> = page.entries.iter().map(RepositoryName::as_str).collect();
    let next = names.last().filter(|_| page.more).map(|last| next("/v2/_catalog", limit, last));
    Ok(linked(Answer::json("application/json", &json!({"repositories": names})), next))
}

/// Users see what they may pull. A token for the catalogue is for all of it.
pub(crate) fn seen(shared: &Shared, request: &Request) -> impl Fn(&RepositoryName) -> bool + Send + use<> {
    let (authority, caller) = (shared.authority.clone(), request.caller.clone());
    move |name| match &caller {
        Caller::Token(grant) => authority.shows(grant, name),
        caller => authority.may(caller, name, Action::Pull),
    }
}

/// `GET /v2/NAME/tags/list`.
pub(crate) async fn tags(shared: &Shared, name: &RepositoryName, request: &Request) -> Result<Answer> {
    let limit = limit(request)?;
    let page = shared.content.tags(name, request.query.get("last").unwrap_or_default(), limit).await?;
    let next = page.entries.last().filter(|_| page.more);
    let next = next.map(|last| next_tags(name, limit, last));
    let body = json!({"name": name.as_str(), "tags": page.entries});
    Ok(linked(Answer::json("application/json", &body), next))
}

fn next_tags(name: &RepositoryName, limit: usize, last: &str) -> String {
    next(&format!("/v2/{name}/tags/list"), limit, last)
}

/// `GET /v2/NAME/referrers/DIGEST`.
pub(crate) async fn referrers(
    shared: &Shared,
    name: &RepositoryName,
    subject: &ContentDigest,
    request: &Request,
) -> Result<Answer> {
    let limit = limit(request)?;
    let wanted = request.query.get("artifactType").filter(|wanted| !wanted.is_empty());
    let last = request.query.get("last").unwrap_or_default();
    let page = shared.content.referrers(name, subject, wanted.map(str::to_owned), last, limit).await?;
    let (index, count) = referrers_index(&page.entries);
    let more = page.more || count < page.entries.len();
    let next = page.entries.get(count.wrapping_sub(1)).filter(|_| more).map(|last| {
        let filter = wanted.map(|wanted| format!("&artifactType={}", encode(wanted))).unwrap_or_default();
        next(&format!("/v2/{name}/referrers/{subject}"), limit, &last.digest.to_string()) + &filter
    });
    let answer = linked(Answer::json(media_type::OCI_INDEX, &index), next);
    Ok(if wanted.is_some() { answer.header(FILTERS_APPLIED, "artifactType") } else { answer })
}

/// How many entries the client wants; never more than a page.
fn limit(request: &Request) -> Result<usize> {
    let Some(text) = request.query.get("n") else { return Ok(PAGE) };
    let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    if !digits {
        let detail = json!({"n": text});
        return Err(Refusal::new(Code::PaginationNumberInvalid, "invalid number of results requested")
            .with(detail)
            .into());
    }
    // More digits than a number can have ask for more than there is.
    Ok(text.parse::<usize>().unwrap_or(usize::MAX).min(PAGE))
}

fn next(path: &str, limit: usize, last: &str) -> String {
    format!("{path}?n={limit}&last={}", encode(last))
}

fn linked(answer: Answer, next: Option<String>) -> Answer {
    match next {
        Some(next) => answer.header(LINK, &format!("<{next}>; rel=\"next\"")),
        None => answer,
    }
}
