//! Who sees which variables.
//!
//! ```text
//!   platform arguments ─▶ Globals ◀─ ARG before the first FROM       expand FROM, and nothing else
//!                            │
//!                            ▼ ARG name (without default)
//!   base's environment ─▶ Scope ◀─ ARG, ENV of the stage             expands its instructions, environment of RUN
//!                            └──▶ a stage FROM this one begins with a copy
//! ```
//!
//! A value that the build gives (`--build-arg`) beats every default, but only where an ARG declares the name. ENV and ARG of the
//! same name: the later one counts. Only ENV becomes part of the image.

use std::borrow::Cow;
use std::collections::BTreeMap;

use skep_types::Platform;

use crate::expand::{ExpandError, Expander, Variables};
use crate::instructions::{Arg, Argument};
use crate::source::Escape;

/// Values given to the build.
pub type BuildArguments = BTreeMap<String, String>;

/// Arguments that every build has, and those before the first FROM.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Globals {
    values: Vec<(String, String)>,
    without_value: Vec<String>,
}

/// The variables of one stage, step by step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scope {
    /// What words are expanded with, and commands are run with.
    variables: Vec<(String, String)>,
    /// What goes into the image.
    environment: Vec<(String, String)>,
    arguments: Vec<(String, Option<String>)>,
}

/// Arguments that only steer the build and are no variables of the commands in it.
const NOT_IN_ENVIRONMENT: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// Names of proxies, in lower case.
const PROXIES: [&str; 5] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];

impl Globals {
    /// The platform arguments. `stage` is the name of the stage to be built.
    pub fn new(build: &Platform, target: &Platform, stage: Option<&str>, given: &BuildArguments) -> Self {
        let values = [
            ("BUILDPLATFORM", build.to_string()),
            ("BUILDOS", build.os.clone()),
            ("BUILDOSVERSION", String::new()),
            ("BUILDARCH", build.architecture.clone()),
            ("BUILDVARIANT", build.variant.clone()),
            ("TARGETPLATFORM", target.to_string()),
            ("TARGETOS", target.os.clone()),
            ("TARGETOSVERSION", String::new()),
            ("TARGETARCH", target.architecture.clone()),
            ("TARGETVARIANT", target.variant.clone()),
            ("TARGETSTAGE", stage.filter(|stage| !stage.is_empty()).unwrap_or("default").to_owned()),
        ];
        let values = values.map(|(name, value)| (name.to_owned(), given.get(name).cloned().unwrap_or(value)));
        Globals { values: values.into(), without_value: Vec::new() }
    }

    /// Takes an ARG that stands before the first FROM.
    ///
    /// # Errors
    /// A default that is needed can't be expanded.
    pub fn declare(&mut self, arg: &Arg, given: &BuildArguments, escape: Escape) -> Result<(), ExpandError> {
        for argument in &arg.arguments {
            let value = match (given.get(&argument.name), &argument.default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(Expander::new(escape, self).word(default)?),
                (None, None) => None,
            };
            match value {
                Some(value) => set(&mut self.values, &argument.name, value),
                None => self.without_value.push(argument.name.clone()),
            }
        }
        Ok(())
    }

    /// Whether an argument exists, with a value or without.
    pub fn is_declared(&self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(|(name, _)| name).chain(&self.without_value).map(String::as_str)
    }

    /// The value of an argument.
    pub fn value(&self, name: &str) -> Option<&str> {
        find(&self.values, name)
    }
}

impl Variables for Globals {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.value(name).map(Cow::Borrowed)
    }
}

impl Scope {
    /// The variables of a stage that begins with an image. `PATH` is added if the image has none.
    pub fn new(environment: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut scope = Scope::default();
        for (name, value) in environment {
            scope.set(&name, value);
        }
        if scope.value("PATH").is_none() {
            scope.set("PATH", DEFAULT_PATH.to_owned());
        }
        scope
    }

    /// Takes an ENV variable.
    pub fn set(&mut self, name: &str, value: String) {
        set(&mut self.environment, name, value.clone());
        set(&mut self.variables, name, value);
    }

    /// Takes one argument of an ARG: its value, or why its default can't be expanded; and the variables that the default uses
    /// without their being set.
    pub fn declare(
        &mut self,
        argument: &Argument,
        globals: &Globals,
        given: &BuildArguments,
        escape: Escape,
    ) -> (Result<Option<String>, ExpandError>, Vec<String>) {
        let mut unmatched = Vec::new();
        let value = match (given.get(&argument.name), &argument.default) {
            (Some(given), _) => Ok(Some(given.clone())),
            (None, Some(default)) => {
                let mut expander = Expander::new(escape, &*self);
                let value = expander.word(default).map(Some);
                unmatched = expander.unmatched;
                value
            }
            (None, None) => Ok(globals.value(&argument.name).map(str::to_owned)),
        };
        if let Ok(value) = &value {
            if let Some(value) = value.as_ref().filter(|_| !NOT_IN_ENVIRONMENT.contains(&argument.name.as_str())) {
                set(&mut self.variables, &argument.name, value.clone());
            }
            self.arguments.push((argument.name.clone(), value.clone()));
        }
        (value, unmatched)
    }

    /// Whether an ARG of this stage, or of those it is built from, declares the name.
    pub fn is_declared(&self, name: &str) -> bool {
        self.arguments.iter().any(|(known, _)| known == name)
    }

    /// The image's environment: that of the base, and ENV.
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// The environment of commands: the image's, and arguments with a value.
    pub fn variables(&self) -> &[(String, String)] {
        &self.variables
    }

    /// The arguments as the history of RUN lists them: each once, with the value that it has now.
    pub fn used_arguments(&self) -> Vec<(String, String)> {
        let mut used = Vec::new();
        for (name, value) in &self.arguments {
            let now = self.value(name).map(str::to_owned).or_else(|| value.clone()).unwrap_or_default();
            set(&mut used, name, now);
        }
        used
    }

    fn value(&self, name: &str) -> Option<&str> {
        find(&self.variables, name)
    }
}

impl Variables for Scope {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.value(name).map(Cow::Borrowed)
    }
}

/// What commands find in `PATH` if the image says nothing.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The proxies that a build is given, as variables in capitals and in small letters. Commands see them without any ARG; they are
/// neither part of the image nor of what is compared when the cache is asked.
pub fn proxies(given: &BuildArguments) -> Vec<(String, String)> {
    let mut proxies = Vec::new();
    for name in PROXIES {
        let value = given.iter().rfind(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        for name in value.map(|_| [name.to_uppercase(), name.to_owned()]).into_iter().flatten() {
            proxies.extend(value.map(|value| (name, value.clone())));
        }
    }
    proxies
}

/// Whether a build argument means something without any ARG: proxies, `BUILDKIT_*`, `SOURCE_DATE_EPOCH`.
pub fn is_predefined(name: &str) -> bool {
    PROXIES.iter().any(|proxy| name.eq_ignore_ascii_case(proxy))
        || name.starts_with("BUILDKIT_")
        || name == "SOURCE_DATE_EPOCH"
}

fn find<'p>(pairs: &'p [(String, String)], name: &str) -> Option<&'p str> {
    pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// Replaces in place, so that the order is that of the first appearance.
fn set(pairs: &mut Vec<(String, String)>, name: &str, value: String) {
    match pairs.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => *old = value,
        None => pairs.push((name.to_owned(), value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(pairs: &[(&str, &str)]) -> BuildArguments {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn arg(text: &str) -> Arg {
        let file = crate::parse(format!("ARG {text}\nFROM scratch").as_bytes()).expect(text);
        file.global_arguments.into_iter().next().expect("an argument").0
    }

    fn globals(texts: &[&str], given: &BuildArguments) -> Globals {
        let platform = |text: &str| text.parse().expect(text);
        let mut globals = Globals::new(&platform("linux/amd64"), &platform("linux/arm/v7"), None, given);
        for text in texts {
            globals.declare(&arg(text), given, Escape::Backslash).expect(text);
        }
        globals
    }

    #[test]
    fn platforms_and_overrides() {
        let globals =
            globals(&["A=$TARGETARCH", "B=${A}2 C", "D=x"], &given(&[("D", "y"), ("TARGETOS", "plan9"), ("E", "z")]));
        for (name, value) in [
            ("TARGETPLATFORM", Some("linux/arm/v7")),
            ("BUILDARCH", Some("amd64")),
            ("TARGETVARIANT", Some("v7")),
            ("TARGETSTAGE", Some("default")),
            ("TARGETOS", Some("plan9")),
            ("A", Some("arm")),
            ("B", Some("arm2")),
            ("C", None),
            ("D", Some("y")),
            ("E", None),
        ] {
            assert_eq!(globals.value(name), value, "{name}");
        }
        assert!(globals.is_declared("C") && !globals.is_declared("E"));
    }

    #[test]
    fn a_stage_sees_what_it_declares() {
        let build = given(&[("G", "built"), ("L", "local")]);
        let globals = globals(&["G=one", "H=two", "I=three"], &build);
        let mut scope = Scope::new([("X".to_owned(), "base".to_owned())]);
        for text in ["G H N L=default", "M=$X-$G-${I:-none}", "H=own"] {
            for argument in &arg(text).arguments {
                scope.declare(argument, &globals, &build, Escape::Backslash).0.expect(text);
            }
        }
        let value = |name: &str| scope.get(name).map(Cow::into_owned);
        for (name, expected) in [
            ("G", Some("built")),
            ("H", Some("own")),
            ("I", None),
            ("N", None),
            ("L", Some("local")),
            ("M", Some("base-built-none")),
        ] {
            assert_eq!(value(name).as_deref(), expected, "{name}");
        }
        let environment: Vec<_> = scope.environment().iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(environment, ["X", "PATH"], "arguments are not part of the image");
        let used: Vec<_> = scope.used_arguments().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(used, ["G=built", "H=own", "N=", "L=local", "M=base-built-none"]);
        assert!(scope.is_declared("N") && !scope.is_declared("I"));
    }

    #[test]
    fn the_later_of_env_and_arg_counts() {
        let mut scope = Scope::new([]);
        let argument = &arg("A=arg").arguments[0];
        scope.set("A", "env".to_owned());
        scope.declare(argument, &Globals::default(), &given(&[]), Escape::Backslash).0.expect("a value");
        assert_eq!(scope.get("A").as_deref(), Some("arg"));
        scope.set("A", "again".to_owned());
        assert_eq!(scope.get("A").as_deref(), Some("again"));
        assert_eq!(scope.environment()[1], ("A".to_owned(), "again".to_owned()));
    }

    #[test]
    fn a_default_that_is_not_used_may_be_wrong() {
        let argument = &arg("A='open").arguments[0];
        let declare = |build| Scope::new([]).declare(argument, &Globals::default(), &build, Escape::Backslash).0;
        assert!(declare(given(&[])).is_err());
        assert_eq!(declare(given(&[("A", "x")])), Ok(Some("x".to_owned())));
    }

    #[test]
    fn proxies_in_both_cases() {
        let names: Vec<_> =
            proxies(&given(&[("Http_Proxy", "p"), ("OTHER", "q")])).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["HTTP_PROXY", "http_proxy"]);
        assert!(is_predefined("no_proxy") && is_predefined("BUILDKIT_INLINE_CACHE") && !is_predefined("FOO"));
    }
}
