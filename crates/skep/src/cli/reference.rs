//! Words that name things of the engine, made into paths of its API.

use skep_client::{encode_path, encode_query};

use super::Failure;

/// `/containers/NAME/ACTION`.
pub(crate) fn container(name: &str, action: &str) -> Result<String, Failure> {
    if name.trim().is_empty() {
        return Err(Failure::message("invalid container name or ID: value is empty"));
    }
    Ok(format!("/containers/{}{action}", component(name)))
}

/// `/images/NAME/ACTION`; a name keeps its slashes.
pub(crate) fn image(name: &str, action: &str) -> Result<String, Failure> {
    if name.trim().is_empty() {
        return Err(Failure::message("invalid image name or ID: value is empty"));
    }
    Ok(format!("/images/{}{action}", encode_path(name)))
}

/// `/volumes/NAME`.
pub(crate) fn volume(name: &str) -> Result<String, Failure> {
    if name.trim().is_empty() {
        return Err(Failure::message("invalid volume name or ID: value is empty"));
    }
    Ok(format!("/volumes/{}", component(name)))
}

/// `/networks/NAME/ACTION`.
pub(crate) fn network(name: &str, action: &str) -> Result<String, Failure> {
    if name.trim().is_empty() {
        return Err(Failure::message("invalid network name or ID: value is empty"));
    }
    Ok(format!("/networks/{}{action}", component(name)))
}

/// One component of a path: a slash in it is a letter of the name, not a separator.
fn component(name: &str) -> String {
    // Docker shows container names with a leading slash in `inspect`, and takes them like that.
    encode_query(name.trim_start_matches('/'))
}

/// Splits an image name into repository and tag (or digest) as the API's `fromImage` and `tag` want them.
pub(crate) fn repository_and_tag(reference: &skep_types::Reference) -> (String, String) {
    let name = reference.familiar_name();
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => (name, digest.to_string()),
        (None, Some(tag)) => (name, tag.to_owned()),
        (None, None) => (name, String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_within_their_component() {
        assert_eq!(container("/web", "/start").expect("a name"), "/containers/web/start");
        assert_eq!(container("a/../b?x", "").expect("a name"), "/containers/a%2F..%2Fb%3Fx");
        assert_eq!(image("reg:5000/a/b:1", "/json").expect("a name"), "/images/reg:5000/a/b:1/json");
        assert!(container(" ", "").is_err());
    }
}
