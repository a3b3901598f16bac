//! `.dockerignore`, a NUL, and a path to be matched.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_dockerfile::ignore::{self, Matcher};

fuzz_target!(|data: &[u8]| {
    let (file, path) = data.split_at(data.iter().position(|byte| *byte == 0).unwrap_or(data.len()));
    let path = String::from_utf8_lossy(path.strip_prefix(b"\0").unwrap_or(path));
    let Ok(matcher) = Matcher::new(&ignore::read(file)) else { return };
    let (is_out, _) = matcher.matches_below(&path, None);
    assert_eq!(is_out, matcher.matches_exactly(&path));
    // Paths of a context are never empty nor absolute.
    let is_path = !path.is_empty() && !path.starts_with('/');
    if is_path && matcher.matches(&path) && !matcher.has_exceptions() {
        assert!(matcher.matches(&format!("{path}/below")) && matcher.is_closed(&path));
    }
});
