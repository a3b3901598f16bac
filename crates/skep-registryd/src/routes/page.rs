//! A catalogue for people: `/` lists the repositories, `/ui/NAME` the tags of one. No script, nothing from elsewhere; everything that
//! comes from outside is escaped.

use std::fmt::Write as _;

use http::StatusCode;
use http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY};
use serde_json::Value;
use skep_types::format_decimal;

use crate::digest::ContentDigest;
use crate::error::{Code, Error, Result};
use crate::http::Request;
use crate::http::answer::Answer;
use crate::http::query::encode;
use crate::http::server::Shared;
use crate::manifest::{Descriptor, Kind, Manifest};
use crate::name::{ManifestReference, RepositoryName};
use crate::routes::lists::seen;

/// Rows of a page.
const ROWS: usize = 100;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem}\
    table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #ccc;\
    vertical-align:top}code{font-size:13px}td.n{text-align:right;white-space:nowrap}@media(prefers-color-scheme:dark)\
    {body{background:#181818;color:#ddd}a{color:#8bf}}";

/// `GET /`.
pub(crate) async fn repositories(shared: &Shared, request: &Request) -> Result<Answer> {
    let last = request.query.get("last").unwrap_or_default();
    let page = shared.content.repositories(last, ROWS, seen(shared, request)).await?;
    let mut body = String::from("<h1>Repositories</h1>\n");
    if page.entries.is_empty() {
        body.push_str("<p>There are none.</p>\n");
    } else {
        body.push_str("<ul>\n");
        for name in &page.entries {
            let _ = writeln!(body, "<li><a href=\"/ui/{0}\">{0}</a></li>", escape(name.as_str()));
        }
        body.push_str("</ul>\n");
    }
    if let Some(last) = page.entries.last().filter(|_| page.more) {
        let _ = writeln!(body, "<p><a href=\"/?last={}\">More</a></p>", escape(&encode(last.as_str())));
    }
    Ok(document("Repositories", &body))
}

/// `GET /ui/NAME`.
pub(crate) async fn repository(shared: &Shared, name: &RepositoryName, request: &Request) -> Result<Answer> {
    let page = shared.content.tags(name, request.query.get("last").unwrap_or_default(), ROWS).await?;
    let title = escape(name.as_str());
    let mut body = format!("<p><a href=\"/\">Repositories</a></p>\n<h1>{title}</h1>\n");
    body.push_str("<table>\n<tr><th>Tag</th><th>Platform</th><th>Size</th><th>Layers</th><th>Digest</th></tr>\n");
    for tag in &page.entries {
        row(shared, name, tag, &mut body).await?;
    }
    body.push_str("</table>\n");
    if let Some(last) = page.entries.last().filter(|_| page.more) {
        let _ = writeln!(body, "<p><a href=\"/ui/{title}?last={}\">More</a></p>", escape(&encode(last)));
    }
    Ok(document(&title, &body))
}

async fn row(shared: &Shared, name: &RepositoryName, tag: &str, body: &mut String) -> Result<()> {
    let Ok(reference) = tag.parse::<ManifestReference>() else { return Ok(()) };
    let Some((digest, manifest)) = read(shared, name, &reference).await? else { return Ok(()) };
    if manifest.kind != Kind::Index {
        cells(body, tag, &platform_of(shared, &manifest).await, &manifest, &digest);
        return Ok(());
    }
    let _ = writeln!(
        body,
        "<tr><td>{}</td><td>{} platforms</td><td></td><td></td><td><code>{digest}</code></td></tr>",
        escape(tag),
        manifest.manifests.len()
    );
    for part in &manifest.manifests {
        let platform = part.platform.as_ref().map(described).unwrap_or_default();
        match read(shared, name, &ManifestReference::Digest(part.digest)).await? {
            Some((digest, child)) => cells(body, "", &platform, &child, &digest),
            None => {
                let _ = writeln!(
                    body,
                    "<tr><td></td><td>{}</td><td>not here</td><td></td><td><code>{}</code></td></tr>",
                    escape(&platform),
                    part.digest
                );
            }
        }
    }
    Ok(())
}

/// A manifest, unless it is gone meanwhile.
async fn read(
    shared: &Shared,
    name: &RepositoryName,
    reference: &ManifestReference,
) -> Result<Option<(ContentDigest, Manifest)>> {
    let stored = match shared.content.manifest(name, reference).await {
        Ok(stored) => stored,
        Err(Error::Refused(refusal)) if refusal.code == Code::ManifestUnknown => return Ok(None),
        Err(error) => return Err(error),
    };
    let bytes = shared.content.manifest_bytes(&stored).await?;
    Ok(Manifest::parse(&bytes, &stored.media_type).ok().map(|manifest| (stored.digest, manifest)))
}

/// What an image says it runs on, if its configuration is here and not absurdly large.
async fn platform_of(shared: &Shared, manifest: &Manifest) -> String {
    const LIMIT: u64 = 1 << 20;
    let Some(config) = manifest.config.as_ref().filter(|config| config.size <= LIMIT) else { return String::new() };
    match crate::storage::read_all(&*shared.content.storage, &config.digest, config.size).await {
        Ok(bytes) => serde_json::from_slice(&bytes).map(|config: Value| described(&config)).unwrap_or_default(),
        // A cache has it only when somebody pulled it.
        Err(_) => String::new(),
    }
}

fn described(platform: &Value) -> String {
    let parts = ["os", "architecture", "variant"].map(|key| platform[key].as_str().unwrap_or_default());
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

fn cells(body: &mut String, tag: &str, platform: &str, manifest: &Manifest, digest: &ContentDigest) {
    let parts = || manifest.config.iter().chain(&manifest.blobs);
    let size = parts().fold(0_u64, |sum, part| sum.saturating_add(part.size));
    let layers: String = manifest.blobs.iter().map(layer).collect();
    let (count, platform) = (manifest.blobs.len(), escape(platform));
    let _ = writeln!(
        body,
        "<tr><td>{}</td><td>{platform}</td><td class=\"n\">{}</td><td><details><summary>{count}</summary>{layers}</details></td>\
         <td><code>{digest}</code></td></tr>",
        escape(tag),
        format_decimal(size)
    );
}

fn layer(part: &Descriptor) -> String {
    format!("<div><code>{}</code> {} {}</div>", part.digest, format_decimal(part.size), escape(&part.media_type))
}

fn document(title: &str, body: &str) -> Answer {
    let text = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style></head>\n<body>\n{body}</body></html>\n"
    );
    Answer::bytes(StatusCode::OK, "text/html; charset=utf-8", text)
        .header(
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
        )
        .header(REFERRER_POLICY, "no-referrer")
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            letter => out.push(letter),
        }
    }
    out
}
