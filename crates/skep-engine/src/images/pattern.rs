//! Patterns for references, as Go's `path.Match` reads them: `*` and `?` stop at slashes, `[a-z]`, `[^x]`, `\` takes the next
//! letter as it is.

/// A pattern that can't be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadPattern;

/// Whether `text` as a whole follows `pattern`.
pub(crate) fn matches(pattern: &str, text: &str) -> Result<bool, BadPattern> {
    let pattern: Vec<Piece> = parse(pattern)?;
    let text: Vec<char> = text.chars().collect();
    Ok(follow(&pattern, &text))
}

#[derive(Debug)]
enum Piece {
    Letter(char),
    Any,
    Many,
    Class { negated: bool, ranges: Vec<(char, char)> },
}

fn parse(pattern: &str) -> Result<Vec<Piece>, BadPattern> {
    let mut pieces = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        pieces.push(match c {
            '*' => Piece::Many,
            '?' => Piece::Any,
            '\\' => Piece::Letter(chars.next().ok_or(BadPattern)?),
            '[' => {
                let negated = chars.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                while ranges.is_empty() || chars.peek() != Some(&']') {
                    let low = class_letter(&mut chars)?;
                    let high = if chars.next_if_eq(&'-').is_some() { class_letter(&mut chars)? } else { low };
                    ranges.push((low, high));
                }
                chars.next();
                Piece::Class { negated, ranges }
            }
            c => Piece::Letter(c),
        });
    }
    Ok(pieces)
}

fn class_letter(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<char, BadPattern> {
    match chars.next() {
        None | Some('-' | ']') => Err(BadPattern),
        Some('\\') => chars.next().ok_or(BadPattern),
        Some(c) => Ok(c),
    }
}

/// Goes back to the last `*` only: linear in the text for each star.
fn follow(pattern: &[Piece], text: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        match pattern.get(p) {
            Some(Piece::Many) => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Some(piece) if text.get(t).is_some_and(|c| fits(piece, *c)) => {
                p += 1;
                t += 1;
                continue;
            }
            None if t == text.len() => return true,
            _ => {}
        }
        match star {
            Some((at, from)) if text.get(from).is_some_and(|c| *c != '/') => {
                star = Some((at, from + 1));
                p = at + 1;
                t = from + 1;
            }
            _ => return false,
        }
    }
}

fn fits(piece: &Piece, c: char) -> bool {
    match piece {
        Piece::Letter(letter) => *letter == c,
        Piece::Any => c != '/',
        Piece::Many => false,
        Piece::Class { negated, ranges } => ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_does() {
        for (pattern, text, want) in [
            ("busybox", "busybox", true),
            ("busybox", "busybox:1", false),
            ("busy*", "busybox", true),
            ("*", "a/b", false),
            ("*/*", "a/b", true),
            ("*box:?", "busybox:1", true),
            ("b[a-u]sy*:*", "busybox:latest", true),
            ("b[^a-u]sy*", "busybox", false),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("*a*b*c", "xaybzc", true),
            ("*a*b*c", "xaybz", false),
            ("", "", true),
            ("localhost:*/x", "localhost:5000/x", true),
        ] {
            assert_eq!(matches(pattern, text), Ok(want), "{pattern} {text}");
        }
        for bad in ["[", "[]", "[a", "[a-", "[-a]", "a\\", "[^]"] {
            assert_eq!(matches(bad, "a"), Err(BadPattern), "{bad}");
        }
    }

    #[test]
    fn many_stars_are_no_trouble() {
        assert_eq!(matches(&"a*".repeat(200), &"a".repeat(4000)), Ok(true));
        assert_eq!(matches(&format!("{}b", "a*".repeat(200)), &"a".repeat(4000)), Ok(false));
    }
}
