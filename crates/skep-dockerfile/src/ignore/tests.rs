use super::*;

fn matcher(patterns: &[&str]) -> Matcher {
    Matcher::new(patterns).expect("patterns")
}

#[test]
fn reading() {
    let text = "\u{feff}# comment\n  # not one\n\n /a/b/ \n!\t/c\r\n./d//e\n../f\n/\n!\nlast";
    assert_eq!(read(text.as_bytes()), ["# not one", "a/b", "!c", "d/e", "../f", "/", "!", "last"]);
    assert_eq!(read(b""), [""; 0]);
}

#[test]
fn wrong_patterns() {
    assert_eq!(Matcher::new(&["a", "["]).expect_err("open").to_string(), "syntax error in pattern");
    assert_eq!(Matcher::new(&["!"]).expect_err("empty").to_string(), "illegal exclusion pattern: \"!\"");
    assert_eq!(Matcher::new(&[" ", ""]), Ok(Matcher::default()));
}

/// Patterns, paths that are left out, paths that are not.
const CASES: &[(&[&str], &[&str], &[&str])] = &[
    (&["a"], &["a", "a/b", "a/b/c"], &["b", "b/a", "ab"]),
    (&["a/b"], &["a/b", "a/b/c"], &["a", "a/c"]),
    (&["*"], &["a", "a/b"], &[]),
    (&["*/b"], &["a/b", "a/b/c"], &["b", "a/c/b"]),
    (&["*.md", "!README.md"], &["x.md"], &["README.md", "a/x.md"]),
    (&["*.md", "!README*.md", "README-secret.md"], &["x.md", "README-secret.md"], &["README.md", "README-x.md"]),
    (&["**/*.go", "!keep/**"], &["x.go", "a/b/y.go"], &["keep/x.go", "a/x.c"]),
    (
        &["node_modules", "!node_modules/keep"],
        &["node_modules", "node_modules/x"],
        &["node_modules/keep", "node_modules/keep/x"],
    ),
    (&["*", "!src", "src/*.o"], &["a", "src/x.o"], &["src", "src/x.c", "src/a/x.o"]),
    (&["!a", "a"], &["a"], &[]),
    (&["a", "!a/b", "a/b/c"], &["a/x", "a/b/c", "a/b/c/d"], &["a/b", "a/b/d"]),
    (&["/a"], &["/a"], &["a"]),
    (&["a/./b/../c"], &["a/c"], &["a/b"]),
    (&["**"], &["a", "a/b"], &[]),
    (&["**", "!**/*.c"], &["a", "a/b"], &["x.c", "a/x.c"]),
    (&["[ab]*"], &["ax", "b/c"], &["cx"]),
    (&["\\#a", "b\\*"], &["#a", "b*"], &["bx"]),
    (&["a b"], &["a b"], &["a"]),
    (&["ü?"], &["üx"], &["ü"]),
];

#[test]
fn what_is_left_out() {
    for (patterns, out, kept) in CASES {
        let matcher = matcher(patterns);
        out.iter().for_each(|path| assert!(matcher.matches(path), "{patterns:?} leaves out {path}"));
        kept.iter().for_each(|path| assert!(!matcher.matches(path), "{patterns:?} keeps {path}"));
    }
}

/// As a walk asks: directory by directory.
fn walked(matcher: &Matcher, path: &str) -> bool {
    let mut above: Option<Matches> = None;
    for parent in parents(path) {
        above = Some(matcher.matches_below(parent, above.as_ref()).1);
    }
    matcher.matches_below(path, above.as_ref()).0
}

#[test]
fn a_walk_comes_to_the_same() {
    for (patterns, out, kept) in CASES.iter().filter(|(patterns, ..)| *patterns != ["/a"]) {
        let matcher = matcher(patterns);
        out.iter().for_each(|path| assert!(walked(&matcher, path), "{patterns:?} leaves out {path}"));
        kept.iter().for_each(|path| assert!(!walked(&matcher, path), "{patterns:?} keeps {path}"));
    }
}

#[test]
fn exact_matches() {
    let matcher = matcher(&["a", "!a/b"]);
    assert!(matcher.matches_exactly("a") && !matcher.matches_exactly("a/c"));
}

#[test]
fn directories_that_need_not_be_read() {
    for (patterns, directory, closed) in [
        (&["a"][..], "a", true),
        (&["a", "!a/b"], "a", false),
        (&["a", "!a/b"], "a/c", true),
        (&["a", "!a/b/c"], "a/b", false),
        (&["a", "!b"], "a", true),
        (&["a", "!a"], "a", true),
        (&["a", "!**/x"], "a/b", false),
        (&["a", "!*/x"], "a", false),
        (&["a", "!*/x"], "a/b", true),
        (&["a", "!a/[b/c]"], "a", false),
    ] {
        assert_eq!(matcher(patterns).is_closed(directory), closed, "{patterns:?} {directory}");
    }
}
