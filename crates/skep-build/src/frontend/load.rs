//! The Dockerfile, the context, and what of it is ignored.

use std::sync::Arc;

use skep_dockerfile::ignore;
use skep_types::{ErrorKind, Platform};

use crate::attest::without_password;
use crate::convert::{Sources, git_source};
use crate::error::{BuildError, Result};
use crate::graph::{
    Copy, Fetched, FileAction, Files, Given, Graph, HttpSource, LocalPart, LocalSource, Mode, Op, Owner, Rules, Step,
    StepId, Unpack,
};
use crate::request::{Context, Dockerfile, NamedContext};
use crate::solve::{Report, Solve};
use crate::worker::{Tree, Worker};

use super::{Frontend, Ignores};

/// The largest Dockerfile and the largest `.dockerignore` that are read, in bytes.
const MAX_FILE: u64 = 16 << 20;
/// How much of a file is looked at to see whether it is an archive.
const MAGIC: u64 = 1024;
/// The name of a file that a context is fetched to.
const FETCHED: &str = "context";

/// What was read.
#[derive(Debug)]
pub(super) struct Loaded {
    /// As the client calls the Dockerfile.
    pub(super) name: String,
    pub(super) text: Arc<str>,
    /// What `<name>.dockerignore` says, if there is such a file.
    own_ignore: Option<Vec<u8>>,
    /// The build context, and how it is called.
    main: (Op, String),
}

impl Loaded {
    /// The name of the vertex that warnings belong to.
    pub(super) fn vertex(&self) -> String {
        definition_vertex(&self.name)
    }
}

fn definition_vertex(name: &str) -> String {
    format!("[internal] load build definition from {name}")
}

impl<W: Worker> Frontend<'_, W> {
    pub(super) async fn load(&self) -> Result<Loaded> {
        let main = self.main().await?;
        match &self.request.dockerfile {
            Dockerfile::Text(text) => {
                let text = text.as_str().into();
                Ok(Loaded { name: "Dockerfile".to_owned(), text, own_ignore: None, main })
            }
            Dockerfile::Local { name, path } => {
                let mut follow = vec![path.clone(), format!("{path}.dockerignore")];
                if path == "Dockerfile" {
                    follow.push("dockerfile".to_owned());
                }
                let source = LocalSource {
                    name: name.clone(),
                    part: LocalPart::Definition,
                    include: Vec::new(),
                    exclude: Vec::new(),
                    follow,
                };
                let mut report = self.internal(&definition_vertex(path));
                let context = self.job.context(report.id(), &Platform::host());
                let tree = report.during(self.solver.worker.local(&source, &context)).await?;
                let (text, own_ignore) = self.definition(&tree, path).await?;
                Ok(Loaded { name: path.clone(), text, own_ignore, main })
            }
            Dockerfile::Result { name, path } => {
                let tree = self.solved(&self.given(name)?, name).await?;
                let (text, own_ignore) = self.definition(&tree, path).await?;
                Ok(Loaded { name: path.clone(), text, own_ignore, main })
            }
            Dockerfile::InContext(path) => self.in_context(path, main).await,
        }
    }

    async fn in_context(&self, path: &str, main: (Op, String)) -> Result<Loaded> {
        let tree = match &main.0 {
            Op::Local(local) => {
                let follow = vec![path.to_owned(), format!("{path}.dockerignore")];
                let source = LocalSource { part: LocalPart::Definition, follow, ..local.clone() };
                let mut report = self.internal(&definition_vertex(path));
                let context = self.job.context(report.id(), &Platform::host());
                report.during(self.solver.worker.local(&source, &context)).await?
            }
            op => self.solved(op, &main.1).await.map_err(about("failed to read dockerfile"))?,
        };
        if let Op::Http(_) = &main.0 {
            // Not an archive, or it would have been unpacked: it is the Dockerfile itself.
            let text = self.text(&tree, FETCHED).await?;
            let none = (Op::Scratch, "scratch".to_owned());
            return Ok(Loaded { name: FETCHED.to_owned(), text, own_ignore: None, main: none });
        }
        let (text, own_ignore) = self.definition(&tree, path).await?;
        Ok(Loaded { name: path.to_owned(), text, own_ignore, main })
    }

    async fn definition(&self, tree: &Tree, path: &str) -> Result<(Arc<str>, Option<Vec<u8>>)> {
        let worker = &self.solver.worker;
        let text = match (self.text(tree, path).await, path) {
            (Err(error), "Dockerfile") if error.kind == ErrorKind::NotFound => {
                self.text(tree, "dockerfile").await.map_err(|_| error)?
            }
            (result, _) => result?,
        };
        let ignore = worker.read(tree, &format!("{path}.dockerignore"), MAX_FILE).await?;
        Ok((text, ignore))
    }

    async fn text(&self, tree: &Tree, path: &str) -> Result<Arc<str>> {
        let missing = || {
            let name = path.rsplit('/').next().unwrap_or(path);
            let text = format!("failed to read dockerfile: open {name}: no such file or directory");
            BuildError::new(ErrorKind::NotFound, text)
        };
        let bytes = self.solver.worker.read(tree, path, MAX_FILE).await?.ok_or_else(missing)?;
        Ok(String::from_utf8_lossy(&bytes).into())
    }

    /// The build context as a step.
    async fn main(&self) -> Result<(Op, String)> {
        match &self.request.context {
            Context::Empty => Ok((Op::Scratch, "scratch".to_owned())),
            Context::Local(name) => {
                let source = LocalSource {
                    name: name.clone(),
                    part: LocalPart::Files,
                    include: Vec::new(),
                    exclude: Vec::new(),
                    follow: Vec::new(),
                };
                Ok((Op::Local(source), "[internal] load build context".to_owned()))
            }
            Context::Git(url) => {
                let no_git = || BuildError::invalid(format!("{url} is no git repository"));
                let mut source = git_source(url)?.ok_or_else(no_git)?;
                let keep = self.request.args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR");
                source.keep_git_dir |= keep.is_some_and(|keep| keep == "1" || keep == "true");
                Ok((Op::Git(source), format!("[internal] load git source {}", without_password(url))))
            }
            Context::Http(url) => self.fetched(url).await,
            Context::Result(name) => Ok((self.given(name)?, "[internal] load build context".to_owned())),
        }
    }

    /// Another build's result.
    fn given(&self, name: &str) -> Result<Op> {
        let image = self.job.inputs.get(name).and_then(|built| built.images.first());
        let image = image.ok_or_else(|| BuildError::invalid(format!("no result named {name}")))?;
        Ok(Op::Given(Given { stack: image.stack, diff_ids: image.diff_ids.clone() }))
    }

    /// A context that is fetched: an archive is unpacked.
    async fn fetched(&self, url: &str) -> Result<(Op, String)> {
        let name = "[internal] load remote build context".to_owned();
        let http = HttpSource { url: url.to_owned(), checksum: None, name: Some(FETCHED.to_owned()) };
        let tree = self.solved(&Op::Http(http.clone()), &name).await;
        let tree = tree.map_err(about("failed to read downloaded context"))?;
        let head = self.solver.worker.read_start(&tree, FETCHED, MAGIC).await?.unwrap_or_default();
        if !is_archive(&head) {
            return Ok((Op::Http(http), name));
        }
        let step = |op, name: &str| Step {
            op,
            name: name.to_owned(),
            platform: Platform::host(),
            lines: None,
            ignore_cache: false,
        };
        let copy = Copy {
            from: StepId(1),
            sources: vec![format!("/{FETCHED}")],
            dest: "/".to_owned(),
            owner: Owner::Keep,
            mode: Mode::Keep,
            exclude: Vec::new(),
            parents: false,
            unpack: Unpack::Archives,
            fetched: Fetched::File,
            rules: Rules::default(),
        };
        let files = Files { base: StepId(0), actions: vec![FileAction::Copy(copy)], link: false, time: None };
        let steps = vec![
            step(Op::Scratch, "scratch"),
            step(Op::Http(http), &name),
            step(Op::Files(Box::new(files)), &format!("copy /{FETCHED} /")),
        ];
        let graph = Graph { steps, source: None };
        let solve = Solve::new(&graph, self.job, &self.memo);
        let values = self.solver.solve(&solve, &[StepId(2)]).await?;
        let value = values.first().ok_or_else(|| BuildError::invalid("the context is empty"))?;
        Ok((Op::Given(value.given()?), name))
    }

    /// The files of a source.
    async fn solved(&self, op: &Op, name: &str) -> Result<Tree> {
        if let Op::Given(given) = op {
            return Ok(Tree::Layers(given.stack));
        }
        let step = Step {
            op: op.clone(),
            name: name.to_owned(),
            platform: Platform::host(),
            lines: None,
            ignore_cache: false,
        };
        let graph = Graph { steps: vec![step], source: None };
        let solve = Solve::new(&graph, self.job, &self.memo);
        let values = self.solver.solve(&solve, &[StepId(0)]).await?;
        let value = values.into_iter().next().ok_or_else(|| BuildError::invalid("the context is empty"))?;
        Ok(value.tree)
    }

    /// The context without what is ignored.
    pub(super) async fn ignored(&self, loaded: &Loaded) -> Result<Sources> {
        let (mut main, name) = loaded.main.clone();
        if let Op::Local(local) = &mut main {
            let bytes = match &loaded.own_ignore {
                Some(bytes) => Some(bytes.clone()),
                None => self.ignore_file(&local.name, "[internal] load .dockerignore").await?,
            };
            local.exclude = patterns(bytes.as_deref())?;
        }
        let mut ignores = Ignores::new();
        for (name, context) in &self.request.contexts {
            if let NamedContext::Local(local) = context {
                let shown = format!("[context {name}] load .dockerignore");
                ignores.insert(name.clone(), patterns(self.ignore_file(local, &shown).await?.as_deref())?);
            }
        }
        Ok(Sources { main, name, ignores })
    }

    async fn ignore_file(&self, name: &str, shown: &str) -> Result<Option<Vec<u8>>> {
        let follow = vec![".dockerignore".to_owned()];
        let source = LocalSource {
            name: name.to_owned(),
            part: LocalPart::Ignore,
            include: Vec::new(),
            exclude: Vec::new(),
            follow,
        };
        let mut report = self.internal(shown);
        let context = self.job.context(report.id(), &Platform::host());
        let read = async {
            let tree = self.solver.worker.local(&source, &context).await?;
            self.solver.worker.read(&tree, ".dockerignore", MAX_FILE).await
        };
        report.during(read).await
    }

    fn internal(&self, name: &str) -> Report {
        Report::internal(self.job.events.clone(), name)
    }
}

/// What a failure was about.
fn about(what: &'static str) -> impl Fn(BuildError) -> BuildError {
    move |error| BuildError { message: format!("{what}: {}", error.message), ..error }
}

/// The patterns of a `.dockerignore`.
fn patterns(file: Option<&[u8]>) -> Result<Vec<String>> {
    let patterns = ignore::read(file.unwrap_or_default());
    ignore::Matcher::new(&patterns).map_err(|error| BuildError::invalid(error.to_string()))?;
    Ok(patterns)
}

/// tar, gzip, bzip2, xz, zstd.
fn is_archive(head: &[u8]) -> bool {
    const MAGICS: [&[u8]; 4] = [&[0x1f, 0x8b], b"BZh", &[0xfd, b'7', b'z', b'X', b'Z', 0], &[0x28, 0xb5, 0x2f, 0xfd]];
    MAGICS.iter().any(|magic| head.starts_with(magic)) || head.get(257..262) == Some(b"ustar")
}
