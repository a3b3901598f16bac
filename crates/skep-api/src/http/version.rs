//! Versions of the Engine API: `/v1.43/containers/json`.

use crate::http::ApiError;
use crate::{API_VERSION, MIN_API_VERSION};

/// A version of the Engine API, compared as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ApiVersion(u32, u32);

impl ApiVersion {
    /// `1.minor`.
    pub(crate) const fn minor(minor: u32) -> Self {
        ApiVersion(1, minor)
    }

    /// The newest, which clients get that name none.
    pub(crate) fn newest() -> Self {
        parse(API_VERSION).unwrap_or(ApiVersion(1, 51))
    }
}

fn parse(text: &str) -> Option<ApiVersion> {
    let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
    Some(ApiVersion(major.parse().ok()?, minor.parse().ok()?))
}

/// Takes `/v1.43` off a path. A first component that isn't a version stays where it is.
pub(crate) fn split(path: &str) -> Result<(ApiVersion, &str), ApiError> {
    let versioned = path.strip_prefix("/v").and_then(|rest| {
        let end = rest.find('/')?;
        let text = &rest[..end];
        let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit() || c == b'.');
        digits.then_some((text, &rest[end..]))
    });
    let Some((text, rest)) = versioned else { return Ok((ApiVersion::newest(), path)) };
    let version = parse(text).ok_or_else(|| ApiError::invalid(format!("invalid API version {text}")))?;
    if version > ApiVersion::newest() {
        return Err(ApiError::invalid(format!(
            "client version {text} is too new. Maximum supported API version is {API_VERSION}"
        )));
    }
    if Some(version) < parse(MIN_API_VERSION) {
        return Err(ApiError::invalid(format!(
            "client version {text} is too old. Minimum supported API version is {MIN_API_VERSION}, please upgrade your \
             client to a newer version"
        )));
    }
    Ok((version, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_split_off_and_checked() {
        assert_eq!(split("/v1.43/info"), Ok((ApiVersion::minor(43), "/info")));
        assert_eq!(split("/info"), Ok((ApiVersion::newest(), "/info")));
        assert_eq!(split("/version"), Ok((ApiVersion::newest(), "/version")));
        assert_eq!(split("/volumes/a"), Ok((ApiVersion::newest(), "/volumes/a")));
        let text = |path| split(path).expect_err(path).to_string();
        assert_eq!(text("/v1.60/info"), "client version 1.60 is too new. Maximum supported API version is 1.51");
        assert_eq!(
            text("/v1.12/info"),
            "client version 1.12 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer \
             version"
        );
        assert_eq!(text("/v1.2.3/info"), "invalid API version 1.2.3");
        assert_eq!(ApiVersion::minor(9).max(ApiVersion::minor(24)), ApiVersion::minor(24));
    }
}
