//! What holds for every input.

use std::collections::BTreeMap;

use proptest::prelude::*;
use skep_dockerfile::expand::{Expander, Nothing};
use skep_dockerfile::glob::{Glob, Stars};
use skep_dockerfile::ignore::{Matcher, Matches};
use skep_dockerfile::lint::{Inputs, Report, check};
use skep_dockerfile::{Escape, syntax};

fn report(text: &[u8]) -> Report {
    let platform = "linux/amd64".parse().expect("a platform");
    let inputs = Inputs {
        arguments: &BTreeMap::from([("A".to_owned(), "$B".to_owned())]),
        build_platform: &platform,
        target_platform: &platform,
        target: None,
        all_stages: true,
        ignored: None,
        images: &(),
    };
    check(text, &inputs)
}

fn looks_at_every_line(text: &[u8]) -> Result<(), TestCaseError> {
    let count = text.split(|byte| *byte == b'\n').count();
    if let Ok(file) = syntax::parse(text) {
        let mut last = 0;
        for node in &file.nodes {
            prop_assert!(last < node.lines.start && node.lines.start <= node.lines.end && node.lines.end <= count);
            last = node.lines.end;
        }
    }
    let report = report(text);
    prop_assert!(report.findings.iter().all(|finding| 0 < finding.lines.start && finding.lines.end <= count));
    let lines = report.error.and_then(|error| error.lines());
    prop_assert!(lines.is_none_or(|lines| 0 < lines.start && lines.end <= count));
    Ok(())
}

/// Lines that are nearly instructions.
fn dockerfile() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "FROM ",
        "scratch",
        "ARG ",
        "RUN ",
        "COPY ",
        "ADD ",
        "ENV ",
        "LABEL ",
        "EXPOSE ",
        "ONBUILD ",
        "HEALTHCHECK ",
        "CMD ",
        "SHELL ",
        "VOLUME ",
        "WORKDIR ",
        "USER ",
        "STOPSIGNAL ",
        "MAINTAINER ",
        " AS ",
        "a",
        "b=",
        "A",
        "$A",
        "${B:-",
        "}",
        "${A/",
        "/",
        "\"",
        "'",
        "\\",
        "`",
        "\n",
        "\r\n",
        "\\\n",
        "#",
        "# escape=`\n",
        "<<EOF",
        "<<-'E'",
        "EOF\n",
        "E\n",
        "[",
        "]",
        "[\"x\"]",
        ",",
        "--from=",
        "--mount=type=",
        "cache",
        "--platform=",
        "--interval=1s",
        "80:81/TCP ",
        "\t",
        "  ",
        "é",
        "=",
    ]);
    prop::collection::vec(pieces, 0..40).prop_map(|pieces| format!("FROM scratch\n{}", pieces.concat()))
}

proptest! {
    #[test]
    fn any_bytes(text in prop::collection::vec(any::<u8>(), 0..400)) {
        looks_at_every_line(&text)?;
    }

    #[test]
    fn nearly_dockerfiles(text in dockerfile()) {
        looks_at_every_line(text.as_bytes())?;
    }

    #[test]
    fn words_end(word in "[a$\\{\\}:#%/?*\\\\'\"`+\\- -]{0,60}") {
        for escape in [Escape::Backslash, Escape::Backtick] {
            let values = BTreeMap::from([("a".to_owned(), "x/$a y".to_owned())]);
            let mut expander = Expander::new(escape, &values);
            let (whole, parts) = (expander.word(&word), expander.words(&word));
            prop_assert_eq!(whole.is_ok(), parts.is_ok());
            let _ = expander.document(&word);
        }
    }

    #[test]
    fn plain_words_stay(word in "[^$'\"\\\\]{0,40}") {
        prop_assert_eq!(Expander::new(Escape::Backslash, &Nothing).word(&word), Ok(word));
    }

    #[test]
    fn quoted_words_stay(word in "[^']{0,40}") {
        prop_assert_eq!(Expander::new(Escape::Backslash, &Nothing).word(&format!("'{word}'")), Ok(word));
    }

    #[test]
    fn plain_patterns_match_themselves_only(path in "[a-z/.ü]{1,20}", other in "[a-z/.ü]{1,20}") {
        for stars in [Stars::Plain, Stars::Directories] {
            let glob = Glob::new(&path, stars).expect("no pattern");
            prop_assert!(glob.matches(&path));
            prop_assert_eq!(glob.matches(&other), path == other);
        }
    }

    #[test]
    fn patterns_end(pattern in "[a*?\\[\\]^!/\\\\-]{0,30}", path in "[a/]{0,60}") {
        for stars in [Stars::Plain, Stars::Directories] {
            let _ = Glob::new(&pattern, stars).map(|glob| glob.matches(&path));
        }
    }

    #[test]
    fn a_walk_comes_to_the_same(patterns in prop::collection::vec("(\\*\\*/)?[ab*]{1,2}(/[ab*]{1,3}){0,2}", 1..4), path in "[ab](/[ab]){0,3}") {
        let matcher = Matcher::new(&patterns).expect("patterns");
        let mut above: Option<Matches> = None;
        for (at, _) in path.match_indices('/') {
            let (is_out, matches) = matcher.matches_below(&path[..at], above.as_ref());
            prop_assert!(!is_out || matcher.is_closed(&path[..at]));
            above = Some(matches);
        }
        prop_assert_eq!(matcher.matches_below(&path, above.as_ref()).0, matcher.matches(&path));
    }

    /// What a walk would not read has nothing in it that it keeps.
    #[test]
    fn closed_directories_are_empty(
        patterns in prop::collection::vec("!?(\\*\\*/)?[ab*]{1,2}(/[ab*]{1,2}){0,2}", 1..5),
        path in "[ab](/[ab]){1,3}",
    ) {
        let matcher = Matcher::new(&patterns).expect("patterns");
        let mut above: Option<Matches> = None;
        let mut is_closed = false;
        for (at, _) in path.match_indices('/') {
            let (is_out, matches) = matcher.matches_below(&path[..at], above.as_ref());
            is_closed |= is_out && matcher.is_closed(&path[..at]);
            above = Some(matches);
        }
        prop_assert!(!is_closed || matcher.matches_below(&path, above.as_ref()).0, "{:?}", patterns);
    }
}
