//! Where an image comes from, and which requirements of a policy are for it: those of the narrowest scope that has any.
//!
//! ```text
//! docker:  registry/a/b:tag ─► registry/a/b ─► registry/a ─► registry[:port] ─► *.parent.domain … ─► "" ─► default
//! others:  "" ─► default        (what arrives is a stream without a path)
//! ```

use std::fmt;

use skep_types::Reference;

use crate::file::{Policy, PolicyError, Requirement};

/// Where an image comes from.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// A registry; the reference has a tag or a digest.
    Docker(&'a Reference),
    /// An archive as `docker save` writes it.
    DockerArchive,
    /// An archive in OCI layout.
    OciArchive,
    /// An OCI layout, whose path is its client's own matter.
    OciLayout,
    /// An archive of files, to become an image (`docker import`).
    Tarball,
}

impl Source<'_> {
    /// The transport's name in a policy.
    pub fn transport(&self) -> &'static str {
        match self {
            Source::Docker(_) => "docker",
            Source::DockerArchive => "docker-archive",
            Source::OciArchive => "oci-archive",
            Source::OciLayout => "oci",
            Source::Tarball => "tarball",
        }
    }
}

impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Docker(reference) => write!(f, "docker://{}", reference.familiar()),
            _ => write!(f, "{}:", self.transport()),
        }
    }
}

impl Policy {
    /// What an image from `source` has to meet: all of these, and there is at least one.
    pub fn requirements(&self, source: &Source<'_>) -> &[Requirement] {
        let Some(scopes) = self.transports.get(source.transport()) else { return &self.default };
        let names = match source {
            Source::Docker(reference) => scopes_of(reference),
            _ => Vec::new(),
        };
        let narrow = names.iter().find_map(|name| scopes.get(name));
        narrow.or_else(|| scopes.get("")).unwrap_or(&self.default)
    }

    /// Whether the transport of `source` has requirements for paths, which can't be told apart in a stream.
    pub(crate) fn asks_for_paths(&self, source: &Source<'_>) -> bool {
        matches!(source, Source::OciArchive | Source::OciLayout)
            && self
                .transports
                .get(source.transport())
                .is_some_and(|scopes| scopes.keys().any(|scope| !scope.is_empty()))
    }
}

/// The scopes that a reference is in, narrowest first.
fn scopes_of(reference: &Reference) -> Vec<String> {
    let mut name = reference.canonical_name();
    let mut scopes = vec![reference.to_string(), name.clone()];
    while let Some(slash) = name.rfind('/') {
        name.truncate(slash);
        scopes.push(name.clone());
    }
    if let Some(colon) = name.find(':') {
        name.truncate(colon);
    }
    let mut rest = name.as_str();
    while let Some((_, parent)) = rest.split_once('.') {
        scopes.push(format!("*.{parent}"));
        rest = parent;
    }
    scopes
}

/// Whether a scope can ever apply. One that can't is a mistake, and mistakes in a policy make it invalid.
pub(crate) fn check(transport: &str, scope: &str) -> Result<(), PolicyError> {
    if scope.is_empty() {
        return Ok(());
    }
    let bad = |why| Err(PolicyError::Scope { transport: transport.to_owned(), scope: scope.to_owned(), why });
    match transport {
        "docker" | "atomic" => match scope.strip_prefix("*.") {
            Some(domain) if domain.is_empty() || domain.contains(['/', ':', '*']) => {
                bad("a wildcard stands for hosts only")
            }
            None if scope.contains('*') => bad("a wildcard stands at the beginning only"),
            _ => Ok(()),
        },
        "docker-archive" | "tarball" => bad("this transport has no scopes but \"\""),
        "oci-archive" if !scope.starts_with('/') => bad("want an absolute path"),
        _ => Ok(()),
    }
}

/// Whether a text is the whole name of a repository, a namespace, or a host.
pub(crate) fn is_name_or_host(text: &str) -> bool {
    // A host alone is a name with any path behind it.
    let is_name = |text: &str| {
        text.parse::<Reference>()
            .is_ok_and(|name| name.tag().is_none() && name.digest().is_none() && name.canonical_name() == text)
    };
    is_name(text) || (!text.contains('/') && is_name(&format!("{text}/x")))
}
