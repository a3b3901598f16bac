//! Cache keys, and the ids of vertices.
//!
//! A key is the digest of what a step says, of the chain that it stands on, and of the contents that it reads from elsewhere. What
//! makes no difference to the result is left out: names, proxies, limits of memory and processors, addresses of `--add-host`.
//! Secrets have no part but their names. Everything is written with its length, so that no two definitions look the same.

use skep_types::{Digest, Platform};

use crate::attest::without_password;
use crate::event::VertexId;
use crate::graph::{
    Fetched, FileAction, Files, Graph, Limits, Mode, Mount, MountKind, Network, Op, Owner, Rules, Run, Secret, Sharing,
    Step, Unpack,
};
use crate::worker::{Selection, Stack};

/// Changes whenever a key of an older version may not be believed any more.
const VERSION: &str = "skep build key 1";

/// A digest being made of tagged fields.
pub(crate) struct Canon(aws_lc_rs::digest::Context);

impl Canon {
    pub(crate) fn new(domain: &str) -> Self {
        let mut canon = Canon(aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256));
        canon.text(VERSION).text(domain);
        canon
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    pub(crate) fn number(&mut self, number: u64) -> &mut Self {
        self.0.update(&number.to_le_bytes());
        self
    }

    pub(crate) fn flag(&mut self, flag: bool) -> &mut Self {
        self.number(u64::from(flag))
    }

    pub(crate) fn digest(&mut self, digest: &Digest) -> &mut Self {
        self.bytes(digest.as_bytes())
    }

    pub(crate) fn option(&mut self, text: Option<&str>) -> &mut Self {
        self.flag(text.is_some()).text(text.unwrap_or_default())
    }

    pub(crate) fn texts<T: AsRef<str>>(&mut self, texts: &[T]) -> &mut Self {
        self.number(texts.len() as u64);
        for text in texts {
            self.text(text.as_ref());
        }
        self
    }

    fn platform(&mut self, platform: &Platform) -> &mut Self {
        self.text(&platform.os).text(&platform.architecture).text(&platform.variant)
    }

    pub(crate) fn stack(&mut self, stack: Stack) -> &mut Self {
        match stack {
            None => self.flag(false),
            Some(chain) => self.flag(true).digest(chain.digest()),
        }
    }

    pub(crate) fn finish(self) -> Digest {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.finish().as_ref());
        Digest::from_bytes(bytes)
    }
}

/// The sha256 of some bytes.
pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    Digest::from_bytes(out)
}

/// The key of a step that runs a program or changes files. `contents` are digests of what it reads besides its base, in the
/// order of [`reads`].
pub(crate) fn step_key(step: &Step, base: Stack, contents: &[Digest]) -> Digest {
    let mut canon = Canon::new("step");
    match &step.op {
        Op::Run(run) => {
            canon.platform(&step.platform);
            define_run(&mut canon, run);
        }
        Op::Files(files) => {
            define_files(&mut canon, files);
        }
        _ => {}
    }
    let linked = matches!(&step.op, Op::Files(files) if files.link);
    canon.stack(base.filter(|_| !linked)).number(contents.len() as u64);
    for content in contents {
        canon.digest(content);
    }
    canon.finish()
}

/// The key of a layer put on top of another stack than that it was made on.
pub(crate) fn rebase_key(diff_id: &Digest, base: Stack) -> Digest {
    let mut canon = Canon::new("rebase");
    canon.digest(diff_id).stack(base);
    canon.finish()
}

/// The key of the digest of a part of a tree that never changes.
pub(crate) fn selection_key(identity: &Digest, selection: &Selection) -> Digest {
    let mut canon = Canon::new("selection");
    canon.digest(identity).texts(&selection.paths).texts(&selection.exclude);
    canon.flag(selection.follow).flag(selection.wildcards);
    canon.finish()
}

/// What a step reads from each of its inputs besides the base, in the order of [`Op::inputs`].
pub(crate) fn reads(op: &Op) -> Vec<Selection> {
    let plain = |path: &std::path::Path| Selection {
        paths: vec![path.to_string_lossy().into_owned()],
        exclude: Vec::new(),
        follow: true,
        wildcards: false,
    };
    match op {
        Op::Scratch
        | Op::Image(_)
        | Op::Local(_)
        | Op::Http(_)
        | Op::Git(_)
        | Op::Given(_)
        | Op::Merge(_)
        | Op::Diff { .. } => Vec::new(),
        Op::Run(run) => {
            let read = run.mounts.iter().filter_map(|mount| match &mount.kind {
                MountKind::Bind { source, .. } | MountKind::Cache { from: Some((_, source)), .. } => {
                    Some(plain(source))
                }
                _ => None,
            });
            read.collect()
        }
        Op::Files(files) => {
            let read = files.actions.iter().filter_map(|action| match action {
                FileAction::Copy(copy) => Some(Selection {
                    paths: copy.sources.iter().map(|source| source.replace("/./", "/")).collect(),
                    exclude: copy.exclude.clone(),
                    follow: !copy.rules.links,
                    wildcards: copy.fetched == Fetched::No,
                }),
                FileAction::MakeDir { .. }
                | FileAction::Write { .. }
                | FileAction::MakeFile { .. }
                | FileAction::MakeLink { .. }
                | FileAction::Remove { .. } => None,
            });
            read.collect()
        }
    }
}

/// The ids of all steps of a graph: digests of what they say and of the ids of what they read.
pub(crate) fn vertex_ids(graph: &Graph) -> Vec<VertexId> {
    let mut ids: Vec<VertexId> = Vec::with_capacity(graph.steps.len());
    for step in &graph.steps {
        let mut canon = Canon::new("vertex");
        canon.platform(&step.platform).text(&step.name).flag(step.ignore_cache);
        define(&mut canon, &step.op);
        for input in step.op.inputs() {
            canon.digest(&ids[input.0].0);
        }
        ids.push(VertexId(canon.finish()));
    }
    ids
}

/// The id of a vertex that is no step of a graph.
pub(crate) fn internal_vertex(name: &str) -> VertexId {
    let mut canon = Canon::new("internal vertex");
    canon.text(name);
    VertexId(canon.finish())
}

/// What a step says, without what it reads. Two steps with the same definition, the same inputs and the same platform are one.
fn define(canon: &mut Canon, op: &Op) {
    match op {
        Op::Scratch => canon.text("scratch"),
        Op::Image(image) => {
            let pull = image.pull == crate::request::PullMode::Always;
            canon.text("image").text(&image.reference.to_string()).option(image.layout.as_deref()).flag(pull)
        }
        Op::Local(local) => {
            canon.text("local").text(&local.name);
            canon.texts(&local.include).texts(&local.exclude).texts(&local.follow)
        }
        Op::Http(http) => {
            let checksum = http.checksum.map(|digest| digest.to_string());
            canon
                .text("http")
                .text(&without_password(&http.url))
                .option(checksum.as_deref())
                .option(http.name.as_deref())
        }
        Op::Git(git) => {
            canon
                .text("git")
                .text(&without_password(&git.remote))
                .option(git.reference.as_deref())
                .option(git.subdir.as_deref());
            canon.flag(git.keep_git_dir).option(git.checksum.as_deref())
        }
        Op::Given(given) => canon.text("given").stack(given.stack),
        Op::Run(run) => define_run(canon, run),
        Op::Files(files) => define_files(canon, files),
        Op::Merge(several) => canon.text("merge").number(several.len() as u64),
        Op::Diff { lower, .. } => canon.text("diff").flag(lower.is_some()),
    };
}

/// What two steps of a graph share only if they are one. Where files of a client or of the network come from is no matter of
/// platforms.
pub(crate) fn step_identity(step: &Step) -> Digest {
    let mut canon = Canon::new("identity");
    if !matches!(step.op, Op::Local(_) | Op::Http(_) | Op::Git(_)) {
        canon.platform(&step.platform);
    }
    canon.flag(step.ignore_cache);
    for input in step.op.inputs() {
        canon.number(input.0 as u64);
    }
    define(&mut canon, &step.op);
    canon.finish()
}

fn define_run<'c>(canon: &'c mut Canon, run: &Run) -> &'c mut Canon {
    canon.text("run").texts(&run.argv).texts(&run.env).text(&run.cwd.to_string_lossy()).text(&run.user);
    canon.option(run.hostname.as_deref());
    canon.number(match run.network {
        Network::Default => 0,
        Network::None => 1,
        Network::Host => 2,
    });
    canon.flag(run.insecure).number(run.devices.len() as u64);
    for device in &run.devices {
        canon.text(&device.name).flag(device.required);
    }
    define_limits(canon, &run.limits);
    canon.number(run.mounts.len() as u64);
    for mount in &run.mounts {
        define_mount(canon, mount);
    }
    canon
}

/// What a program can notice of its limits and what may change what it makes. Addresses of hosts come and go.
fn define_limits(canon: &mut Canon, limits: &Limits) {
    canon.number(limits.extra_hosts.len() as u64);
    for (host, _) in &limits.extra_hosts {
        canon.text(host);
    }
    canon.number(limits.ulimits.len() as u64);
    for (name, soft, hard) in &limits.ulimits {
        canon.text(name).bytes(&soft.to_le_bytes()).bytes(&hard.to_le_bytes());
    }
    canon.number(limits.shm_size);
}

fn define_mount(canon: &mut Canon, mount: &Mount) {
    canon.text(&mount.target.to_string_lossy()).flag(mount.readonly);
    match &mount.kind {
        MountKind::Bind { source, .. } => canon.text("bind").text(&source.to_string_lossy()),
        MountKind::Cache { id, sharing, from, mode, uid, gid } => {
            let sharing = match sharing {
                Sharing::Shared => 0,
                Sharing::Private => 1,
                Sharing::Locked => 2,
            };
            let source = from.as_ref().map(|(_, source)| source.to_string_lossy());
            canon.text("cache").text(id).number(sharing).option(source.as_deref());
            canon.number((*mode).into()).number((*uid).into()).number((*gid).into())
        }
        MountKind::Tmpfs { size } => canon.text("tmpfs").number(*size),
        MountKind::Secret(secret) => define_secret(canon, secret),
        MountKind::Ssh { id, required, mode, uid, gid } => {
            canon.text("ssh").text(id).flag(*required);
            canon.number((*mode).into()).number((*uid).into()).number((*gid).into())
        }
        MountKind::Inline { data, mode } => canon.text("inline").bytes(data).number((*mode).into()),
    };
}

fn define_secret<'c>(canon: &'c mut Canon, secret: &Secret) -> &'c mut Canon {
    canon.text("secret").text(&secret.id).flag(secret.required).option(secret.env.as_deref()).flag(secret.file);
    canon.number(secret.mode.into()).number(secret.uid.into()).number(secret.gid.into())
}

fn define_files<'c>(canon: &'c mut Canon, files: &Files) -> &'c mut Canon {
    canon.text("files").flag(files.link).flag(files.time.is_some());
    canon.bytes(&files.time.map_or(0, |time| time.timestamp()).to_le_bytes()).number(files.actions.len() as u64);
    for action in &files.actions {
        match action {
            FileAction::MakeDir { path, parents, mode, owner } => {
                canon
                    .text(if *parents { "directory" } else { "one directory" })
                    .text(&path.to_string_lossy())
                    .number((*mode).into());
                define_owner(canon, owner);
            }
            FileAction::Write { path, name, data, mode, owner } => {
                canon.text("write").text(path).text(name).bytes(data);
                define_mode(canon, mode);
                define_owner(canon, owner);
            }
            FileAction::MakeFile { path, data, mode, owner } => {
                canon.text("file").text(&path.to_string_lossy()).bytes(data).number((*mode).into());
                define_owner(canon, owner);
            }
            FileAction::MakeLink { path, target, owner } => {
                canon.text("link").text(&path.to_string_lossy()).text(target);
                define_owner(canon, owner);
            }
            FileAction::Remove { path, wildcards, required } => {
                canon.text("remove").text(path).flag(*wildcards).flag(*required);
            }
            FileAction::Copy(copy) => {
                if copy.rules != Rules::default() {
                    let Rules { whole, links, some } = copy.rules;
                    canon.text("rules").flag(whole).flag(links).flag(some);
                }
                canon.text("copy").texts(&copy.sources).text(&copy.dest).texts(&copy.exclude).flag(copy.parents);
                canon.flag(copy.unpack == Unpack::Archives).number(match copy.fetched {
                    Fetched::No => 0,
                    Fetched::File => 1,
                    Fetched::Commit => 2,
                });
                define_mode(canon, &copy.mode);
                define_owner(canon, &copy.owner);
            }
        }
    }
    canon
}

fn define_mode(canon: &mut Canon, mode: &Mode) {
    match mode {
        Mode::Keep => canon.number(0),
        Mode::Octal(bits) => canon.number(1).number((*bits).into()),
        Mode::Symbolic(text) => canon.number(2).text(text),
    };
}

fn define_owner(canon: &mut Canon, owner: &Owner) {
    match owner {
        Owner::Root => canon.number(0),
        Owner::Keep => canon.number(1),
        Owner::Named(name) => canon.number(2).text(name),
    };
}
