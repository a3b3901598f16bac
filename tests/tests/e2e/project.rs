//! Directories to build from, and looking into what was built.

use std::path::{Path, PathBuf};

use skep_testkit::{Command, Engine, Outcome};

/// A directory among the engine's files.
pub(crate) struct Project {
    path: PathBuf,
}

impl Project {
    /// A directory of that name with this Dockerfile.
    pub(crate) fn new(engine: &Engine, name: &str, dockerfile: &str) -> Project {
        Project::empty(engine, name).file("Dockerfile", dockerfile)
    }

    /// A directory with nothing in it.
    pub(crate) fn empty(engine: &Engine, name: &str) -> Project {
        let path = engine.scratch().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Project { path }
    }

    /// Writes a file.
    pub(crate) fn file(self, name: &str, text: impl AsRef<[u8]>) -> Project {
        let path = self.path.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path as a word of a command line.
    pub(crate) fn word(&self) -> String {
        self.path.display().to_string()
    }

    /// `build FLAGS PATH`.
    #[track_caller]
    #[must_use = "a command's outcome is what a test is about"]
    pub(crate) fn build(&self, engine: &Engine, flags: &[&str]) -> Outcome {
        self.build_command(engine, flags).run()
    }

    /// The same, to be given variables or input.
    pub(crate) fn build_command(&self, engine: &Engine, flags: &[&str]) -> Command {
        let path = self.word();
        engine.command(["build"].into_iter().chain(flags.iter().copied()).chain([path.as_str()]))
    }

    /// All of it as an archive, compressed or not.
    pub(crate) fn archive(&self, compress: bool) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        archive.append_dir_all(".", &self.path).unwrap();
        let archive = archive.into_inner().unwrap();
        if !compress {
            return archive;
        }
        let plain = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(plain.path(), archive).unwrap();
        std::process::Command::new("gzip").arg("-c").arg(plain.path()).output().unwrap().stdout
    }
}

/// A git repository of the project's files, for a web server of the folder above: `NAME.git`.
pub(crate) fn repository(project: &Project) -> String {
    let name = format!("{}.git", project.path.file_name().unwrap().to_str().unwrap());
    let git = |words: &[&str]| {
        let identity = ["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "init.defaultBranch=main"];
        let words = identity.into_iter().chain(words.iter().copied());
        Command::new("git", words).current_dir(&project.path).env("HOME", &project.path).run().success();
    };
    git(&["init", "--quiet"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message", "one"]);
    git(&["clone", "--quiet", "--bare", ".", &format!("../{name}")]);
    name
}

/// The lines of a file of an image.
#[track_caller]
pub(crate) fn cat(engine: &Engine, image: &str, path: &str) -> String {
    engine.run(["run", "--rm", "--network", "none", image, "cat", path]).success().stdout
}

/// What `image inspect` says.
#[track_caller]
pub(crate) fn inspect(engine: &Engine, image: &str) -> serde_json::Value {
    engine.run(["image", "inspect", image]).success().json()[0].clone()
}
