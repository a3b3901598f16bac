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
