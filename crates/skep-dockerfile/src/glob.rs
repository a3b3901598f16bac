//! Patterns for paths: Go's `filepath.Match`, and the same with `**`, as `.dockerignore` has it.
//!
//! A pattern is compiled to a list of parts, and matched by keeping the set of parts that the path can have reached: linear in
//! the path, whatever the pattern.

/// A pattern that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct BadPattern;

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    parts: Vec<Part>,
}

/// What two stars mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stars {
    /// The same as one: neither crosses a `/`.
    Plain,
    /// Any number of directories.
    Directories,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Char(char),
    /// `?`
    One,
    /// `*`
    Many,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    /// `**` or `**/` before something: nothing, or anything that ends with `/`.
    Directories,
    /// `**` at the end: anything.
    Everything,
    /// `**` at the beginning, before plain text: anything, cut anywhere.
    Anything,
}

impl Glob {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// An open or empty class, a range without end, an escape without character.
    pub fn new(pattern: &str, stars: Stars) -> Result<Glob, BadPattern> {
        let mut parts = Vec::new();
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            parts.push(match c {
                '*' if stars == Stars::Directories && chars.next_if_eq(&'*').is_some() => {
                    let has_slash = chars.next_if_eq(&'/').is_some();
                    match chars.peek() {
                        None => Part::Everything,
                        Some(_) if parts.is_empty() && !has_slash => Part::Anything,
                        Some(_) => Part::Directories,
                    }
                }
                '*' => Part::Many,
                '?' => Part::One,
                '[' => class(&mut chars)?,
                '\\' => Part::Char(chars.next().ok_or(BadPattern)?),
                c => Part::Char(c),
            });
        }
        // moby cuts anywhere only if plain text follows.
        let is_plain = parts.iter().skip(1).all(|part| matches!(part, Part::Char(_))) && !pattern.contains('\\');
        if parts.first() == Some(&Part::Anything) && !is_plain {
            parts[0] = Part::Directories;
        }
        Ok(Glob { parts })
    }

    /// Whether all of `path` matches.
    pub fn matches(&self, path: &str) -> bool {
        let mut reached = vec![false; self.parts.len() + 1];
        let mut next = vec![false; self.parts.len() + 1];
        self.reach(&mut reached, 0);
        for c in path.chars() {
            next.fill(false);
            for (at, part) in self.parts.iter().enumerate().filter(|(at, _)| reached[*at]) {
                match part {
                    Part::Char(expected) if *expected == c => self.reach(&mut next, at + 1),
                    Part::One if c != '/' => self.reach(&mut next, at + 1),
                    Part::Many if c != '/' => self.reach(&mut next, at),
                    Part::Class { negated, ranges } => {
                        if ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated {
                            self.reach(&mut next, at + 1);
                        }
                    }
                    Part::Everything | Part::Anything => self.reach(&mut next, at),
                    Part::Directories => {
                        next[at] = true;
                        if c == '/' {
                            self.reach(&mut next, at + 1);
                        }
                    }
                    Part::Char(_) | Part::One | Part::Many => {}
                }
            }
            std::mem::swap(&mut reached, &mut next);
        }
        reached[self.parts.len()]
    }

    /// Marks a part, and those behind it that may stand for nothing.
    fn reach(&self, set: &mut [bool], mut at: usize) {
        loop {
            if set[at] && !matches!(self.parts.get(at), Some(Part::Directories)) {
                return;
            }
            set[at] = true;
            match self.parts.get(at) {
                Some(Part::Many | Part::Everything | Part::Anything | Part::Directories) => at += 1,
                _ => return,
            }
        }
    }
}

/// After `[`.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Part, BadPattern> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && chars.next_if_eq(&']').is_some() {
            return Ok(Part::Class { negated, ranges });
        }
        let low = member(chars)?;
        let high = if chars.next_if_eq(&'-').is_some() { member(chars)? } else { low };
        ranges.push((low, high));
    }
}

fn member(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<char, BadPattern> {
    match chars.next() {
        Some('\\') => chars.next().ok_or(BadPattern),
        None | Some('-' | ']') => Err(BadPattern),
        Some(c) => Ok(c),
    }
}

/// Whether a text has characters that mean something in a pattern.
pub fn has_wildcards(text: &str) -> bool {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' | '?' | '[' => return true,
            '\\' => drop(chars.next()),
            _ => {}
        }
    }
    false
}

/// The shortest path of the same meaning, as Go's `filepath.Clean` finds it by text alone.
pub fn clean(path: &str) -> String {
    let is_rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if is_rooted => {}
            part => parts.push(part),
        }
    }
    match (is_rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, stars: Stars, yes: &[&str], no: &[&str]) {
        let glob = Glob::new(pattern, stars).expect(pattern);
        yes.iter().for_each(|path| assert!(glob.matches(path), "{pattern} should match {path}"));
        no.iter().for_each(|path| assert!(!glob.matches(path), "{pattern} should not match {path}"));
    }

    #[test]
    fn go_patterns() {
        let check = |pattern: &str, yes: &[&str], no: &[&str]| check(pattern, Stars::Plain, yes, no);
        check("abc", &["abc"], &["ab", "abcd", ""]);
        check("*", &["", "abc"], &["a/b", "/"]);
        check("*c", &["c", "abc", "cc"], &["a/c", "cx"]);
        check("a*/b", &["a/b", "abc/b"], &["a/c/b"]);
        check("a*b*c*d*e*/f", &["axbxcxdxe/f", "axbxcxdxexxx/f"], &["axbxcxdxe/xxx/f", "axbxcxdxexxx/fff"]);
        check("a?b*x", &["abbax", "aübx"], &["ab/x", "a/bx"]);
        check("ab[c]", &["abc"], &["ab"]);
        check("ab[b-d]", &["abc"], &["abe"]);
        check("ab[^b-d]", &["abe", "ab/"], &["abc", "ab"]);
        check("[\\]a]", &["]", "a"], &["b"]);
        check("[x\\-]", &["x", "-"], &["z"]);
        check("[z-a]", &[], &["a", "m", "z"]);
        check("[[a]", &["[", "a"], &["b"]);
        check("a\\*b", &["a*b"], &["axb"]);
        check("**", &["abc"], &["a/b"]);
        check("ü?", &["üö"], &["ü"]);
    }

    #[test]
    fn bad_patterns() {
        for pattern in
            ["[", "[]", "[]a]", "[^", "[^]", "[a", "[a-]", "[-x]", "[x-]", "[-]", "a[", "\\", "a\\", "[\\", "[a-b-c]"]
        {
            for stars in [Stars::Plain, Stars::Directories] {
                assert_eq!(Glob::new(pattern, stars), Err(BadPattern), "{pattern}");
            }
        }
    }

    #[test]
    fn two_stars() {
        let check = |pattern: &str, yes: &[&str], no: &[&str]| check(pattern, Stars::Directories, yes, no);
        check("**", &["a", "a/b/c", ""], &[]);
        check("**/", &["a", "a/b/c"], &[]);
        check("**/a", &["a", "b/a", "c/b/a"], &["ba", "a/b", "b/ba"]);
        check("**a", &["a", "ba", "c/ba"], &["ab"]);
        check("**.go", &["x.go", "a/x.go", ".go"], &["x.goo", "xgo"]);
        check("a/**", &["a/b", "a/b/c", "a/"], &["a", "ab"]);
        check("a**", &["a", "ab", "a/b"], &["b"]);
        check("a/**/b", &["a/b", "a/c/b", "a/c/d/b"], &["a/cb", "ab"]);
        check("a**/b", &["ab", "a/b", "ax/y/b"], &["axb"]);
        check("**/*.go", &["x.go", "a/b/x.go"], &["x.go/y"]);
        check("**/b*/c", &["b/c", "a/bb/c"], &["a/c", "b/d/c"]);
        check("a/**/*", &["a/b", "a/b/c"], &["a", "b/a"]);
        check("**/a/**/b", &["a/b", "x/a/b", "a/y/b", "x/a/y/z/b"], &["xa/b", "a/yb"]);
        check("a*/b", &["ax/b"], &["a/x/b"]);
    }

    #[test]
    fn long_patterns_take_no_time() {
        let glob = Glob::new(&"*a".repeat(200), Stars::Directories).expect("a pattern");
        assert!(glob.matches(&"a".repeat(5000)) && !glob.matches(&format!("{}b", "a".repeat(5000))));
        let glob = Glob::new(&"**/a/".repeat(100), Stars::Directories).expect("a pattern");
        assert!(glob.matches(&"a/".repeat(2000)) && !glob.matches(&"a/".repeat(99)));
    }

    #[test]
    fn cleaning() {
        for (path, expected) in [
            ("", "."),
            ("./a//b/", "a/b"),
            ("a/../..", ".."),
            ("../../a", "../../a"),
            ("/../a/./b", "/a/b"),
            ("/", "/"),
            ("a/..", "."),
        ] {
            assert_eq!(clean(path), expected, "{path}");
        }
        assert!(has_wildcards("a*") && has_wildcards("\\a[") && !has_wildcards("a\\*b"));
    }
}
