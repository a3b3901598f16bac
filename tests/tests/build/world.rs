//! An engine in this process, and a client whose things are in a directory.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use skep_build::event::{BuildEvent, VertexId};
use skep_build::graph::*;
use skep_build::request::PullMode;
use skep_build::services::{Duplex, Later, RegistryLogin, Services, Synced};
use skep_build::worker::{Context, Layer, Stack, Tree};
use skep_build::{BuildError, Worker};
use skep_engine::build::Machine;
use skep_engine::{BridgeSettings, Engine, EngineConfig};
use skep_types::{Digest, ErrorKind, Platform};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A client.
#[derive(Default)]
pub(crate) struct Client {
    /// Its directory.
    pub(crate) files: PathBuf,
    pub(crate) secrets: BTreeMap<String, Vec<u8>>,
    /// The path of its agent's socket.
    pub(crate) agent: Option<PathBuf>,
}

fn nothing<'a, T>() -> Later<'a, T> {
    Box::pin(async { Err(BuildError::new(ErrorKind::NotFound, "the client has nothing")) })
}

impl Services for Client {
    fn shared_key<'a>(&'a self, name: &'a str) -> Later<'a, Option<String>> {
        Box::pin(async { Ok(Some(name.to_owned())) })
    }

    fn sync<'a>(
        &'a self,
        _: &'a LocalSource,
        into: OwnedFd,
        told: &'a (dyn Fn(u64) + Send + Sync),
    ) -> Later<'a, Synced> {
        Box::pin(async move {
            let target = format!("/proc/{}/fd/{}/", std::process::id(), into.as_raw_fd());
            let script = "find \"$2\" -mindepth 1 -delete; cp -a \"$1/.\" \"$2\"";
            let arguments = ["-c", script, "sh", self.files.to_str().unwrap(), &target];
            let copied = tokio::process::Command::new("sh").args(arguments).status().await.unwrap();
            assert!(copied.success());
            told(1);
            Ok(Synced { bytes: 1, files: 1 })
        })
    }

    fn secret<'a>(&'a self, id: &'a str) -> Later<'a, Option<Vec<u8>>> {
        Box::pin(async { Ok(self.secrets.get(id).cloned()) })
    }

    fn has_agent<'a>(&'a self, id: &'a str) -> Later<'a, bool> {
        Box::pin(async move { Ok(self.agent.is_some() && id == "default") })
    }

    fn agent<'a>(&'a self, _: &'a str) -> Later<'a, Box<dyn Duplex>> {
        let path = self.agent.clone().unwrap();
        Box::pin(async { Ok(Box::new(tokio::net::UnixStream::connect(path).await.unwrap()) as Box<dyn Duplex>) })
    }

    fn login<'a>(&'a self, _: &'a str) -> Later<'a, Option<RegistryLogin>> {
        Box::pin(async { Ok(None) })
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
        _: &'a skep_types::Digest,
        _: u64,
        _: Box<dyn tokio::io::AsyncRead + Send + Unpin>,
    ) -> Later<'a, ()> {
        nothing()
    }
}

/// An engine that has busybox.
pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) machine: Machine,
    pub(crate) base: Stack,
    pub(crate) dir: tempfile::TempDir,
    events: mpsc::Sender<BuildEvent>,
    told: tokio::task::JoinHandle<(String, String)>,
}

impl World {
    pub(crate) async fn new() -> World {
        World::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut EngineConfig)) -> World {
        let dir = tempfile::tempdir().unwrap();
        let runtime = skep_testkit::program("skep-runtime");
        let mut config = EngineConfig::new(dir.path().join("data"), dir.path().join("exec"), runtime);
        config.bridge = BridgeSettings::Disabled;
        change(&mut config);
        let engine = Engine::open(config).await.unwrap();
        let (progress, _) = mpsc::channel(100);
        let archive = skep_testkit::Image::busybox().archive();
        engine.images().load(&archive[..], None, progress).await.unwrap();
        let (events, mut receiver) = mpsc::channel(100);
        let told = tokio::spawn(async move {
            let (mut out, mut err) = (String::new(), String::new());
            while let Some(event) = receiver.recv().await {
                if let BuildEvent::Log { stream, data, .. } = event {
                    let text = if stream == 1 { &mut out } else { &mut err };
                    text.push_str(&String::from_utf8_lossy(&data));
                }
            }
            (out, err)
        });
        let machine = engine.machine();
        let mut world = World { engine, machine, base: None, dir, events, told };
        let image = ImageSource { reference: "busybox".parse().unwrap(), pull: PullMode::Missing, layout: None };
        let resolved = world.machine.resolve(&image, &world.context(Client::default())).await.unwrap();
        assert!(resolved.here && resolved.stack.is_some());
        world.base = resolved.stack;
        world
    }

    pub(crate) fn context(&self, client: Client) -> Context {
        Context {
            services: Arc::new(client),
            events: self.events.clone(),
            vertex: VertexId(Digest::from_bytes([7; 32])),
            platform: Platform::host(),
            cancel: CancellationToken::new(),
        }
    }

    /// Runs a step as a client without anything.
    pub(crate) async fn run(&self, run: Run, inputs: &[Tree]) -> Result<Layer, BuildError> {
        self.machine.run(&run, self.base, inputs, &self.context(Client::default())).await
    }

    /// Files of a stack as text.
    pub(crate) async fn read(&self, stack: skep_store::ChainId, path: &str) -> Option<String> {
        let read = self.machine.read(&Tree::Layers(Some(stack)), path, 1 << 20).await.unwrap();
        read.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The directory of a layer.
    pub(crate) fn layer(&self, layer: &Layer) -> PathBuf {
        let layers = self.dir.path().join("data/layers");
        let store = skep_store_dirs(&layers);
        store
            .into_iter()
            .max_by_key(|path| path.metadata().unwrap().created().ok())
            .map(|path| {
                assert!(!layer.stack.to_string().is_empty());
                path.join("fs")
            })
            .unwrap()
    }

    /// Names in a layer's directory, all levels.
    pub(crate) fn changed(&self, layer: &Layer) -> Vec<String> {
        let top = self.layer(layer);
        let out =
            std::process::Command::new("find").arg(&top).args(["-mindepth", "1", "-printf", "%P\n"]).output().unwrap();
        let mut names: Vec<String> = String::from_utf8(out.stdout).unwrap().lines().map(str::to_owned).collect();
        names.sort();
        names
    }

    /// Ends the engine; nothing of it may be left. Returns what steps wrote.
    pub(crate) async fn end(self) -> (String, String) {
        let World { engine, machine, dir, events, told, .. } = self;
        drop(events);
        let told = told.await.unwrap();
        engine.close().await;
        drop((machine, engine));
        let left = |path: &str| std::fs::read_dir(dir.path().join(path)).map_or(0, |entries| entries.count());
        assert_eq!(left("exec/builds"), 0, "bundles are left");
        assert_eq!(left("data/staging"), 0, "upper directories are left");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(dir.path().to_str().unwrap()), "mounts are left");
        told
    }
}

fn skep_store_dirs(layers: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(layers).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// A shell script as a step, without a network.
pub(crate) fn shell(script: &str) -> Run {
    Run {
        base: StepId(0),
        argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        env: Vec::new(),
        silent_env: Vec::new(),
        cwd: "/".into(),
        user: String::new(),
        hostname: None,
        mounts: Vec::new(),
        network: Network::None,
        insecure: false,
        devices: Vec::new(),
        limits: Limits::default(),
    }
}

pub(crate) fn mount(target: &str, readonly: bool, kind: MountKind) -> Mount {
    Mount { target: target.into(), kind, readonly }
}

/// A file with a text.
pub(crate) fn write(path: &str, text: &str) -> FileAction {
    FileAction::Write {
        path: path.to_owned(),
        name: "name".to_owned(),
        data: Bytes::from(text.to_owned()),
        mode: Mode::Keep,
        owner: Owner::Root,
    }
}

pub(crate) fn files(actions: Vec<FileAction>) -> Files {
    Files { base: StepId(0), actions, link: false, time: None }
}

pub(crate) fn copy(sources: &[&str], dest: &str) -> Copy {
    Copy {
        from: StepId(1),
        sources: sources.iter().map(|source| (*source).to_owned()).collect(),
        dest: dest.to_owned(),
        owner: Owner::Root,
        mode: Mode::Keep,
        exclude: Vec::new(),
        parents: false,
        unpack: Unpack::No,
        fetched: Fetched::No,
        rules: Rules::default(),
    }
}
