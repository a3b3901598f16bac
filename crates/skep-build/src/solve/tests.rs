//! The solver with a worker that only pretends: layers are numbers, files are texts.

use std::any::Any;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use bytes::Bytes;
use chrono::Utc;
use skep_store::{ChainId, Db};
use skep_types::{ErrorKind, Reference};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::key::sha256;
use super::*;
use crate::error::BuildError;
use crate::event::BuildEvent;
use crate::graph::*;
use crate::request::{CacheRef, PullMode};
use crate::services::{Duplex, Later, RegistryLogin, Services, Synced};
use crate::worker::{Dir, EMPTY_LAYER, Held, Imported, ImportedResult, ResolvedImage, Selection, Stack, Tree};

/// A client that has nothing.
pub(crate) struct Nobody;

fn nothing<'a, T>() -> Later<'a, T> {
    Box::pin(async { Err(BuildError::new(ErrorKind::NotFound, "the client has nothing")) })
}

impl Services for Nobody {
    fn shared_key<'a>(&'a self, name: &'a str) -> Later<'a, Option<String>> {
        Box::pin(async { Ok(Some(name.to_owned())) })
    }

    fn sync<'a>(&'a self, _: &'a LocalSource, _: OwnedFd, _: &'a (dyn Fn(u64) + Send + Sync)) -> Later<'a, Synced> {
        nothing()
    }

    fn secret<'a>(&'a self, _: &'a str) -> Later<'a, Option<Vec<u8>>> {
        nothing()
    }

    fn has_agent<'a>(&'a self, _: &'a str) -> Later<'a, bool> {
        nothing()
    }

    fn agent<'a>(&'a self, _: &'a str) -> Later<'a, Box<dyn Duplex>> {
        nothing()
    }

    fn login<'a>(&'a self, _: &'a str) -> Later<'a, Option<RegistryLogin>> {
        nothing()
    }

    fn upload<'a>(&'a self, _: &'a str) -> Later<'a, Box<dyn AsyncRead + Send + Unpin>> {
        nothing()
    }

    fn send_file<'a>(&'a self, _: usize, _: Option<&'a str>) -> Later<'a, Box<dyn AsyncWrite + Send + Unpin>> {
        nothing()
    }

    fn send_tree<'a>(&'a self, _: usize, _: &'a Path) -> Later<'a, ()> {
        nothing()
    }

    fn blob<'a>(&'a self, _: &'a str, _: &'a Digest, _: &'a Path) -> Later<'a, ()> {
        nothing()
    }

    fn put_blob<'a>(
        &'a self,
        _: &'a str,
        _: &'a Digest,
        _: u64,
        _: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Later<'a, ()> {
        nothing()
    }
}

/// Knows what it was asked to do.
#[derive(Default)]
pub(crate) struct Pretender {
    /// Every call, in order.
    pub(crate) done: Mutex<Vec<String>>,
    /// Contents of directories by their names, and files in them.
    pub(crate) files: Mutex<BTreeMap<String, String>>,
    /// Images by name: their configurations.
    pub(crate) images: Mutex<BTreeMap<String, String>>,
    /// Copies that were asked for.
    pub(crate) files_made: Mutex<Vec<String>>,
    /// Directories that were asked for.
    pub(crate) sources: Mutex<Vec<LocalSource>>,
    /// Whether the layers of images are here.
    pub(crate) here: Mutex<bool>,
    /// Caches elsewhere by their names.
    pub(crate) caches: Mutex<BTreeMap<String, Vec<ImportedResult>>>,
    /// Ids of images of the engine.
    pub(crate) stored: Mutex<Vec<Digest>>,
    /// Stacks that are gone.
    pub(crate) gone: Mutex<Vec<ChainId>>,
    /// What keeps the layers that were made: one that nobody kept until it was held could have been collected.
    kept: Mutex<BTreeMap<ChainId, std::sync::Weak<()>>>,
    running: AtomicUsize,
    /// How many programs ran at once at most.
    pub(crate) most: AtomicUsize,
    /// Programs called `wait` go on when this is told.
    gate: Notify,
    /// Programs that were ended before their end.
    ended: Arc<AtomicUsize>,
}

struct Running<'p>(&'p Pretender, bool);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
        if !self.1 {
            self.0.ended.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Pretender {
    fn note(&self, what: String) {
        self.done.lock().push(what);
    }

    pub(crate) fn count(&self, what: &str) -> usize {
        self.done.lock().iter().filter(|done| done.starts_with(what)).count()
    }

    fn layer(&self, base: Stack, content: &str) -> Layer {
        let diff_id = sha256(content.as_bytes());
        let stack = ChainId::of(base.as_ref(), &diff_id);
        let guard = Arc::new(());
        self.kept.lock().insert(stack, Arc::downgrade(&guard));
        let held = Held::by(guard);
        Layer { stack, diff_id, size: content.len() as u64, held }
    }

    fn content(&self, tree: &Tree) -> String {
        match tree {
            Tree::Layers(stack) => format!("{stack:?}"),
            Tree::Dir(dir) => {
                let files = self.files.lock();
                files.get(&dir.path.to_string_lossy().into_owned()).cloned().unwrap_or_default()
            }
        }
    }
}

impl Worker for Pretender {
    async fn resolve(&self, image: &ImageSource, context: &Context) -> Result<ResolvedImage> {
        self.note(format!("resolve {}", image.reference.familiar()));
        let config = self.images.lock().get(&image.reference.familiar()).cloned();
        let config = config.ok_or_else(|| BuildError::new(ErrorKind::NotFound, "no such image"))?;
        let diff_ids = crate::image::diff_ids(config.as_bytes())?;
        Ok(ResolvedImage {
            reference: image.reference.clone(),
            platform: context.platform.clone(),
            digest: None,
            config: config.into_bytes().into(),
            stack: ChainId::chain(&diff_ids).last().copied(),
            here: *self.here.lock(),
            origin: None,
        })
    }

    async fn import(&self, cache: &CacheRef, context: &Context) -> Result<Imported> {
        let name = cache.attributes.get("ref").map(String::as_str).unwrap_or_default();
        if let Some(results) = self.caches.lock().get(name) {
            return Ok(Imported::Results(results.clone()));
        }
        let reference = name.parse::<Reference>().map_err(|_| BuildError::invalid("no reference"))?.or_latest();
        let source = ImageSource { reference, layout: None, pull: PullMode::Always };
        Ok(Imported::Image(Box::new(self.resolve(&source, context).await?)))
    }

    async fn fetch(&self, image: &ResolvedImage, _: &Context) -> Result<()> {
        self.note(format!("fetch {}", image.reference.familiar()));
        *self.here.lock() = true;
        Ok(())
    }

    async fn local(&self, source: &LocalSource, _: &Context) -> Result<Tree> {
        self.note(format!("local {}", source.name));
        self.sources.lock().push(source.clone());
        let dir = Dir { path: PathBuf::from(&source.name), identity: None, guard: Box::new(()) };
        Ok(Tree::Dir(Arc::new(dir)))
    }

    async fn http(&self, source: &HttpSource, _: &Context) -> Result<Tree> {
        let dir = Dir { path: PathBuf::from(&source.url), identity: None, guard: Box::new(()) };
        Ok(Tree::Dir(Arc::new(dir)))
    }

    async fn git(&self, source: &GitSource, _: &Context) -> Result<Tree> {
        let identity = Some(sha256(source.remote.as_bytes()));
        let dir = Dir { path: PathBuf::from(&source.remote), identity, guard: Box::new(()) };
        Ok(Tree::Dir(Arc::new(dir)))
    }

    async fn digest(&self, tree: &Tree, selection: &Selection) -> Result<Digest> {
        self.note(format!("digest {:?}", selection.paths));
        if let Some(missing) = selection.paths.iter().find(|path| path.contains("missing")) {
            return Err(BuildError::new(ErrorKind::NotFound, format!("\"{missing}\": not found")));
        }
        Ok(sha256(self.content(tree).as_bytes()))
    }

    async fn read(&self, tree: &Tree, path: &str, _: u64) -> Result<Option<Vec<u8>>> {
        let Tree::Dir(dir) = tree else { return Ok(None) };
        let name = format!("{}/{path}", dir.path.display());
        Ok(self.files.lock().get(&name).map(|text| text.clone().into_bytes()))
    }

    async fn read_start(&self, tree: &Tree, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let whole = self.read(tree, path, u64::MAX).await?;
        Ok(whole.map(|bytes| bytes[..bytes.len().min(limit)].to_vec()))
    }

    async fn run(&self, run: &Run, base: Stack, _: &[Tree], context: &Context) -> Result<Layer> {
        let command = run.argv.join(" ");
        self.note(format!("run {command}"));
        let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let mut running = Running(self, false);
        let log = |text: &'static str| BuildEvent::Log {
            vertex: context.vertex,
            stream: 1,
            data: Bytes::from_static(text.as_bytes()),
            at: Utc::now(),
        };
        let _ = context.events.send(log("hello")).await;
        match run.argv[0].as_str() {
            "wait" => self.gate.notified().await,
            "forever" => std::future::pending().await,
            "false" | "fail" => {
                if run.argv[0] == "fail" {
                    self.gate.notified().await;
                }
                running.1 = true;
                let message = "process \"false\" did not complete successfully: exit code: 1";
                return Err(BuildError { exit_code: Some(1), ..BuildError::new(ErrorKind::System, message) });
            }
            _ => tokio::task::yield_now().await,
        }
        running.1 = true;
        if command.ends_with("nothing") {
            let stack = ChainId::of(base.as_ref(), &EMPTY_LAYER);
            return Ok(Layer { stack, diff_id: EMPTY_LAYER, size: 0, held: Held::default() });
        }
        Ok(self.layer(base, &format!("ran {command}")))
    }

    async fn files(&self, files: &Files, base: Stack, inputs: &[Tree], _: &Context) -> Result<Layer> {
        let contents: Vec<String> = inputs.iter().map(|tree| self.content(tree)).collect();
        self.note(format!("files {contents:?}"));
        self.files_made.lock().push(format!("{:?}", files.actions));
        Ok(self.layer(base, &format!("{:?} {contents:?}", files.actions)))
    }

    async fn rebase(&self, layer: &Layer, base: Stack) -> Result<Layer> {
        self.note("rebase".to_owned());
        Ok(Layer { stack: ChainId::of(base.as_ref(), &layer.diff_id), ..layer.clone() })
    }

    async fn squash(&self, stack: Stack, base: Stack) -> Result<Layer> {
        self.note("squash".to_owned());
        Ok(self.layer(base, &format!("squashed {stack:?}")))
    }

    async fn flush(&self) -> Result<()> {
        Ok(())
    }

    async fn is_stored(&self, image: &Digest) -> Result<bool> {
        Ok(self.stored.lock().contains(image))
    }

    async fn hold(&self, stack: Stack) -> Result<Option<Box<dyn Any + Send + Sync>>> {
        let of_image = self.images.lock().values().any(|config| {
            let diff_ids = crate::image::diff_ids(config.as_bytes()).unwrap_or_default();
            ChainId::chain(&diff_ids).last().copied() == stack
        });
        let made = stack.and_then(|stack| self.kept.lock().remove(&stack));
        assert!(made.is_none_or(|guard| guard.strong_count() > 0), "nobody kept a layer that was just made");
        let gone = stack.is_some_and(|stack| self.gone.lock().contains(&stack)) || (of_image && !*self.here.lock());
        Ok((!gone).then(|| Box::new(()) as Box<dyn Any + Send + Sync>))
    }
}

/// A solver with a cache of its own.
pub(crate) struct Bench {
    pub(crate) solver: Arc<Solver<Pretender>>,
    _dir: tempfile::TempDir,
}

pub(crate) fn bench() -> Bench {
    let dir = tempfile::tempdir().expect("a directory");
    let cache = Cache::open(Db::open(&dir.path().join("db")).expect("a database")).expect("a cache");
    let worker = Arc::new(Pretender::default());
    let solver = Solver { worker, cache, flights: Flights::default(), slots: Semaphore::new(4) };
    Bench { solver: Arc::new(solver), _dir: dir }
}

pub(crate) fn job() -> (Job, mpsc::Receiver<BuildEvent>) {
    let (events, heard) = mpsc::channel(100_000);
    let services = Arc::new(Nobody);
    (Job { services, events, cancel: CancellationToken::new(), inputs: BTreeMap::new() }, heard)
}

impl Bench {
    fn worker(&self) -> &Pretender {
        &self.solver.worker
    }

    async fn solve(&self, graph: &Graph) -> Result<Vec<Value>> {
        let (job, _heard) = job();
        self.solve_for(graph, &job).await
    }

    async fn solve_for(&self, graph: &Graph, job: &Job) -> Result<Vec<Value>> {
        let memo = Memo::default();
        let solve = Solve::new(graph, job, &memo);
        self.solver.solve(&solve, &[StepId(graph.steps.len() - 1)]).await
    }
}

fn step(op: Op) -> Step {
    let name = match &op {
        Op::Run(run) => run.argv.join(" "),
        _ => "step".to_owned(),
    };
    Step { op, name, platform: Platform::host(), lines: Some(2..=3), ignore_cache: false }
}

fn run_on(base: usize, argv: &[&str]) -> Run {
    Run {
        base: StepId(base),
        argv: argv.iter().map(|arg| (*arg).to_owned()).collect(),
        env: Vec::new(),
        silent_env: Vec::new(),
        cwd: PathBuf::from("/"),
        user: String::new(),
        hostname: None,
        mounts: Vec::new(),
        network: Network::Default,
        insecure: false,
        devices: Vec::new(),
        limits: Limits::default(),
    }
}

fn run(base: usize, argv: &[&str]) -> Step {
    step(Op::Run(Box::new(run_on(base, argv))))
}

fn context_dir() -> Step {
    let name = "context".to_owned();
    step(Op::Local(LocalSource {
        name,
        part: LocalPart::Files,
        include: Vec::new(),
        exclude: Vec::new(),
        follow: Vec::new(),
    }))
}

fn copy(base: usize, from: usize, source: &str, link: bool) -> Step {
    let copy = Copy {
        from: StepId(from),
        sources: vec![source.to_owned()],
        dest: "/".to_owned(),
        owner: Owner::Root,
        mode: Mode::Keep,
        exclude: Vec::new(),
        parents: false,
        unpack: Unpack::No,
        fetched: Fetched::No,
        rules: Rules::default(),
    };
    step(Op::Files(Box::new(Files { base: StepId(base), actions: vec![FileAction::Copy(copy)], link, time: None })))
}

fn image(name: &str) -> Step {
    let reference: Reference = name.parse().expect("a name");
    step(Op::Image(ImageSource { reference, layout: None, pull: PullMode::Missing }))
}

fn graph(steps: Vec<Step>) -> Graph {
    let source = SourceFile { name: "Dockerfile".to_owned(), text: "FROM x\nRUN y\n".into() };
    Graph { steps, source: Some(source) }
}

fn with_image(bench: &Bench, name: &str, layer: u8) {
    let diff_id = Digest::from_bytes([layer; 32]);
    let config = format!(r#"{{"rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#);
    bench.worker().images.lock().insert(name.to_owned(), config);
}

#[tokio::test]
async fn what_was_done_is_not_done_again_and_what_nobody_needs_never() {
    let bench = bench();
    let steps = vec![step(Op::Scratch), run(0, &["unused"]), run(0, &["a"]), run(2, &["b"])];
    let first = bench.solve(&graph(steps.clone())).await.expect("built");
    assert_eq!(*bench.worker().done.lock(), ["run a", "run b"]);
    assert!(!first[0].cached);
    let second = bench.solve(&graph(steps)).await.expect("built");
    assert_eq!(bench.worker().count("run"), 2);
    assert!(second[0].cached);
    assert_eq!(first[0].layers, second[0].layers, "times of layers are those of their making");
    assert_eq!(first[0].layers.len(), 2);
}

#[tokio::test]
async fn a_key_follows_the_contents_of_what_is_read() {
    let bench = bench();
    let steps = || graph(vec![step(Op::Scratch), context_dir(), copy(0, 1, "/a", false)]);
    let set = |text: &str| bench.worker().files.lock().insert("context".to_owned(), text.to_owned());
    set("one");
    bench.solve(&steps()).await.expect("built");
    bench.solve(&steps()).await.expect("built");
    assert_eq!(bench.worker().count("files"), 1, "the same contents");
    set("two");
    bench.solve(&steps()).await.expect("built");
    assert_eq!(bench.worker().count("files"), 2, "other contents");
    set("one");
    bench.solve(&steps()).await.expect("built");
    assert_eq!(bench.worker().count("files"), 2, "the contents of before");
}

#[tokio::test]
async fn a_key_has_all_that_makes_a_difference_and_nothing_else() {
    let plain = run_on(0, &["a", "b"]);
    let key = |run: &Run| key::step_key(&step(Op::Run(Box::new(run.clone()))), None, &[]);
    let changed = |change: &dyn Fn(&mut Run)| {
        let mut run = plain.clone();
        change(&mut run);
        key(&run) != key(&plain)
    };
    let secret = |id: &str| Mount {
        target: PathBuf::from("/run/secrets/x"),
        kind: MountKind::Secret(Secret {
            id: id.to_owned(),
            required: false,
            env: None,
            file: true,
            mode: 0o400,
            uid: 0,
            gid: 0,
        }),
        readonly: true,
    };
    assert!(changed(&|run| run.argv.reverse()));
    assert!(changed(&|run| run.argv = vec!["a b".to_owned()]));
    assert!(changed(&|run| run.env.push("A=b".to_owned())));
    assert!(changed(&|run| run.user = "1".to_owned()));
    assert!(changed(&|run| run.cwd = PathBuf::from("/x")));
    assert!(changed(&|run| run.network = Network::None));
    assert!(changed(&|run| run.insecure = true));
    assert!(changed(&|run| run.mounts.push(secret("x"))));
    assert!(changed(&|run| run.limits.extra_hosts.push(("h".to_owned(), "1.1.1.1".to_owned()))));
    assert!(!changed(&|run| run.silent_env.push("HTTP_PROXY=p".to_owned())));
    assert!(!changed(&|run| run.limits.memory = 5));
    let mut named = step(Op::Run(Box::new(plain.clone())));
    named.name = "another name".to_owned();
    named.lines = None;
    assert_eq!(key::step_key(&named, None, &[]), key(&plain));
    let base = Some(ChainId::of(None, &Digest::from_bytes([1; 32])));
    assert_ne!(key::step_key(&named, base, &[]), key(&plain));
    assert_ne!(key::step_key(&named, None, &[Digest::from_bytes([1; 32])]), key(&plain));
}

#[tokio::test]
async fn layers_of_an_image_are_fetched_when_a_step_really_runs() {
    let bench = bench();
    with_image(&bench, "base", 1);
    with_image(&bench, "other", 2);
    let steps = || graph(vec![image("base"), image("other"), copy(0, 1, "/a", false), run(2, &["a"])]);
    *bench.worker().here.lock() = true;
    bench.solve(&steps()).await.expect("built");
    assert_eq!(bench.worker().count("fetch"), 0);
    *bench.worker().here.lock() = false;
    bench.worker().done.lock().clear();
    let values = bench.solve(&steps()).await.expect("built");
    assert!(values[0].cached);
    assert_eq!(bench.worker().count("fetch") + bench.worker().count("digest"), 0, "{:?}", bench.worker().done.lock());
    let mut changed = steps();
    changed.steps.push(run(0, &["new"]));
    bench.solve(&changed).await.expect("built");
    assert_eq!(bench.worker().count("fetch base"), 1);
}

#[tokio::test]
async fn a_record_without_its_layer_is_no_hit() {
    let bench = bench();
    let steps = || graph(vec![step(Op::Scratch), run(0, &["a"])]);
    let first = bench.solve(&steps()).await.expect("built");
    let Tree::Layers(Some(stack)) = first[0].tree else { panic!("no layers") };
    drop(first);
    bench.worker().gone.lock().push(stack);
    // The layer is made again but still counts as gone, which must not pass for a result.
    assert!(bench.solve(&steps()).await.is_err());
    assert_eq!(bench.worker().count("run a"), 2);
}

#[tokio::test]
async fn a_linked_copy_is_made_once_for_all_bases() {
    let bench = bench();
    let on = |name: &str| graph(vec![step(Op::Scratch), run(0, &[name]), context_dir(), copy(1, 2, "/a", true)]);
    let first = bench.solve(&on("one")).await.expect("built");
    let second = bench.solve(&on("two")).await.expect("built");
    assert_eq!(bench.worker().count("files"), 1);
    assert_eq!(bench.worker().count("rebase"), 2);
    assert_eq!(first[0].layers[1], second[0].layers[1]);
    assert!(bench.solve(&on("one")).await.expect("built")[0].cached);
    assert_eq!(bench.worker().count("rebase"), 2);
}

#[tokio::test]
async fn independent_steps_run_at_once_up_to_the_limit() {
    let bench = bench();
    let mut steps = vec![step(Op::Scratch)];
    steps.extend((0..6).map(|number| run(0, &["wait", &number.to_string()])));
    let mut all = run_on(0, &["all"]);
    all.mounts = (1..=6)
        .map(|from| Mount {
            target: PathBuf::from(format!("/{from}")),
            kind: MountKind::Bind { from: StepId(from), source: PathBuf::from("/") },
            readonly: true,
        })
        .collect();
    steps.push(step(Op::Run(Box::new(all))));
    let built = graph(steps);
    let release = async {
        while bench.worker().count("run") < 4 {
            tokio::task::yield_now().await;
        }
        assert_eq!(bench.worker().running.load(Ordering::SeqCst), 4);
        while bench.worker().count("run all") == 0 {
            bench.worker().gate.notify_waiters();
            tokio::task::yield_now().await;
        }
    };
    let (result, ()) = tokio::join!(bench.solve(&built), release);
    result.expect("built");
    assert_eq!(bench.worker().most.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn the_same_step_of_two_builds_runs_once_and_both_see_its_output() {
    let bench = bench();
    let built = graph(vec![step(Op::Scratch), run(0, &["wait"])]);
    let ((one, mut first), (two, mut second)) = (job(), job());
    let release = async {
        loop {
            if let Some(BuildEvent::Log { data, .. }) = second.recv().await {
                assert_eq!(data, "hello");
                break bench.worker().gate.notify_waiters();
            }
        }
    };
    let (a, b, ()) = tokio::join!(bench.solve_for(&built, &one), bench.solve_for(&built, &two), release);
    assert_eq!(a.expect("built")[0].layers, b.expect("built")[0].layers);
    assert_eq!(bench.worker().count("run"), 1);
    drop(one);
    let mut logs = 0;
    while let Some(event) = first.recv().await {
        logs += usize::from(matches!(event, BuildEvent::Log { .. }));
    }
    assert_eq!(logs, 1);
}

#[tokio::test]
async fn a_program_that_fails_fails_for_all_who_wait() {
    let bench = bench();
    let built = graph(vec![step(Op::Scratch), run(0, &["fail"])]);
    let ((one, _first), (two, mut second)) = (job(), job());
    let release = async {
        while !matches!(second.recv().await, Some(BuildEvent::Log { .. })) {}
        bench.worker().gate.notify_waiters();
    };
    let (a, b, ()) = tokio::join!(bench.solve_for(&built, &one), bench.solve_for(&built, &two), release);
    for error in [a.expect_err("fails"), b.expect_err("fails")] {
        assert_eq!(error.exit_code, Some(1));
        assert!(error.vertex.is_some() && error.location.is_some());
    }
    assert_eq!(bench.worker().count("run"), 1);
    assert!(bench.solve(&graph(vec![step(Op::Scratch), run(0, &["false"])])).await.is_err(), "a failure is no result");
}

#[tokio::test]
async fn a_waiter_takes_over_from_a_cancelled_runner() {
    let bench = bench();
    let built = graph(vec![step(Op::Scratch), run(0, &["wait"])]);
    let ((one, _first), (two, mut second)) = (job(), job());
    let conduct = async {
        while !matches!(second.recv().await, Some(BuildEvent::Log { .. })) {}
        one.cancel.cancel();
        while !matches!(second.recv().await, Some(BuildEvent::Log { .. })) {}
        bench.worker().gate.notify_waiters();
    };
    let (a, b, ()) = tokio::join!(bench.solve_for(&built, &one), bench.solve_for(&built, &two), conduct);
    assert_eq!(a.expect_err("cancelled").kind, ErrorKind::Cancelled);
    b.expect("built");
    assert_eq!(bench.worker().count("run"), 2);
    assert_eq!(bench.worker().ended.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_failure_ends_the_others_and_keeps_what_is_finished() {
    let bench = bench();
    let mut last = run_on(2, &["last"]);
    last.mounts = vec![Mount {
        target: PathBuf::from("/m"),
        kind: MountKind::Bind { from: StepId(3), source: PathBuf::from("/") },
        readonly: true,
    }];
    let steps = vec![
        step(Op::Scratch),
        run(0, &["fine"]),
        run(1, &["false"]),
        run(0, &["forever"]),
        step(Op::Run(Box::new(last))),
    ];
    let (job, mut heard) = job();
    let error = bench.solve_for(&graph(steps.clone()), &job).await.expect_err("fails");
    assert_eq!(error.exit_code, Some(1));
    assert_eq!(error.failed.as_ref().map(|failed| failed.run.argv.clone()), Some(vec!["false".to_owned()]));
    assert_eq!(error.location.as_ref().map(|location| location.lines.clone()), Some(2..=3));
    let vertices = key::vertex_ids(&graph(steps.clone()));
    assert_eq!(error.vertex, Some(vertices[2]));
    assert_eq!(bench.worker().ended.load(Ordering::SeqCst), 1, "nothing goes on");
    drop(job);
    let mut ends = BTreeMap::new();
    while let Some(event) = heard.recv().await {
        if let BuildEvent::Vertex(vertex) = event {
            ends.insert(vertex.id, (vertex.completed.is_some(), vertex.error));
        }
    }
    assert_eq!(ends[&vertices[1]], (true, None));
    assert!(ends[&vertices[2]].1.as_deref().is_some_and(|error| error.starts_with("process \"false\"")));
    assert_eq!(ends[&vertices[3]], (true, Some("context canceled".to_owned())));
    assert_eq!(ends[&vertices[4]], (false, None));
    bench.solve(&graph(steps[..2].to_vec())).await.expect("built");
    assert_eq!(bench.worker().count("run fine"), 1, "what is finished is known");
}

#[tokio::test]
async fn cancelling_leaves_nothing_running() {
    let bench = bench();
    let built = graph(vec![step(Op::Scratch), run(0, &["forever"])]);
    let (job, mut heard) = job();
    let cancel = async {
        while !matches!(heard.recv().await, Some(BuildEvent::Log { .. })) {}
        job.cancel.cancel();
    };
    let (result, ()) = tokio::join!(bench.solve_for(&built, &job), cancel);
    assert_eq!(result.expect_err("cancelled").to_string(), "context canceled");
    assert_eq!(bench.worker().running.load(Ordering::SeqCst), 0);
    let dropped = tokio::time::timeout(Duration::from_millis(50), bench.solve(&built)).await;
    assert!(dropped.is_err());
    assert_eq!(bench.worker().running.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn without_the_cache_a_step_runs_again_but_once_for_a_build() {
    let bench = bench();
    let mut again = run(0, &["a"]);
    again.ignore_cache = true;
    let mut twice = again.clone();
    twice.name = "the same for another platform".to_owned();
    let mut last = run_on(1, &["last"]);
    last.mounts = vec![Mount {
        target: PathBuf::from("/m"),
        kind: MountKind::Bind { from: StepId(2), source: PathBuf::from("/") },
        readonly: true,
    }];
    let built = graph(vec![step(Op::Scratch), again, twice, step(Op::Run(Box::new(last)))]);
    bench.solve(&built).await.expect("built");
    assert_eq!(bench.worker().count("run a"), 1);
    bench.solve(&built).await.expect("built");
    assert_eq!(bench.worker().count("run a"), 2);
    assert_eq!(bench.worker().count("run last"), 1, "the layer is the same as before");
}

#[tokio::test]
async fn a_missing_file_is_named() {
    let bench = bench();
    let built = graph(vec![step(Op::Scratch), context_dir(), copy(0, 1, "/missing", false)]);
    let error = bench.solve(&built).await.expect_err("fails");
    let text = error.to_string();
    assert!(text.starts_with("failed to compute cache key: failed to calculate checksum of ref "), "{text}");
    assert!(text.ends_with(": \"/missing\": not found"), "{text}");
    assert_eq!(error.kind, ErrorKind::NotFound);
}
