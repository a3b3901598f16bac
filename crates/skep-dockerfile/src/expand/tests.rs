use super::*;

fn variables() -> BTreeMap<String, String> {
    let pairs = [
        ("A", "one"),
        ("EMPTY", ""),
        ("WORDS", "a  b c"),
        ("PATHS", "/usr/lib/x/lib/y"),
        ("DOLLAR", "$A"),
        ("ü", "umlaut"),
        ("LINES", "ab\ncb"),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

fn word(text: &str) -> Result<String, String> {
    Expander::new(Escape::Backslash, &variables()).word(text).map_err(|error| error.problem.to_string())
}

#[track_caller]
fn all(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(word(text).as_deref(), Ok(*expected), "{text}");
    }
}

#[track_caller]
fn wrong(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(word(text).err().as_deref(), Some(*expected), "{text}");
    }
}

#[test]
fn quotes_and_escapes() {
    all(&[
        ("plain text  stays", "plain text  stays"),
        ("'single $A \\'", "single $A \\"),
        ("\"double $A \\$A \\\" \\\\ \\n\"", "double one $A \" \\ \\n"),
        ("\\$A \\' \\a", "$A ' a"),
        ("a'b'\"c\"d", "abcd"),
        ("end\\", "end"),
        ("", ""),
        ("\"it's\"", "it's"),
    ]);
    wrong(&[
        ("it's", "unexpected end of statement while looking for matching single-quote"),
        ("\"open", "unexpected end of statement while looking for matching double-quote"),
        ("\"open\\", "unexpected end of statement while looking for matching double-quote"),
    ]);
}

#[test]
fn backtick_as_escape() {
    let variables = variables();
    let mut expander = Expander::new(Escape::Backtick, &variables);
    assert_eq!(expander.word("C:\\dir`$A \"`\"$A\\\"").as_deref(), Ok("C:\\dir$A \"one\\"));
}

#[test]
fn plain_variables() {
    all(&[
        ("$A", "one"),
        ("${A}", "one"),
        ("$A/$A.x", "one/one.x"),
        ("$NONE-", "-"),
        ("$", "$"),
        ("$ A", "$ A"),
        ("$.", "$."),
        ("$1x", "x"),
        ("$$A", "A"),
        ("$ü", "umlaut"),
        ("$DOLLAR", "$A"),
    ]);
    wrong(&[
        ("${", "syntax error: missing '}'"),
        ("${}", "syntax error: bad substitution"),
        ("${:-x}", "syntax error: bad substitution"),
        ("${{A}}", "syntax error: bad substitution"),
        ("${A", "unsupported modifier (\u{fffd}) in substitution"),
        ("${A^^}", "unsupported modifier (^) in substitution"),
        ("${A:0:1}", "unsupported modifier (:0) in substitution"),
        ("${A:#x}", "unsupported modifier (:#) in substitution"),
        ("${A:-x", "syntax error: missing '}'"),
        ("${A:-'x}", "syntax error: missing '}'"),
    ]);
}

#[test]
fn choices() {
    all(&[
        ("${A:-x}", "one"),
        ("${EMPTY:-x}", "x"),
        ("${EMPTY-x}", ""),
        ("${NONE-x}", "x"),
        ("${NONE:-$A ${EMPTY:-'q}'}}", "one q}"),
        ("${A:+x}", "x"),
        ("${EMPTY:+x}", ""),
        ("${EMPTY+x}", "x"),
        ("${NONE+x}", ""),
        ("${A:?must}", "one"),
        ("${EMPTY?must}", ""),
    ]);
    wrong(&[
        ("${NONE:?}", "NONE: is not allowed to be unset"),
        ("${EMPTY:?}", "EMPTY: is not allowed to be empty"),
        ("${NONE?say $A}", "NONE: say one"),
    ]);
}

#[test]
fn trimming() {
    all(&[
        ("${PATHS#*/}", "usr/lib/x/lib/y"),
        ("${PATHS##*/}", "y"),
        ("${PATHS%/*}", "/usr/lib/x/lib"),
        ("${PATHS%%/*}", ""),
        ("${PATHS%/lib*}", "/usr/lib/x"),
        ("${PATHS%%/lib*}", "/usr"),
        ("${A#?}", "ne"),
        ("${A%?}", "on"),
        ("${A#x}", "one"),
        ("${NONE#x}", ""),
        ("${A#.}", "one"),
        ("${LINES##*b}", "\ncb"),
    ]);
    wrong(&[("${A#\\x}", "invalid pattern (\\x) in substitution: invalid escape '\\x'")]);
}

#[test]
fn replacing() {
    all(&[
        ("${PATHS/lib/LIB}", "/usr/LIB/x/lib/y"),
        ("${PATHS//lib/LIB}", "/usr/LIB/x/LIB/y"),
        ("${PATHS//\\//-}", "-usr-lib-x-lib-y"),
        ("${PATHS/usr*lib/-}", "/-/y"),
        ("${A/n/$A}", "oonee"),
        ("${A/n/}", "oe"),
        ("${NONE/a/b}", ""),
    ]);
    wrong(&[("${A/x", "syntax error: missing '/' in ${}"), ("${A/x/y", "syntax error: missing '}'")]);
}

#[test]
fn words_are_split_after_expansion() {
    let variables = variables();
    let mut expander = Expander::new(Escape::Backslash, &variables);
    for (text, expected) in [
        ("a  b", vec!["a", "b"]),
        ("$WORDS", vec!["a", "b", "c"]),
        ("x$WORDS", vec!["xa", "b", "c"]),
        ("\"$WORDS\"", vec!["a  b c"]),
        ("a\\ b 'c d'", vec!["a b", "c d"]),
        ("80${NONE:-80} x", vec!["8080", "x"]),
        ("''", vec![]),
        ("  ", vec![]),
    ] {
        assert_eq!(expander.words(text).expect(text), expected, "{text}");
    }
    assert_eq!(expander.matched.into_iter().collect::<Vec<_>>(), ["WORDS"]);
    assert_eq!(expander.unmatched, ["NONE"]);
}

#[test]
fn documents_have_no_quotes() {
    let variables = variables();
    let mut expander = Expander::new(Escape::Backtick, &variables);
    assert_eq!(expander.document("it's \"$A\" \\$A `\n").as_deref(), Ok("it's \"one\" $A `\n"));
}

#[test]
fn unset_variables_may_stay() {
    let lexer = Lexer { keep_unset: true, keep_quotes: true, ..Lexer::new(Escape::Backslash) };
    let word = |text: &str| lexer.process(text, &variables(), &mut Uses::default()).map(|expanded| expanded.word);
    for (text, expected) in [
        ("$NONE ${NONE} '$A' \"$A\"", "$NONE ${NONE} '$A' \"one\""),
        ("${NONE:-x} ${NONE#y} ${NONE/a/b} ${NONE:0:1}", "${NONE:-x} ${NONE#y} ${NONE/a/b} ${NONE:0:1}"),
    ] {
        assert_eq!(word(text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn what_was_used_is_known_even_of_wrong_words() {
    let variables = variables();
    let mut expander = Expander::new(Escape::Backslash, &variables);
    let error = expander.word("$A ${NONE} ${").expect_err("open");
    assert_eq!(error.to_string(), "failed to process \"$A ${NONE} ${\": syntax error: missing '}'");
    assert!(expander.matched.contains("A") && expander.unmatched == ["NONE"]);
}

#[test]
fn nesting_ends() {
    let text = format!("{}x{}", "${N:-".repeat(100_000), "}".repeat(100_000));
    assert_eq!(word(&text).err().as_deref(), Some("syntax error: substitutions are nested too deeply"));
    let text = format!("{}x{}", "${N:-".repeat(50), "}".repeat(50));
    assert_eq!(word(&text).as_deref(), Ok("x"));
}
