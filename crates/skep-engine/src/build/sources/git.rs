//! Commits of git repositories, fetched by git itself, which is let near nothing but what it needs: no configuration of the host's, no
//! hooks, no helpers, no protocols that run programs; and of the host's files only its own ([`confined`]).
//!
//! ```text
//! D/build/git/REMOTE-0/        the repository: objects that were fetched before
//! D/build/checkout/COMMIT-0/tree    its files; `done` beside it when it is complete
//! D/build/ssh/known_hosts           keys of servers, as they were first met
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
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
use crate::engine::Inner;

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
        tree = fetching.run() => tree,
        () = context.cancel.cancelled() => Err(cancelled()),
    }
}

struct Fetching<'a> {
    engine: &'a Arc<Inner>,
    source: &'a GitSource,
    context: &'a Context,
    /// The repository's address, without a password: that is in no file that is kept, and in no message.
    remote: String,
    /// `GIT_CONFIG_KEY_n` and value: secrets are in no argument.
    configuration: Vec<(String, String)>,
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
        let mut configuration = Vec::new();
        let is_http = remote.starts_with("http://") || remote.starts_with("https://");
        if is_http {
            let header = match context.services.secret("GIT_AUTH_HEADER").await? {
                Some(header) => Some(String::from_utf8_lossy(&header).trim().to_owned()),
                None => context.services.secret("GIT_AUTH_TOKEN").await?.map(|token| {
                    let token = String::from_utf8_lossy(&token).trim().to_owned();
                    let pair = base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{token}"));
                    format!("basic {pair}")
                }),
            };
            let plain = without_password(remote);
            configuration
                .extend(header.map(|header| (format!("http.{plain}.extraheader"), format!("Authorization: {header}"))));
            configuration.extend(password(remote));
        }
        let agent = if is_http { None } else { super::super::step::agent_for_git(engine, context).await? };
        let remote = if is_http { without_password(remote) } else { remote.to_owned() };
        Ok(Fetching { engine, source, context, remote, configuration, agent })
    }

    async fn run(&self) -> Result<Tree, BuildError> {
        let top = self.engine.config.data_root.join("build");
        let name = digest_of(self.source.remote.as_bytes()).hex()[..32].to_owned();
        let repository = self.engine.builds.repositories.take(&top.join("git"), &name)?;
        let bare = repository.path.as_path();
        if !bare.join("HEAD").exists() {
            self.git(bare, &["init", "--quiet", "--bare", "."]).await?;
        }
        let commit = self.commit(bare).await?;
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

    /// Finds the commit, and fetches it if it isn't here.
    async fn commit(&self, bare: &Path) -> Result<String, BuildError> {
        let remote = self.remote.as_str();
        let reference = self.source.reference.as_deref().filter(|text| !text.is_empty()).unwrap_or("HEAD");
        if is_commit(reference) {
            let present = format!("{reference}^{{commit}}");
            if self.git(bare, &["cat-file", "-e", &present]).await.is_ok() {
                return Ok(reference.to_owned());
            }
            // Not every server gives out commits by their ids.
            if self.git(bare, &["fetch", "--quiet", "--no-tags", "--depth=1", "--", remote, reference]).await.is_err() {
                let all = "+refs/*:refs/skep/*";
                self.git(bare, &["fetch", "--quiet", "--no-tags", "--force", "--", remote, all]).await?;
            }
            self.git(bare, &["cat-file", "-e", &present]).await?;
            return Ok(reference.to_owned());
        }
        let listed = self.git(bare, &["ls-remote", "--", remote, reference, &format!("{reference}^{{}}")]).await;
        let listed = listed.map_err(unknown)?;
        let Some(name) = choose(&listed, reference) else {
            let text = format!("repository does not contain ref {reference}, output: {:?}", listed.trim());
            return Err(unknown(BuildError::invalid(text)));
        };
        self.git(bare, &["fetch", "--quiet", "--no-tags", "--force", "--depth=1", "--", remote, &name]).await?;
        let commit = self.git(bare, &["rev-parse", "--verify", "FETCH_HEAD^{commit}"]).await?;
        Ok(commit.trim().to_owned())
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
        self.git_with(dir, arguments, "http:https:ssh:git", None).await
    }

    /// Runs git in a directory, which it may write; `reading` is another one that it may read.
    async fn git_with(
        &self,
        dir: &Path,
        arguments: &[&str],
        protocols: &str,
        reading: Option<&Path>,
    ) -> Result<String, BuildError> {
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
        env.push(format!("GIT_CONFIG_COUNT={}", self.configuration.len()));
        for (at, (key, value)) in self.configuration.iter().enumerate() {
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
            return Ok(String::from_utf8_lossy(&output.output).into_owned());
        }
        let mut said = without_password(&String::from_utf8_lossy(&output.errors));
        for (_, secret) in self.configuration.iter().filter(|(key, _)| key.ends_with(".extraheader")) {
            said = said.replace(secret, "***");
        }
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

/// The setting by which git logs in to a server with the name and the password of an address, if it has any.
fn password(remote: &str) -> Option<(String, String)> {
    let (scheme, rest) = remote.split_once("://")?;
    let authority = rest.split('/').next()?;
    let (_, host) = authority.rsplit_once('@')?;
    Some((format!("url.{scheme}://{authority}/.insteadOf"), format!("{scheme}://{host}/")))
}

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The full name of what `reference` means among the lines of `ls-remote`: itself, then a tag, then a branch.
fn choose(listed: &str, reference: &str) -> Option<String> {
    let names: Vec<&str> = listed.lines().filter_map(|line| line.split_once('\t').map(|(_, name)| name)).collect();
    let candidates = [
        reference.to_owned(),
        format!("refs/{reference}"),
        format!("refs/tags/{reference}"),
        format!("refs/heads/{reference}"),
    ];
    candidates.into_iter().find(|name| names.contains(&name.as_str()))
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
    fn a_password_is_only_in_a_setting() {
        let found = password("https://me:secret@host:8443/a/b.git").expect("a password");
        let wanted = ("url.https://me:secret@host:8443/.insteadOf", "https://host:8443/");
        assert_eq!((found.0.as_str(), found.1.as_str()), wanted);
        assert_eq!(password("https://host/a@b.git"), None);
    }

    #[test]
    fn a_reference_is_chosen_by_its_whole_name() {
        let listed = "1\trefs/heads/v1\n2\trefs/tags/v1\n3\trefs/tags/v1^{}\n4\trefs/heads/x/v1\n";
        assert_eq!(choose(listed, "v1").as_deref(), Some("refs/tags/v1"));
        assert_eq!(choose(listed, "heads/v1").as_deref(), Some("refs/heads/v1"));
        assert_eq!(choose(listed, "refs/heads/v1").as_deref(), Some("refs/heads/v1"));
        assert_eq!(choose(listed, "v2"), None);
        assert!(is_commit(&"a".repeat(40)) && !is_commit("abc"));
    }
}
