//! Commits of git repositories, fetched by git itself, which is let near nothing but what it needs: no configuration of the host's, no
//! hooks, no helpers, no protocols that run programs; and of the host's files only its own ([`confined`]).
//!
//! ```text
//! D/build/git/REMOTE-0/        the repository: objects that were fetched before
//! D/build/checkout/COMMIT-0/tree    its files; `done` beside it when it is complete
//! D/build/ssh/known_hosts           keys of servers, as they were first met
//! ```

mod auth;
pub(in crate::build) mod refs;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use chrono::Utc;
use skep_build::event::BuildEvent;
use skep_build::graph::GitSource;
use skep_build::worker::{Context, Dir, Tree};
use skep_build::{BuildError, without_password};
use skep_fs::Root;
use skep_registry::digest_of;
use skep_types::{Digest, ErrorKind};

use super::super::error::{blocking, cancelled, failed, unknown};
use super::super::paths::locate;
use super::super::step::confined::{self, Confined};
use super::in_time;
use super::slots::Slot;
use crate::engine::Inner;
use auth::Login;

/// The largest that git may say, in bytes.
const SAID_MAX: usize = 1 << 20;

/// What git is told before anything else. A server that says nothing for a minute has gone away.
const SETTINGS: [&str; 28] = [
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "protocol.ext.allow=never",
    "-c",
    "credential.helper=",
    "-c",
    "safe.directory=*",
    "-c",
    "advice.detachedHead=false",
    "-c",
    "gc.auto=0",
    "-c",
    "maintenance.auto=false",
    "-c",
    "core.symlinks=true",
    "-c",
    "core.autocrlf=false",
    "-c",
    "fetch.recurseSubmodules=no",
    "-c",
    "http.lowSpeedLimit=1",
    "-c",
    "http.lowSpeedTime=60",
    "-c",
    "pack.threads=2",
];
const ENVIRONMENT: [&str; 6] = [
    "PATH=/usr/local/bin:/usr/bin:/bin",
    "LC_ALL=C",
    "HOME=/nonexistent",
    "GIT_CONFIG_NOSYSTEM=1",
    "GIT_CONFIG_GLOBAL=/dev/null",
    "GIT_TERMINAL_PROMPT=0",
];

/// Fetches a commit and checks it out.
pub(in crate::build) async fn fetch(
    engine: &Arc<Inner>,
    source: &GitSource,
    context: &Context,
) -> Result<Tree, BuildError> {
    let fetching = Fetching::new(engine, source, context).await?;
    tokio::select! {
        tree = in_time(&fetching.remote, fetching.run()) => tree,
        () = context.cancel.cancelled() => Err(cancelled()),
    }
}

struct Fetching<'a> {
    engine: &'a Arc<Inner>,
    source: &'a GitSource,
    context: &'a Context,
    /// The repository's address, without a password: that is in no file that is kept, and in no message.
    remote: String,
    login: Login,
    agent: Option<(PathBuf, Box<dyn Send + Sync>)>,
}

impl<'a> Fetching<'a> {
    async fn new(engine: &'a Arc<Inner>, source: &'a GitSource, context: &'a Context) -> Result<Self, BuildError> {
        let remote = source.remote.as_str();
        if remote.starts_with('-') || remote.contains(['\0', '\n']) || remote.contains("::") {
            return Err(BuildError::invalid(format!("invalid git repository: {remote:?}")));
        }
        if source.reference.as_ref().is_some_and(|text| text.starts_with('-') || text.contains(['\0', '\n', ' '])) {
            return Err(BuildError::invalid(format!("invalid git reference: {:?}", source.reference)));
        }
        let is_http = remote.starts_with("http://") || remote.starts_with("https://");
        let login = if is_http { Login::find(&*context.services, remote).await? } else { Login::default() };
        let agent = if is_http { None } else { super::super::step::agent_for_git(engine, context).await? };
        let remote = if is_http { without_password(remote) } else { remote.to_owned() };
        Ok(Fetching { engine, source, context, remote, login, agent })
    }

    async fn run(&self) -> Result<Tree, BuildError> {
        let top = self.engine.config.data_root.join("build");
        let repository = self.repository().await?;
        let bare = repository.path.as_path();
        let commit = self.commit(bare).await?;
        self.check(&commit)?;
        let keep = if self.source.keep_git_dir { "with" } else { "without" };
        let name = digest_of(format!("{} {commit} {keep}", self.source.remote).as_bytes()).hex()[..32].to_owned();
        let slot = self.engine.builds.checkouts.take(&top.join("checkout"), &name)?;
        let (tree, done) = (slot.path.join("tree"), slot.path.join("done"));
        if !done.exists() {
            self.check_out(bare, &tree, &commit).await?;
            std::fs::write(&done, "").map_err(failed("note a checkout"))?;
        }
        let path = self.subdirectory(&tree)?;
        let identity: Digest = digest_of(format!("{commit} {:?} {keep}", self.source.subdir).as_bytes());
        Ok(Tree::Dir(Arc::new(Dir { path, identity: Some(identity), guard: Box::new(slot) })))
    }

    /// Where the objects are that were fetched before.
    async fn repository(&self) -> Result<Slot, BuildError> {
        let name = digest_of(self.source.remote.as_bytes()).hex()[..32].to_owned();
        let top = self.engine.config.data_root.join("build/git");
        let repository = self.engine.builds.repositories.take(&top, &name)?;
        if !repository.path.join("HEAD").exists() {
            self.git(&repository.path, &["init", "--quiet", "--bare", "."]).await?;
        }
        Ok(repository)
    }

    /// Whether the commit is the one that is wanted.
    fn check(&self, commit: &str) -> Result<(), BuildError> {
        if let Some(wanted) = &self.source.checksum
            && !(wanted.len() <= 64 && wanted.bytes().all(|byte| byte.is_ascii_hexdigit()))
        {
            let text = format!("invalid checksum {wanted} for Git URL, expected hex commit hash");
            return Err(unknown(BuildError::invalid(text)));
        }
        if let Some(wanted) = &self.source.checksum
            && (wanted.len() < 7 || !commit.starts_with(&wanted.to_ascii_lowercase()))
        {
            let error = BuildError::invalid(format!("expected checksum to match {wanted}, got {commit}"));
            return Err(unknown(error));
        }
        Ok(())
    }

    /// Finds the commit, and fetches it if it isn't here.
    async fn commit(&self, bare: &Path) -> Result<String, BuildError> {
        let remote = self.remote.as_str();
        let reference = self.source.reference.as_deref().filter(|text| !text.is_empty()).unwrap_or("HEAD");
        // A checksum that is a whole id names the commit, wherever the reference is now, as for BuildKit.
        let reference = self.source.checksum.as_deref().filter(|wanted| is_commit(wanted)).unwrap_or(reference);
        if is_commit(reference) {
            self.fetch_commit(bare, reference).await?;
            return Ok(reference.to_owned());
        }
        let listed = self.git(bare, &["ls-remote", "--", remote, reference, &format!("{reference}^{{}}")]).await;
        let listed = listed.map_err(unknown)?;
        let Some(name) = refs::choose(&listed, reference) else {
            let text = format!("repository does not contain ref {reference}, output: {:?}", listed.trim());
            return Err(unknown(BuildError::invalid(text)));
        };
        self.fetch_commit(bare, &name).await?;
        let commit = self.git(bare, &["rev-parse", "--verify", "FETCH_HEAD^{commit}"]).await?;
        Ok(commit.trim().to_owned())
    }

    /// Fetches a commit by its id or by the whole name of a reference, unless it is here.
    async fn fetch_commit(&self, bare: &Path, wanted: &str) -> Result<(), BuildError> {
        let remote = self.remote.as_str();
        let fetch = ["fetch", "--quiet", "--no-tags", "--force", "--depth=1", "--", remote, wanted];
        if !is_commit(wanted) {
            return self.git(bare, &fetch).await.map(drop);
        }
        let present = format!("{wanted}^{{commit}}");
        if self.git(bare, &["cat-file", "-e", &present]).await.is_ok() {
            return Ok(());
        }
        // Not every server gives out commits by their ids.
        if self.git(bare, &fetch).await.is_err() {
            let all = "+refs/*:refs/skep/*";
            self.git(bare, &["fetch", "--quiet", "--no-tags", "--force", "--", remote, all]).await?;
        }
        self.git(bare, &["cat-file", "-e", &present]).await.map(drop)
    }

    async fn check_out(&self, bare: &Path, tree: &Path, commit: &str) -> Result<(), BuildError> {
        let fresh = || match std::fs::remove_dir_all(tree) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => std::fs::create_dir(tree),
        };
        fresh().map_err(failed("make a directory for a checkout"))?;
        self.git(tree, &["init", "--quiet", "."]).await?;
        self.git(tree, &["remote", "add", "origin", &self.remote]).await?;
        let pinned = format!("{commit}:refs/skep/build");
        self.git(bare, &["-c", "protocol.file.allow=always", "update-ref", "refs/skep/wanted", commit]).await?;
        let from = bare.to_string_lossy().into_owned();
        let fetch =
            ["-c", "protocol.file.allow=always", "fetch", "--quiet", "--no-tags", "--update-shallow", "--", &from];
        self.git_with(tree, &[&fetch[..], &[&pinned]].concat(), "file", Some(bare)).await?;
        self.git(tree, &["checkout", "--quiet", "--force", "--detach", commit]).await?;
        self.git(tree, &["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"]).await?;
        if !self.source.keep_git_dir {
            let tree = tree.to_owned();
            blocking(move || remove_git_dirs(&tree).map_err(failed("clear a checkout"))).await?;
        }
        Ok(())
    }

    /// The directory that becomes the root. Links in the repository don't lead out of it.
    fn subdirectory(&self, tree: &Path) -> Result<PathBuf, BuildError> {
        let Some(subdir) = self.source.subdir.as_deref().filter(|text| !text.is_empty()) else {
            return Ok(tree.to_owned());
        };
        let root = Root::open(tree).map_err(failed("open a checkout"))?;
        let shown = Path::new("/").join(subdir);
        let invalid = |why: String| BuildError::invalid(format!("invalid subdir {}: {why}", shown.display()));
        match locate(&root, Path::new(subdir)) {
            Ok(found) if found.is_dir() => Ok(tree.join(found.real)),
            Ok(found) if found.stat.is_none() => {
                let text = format!("failed to lstat {subdir:?}: statat {subdir}: no such file or directory");
                Err(BuildError { kind: ErrorKind::NotFound, ..invalid(text) })
            }
            Ok(_) => Err(invalid(format!("git subpath {shown:?} contains non-directory {subdir:?}"))),
            Err(error) => Err(invalid(error.to_string())),
        }
    }

    async fn git(&self, dir: &Path, arguments: &[&str]) -> Result<String, BuildError> {
        self.git_bytes(dir, arguments).await.map(|said| String::from_utf8_lossy(&said).into_owned())
    }

    async fn git_bytes(&self, dir: &Path, arguments: &[&str]) -> Result<Vec<u8>, BuildError> {
        self.git_with(dir, arguments, "http:https:ssh:git", None).await
    }

    /// Runs git in a directory, which it may write; `reading` is another one that it may read.
    async fn git_with(
        &self,
        dir: &Path,
        arguments: &[&str],
        protocols: &str,
        reading: Option<&Path>,
    ) -> Result<Vec<u8>, BuildError> {
        let ssh_directory = self.engine.config.data_root.join("build/ssh");
        let mut writable = vec![dir.to_owned()];
        if !self.remote.starts_with("http") {
            crate::storage::make_dir(&ssh_directory, 0o700).map_err(super::super::error::engine)?;
            writable.push(ssh_directory.clone());
        }
        let ssh = format!(
            "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile={}",
            ssh_directory.join("known_hosts").display()
        );
        let mut env: Vec<String> = ENVIRONMENT.iter().map(|&entry| entry.to_owned()).collect();
        env.push(format!("GIT_ALLOW_PROTOCOL={protocols}"));
        env.push(format!("GIT_SSH_COMMAND={ssh}"));
        env.push(format!("GIT_CONFIG_COUNT={}", self.login.settings.len()));
        for (at, (key, value)) in self.login.settings.iter().enumerate() {
            env.extend([format!("GIT_CONFIG_KEY_{at}={key}"), format!("GIT_CONFIG_VALUE_{at}={value}")]);
        }
        let mut readable = reading.map(Path::to_owned).into_iter().collect::<Vec<_>>();
        if let Some((path, _)) = &self.agent {
            env.push(format!("SSH_AUTH_SOCK={}", path.display()));
            readable.extend(path.parent().map(Path::to_owned));
        }
        let argv = std::iter::once("git").chain(SETTINGS).chain(arguments.iter().copied());
        let confined =
            Confined { argv: argv.map(str::to_owned).collect(), env, cwd: dir.to_owned(), writable, readable };
        let output = confined::run(self.engine, confined, SAID_MAX, self.context).await;
        let output = output.map_err(|error| match error.kind {
            ErrorKind::NotImplemented => {
                BuildError::new(error.kind, "git is not installed on the machine of the engine")
            }
            ErrorKind::Cancelled => error,
            kind => BuildError::new(kind, format!("failed to fetch remote {}: {error}", self.remote)),
        })?;
        if output.code == 0 {
            return Ok(output.output.to_vec());
        }
        let said = self.login.hide(&String::from_utf8_lossy(&output.errors));
        let data = Bytes::from(said.clone().into_bytes());
        let log = BuildEvent::Log { vertex: self.context.vertex, stream: 2, data, at: Utc::now() };
        // Nobody has to listen.
        let _ = self.context.events.send(log).await;
        let what = match arguments.contains(&"ls-remote") && self.source.reference.is_none() {
            true => "error fetching default branch for repository",
            false => "failed to fetch remote",
        };
        let message = format!("{what} {}: git stderr:\n{said}: exit status {}", self.remote, output.code);
        Err(BuildError::new(ErrorKind::Unavailable, message))
    }
}

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Removes what git keeps of a checkout and of its submodules.
fn remove_git_dirs(dir: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let is_dir = entry.file_type()?.is_dir();
        if entry.file_name() == ".git" {
            match is_dir {
                true => std::fs::remove_dir_all(entry.path())?,
                false => std::fs::remove_file(entry.path())?,
            }
        } else if is_dir {
            remove_git_dirs(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_commits() {
        assert!(is_commit(&"a".repeat(40)) && is_commit(&"0".repeat(64)) && !is_commit("abc"));
        assert!(!is_commit(&"g".repeat(40)));
    }
}
