//! Where the programs of others are that tests use.

use std::path::{Path, PathBuf};

use skep_testkit::{Command, Engine, Outcome};

/// The folder that cargo builds into, as `cargo xtask` sees it.
pub(crate) fn target() -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    top.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// A program that `cargo xtask peers` has fetched.
pub(crate) fn fetched(program: &str) -> Option<PathBuf> {
    let peers = target().join("peers");
    let path = peers.join("tree/usr/bin").join(program);
    (peers.join(".complete").exists() && path.exists()).then_some(path)
}

/// Docker's own client with buildx, of `cargo xtask peers`.
pub(crate) struct Buildx {
    docker: PathBuf,
    home: PathBuf,
}

impl Buildx {
    /// With settings of its own; none if the peers are not here.
    pub(crate) fn find(engine: &Engine) -> Option<Buildx> {
        let docker = fetched("docker")?;
        let peers = target().join("peers");
        let plugin = peers.join("tree/usr/libexec/docker/cli-plugins/docker-buildx");
        let home = engine.scratch().join("buildx");
        std::fs::create_dir_all(home.join("cli-plugins")).unwrap();
        std::os::unix::fs::symlink(plugin, home.join("cli-plugins/docker-buildx")).unwrap();
        Some(Buildx { docker, home })
    }

    /// `docker buildx WORDS`.
    pub(crate) fn run(&self, engine: &Engine, words: &[&str]) -> Outcome {
        let host = format!("unix://{}", engine.socket().display());
        let command = Command::new(&self.docker, ["buildx"].iter().chain(words)).env("DOCKER_HOST", host);
        command.env("DOCKER_CONFIG", &self.home).env("HOME", &self.home).run()
    }
}

/// A program of this machine.
pub(crate) fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
