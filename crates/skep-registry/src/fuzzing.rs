//! What the fuzz targets call: parsers of this crate that are nobody else's business. They must return, whatever they get.

/// A `WWW-Authenticate` header.
pub fn challenge(text: &str) {
    if let Ok(value) = reqwest::header::HeaderValue::from_str(text) {
        let mut headers = reqwest::header::HeaderMap::new();
        headers.insert(reqwest::header::WWW_AUTHENTICATE, value);
        let _ = crate::challenge::challenges(&headers);
        let _ = crate::challenge::bearer_error(&headers);
    }
}

/// A `hosts.toml`.
pub fn hosts(text: &str) {
    let Ok(hosts) = crate::hosts::parse(text, std::path::Path::new("/dir"), "reg.example") else { return };
    let own = hosts.last().expect("the registry itself is always one of them");
    assert!(own.role == crate::hosts::Role::Registry);
    for host in &hosts {
        if let crate::hosts::Address::Root(url) = &host.address {
            assert!(matches!(url.scheme(), "http" | "https") && url.host_str().is_some(), "{url}");
            assert!(url.path().ends_with('/'), "{url}");
        }
    }
}
