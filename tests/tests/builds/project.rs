//! The corpus: projects to build, several to a file below `tests/corpus/build`.
//!
//! ```text
//! # A comment.
//! ==== name
//! args: --build-arg A='b c'        further arguments of `docker build`
//! env: SOURCE_DATE_EPOCH=0         of the client
//! setup: ln -s a b                 run by sh in the context: what a text file can't hold
//! -- Dockerfile --
//! FROM busybox
//! -- ../other/file --
//! beside the context
//! ```
//!
//! | key | meaning |
//! |---|---|
//! | `context` | instead of `.` |
//! | `stdin` | a file, relative to the context, that the client reads |
//! | `builder: classic` | `DOCKER_BUILDKIT=0`; what it prints is recorded |
//! | `output: tar` | the files of the result are taken from `--output type=tar` |
//! | `again` | the project is built a second time with these further arguments; the second build is recorded |
//! | `between` | run by sh before that |
//! | `ignore` | paths below this one are not recorded |
//!
//! `{{http}}` in a file or an argument is the address of a web server with the files of `../http`, where repositories whose
//! names end in `.git` can be cloned. `{{syntax}}` is a `# syntax=` line, but for the recorded engine, which can't fetch what
//! that names, a comment. All files have the time [`TIME`].

use std::path::{Path, PathBuf};

/// The time of all files of a context.
pub(crate) const TIME: u64 = 1_704_164_645;

/// One project.
#[derive(Debug, Clone, Default)]
pub(crate) struct Project {
    /// `GROUP/NAME`.
    pub(crate) name: String,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) setup: Vec<String>,
    pub(crate) context: Option<String>,
    pub(crate) stdin: Option<String>,
    pub(crate) classic: bool,
    pub(crate) tar: bool,
    pub(crate) again: Option<Vec<String>>,
    pub(crate) between: Vec<String>,
    pub(crate) ignore: Vec<String>,
    /// Paths, relative to the context, and texts.
    files: Vec<(String, String)>,
}

/// Where the corpus is.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/build")
}

/// The names of all groups: the files of the corpus.
pub(crate) fn groups() -> Vec<String> {
    let entries = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let texts = entries.filter(|path| path.extension().is_some_and(|extension| extension == "projects"));
    let mut names: Vec<String> = texts.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// The projects of a group.
pub(crate) fn of_group(group: &str) -> Vec<Project> {
    let file = folder().join(format!("{group}.projects"));
    parse(group, &std::fs::read_to_string(&file).unwrap())
}

fn parse(group: &str, text: &str) -> Vec<Project> {
    let mut projects: Vec<Project> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if let Some(name) = line.strip_prefix("==== ") {
            if let Some((_, content)) = projects.last_mut().and_then(|project| project.files.last_mut()) {
                // The empty line is between the projects.
                if content.ends_with("\n\n") || content == "\n" {
                    content.pop();
                }
            }
            projects.push(Project { name: format!("{group}/{name}"), ..Project::default() });
            continue;
        }
        let Some(project) = projects.last_mut() else {
            assert!(line.is_empty() || line.starts_with('#'), "{group}:{number}: a line before the first project");
            continue;
        };
        if let Some(path) = line.strip_prefix("-- ").and_then(|rest| rest.strip_suffix(" --")) {
            project.files.push((path.to_owned(), String::new()));
        } else if let Some((_, content)) = project.files.last_mut() {
            content.push_str(line);
            content.push('\n');
        } else if let Some((key, value)) = line.split_once(':') {
            project.set(key, value.trim()).unwrap_or_else(|| panic!("{group}:{number}: no such key: {key}"));
        } else {
            assert!(line.is_empty() || line.starts_with('#'), "{group}:{number}: {line:?} is not understood");
        }
    }
    projects
}

impl Project {
    fn set(&mut self, key: &str, value: &str) -> Option<()> {
        match key {
            "args" => self.args.extend(words(value)),
            "env" => self.env.push(value.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))?),
            "setup" => self.setup.push(value.to_owned()),
            "context" => self.context = Some(value.to_owned()),
            "stdin" => self.stdin = Some(value.to_owned()),
            "builder" if value == "classic" => self.classic = true,
            "output" if value == "tar" => self.tar = true,
            "again" => self.again = Some(words(value)),
            "between" => self.between.push(value.to_owned()),
            "ignore" => self.ignore.push(value.to_owned()),
            _ => return None,
        }
        Some(())
    }

    /// Where the context is: a name that no other project's context has, as builders reuse the files of a context that was
    /// there before under the same name.
    pub(crate) fn context_folder(&self, folder: &Path) -> PathBuf {
        folder.join(format!("context-{}", self.name.replace('/', "-")))
    }

    /// Writes the context and what is beside it. `fill` replaces the names in double braces.
    pub(crate) fn write(&self, folder: &Path, fill: impl Fn(&str) -> String) {
        let context = self.context_folder(folder);
        std::fs::create_dir_all(&context).unwrap();
        std::fs::create_dir_all(folder.join("http")).unwrap();
        for (path, text) in &self.files {
            let path = context.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, fill(text)).unwrap();
        }
        for line in &self.setup {
            shell(&context, &fill(line));
        }
        shell(folder, &format!("find . -print0 | xargs -0 touch -h -d @{TIME}"));
    }
}

/// Runs a line by sh. Commits that it makes are always the same.
pub(crate) fn shell(folder: &Path, line: &str) {
    let mut command = skep_testkit::Command::new("sh", ["-e", "-c", &format!("umask 022; {line}")]).current_dir(folder);
    for who in ["AUTHOR", "COMMITTER"] {
        command =
            command.env(&format!("GIT_{who}_NAME"), "corpus").env(&format!("GIT_{who}_EMAIL"), "corpus@localhost");
        command = command.env(&format!("GIT_{who}_DATE"), format!("{TIME} +0000"));
    }
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null").run().success();
}

/// Words between blanks; single quotes hold them together.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let (mut inside, mut quoted) = (false, false);
    for character in text.chars() {
        match character {
            '\'' => {
                quoted = !quoted;
                if !inside {
                    words.push(String::new());
                    inside = true;
                }
            }
            ' ' if !quoted => inside = false,
            other => {
                if !inside {
                    words.push(String::new());
                    inside = true;
                }
                words.last_mut().unwrap().push(other);
            }
        }
    }
    assert!(!quoted, "a quote is not closed: {text}");
    words
}

#[test]
fn a_group_is_read() {
    let text = "# about\n==== one\nargs: --build-arg A='b c'\nsetup: true\n\n-- Dockerfile --\nFROM a\n\n-- empty --\n==== two\n";
    let projects = parse("g", text);
    assert_eq!(projects.len(), 2);
    assert_eq!((projects[0].name.as_str(), projects[0].args.join("|")), ("g/one", "--build-arg|A=b c".to_owned()));
    assert_eq!(projects[0].files[0], ("Dockerfile".to_owned(), "FROM a\n\n".to_owned()));
    assert_eq!(projects[0].files[1].1, "");
    assert!(projects[1].files.is_empty());
}
