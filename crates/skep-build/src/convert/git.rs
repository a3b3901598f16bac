//! Texts that name a git repository.

use crate::error::{BuildError, Result};
use crate::graph::GitSource;

/// The repository that a text names, if it does: `https://host/repo.git#ref:subdir`, `git@host:path`, `ssh://…`, `git://…`.
///
/// # Errors
/// It names one, but not properly.
pub(crate) fn git_source(text: &str) -> Result<Option<GitSource>> {
    let (address, fragment) = text.split_once('#').map_or((text, None), |(address, rest)| (address, Some(rest)));
    let (address, query) = address.split_once('?').map_or((address, None), |(address, rest)| (address, Some(rest)));
    let is_http = address.starts_with("http://") || address.starts_with("https://");
    let is_git = match is_http {
        true => address.ends_with(".git"),
        false => address.starts_with("git://") || address.starts_with("ssh://") || is_scp(address),
    };
    if !is_git {
        return Ok(None);
    }
    let mut source =
        GitSource { remote: address.to_owned(), reference: None, subdir: None, keep_git_dir: false, checksum: None };
    if let Some(fragment) = fragment {
        let (reference, subdir) = fragment.split_once(':').map_or((fragment, ""), |both| both);
        source.reference = Some(reference.to_owned());
        source.subdir = Some(subdir.to_owned());
    }
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match name {
            "ref" | "branch" | "tag" => source.reference = Some(reference(name, value)),
            "subdir" => source.subdir = Some(value.to_owned()),
            "checksum" | "commit" => source.checksum = Some(value.to_owned()),
            "keep-git-dir" => source.keep_git_dir = value.is_empty() || value == "true" || value == "1",
            _ => return Err(BuildError::invalid(format!("unexpected query {name:?}"))),
        }
    }
    source.reference = source.reference.filter(|reference| !reference.is_empty());
    source.subdir = source.subdir.filter(|subdir| !matches!(subdir.as_str(), "" | "." | "/"));
    if source.reference.as_deref().is_some_and(|reference| reference.starts_with('-')) {
        return Err(BuildError::invalid(format!("invalid git reference in {text:?}")));
    }
    Ok(Some(source))
}

fn reference(kind: &str, value: &str) -> String {
    match kind {
        "branch" => format!("refs/heads/{value}"),
        "tag" => format!("refs/tags/{value}"),
        _ => value.to_owned(),
    }
}

/// `user@host:path`, as ssh has it.
fn is_scp(text: &str) -> bool {
    let Some((host, path)) = text.split_once(':') else { return false };
    let Some((user, host)) = host.split_once('@') else { return false };
    let plain = |text: &str| !text.is_empty() && !text.contains('/') && !text.starts_with('-');
    plain(user) && plain(host) && !path.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_repository() {
        let found = |text: &str| git_source(text).expect(text);
        assert_eq!(found("https://example.com/file.tar"), None);
        assert_eq!(found("dir/file"), None);
        assert_eq!(found("a@b/c:d"), None);
        let source = found("https://example.com/x.git#v1:sub/dir").expect("a repository");
        assert_eq!(source.remote, "https://example.com/x.git");
        assert_eq!((source.reference.as_deref(), source.subdir.as_deref()), (Some("v1"), Some("sub/dir")));
        let source = found("git@example.com:me/x.git#:sub").expect("a repository");
        assert_eq!((source.reference.as_deref(), source.subdir.as_deref()), (None, Some("sub")));
        let source = found("ssh://git@example.com/x?tag=v2&subdir=a").expect("a repository");
        assert_eq!(source.reference.as_deref(), Some("refs/tags/v2"));
    }

    #[test]
    fn what_could_be_taken_for_an_option_is_refused() {
        assert!(git_source("https://example.com/x.git#--upload-pack=touch").is_err());
        assert_eq!(git_source("-x@host:path").expect("no error"), None);
    }
}
