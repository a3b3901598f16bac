use super::*;

/// One image, `base`: made for arm64, with a variable, a shell and triggers.
struct Base;

impl Images for Base {
    fn image(&self, name: &str, _: &Platform) -> Option<BaseImage> {
        (name == "base").then(|| BaseImage {
            environment: vec![("KNOWN".to_owned(), "1".to_owned())],
            has_shell: true,
            working_dir: "/home".to_owned(),
            triggers: vec!["LABEL a=$NOPE".to_owned(), "ENV b $KNOWN".to_owned()],
            platform: "linux/arm64".parse().ok(),
        })
    }
}

fn report(text: &str, images: &dyn Images) -> Report {
    let platform: Platform = "linux/amd64".parse().expect("a platform");
    let (arguments, ignored) = (BuildArguments::new(), None);
    let (build_platform, target_platform) = (&platform, &platform);
    let inputs = Inputs {
        arguments: &arguments,
        build_platform,
        target_platform,
        target: None,
        all_stages: true,
        ignored,
        images,
    };
    check(text.as_bytes(), &inputs)
}

fn found(text: &str) -> Vec<String> {
    let findings = report(text, &Base).findings;
    findings.iter().map(|f| format!("{} {}: {}", f.rule.name, f.lines.start, f.message)).collect()
}

#[test]
fn what_the_base_has_counts() {
    let text = "FROM base\nLABEL c=$KNOWN\nCMD x\nRUN --mount=type=tmpfs y\nFROM alpine\nLABEL c=$KNOWN\n";
    assert_eq!(
        found(text),
        [
            "InvalidBaseImagePlatform 1: Base image base was pulled with platform \"linux/arm64\", expected \"linux/amd64\" for current build",
            "UndefinedVar 1: Usage of undefined variable '$NOPE'",
            "LegacyKeyValueFormat 1: \"ENV key=value\" should be used instead of legacy \"ENV key value\" format",
            "UndefinedVar 6: Usage of undefined variable '$KNOWN'",
        ]
    );
}

#[test]
fn triggers_are_fired_once() {
    let text = "FROM scratch AS a\nONBUILD LABEL x=$y\nFROM a AS b\nFROM b\n";
    assert_eq!(found(text), ["UndefinedVar 3: Usage of undefined variable '$y'"]);
    let error = report("FROM scratch AS a\nONBUILD RUN --x y\nFROM a\n", &()).error.expect("a wrong trigger");
    assert_eq!((error.to_string().as_str(), error.lines()), ("unknown flag: --x", Some(Lines::one(3))));
}

#[test]
fn every_rule_has_a_name_of_its_own() {
    for (index, rule) in rules::ALL.iter().enumerate() {
        assert!(rules::ALL[..index].iter().all(|other| other.name != rule.name), "{}", rule.name);
    }
    assert_eq!(rules::ALL.len(), 22);
    assert_eq!(rules::UNDEFINED_VAR.url(), "https://docs.docker.com/go/dockerfile/rule/undefined-var/");
}

#[test]
fn options() {
    let options = Options::read(" skip = UndefinedVar , X;experimental=all;error=T").expect("options");
    assert!(!options.checks(&rules::UNDEFINED_VAR) && options.checks(&rules::STAGE_NAME_CASING));
    assert!(options.checks(&rules::COPY_IGNORED_FILE) && options.is_error);
    let options = Options::read("skip=all").expect("options");
    assert!(rules::ALL.iter().all(|rule| !options.checks(rule)));
    assert_eq!(Options::read(""), Ok(Options::default()));
    for (text, problem) in [
        ("x", "invalid check option \"x\""),
        ("x=y", "invalid check option \"x\""),
        (
            "error=maybe",
            "failed to parse check option \"error=maybe\": strconv.ParseBool: parsing \"maybe\": invalid syntax",
        ),
    ] {
        assert_eq!(Options::read(text).expect_err(text).to_string(), problem);
    }
    let given = BuildArguments::from([(BUILD_ARGUMENT.to_owned(), "skip=all".to_owned())]);
    let text = b"# check=error=true\nFROM x";
    assert_eq!(
        Options::of(text, &given).map(|options| options.is_error),
        Ok(false),
        "the argument replaces the directive"
    );
}
