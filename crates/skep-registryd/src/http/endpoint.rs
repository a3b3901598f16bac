//! From method and path to what is asked for.
//!
//! Names of repositories contain slashes, and may contain parts that look like the API's own words; so a path is read from its
//! end. What comes out holds checked names only.

use http::Method;

use crate::auth::{Action, Audience, Need};
use crate::digest::ContentDigest;
use crate::error::{Code, Refusal};
use crate::name::{ManifestReference, RepositoryName, UploadId};

/// A resource of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// `/v2/`
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/NAME/tags/list`
    Tags(RepositoryName),
    /// `/v2/NAME/manifests/REFERENCE`
    Manifest(RepositoryName, ManifestReference),
    /// `/v2/NAME/blobs/DIGEST`
    Blob(RepositoryName, ContentDigest),
    /// `/v2/NAME/blobs/uploads/`
    Uploads(RepositoryName),
    /// `/v2/NAME/blobs/uploads/ID`
    Upload(RepositoryName, UploadId),
    /// `/v2/NAME/referrers/DIGEST`
    Referrers(RepositoryName, ContentDigest),
    /// `/healthz`
    Health,
    /// `/metrics`
    Metrics,
    /// `/token`
    Token,
    /// `/`: repositories, for people
    Repositories,
    /// `/ui/NAME`
    Page(RepositoryName),
}

/// Finds the resource of a decoded path; `None` if there is none of that form.
pub(crate) fn find(method: &Method, path: &str) -> Result<Option<Endpoint>, Refusal> {
    match path {
        "/v2" | "/v2/" => return Ok(Some(Endpoint::Base)),
        "/v2/_catalog" => return Ok(Some(Endpoint::Catalog)),
        "/healthz" => return Ok(Some(Endpoint::Health)),
        "/metrics" => return Ok(Some(Endpoint::Metrics)),
        "/" => return Ok(Some(Endpoint::Repositories)),
        "/token" => return Ok(Some(Endpoint::Token)),
        _ => {}
    }
    if let Some(name) = path.strip_prefix("/ui/") {
        return repository(name).map(|name| Some(Endpoint::Page(name)));
    }
    let Some(path) = path.strip_prefix("/v2/") else { return Ok(None) };
    let parts: Vec<&str> = path.split('/').collect();
    let (name, make): (&[&str], Form<'_>) = match parts.as_slice() {
        [name @ .., "blobs", "uploads", ""] => (name, Form::Uploads),
        [name @ .., "blobs", "uploads", id] => (name, Form::Upload(id)),
        [name @ .., "blobs", "uploads"] if *method == Method::POST => (name, Form::Uploads),
        [name @ .., "blobs", digest] => (name, Form::Blob(digest)),
        [name @ .., "manifests", reference] => (name, Form::Manifest(reference)),
        [name @ .., "tags", "list"] => (name, Form::Tags),
        [name @ .., "referrers", digest] => (name, Form::Referrers(digest)),
        _ => return Ok(None),
    };
    let name = name.join("/");
    let name = repository(&name)?;
    make.checked(name, method).map(Some)
}

fn repository(name: &str) -> Result<RepositoryName, Refusal> {
    let detail = serde_json::json!({"name": name});
    name.parse().map_err(|_| Refusal::new(Code::NameInvalid, "invalid repository name").with(detail))
}

/// A resource whose parts are not checked yet.
enum Form<'a> {
    Tags,
    Manifest(&'a str),
    Blob(&'a str),
    Uploads,
    Upload(&'a str),
    Referrers(&'a str),
}

impl Form<'_> {
    fn checked(self, name: RepositoryName, method: &Method) -> Result<Endpoint, Refusal> {
        let digest = |text: &str| {
            text.parse::<ContentDigest>().map_err(|_| {
                Refusal::new(Code::DigestInvalid, "invalid digest").with(serde_json::json!({"digest": text}))
            })
        };
        Ok(match self {
            Form::Tags => Endpoint::Tags(name),
            Form::Uploads => Endpoint::Uploads(name),
            Form::Blob(text) => Endpoint::Blob(name, digest(text)?),
            Form::Referrers(text) => Endpoint::Referrers(name, digest(text)?),
            Form::Upload(text) => {
                let unknown = |_| Refusal::new(Code::BlobUploadUnknown, "blob upload unknown to registry");
                Endpoint::Upload(name, text.parse().map_err(unknown)?)
            }
            Form::Manifest(text) => {
                let wrong = |_| match (*method == Method::PUT, text.contains(':')) {
                    (true, false) => Refusal::new(Code::TagInvalid, "invalid tag name"),
                    (true, true) => Refusal::new(Code::DigestInvalid, "invalid digest"),
                    // What can't be there isn't.
                    (false, _) => Refusal::new(Code::ManifestUnknown, "manifest unknown"),
                };
                Endpoint::Manifest(name, text.parse().map_err(wrong)?)
            }
        })
    }
}

impl Endpoint {
    /// What somebody needs who wants to do this here.
    pub(crate) fn need(&self, method: &Method) -> Need {
        let reads = *method == Method::GET || *method == Method::HEAD;
        match self {
            // Tokens are for who has none, and whether the registry is well is no secret.
            Endpoint::Health | Endpoint::Token => Need::Nothing,
            Endpoint::Base | Endpoint::Metrics => Need::Login,
            Endpoint::Catalog | Endpoint::Repositories => Need::Catalog,
            Endpoint::Uploads(name) | Endpoint::Upload(name, _) => Need::Repository(name.clone(), Action::Push),
            Endpoint::Tags(name) | Endpoint::Referrers(name, _) | Endpoint::Page(name) => {
                Need::Repository(name.clone(), Action::Pull)
            }
            Endpoint::Manifest(name, _) | Endpoint::Blob(name, _) => {
                let action = match *method {
                    _ if reads => Action::Pull,
                    Method::DELETE => Action::Delete,
                    _ => Action::Push,
                };
                Need::Repository(name.clone(), action)
            }
        }
    }

    /// The repository that it is about.
    pub(crate) fn repository_mut(&mut self) -> Option<&mut RepositoryName> {
        match self {
            Endpoint::Tags(name)
            | Endpoint::Manifest(name, _)
            | Endpoint::Blob(name, _)
            | Endpoint::Uploads(name)
            | Endpoint::Upload(name, _)
            | Endpoint::Referrers(name, _)
            | Endpoint::Page(name) => Some(name),
            Endpoint::Base
            | Endpoint::Catalog
            | Endpoint::Health
            | Endpoint::Metrics
            | Endpoint::Token
            | Endpoint::Repositories => None,
        }
    }

    /// Who reads what is answered here.
    pub(crate) fn audience(&self) -> Audience {
        match self {
            Endpoint::Repositories | Endpoint::Page(_) => Audience::People,
            _ => Audience::Programs,
        }
    }

    /// A word for logs and metrics.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Endpoint::Base => "base",
            Endpoint::Catalog => "catalog",
            Endpoint::Tags(_) => "tags",
            Endpoint::Manifest(..) => "manifest",
            Endpoint::Blob(..) => "blob",
            Endpoint::Uploads(_) | Endpoint::Upload(..) => "upload",
            Endpoint::Referrers(..) => "referrers",
            Endpoint::Health => "health",
            Endpoint::Metrics => "metrics",
            Endpoint::Token => "token",
            Endpoint::Repositories | Endpoint::Page(_) => "page",
        }
    }

    /// The methods that it knows.
    pub(crate) fn allowed(&self) -> &'static str {
        match self {
            Endpoint::Uploads(_) => "POST",
            Endpoint::Upload(..) => "GET, PATCH, PUT, DELETE",
            Endpoint::Manifest(..) => "GET, HEAD, PUT, DELETE",
            Endpoint::Blob(..) => "GET, HEAD, DELETE",
            Endpoint::Base
            | Endpoint::Catalog
            | Endpoint::Tags(_)
            | Endpoint::Referrers(..)
            | Endpoint::Health
            | Endpoint::Metrics
            | Endpoint::Token
            | Endpoint::Repositories
            | Endpoint::Page(_) => "GET, HEAD",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code(method: Method, path: &str) -> Code {
        find(&method, path).expect_err(path).code
    }

    #[test]
    fn paths_are_read_from_their_end() {
        let name = |text: &str| text.parse::<RepositoryName>().expect("a name");
        let digest = format!("sha256:{}", "0".repeat(64));
        let found = |path: &str| find(&Method::GET, path).expect(path);
        assert_eq!(found("/v2/"), Some(Endpoint::Base));
        assert_eq!(found("/v2/a/b/tags/list"), Some(Endpoint::Tags(name("a/b"))));
        assert_eq!(
            found("/v2/manifests/blobs/manifests/tags"),
            Some(Endpoint::Manifest(name("manifests/blobs"), "tags".parse().expect("a tag")))
        );
        let path = format!("/v2/blobs/uploads/blobs/{digest}");
        assert_eq!(found(&path), Some(Endpoint::Blob(name("blobs/uploads"), digest.parse().expect("a digest"))));
        for nothing in ["/x", "/v1/", "/v2/a", "/v2/a/tags", "/v3/a/tags/list", "/v2/_catalog/x"] {
            assert_eq!(found(nothing), None, "{nothing}");
        }
        let post = find(&Method::POST, "/v2/a/blobs/uploads").expect("found");
        assert_eq!(post, Some(Endpoint::Uploads(name("a"))));
    }

    #[test]
    fn nothing_unchecked_comes_through() {
        assert_eq!(code(Method::GET, "/v2/../tags/list"), Code::NameInvalid);
        assert_eq!(code(Method::GET, "/v2/A/tags/list"), Code::NameInvalid);
        assert_eq!(code(Method::GET, "/v2//tags/list"), Code::NameInvalid);
        assert_eq!(code(Method::GET, "/v2/a/blobs/sha256:.."), Code::DigestInvalid);
        assert_eq!(code(Method::GET, "/v2/a/blobs/uploads/.."), Code::BlobUploadUnknown);
        assert_eq!(code(Method::GET, "/v2/a/manifests/.INVALID"), Code::ManifestUnknown);
        assert_eq!(code(Method::PUT, "/v2/a/manifests/.INVALID"), Code::TagInvalid);
        assert_eq!(code(Method::PUT, "/v2/a/manifests/sha256:0"), Code::DigestInvalid);
    }

    proptest! {
        #[test]
        fn nothing_panics(path in "/v2/([a-z./:%_-]{0,12}/){0,4}[a-z0-9.:-]{0,20}", any in any::<String>()) {
            let _ = find(&Method::GET, &path);
            let _ = find(&Method::PUT, &any);
        }
    }
}
