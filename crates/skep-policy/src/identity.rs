//! Whether the name in a signature is the one that is being pulled.

use skep_types::Reference;

use crate::file::IdentityMatch;

impl IdentityMatch {
    /// Whether a signature for `signed` counts for an image asked for as `wanted`, which has a tag or a digest.
    pub fn accepts(&self, wanted: &Reference, signed: &str) -> bool {
        let Ok(signed) = signed.parse::<Reference>() else { return false };
        match self {
            IdentityMatch::RepoDigestOrExact => repository_or_exact(wanted, &signed),
            IdentityMatch::Exact => exact(wanted, &signed),
            IdentityMatch::Repository => wanted.canonical_name() == signed.canonical_name(),
            IdentityMatch::ExactReference(reference) => exact(reference, &signed),
            IdentityMatch::ExactRepository(repository) => repository.canonical_name() == signed.canonical_name(),
            IdentityMatch::Remap { prefix, signed_prefix } => match remap(wanted, prefix, signed_prefix) {
                Some(wanted) => repository_or_exact(&wanted, &signed),
                None => false,
            },
        }
    }
}

/// By digest, the digest itself is compared elsewhere, and only the repository here.
fn repository_or_exact(wanted: &Reference, signed: &Reference) -> bool {
    match (wanted.digest(), wanted.tag()) {
        (Some(_), _) => wanted.canonical_name() == signed.canonical_name(),
        (None, Some(_)) => exact(wanted, signed),
        (None, None) => false,
    }
}

/// A name without tag and digest is exact about nothing.
fn exact(wanted: &Reference, signed: &Reference) -> bool {
    let precise = |reference: &Reference| reference.tag().is_some() || reference.digest().is_some();
    precise(wanted) && precise(signed) && wanted == signed
}

/// `wanted` with the prefix exchanged; itself if it hasn't that prefix; nothing if the result is no name.
fn remap(wanted: &Reference, prefix: &str, signed_prefix: &str) -> Option<Reference> {
    let name = wanted.canonical_name();
    match name.strip_prefix(prefix) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            let suffix = &wanted.to_string()[prefix.len()..];
            format!("{signed_prefix}{suffix}").parse().ok()
        }
        _ => Some(wanted.clone()),
    }
}
