//! `--chmod` in its symbolic form, as chmod(1) has it: `u=rwX,go=rX`, `+x`, `g=u`.

/// A mode that can't be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid mode: {0}")]
pub(in crate::build) struct BadMode(String);

/// What becomes of `mode` (permission bits) of a file, or of a directory, by `text`.
pub(super) fn apply(text: &str, mode: u32, is_dir: bool) -> Result<u32, BadMode> {
    let bad = || BadMode(text.to_owned());
    let mut mode = mode & 0o7777;
    for clause in text.split(',') {
        let start = clause.find(['+', '-', '=']).ok_or_else(bad)?;
        let (who, mut actions) = clause.split_at(start);
        let mut classes = 0u32;
        for letter in who.chars() {
            classes |= match letter {
                'u' => 0o4700,
                'g' => 0o2070,
                'o' => 0o1007,
                'a' => 0o7777,
                _ => return Err(bad()),
            };
        }
        if classes == 0 {
            classes = 0o7777;
        }
        while !actions.is_empty() {
            let (operator, rest) = actions.split_at(1);
            let end = rest.find(['+', '-', '=']).unwrap_or(rest.len());
            let (letters, next) = rest.split_at(end);
            let bits = permissions(letters, mode, is_dir).ok_or_else(bad)? & classes;
            mode = match operator {
                "+" => mode | bits,
                "-" => mode & !bits,
                // A directory keeps what isn't named: set-group-ID and the like.
                _ => (mode & !(classes & if is_dir { 0o777 } else { 0o7777 })) | bits,
            };
            actions = next;
        }
    }
    Ok(mode)
}

/// The bits that letters stand for, for all classes.
fn permissions(letters: &str, mode: u32, is_dir: bool) -> Option<u32> {
    let everyone = |bits: u32| bits | bits << 3 | bits << 6;
    let mut bits = 0;
    for letter in letters.chars() {
        bits |= match letter {
            'r' => 0o444,
            'w' => 0o222,
            'x' => 0o111,
            'X' if is_dir || mode & 0o111 != 0 => 0o111,
            'X' => 0,
            's' => 0o6000,
            't' => 0o1000,
            'u' => everyone(mode >> 6 & 7),
            'g' => everyone(mode >> 3 & 7),
            'o' => everyone(mode & 7),
            _ => return None,
        };
    }
    Some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_chmod_does() {
        for (text, mode, is_dir, want) in [
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o700, true, 0o755),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("g=u", 0o750, false, 0o770),
            ("u+s,g-x", 0o755, false, 0o4745),
            ("+t", 0o755, true, 0o1755),
            ("o=", 0o777, false, 0o770),
            ("u=rw+x", 0o000, false, 0o700),
        ] {
            assert_eq!(apply(text, mode, is_dir), Ok(want), "{text} on {mode:o}");
        }
        for bad in ["", "z+x", "u", "u+q", "u=rw,,g=r"] {
            assert!(apply(bad, 0o644, false).is_err(), "{bad}");
        }
    }
}
