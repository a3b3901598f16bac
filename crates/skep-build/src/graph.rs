//! Steps and what they read.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use skep_types::{Digest, Platform, Reference};

use crate::request::PullMode;
use crate::worker::Stack;

/// The place of a step in its [`Graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StepId(pub usize);

/// Steps, each after all that it reads.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// The steps.
    pub steps: Vec<Step>,
    /// The Dockerfile that they come from.
    pub source: Option<SourceFile>,
}

/// A Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Its name, as the client called it.
    pub name: String,
    /// The whole text.
    pub text: Arc<str>,
}

/// One thing to do.
#[derive(Debug, Clone)]
pub struct Step {
    /// What.
    pub op: Op,
    /// As progress displays show it: `[build 2/5] RUN make`.
    pub name: String,
    /// For which platform.
    pub platform: Platform,
    /// The lines of the Dockerfile that it comes from.
    pub lines: Option<RangeInclusive<usize>>,
    /// Run it even if its result is known (`--no-cache`).
    pub ignore_cache: bool,
}

/// What a step does. Its result is a tree of files.
#[derive(Debug, Clone)]
pub enum Op {
    /// Nothing: `FROM scratch`.
    Scratch,
    /// An image of a registry or of this engine.
    Image(ImageSource),
    /// A directory that the client has.
    Local(LocalSource),
    /// A file of a web server.
    Http(HttpSource),
    /// A commit of a git repository.
    Git(GitSource),
    /// A program, and what it changes.
    Run(Box<Run>),
    /// Files made and copied.
    Files(Box<Files>),
    /// Layers that are here: the result of another build.
    Given(Given),
    /// The layers of several results, each on top of those before.
    Merge(Vec<StepId>),
    /// The layers of a result without those of another that it stands on; all of them if there is no other.
    Diff {
        /// What it stands on.
        lower: Option<StepId>,
        /// The result.
        upper: StepId,
    },
}

/// What another build made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Its layers.
    pub stack: Stack,
    /// The same, one by one.
    pub diff_ids: Vec<Digest>,
}

/// An image to begin with, or to copy from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageSource {
    /// Its name.
    pub reference: Reference,
    /// The client's content store that has it, if it is an OCI layout there; `reference` has a digest then.
    pub layout: Option<String>,
    /// Whether to ask the registry although it is here.
    pub pull: PullMode,
}

/// A directory that the client has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalSource {
    /// What the client calls it: `context`, `dockerfile`, or the name of a `--build-context`.
    pub name: String,
    /// What it is asked for.
    pub part: LocalPart,
    /// Patterns of what is wanted; all if there are none.
    pub include: Vec<String>,
    /// Patterns of what is not, in the form of `.dockerignore`.
    pub exclude: Vec<String>,
    /// Paths whose links are to be followed, so that what they lead to comes too.
    pub follow: Vec<String>,
}

/// A part of a client's directory. A worker keeps each by itself: the `.dockerignore` alone, fetched before the files, must not make it
/// forget the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalPart {
    /// The files that steps copy.
    Files,
    /// The Dockerfile, with the `.dockerignore` of its own.
    Definition,
    /// The `.dockerignore`.
    Ignore,
}

/// A file of a web server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HttpSource {
    /// Where.
    pub url: String,
    /// What it has to be.
    pub checksum: Option<Digest>,
    /// The name of the file; taken from the answer and the URL if none is given.
    pub name: Option<String>,
}

/// A commit of a git repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitSource {
    /// The repository.
    pub remote: String,
    /// Branch, tag, commit or full reference.
    pub reference: Option<String>,
    /// A directory of it, which becomes the root.
    pub subdir: Option<String>,
    /// Whether `.git` stays.
    pub keep_git_dir: bool,
    /// What the commit has to be, or begin with.
    pub checksum: Option<String>,
}

/// A program to run on a tree.
#[derive(Debug, Clone)]
pub struct Run {
    /// On which.
    pub base: StepId,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// `NAME=value`, in order.
    pub env: Vec<String>,
    /// As `env`, but without a part in the cache key: proxies.
    pub silent_env: Vec<String>,
    /// Its directory, absolute.
    pub cwd: PathBuf,
    /// User and group as in `USER`; empty for root.
    pub user: String,
    /// Host name; none for the default.
    pub hostname: Option<String>,
    /// What is mounted besides.
    pub mounts: Vec<Mount>,
    /// Its network.
    pub network: Network,
    /// `--security=insecure`.
    pub insecure: bool,
    /// What devices it asks for; they are granted.
    pub devices: Vec<Device>,
    /// Limits, host entries and the like of the whole build.
    pub limits: Limits,
}

/// A device that a step asks for, as its vendor describes it (CDI).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// `vendor/class=name`; `vendor/class` for the first of a kind, `vendor/class=*` for all.
    pub name: String,
    /// Whether the step fails without it.
    pub required: bool,
}

/// The network of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Network {
    /// The engine's default bridge.
    #[default]
    Default,
    /// Only a loopback device.
    None,
    /// That of the host; has to be allowed.
    Host,
}

/// What holds for all steps of a build.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    /// `HOST:IP`.
    pub extra_hosts: Vec<(String, String)>,
    /// `NAME=SOFT[:HARD]`.
    pub ulimits: Vec<(String, i64, i64)>,
    /// Size of `/dev/shm` in bytes; 0 for the default.
    pub shm_size: u64,
    /// The control group that the steps' ones are made in; empty for the default.
    pub cgroup_parent: String,
    /// Memory in bytes; 0 for no limit.
    pub memory: i64,
    /// Memory and swap in bytes; 0 for no limit of its own, -1 for none at all.
    pub memory_swap: i64,
    /// Relative weight; 0 for the default.
    pub cpu_shares: u64,
    /// Microseconds per period; 0 for no limit.
    pub cpu_quota: i64,
    /// The period in microseconds; 0 for the default.
    pub cpu_period: u64,
    /// Processors; empty for all.
    pub cpuset_cpus: String,
    /// Memory nodes; empty for all.
    pub cpuset_mems: String,
}

/// Something mounted for one step only.
#[derive(Debug, Clone)]
pub struct Mount {
    /// Where; relative to the working directory if not absolute.
    pub target: PathBuf,
    /// What.
    pub kind: MountKind,
    /// Whether writing fails. What is written to a bind mount is thrown away.
    pub readonly: bool,
}

/// What is mounted.
#[derive(Debug, Clone)]
pub enum MountKind {
    /// Files of another step.
    Bind {
        /// Which.
        from: StepId,
        /// A path in it.
        source: PathBuf,
    },
    /// A directory that outlives the build.
    Cache {
        /// Its name.
        id: String,
        /// Who may use it at the same time.
        sharing: Sharing,
        /// What it begins with.
        from: Option<(StepId, PathBuf)>,
        /// Mode of a new one.
        mode: u32,
        /// Owner of a new one.
        uid: u32,
        /// Group of a new one.
        gid: u32,
    },
    /// Memory.
    Tmpfs {
        /// Bytes; 0 for no limit.
        size: u64,
    },
    /// A secret of the client, as a file.
    Secret(Secret),
    /// A socket to an ssh agent of the client.
    Ssh {
        /// Its name.
        id: String,
        /// Whether the step fails without it.
        required: bool,
        /// Mode of the socket.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// A file whose content is in the Dockerfile.
    Inline {
        /// The content.
        data: Bytes,
        /// Its mode.
        mode: u32,
    },
}

/// A secret of the client. Its value is in no key, no layer, no log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Its name.
    pub id: String,
    /// Whether the step fails without it.
    pub required: bool,
    /// The variable that it is put in; the file is only made if `file` says so.
    pub env: Option<String>,
    /// Whether there is a file.
    pub file: bool,
    /// Mode of the file.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// Who may use a cache directory at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Sharing {
    /// Everyone.
    #[default]
    Shared,
    /// Each gets one of its own.
    Private,
    /// One after the other.
    Locked,
}

/// Files made and copied on top of a tree: one layer.
#[derive(Debug, Clone)]
pub struct Files {
    /// On top of which.
    pub base: StepId,
    /// What, in order.
    pub actions: Vec<FileAction>,
    /// Whether the layer doesn't depend on the base (`--link`).
    pub link: bool,
    /// The time that all of it gets (`SOURCE_DATE_EPOCH`); what is copied keeps its own if there is none.
    pub time: Option<DateTime<Utc>>,
}

impl Files {
    /// All that a tree has, on top of another one.
    pub fn all_of(from: StepId, base: StepId) -> Self {
        let copy = Copy {
            from,
            sources: vec!["/".to_owned()],
            dest: "/".to_owned(),
            owner: Owner::Keep,
            mode: Mode::Keep,
            exclude: Vec::new(),
            parents: false,
            unpack: Unpack::No,
            fetched: Fetched::No,
            rules: Rules::default(),
        };
        Files { base, actions: vec![FileAction::Copy(copy)], link: false, time: None }
    }
}

/// One change of files.
#[derive(Debug, Clone)]
pub enum FileAction {
    /// A directory.
    MakeDir {
        /// Where, absolute.
        path: PathBuf,
        /// Whether those above it are made, too.
        parents: bool,
        /// Its mode.
        mode: u32,
        /// Owner of all that are made.
        owner: Owner,
    },
    /// A file whose content is in the Dockerfile.
    Write {
        /// Where, absolute; a directory if it ends with a slash or is one, which then gets `name`.
        path: String,
        /// The file's own name.
        name: String,
        /// The content.
        data: Bytes,
        /// Its mode.
        mode: Mode,
        /// Its owner.
        owner: Owner,
    },
    /// A file at just this place, in a directory that is there.
    MakeFile {
        /// Where, absolute.
        path: PathBuf,
        /// The content.
        data: Bytes,
        /// Its mode.
        mode: u32,
        /// Its owner.
        owner: Owner,
    },
    /// A symbolic link, in a directory that is there.
    MakeLink {
        /// Where, absolute.
        path: PathBuf,
        /// What it leads to.
        target: String,
        /// Its owner.
        owner: Owner,
    },
    /// Files of the base go.
    Remove {
        /// Which, absolute; a pattern if `wildcards`.
        path: String,
        /// Whether it is a pattern.
        wildcards: bool,
        /// Whether there has to be such a file.
        required: bool,
    },
    /// Files of another step.
    Copy(Copy),
}

/// Files of another step to be copied.
#[derive(Debug, Clone)]
pub struct Copy {
    /// From which.
    pub from: StepId,
    /// What: patterns below its root, each beginning with a slash. With `parents` only what comes after `/./` is made again in the
    /// destination, all of it if there is no such pivot.
    pub sources: Vec<String>,
    /// Where, absolute; a trailing slash says that it is a directory.
    pub dest: String,
    /// New owner.
    pub owner: Owner,
    /// New mode.
    pub mode: Mode,
    /// Patterns of what is left out.
    pub exclude: Vec<String>,
    /// Whether directories above the sources are made in the destination too (`--parents`).
    pub parents: bool,
    /// Whether archives are unpacked (`ADD` of local files), and never or always for `--unpack`.
    pub unpack: Unpack,
    /// Whether the one source comes from elsewhere.
    pub fetched: Fetched,
    /// What is different from a Dockerfile's instructions.
    pub rules: Rules,
}

/// How a copy differs from those that a Dockerfile asks for, where what is in a directory is copied, links are followed, and a pattern
/// may fit nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Rules {
    /// A directory is copied itself, into the destination if that is there.
    pub whole: bool,
    /// A source that is a link is copied as a link.
    pub links: bool,
    /// A pattern has to fit something.
    pub some: bool,
}

/// What a source from elsewhere is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Fetched {
    /// It does not come from elsewhere.
    #[default]
    No,
    /// A file of a web server: its mode is 0600 unless something else is asked for.
    File,
    /// The files of a commit: the directory itself is copied, not only what is in it.
    Commit,
}

/// What to do with archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Unpack {
    /// Copy them.
    #[default]
    No,
    /// Unpack what is one.
    Archives,
}

/// Mode of copied files.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// As the source's.
    #[default]
    Keep,
    /// Permission bits.
    Octal(u32),
    /// `u=rw,go=r`.
    Symbolic(String),
}

/// Owner of copied files.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Owner {
    /// 0:0.
    #[default]
    Root,
    /// As the source's (`COPY --from` an image keeps owners).
    Keep,
    /// As `--chown` has it: names are looked up in the base.
    Named(String),
}

impl Graph {
    /// Whether each step comes after all that it reads.
    pub fn is_ordered(&self) -> bool {
        let before = |(index, step): (usize, &Step)| step.op.inputs().iter().all(|input| input.0 < index);
        self.steps.iter().enumerate().all(before)
    }
}

impl Op {
    /// Puts other steps in the place of those that this one reads.
    pub(crate) fn map_inputs(&mut self, to: impl Fn(StepId) -> StepId) {
        match self {
            Op::Scratch | Op::Image(_) | Op::Local(_) | Op::Http(_) | Op::Git(_) | Op::Given(_) => {}
            Op::Merge(several) => several.iter_mut().for_each(|one| *one = to(*one)),
            Op::Diff { lower, upper } => {
                *lower = lower.map(&to);
                *upper = to(*upper);
            }
            Op::Run(run) => {
                run.base = to(run.base);
                for mount in &mut run.mounts {
                    if let MountKind::Bind { from, .. } | MountKind::Cache { from: Some((from, _)), .. } =
                        &mut mount.kind
                    {
                        *from = to(*from);
                    }
                }
            }
            Op::Files(files) => {
                files.base = to(files.base);
                for action in &mut files.actions {
                    if let FileAction::Copy(copy) = action {
                        copy.from = to(copy.from);
                    }
                }
            }
        }
    }

    /// The steps that this one reads, its base first.
    pub fn inputs(&self) -> Vec<StepId> {
        match self {
            Op::Scratch | Op::Image(_) | Op::Local(_) | Op::Http(_) | Op::Git(_) | Op::Given(_) => Vec::new(),
            Op::Merge(several) => several.clone(),
            Op::Diff { lower, upper } => std::iter::once(*upper).chain(*lower).collect(),
            Op::Run(run) => {
                let more = run.mounts.iter().filter_map(|mount| match &mount.kind {
                    MountKind::Bind { from, .. } | MountKind::Cache { from: Some((from, _)), .. } => Some(*from),
                    _ => None,
                });
                std::iter::once(run.base).chain(more).collect()
            }
            Op::Files(files) => {
                let more = files.actions.iter().filter_map(|action| match action {
                    FileAction::Copy(copy) => Some(copy.from),
                    _ => None,
                });
                std::iter::once(files.base).chain(more).collect()
            }
        }
    }
}

/// Labels, annotations, arguments: sorted by name.
pub type Names = BTreeMap<String, String>;
