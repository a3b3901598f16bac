//! The order of a walk: a directory, all that is below it, then its next sibling; siblings by the bytes of their names.

use std::cmp::Ordering;

/// Compares paths in the order of a walk: byte by byte, with the slash below all others.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let rank = |byte: u8| if byte == b'/' { 0 } else { u16::from(byte) + 1 };
    a.bytes().map(rank).cmp(b.bytes().map(rank))
}

/// The directory that holds `path`, and its last name.
pub(crate) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// Whether a path is relative and has only real names.
pub(crate) fn is_clean(path: &str) -> bool {
    const PATH_MAX: usize = 4096;
    const NAME_MAX: usize = 255;
    let fine = |name: &str| !name.is_empty() && name != "." && name != ".." && name.len() <= NAME_MAX;
    path.len() < PATH_MAX && !path.contains('\0') && path.split('/').all(fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_comes_before_siblings() {
        let mut paths = vec!["b", "a-b", "a/c", "a", "a.b/x", "a/c/d", "a.b", "a/c.d"];
        paths.sort_by(|a, b| compare(a, b));
        assert_eq!(paths, ["a", "a/c", "a/c/d", "a/c.d", "a-b", "a.b", "a.b/x", "b"]);
    }

    #[test]
    fn paths_that_could_lead_elsewhere_are_not_clean() {
        for bad in ["", "/", "/a", "a/", "a//b", "a/../b", "..", "./a", "a/.", "a\0b"] {
            assert!(!is_clean(bad), "{bad:?}");
        }
        assert!(!is_clean(&"x".repeat(256)));
        for good in ["a", "a/b", "..a", "a/...", "ü/ b"] {
            assert!(is_clean(good), "{good:?}");
        }
    }
}
