//! `Range` of downloads (RFC 9110) and `Content-Range` of upload chunks (distribution spec, `<start>-<end>`).

use std::ops::Range;

/// What part of some content is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it: nothing was asked for, or nothing that is understood.
    Everything,
    /// A part.
    Part(Range<u64>),
    /// A part that is not there.
    Unsatisfiable,
}

/// Reads the header `Range` for content of `size` bytes. Several ranges at once are answered with everything, which is
/// always allowed.
pub(crate) fn wanted(header: &str, size: u64) -> Wanted {
    let Some(set) = header.trim().strip_prefix("bytes=") else { return Wanted::Everything };
    let Some((first, last)) = set.trim().split_once('-') else { return Wanted::Everything };
    let number = |text: &str| text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    match (first.trim(), last.trim()) {
        ("", suffix) => match number(suffix) {
            None => Wanted::Everything,
            Some(0) => Wanted::Unsatisfiable,
            Some(_) if size == 0 => Wanted::Unsatisfiable,
            Some(length) => Wanted::Part(size.saturating_sub(length)..size),
        },
        (first, last) => {
            let end = if last.is_empty() { Some(u64::MAX) } else { number(last) };
            match (number(first), end) {
                (Some(first), Some(last)) if first > last => Wanted::Everything,
                (Some(first), Some(_)) if first >= size => Wanted::Unsatisfiable,
                (Some(first), Some(last)) => Wanted::Part(first..last.saturating_add(1).min(size)),
                _ => Wanted::Everything,
            }
        }
    }
}

/// Reads `Content-Range` of a chunk: `0-99`, or `bytes 0-99/200` as some clients write it.
pub(crate) fn chunk(header: &str) -> Option<Range<u64>> {
    let text = header.trim();
    let text = text.strip_prefix("bytes").map_or(text, |rest| rest.trim_start_matches([' ', '=']));
    let text = text.split('/').next().unwrap_or_default();
    let (first, last) = text.split_once('-')?;
    let number = |text: &str| {
        let text = text.trim();
        let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
        digits.then(|| text.parse::<u64>().ok()).flatten()
    };
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some(first..last.checked_add(1)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_lie_within_the_content() {
        for (header, expected) in [
            ("bytes=0-0", Wanted::Part(0..1)),
            ("bytes=2-", Wanted::Part(2..10)),
            ("bytes=2-100", Wanted::Part(2..10)),
            ("bytes=-3", Wanted::Part(7..10)),
            ("bytes=-30", Wanted::Part(0..10)),
            ("bytes=0-18446744073709551615", Wanted::Part(0..10)),
            ("bytes=10-", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=5-2", Wanted::Everything),
            ("bytes=0-1,3-4", Wanted::Everything),
            ("bytes=a-b", Wanted::Everything),
            ("items=0-1", Wanted::Everything),
            ("", Wanted::Everything),
        ] {
            assert_eq!(wanted(header, 10), expected, "{header}");
        }
        assert_eq!(wanted("bytes=-1", 0), Wanted::Unsatisfiable);
    }

    #[test]
    fn chunks_have_a_beginning_and_an_end() {
        assert_eq!(chunk("0-99"), Some(0..100));
        assert_eq!(chunk("bytes 5-5/10"), Some(5..6));
        for bad in ["", "0", "-", "5-4", "a-b", "0-18446744073709551615", "+1-2", "-1-2"] {
            assert_eq!(chunk(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics_or_reaches_beyond(text in "(bytes=)?[0-9a-z, -]{0,40}", size in any::<u64>()) {
            if let Wanted::Part(part) = wanted(&text, size) {
                prop_assert!(part.start < part.end && part.end <= size);
            }
            if let Some(part) = chunk(&text) {
                prop_assert!(part.start < part.end);
            }
        }
    }
}
