use super::*;

fn file(text: &str) -> File {
    parse(text.as_bytes()).expect(text)
}

fn mistake(text: &str) -> (String, Lines) {
    let error = parse(text.as_bytes()).expect_err(text);
    (error.to_string(), error.lines)
}

fn words(node: &Node) -> Vec<&str> {
    match &node.arguments {
        NodeArguments::Words(words) | NodeArguments::Json(words) => words.iter().map(String::as_str).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn lines_and_comments() {
    let file =
        file("\u{feff}\n# far\n#\n\n  # near\n \n from a  AS\tb\r\nRUN x\\\r\n # in between\r\n\r\n  y \\ \n z\n");
    let [from, run] = file.nodes.as_slice() else { panic!("{file:?}") };
    assert_eq!((from.keyword.as_str(), words(from)), ("from", vec!["a", "AS", "b"]));
    assert_eq!((from.lines, from.comments.as_slice()), (Lines::one(7), &["near".to_owned()][..]));
    assert_eq!((run.lines, run.code.as_str()), (Lines { start: 8, end: 12 }, "RUN x  y  z"));
    assert_eq!(file.empty_continuations, [Lines::one(12)]);
}

#[test]
fn continuation_character() {
    let file = file("# escape=`\nFROM a\nCOPY c:\\ `\n d:\\\nRUN a``\nRUN b`");
    let codes: Vec<_> = file.nodes.iter().map(|node| node.code.as_str()).collect();
    assert_eq!(codes, ["FROM a", "COPY c:\\  d:\\", "RUN a``", "RUN b"]);
}

#[test]
fn directives() {
    let file = file("#syntax = a/b:1 more\n# ESCAPE=`\n#check=skip=all;error=true \n\n#escape=x\nFROM a\n");
    let value = |directive: &Option<Directive>| directive.clone().map(|directive| (directive.value, directive.line));
    assert_eq!(value(&file.directives.syntax), Some(("a/b:1 more".to_owned(), 1)));
    assert_eq!(value(&file.directives.check), Some(("skip=all;error=true".to_owned(), 3)));
    assert_eq!(file.escape(), Escape::Backtick);
}

#[test]
fn directives_end_with_the_first_other_line() {
    let file = file("# a comment\n# escape=`\nFROM a\\\n b");
    assert_eq!((file.escape(), file.nodes.len()), (Escape::Backslash, 1));
    assert_eq!(mistake("#escape=\\\n#Escape=\\\nFROM a").0, "only one escape parser directive can be used");
    assert_eq!(mistake("#escape=x\nFROM a").0, "invalid escape token 'x' does not match ` or \\");
}

#[test]
fn frontends() {
    let of = |text: &str| frontend(text.as_bytes()).map(|directive| (directive.value, directive.line));
    assert_eq!(of("# syntax=a/b\nFROM x"), Some(("a/b".to_owned(), 1)));
    assert_eq!(of("#!/usr/bin/x\n# Syntax = a/b c \r\n"), Some(("a/b c".to_owned(), 2)));
    assert_eq!(of("//syntax=a\n"), Some(("a".to_owned(), 1)));
    assert_eq!(of("{\"syntax\": \"a\"}"), Some(("a".to_owned(), 1)));
    assert_eq!(of("FROM x\n# syntax=a\n"), None);
    assert_eq!(
        directive("check", b"# syntax=a\n# check=skip=all\n").map(|check| check.value),
        Some("skip=all".to_owned())
    );
}

#[test]
fn flags() {
    let file = file("COPY --a=b --c='d e' --f=\"g \\\" h\" -- --i j\nRUN --x\\ y z --w\nRUN -x --y\nRUN --z");
    let flags: Vec<_> = file.nodes.iter().map(|node| node.flags.join("|")).collect();
    assert_eq!(flags, ["--a=b|--c=d e|--f=g \" h", "--x y", "", "--z"]);
    assert_eq!(words(&file.nodes[0]), ["--i", "j"]);
    assert_eq!(words(&file.nodes[1]), ["z --w"]);
}

#[test]
fn json_or_not() {
    let file =
        file("RUN [ \"a\", \"b\\u00fc\" ]\nRUN [\"a\", b]\nRUN ['a']\nCMD []\nCOPY [\"a b\", \"c\"]\nRUN [\"a\"] && b");
    let json: Vec<_> = file.nodes.iter().map(|node| matches!(node.arguments, NodeArguments::Json(_))).collect();
    assert_eq!(json, [true, false, false, true, true, false]);
    assert_eq!(words(&file.nodes[0]), ["a", "bü"]);
    let text = "when using JSON array syntax, arrays must be comprised of strings only";
    assert_eq!(mistake("FROM a\nCMD [1]"), (text.to_owned(), Lines::one(2)));
}

#[test]
fn pairs() {
    let pairs = |text: &str| match &file(text).nodes[0].arguments {
        NodeArguments::Pairs(pairs) => {
            pairs.iter().map(|p| format!("{}:{}:{}", p.name, p.value, p.is_legacy)).collect()
        }
        other => vec![format!("{other:?}")],
    };
    assert_eq!(
        pairs("ENV a=1 b=\"2 3\" c=4\\ 5 d='x\\' e="),
        ["a:1:false", "b:\"2 3\":false", "c:4\\ 5:false", "d:'x\\':false", "e::false"]
    );
    assert_eq!(pairs("ENV a  b=c  d "), ["a:b=c  d:true"]);
    assert_eq!(pairs("LABEL \"a b\"=c"), ["\"a b\":c:false"]);
    assert_eq!(pairs("ENV =x"), [":x:false"]);
    assert_eq!(mistake("ENV a").0, "ENV must have two arguments");
    assert_eq!(mistake("LABEL a=1 b").0, "Syntax error - can't find = in \"b\". Must be of the form: name=value");
}

#[test]
fn heredocs() {
    let text =
        "FROM a\nRUN <<A cat <<-\"B\" && 3<<C x\n1\n\\\n# 2\nA\n\t$x\n\tB\nC\nCOPY <<a b /c\nRUN not\na\nRUN after\n";
    let file = file(text);
    let [_, run, copy, after] = file.nodes.as_slice() else { panic!("{file:?}") };
    let summary = |node: &Node| {
        let each = |h: &Heredoc| format!("{}:{:?}:{}:{}:{}", h.name, h.content, h.expands, h.strips_tabs, h.descriptor);
        node.heredocs.iter().map(each).collect::<Vec<_>>()
    };
    assert_eq!(
        summary(run),
        ["A:\"1\\n\\\\\\n# 2\\n\":true:false:0", "B:\"\\t$x\\n\":false:true:0", "C:\"\":true:false:3"]
    );
    assert_eq!(run.lines, Lines { start: 2, end: 9 });
    assert_eq!(summary(copy), ["a:\"RUN not\\n\":true:false:0"]);
    assert_eq!(after.lines, Lines::one(13));
    assert_eq!(run.heredocs[1].text(), "$x\n");
}

#[test]
fn where_heredocs_are_not() {
    for text in [
        "RUN [\"<<A\"]\nRUN x",
        "CMD <<A\nRUN x",
        "RUN a << A\nRUN x",
        "RUN cat <<<A\nRUN x",
        "RUN '<<A'\nRUN x",
        "RUN a<<A\nRUN x",
    ] {
        assert_eq!(file(text).nodes.len(), 2, "{text}");
    }
    assert_eq!(mistake("FROM a\nRUN <<A\nx"), ("unterminated heredoc".to_owned(), Lines { start: 2, end: 3 }));
    let onbuild = file("ONBUILD RUN <<A\nx\r\nA\r\nFROM y");
    assert_eq!((onbuild.nodes.len(), onbuild.nodes[0].heredocs[0].content.as_str()), (2, "x\r\n"));
}

#[test]
fn empty_files() {
    assert_eq!(mistake("").0, "the Dockerfile cannot be empty");
    assert_eq!(mistake("# only this\n\n"), ("file with no instructions".to_owned(), Lines::one(2)));
}
