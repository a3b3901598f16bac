//! The protocol with a builder that only pretends, and a client made of the other half of `skep-buildkit`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prost::Message;
use skep_build::builder::Subject;
use skep_build::cache::{Listed, Prune};
use skep_build::event::{Vertex, Warning};
use skep_build::graph::{GitSource, HttpSource, ImageSource, LocalPart, LocalSource};
use skep_build::request::{Export, ExportKind, NamedContext, NoCache};
use skep_build::services::Later;
use skep_build::worker::ResolvedImage;
use skep_build::{BuildError, BuildEvent, BuildRequest, Built, BuiltImage, Definition, Job, Location, VertexId};
use skep_buildkit::grpc::{self, Channel};
use skep_buildkit::proto::google::rpc;
use skep_buildkit::proto::moby::buildkit::v1 as wire;
use skep_buildkit::proto::moby::buildkit::v1::control_client::ControlClient;
use skep_buildkit::proto::moby::buildkit::v1::frontend as gateway;
use skep_buildkit::proto::moby::buildkit::v1::frontend::llb_bridge_client::LlbBridgeClient;
use skep_buildkit::provider::Provider;
use skep_buildkit::session::Announcement;
use skep_engine::build::{BuildRecord, Checksum, Exported, FileStat, Files, GitFacts, HttpFacts, RecordFile};
use skep_types::{Digest, ErrorKind, Platform};
use tokio::task::JoinHandle;
use tonic::{Code, Request, Status};

use super::history::WhenKept;
use super::{BuildKit, Builder};

mod hostile;

/// Reads the Dockerfile, and fails if that says so.
#[derive(Default)]
pub(crate) struct Pretender {
    requests: Mutex<Vec<BuildRequest>>,
    exported: Mutex<Vec<Vec<Export>>>,
    defined: Mutex<Vec<Definition>>,
    kept: Mutex<Vec<(BuildRecord, Vec<Vec<u8>>)>>,
}

fn known() -> FileStat {
    FileStat {
        name: "known".to_owned(),
        mode: 0o100_644,
        uid: 0,
        gid: 0,
        size: 10,
        modified: 0,
        target: String::new(),
        device: (0, 0),
        attributes: vec![],
    }
}

fn vertex() -> VertexId {
    VertexId(format!("sha256:{}", "12".repeat(32)).parse().expect("a digest"))
}

async fn dockerfile(job: &Job, classic: bool) -> Result<String, BuildError> {
    let place = tempfile::tempdir().expect("a directory");
    let name = if classic { "context" } else { "dockerfile" };
    let source = LocalSource {
        name: name.to_owned(),
        part: LocalPart::Files,
        include: vec![],
        exclude: vec!["other".to_owned()],
        follow: vec![],
    };
    let into = std::fs::File::open(place.path()).expect("open").into();
    job.services.sync(&source, into, &|_| ()).await?;
    assert!(!place.path().join("other").exists(), "it was not asked for");
    Ok(std::fs::read_to_string(place.path().join("Dockerfile")).expect("a Dockerfile"))
}

impl Builder for Pretender {
    fn build(&self, request: BuildRequest, job: Job) -> Later<'_, Arc<Built>> {
        Box::pin(async move {
            let text = dockerfile(&job, request.classic).await?;
            let location = Location { file: "Dockerfile".to_owned(), text: text.as_str().into(), lines: 2..=2 };
            let now = Some(chrono::Utc::now());
            let step = Vertex {
                id: vertex(),
                name: "[1/1] FROM x".to_owned(),
                inputs: vec![],
                started: now,
                completed: now,
                cached: true,
                error: None,
            };
            let warning = Warning {
                vertex: vertex(),
                short: "Rule: bad".to_owned(),
                detail: vec![],
                url: String::new(),
                location: Some(location.clone()),
            };
            let log = BuildEvent::Log {
                vertex: vertex(),
                stream: 1,
                data: vec![b'x'; 3 << 20].into(),
                at: chrono::Utc::now(),
            };
            for event in [BuildEvent::Vertex(step), BuildEvent::Warning(warning), log.clone(), log] {
                job.events.send(event).await.expect("a listener");
            }
            if text.contains("WAIT") {
                job.cancel.cancelled().await;
                return Err(BuildError::new(ErrorKind::Cancelled, "stopped"));
            }
            if text.contains("FAIL") {
                let error =
                    BuildError::new(ErrorKind::System, "process \"x\" did not complete successfully: exit code: 7");
                return Err(BuildError { vertex: Some(vertex()), exit_code: Some(7), ..error }.at(location));
            }
            let platforms =
                if request.platforms.is_empty() { vec![Platform::host()] } else { request.platforms.clone() };
            self.requests.lock().push(request);
            let image = |platform| BuiltImage {
                platform,
                stack: None,
                diff_ids: vec![],
                config: b"{}".to_vec(),
                base_layers: 0,
                base: None,
                attestations: vec![],
                intermediate: vec![],
                guard: vec![],
            };
            Ok(Arc::new(Built { images: platforms.into_iter().map(image).collect(), ..Built::default() }))
        })
    }

    fn define(&self, definition: Definition, request: BuildRequest, job: Job) -> Later<'_, Arc<Built>> {
        self.defined.lock().push(definition.clone());
        self.build(BuildRequest { platforms: vec![definition.platform], ..request }, job)
    }

    fn export<'a>(&'a self, _: &'a Built, request: &'a BuildRequest, _: &'a Job) -> Later<'a, Exported> {
        Box::pin(async move {
            self.exported.lock().push(request.exports.clone());
            let metadata = [("containerimage.digest".to_owned(), "sha256:1".to_owned())].into();
            Ok(Exported { metadata, documents: Vec::new() })
        })
    }

    fn describe(&self, _: BuildRequest, job: Job, subject: Subject) -> Later<'_, Vec<u8>> {
        drop(job);
        assert_eq!(subject, Subject::Checks);
        Box::pin(std::future::ready(Ok(br#"{"warnings":[{"ruleName":"R"}]}"#.to_vec())))
    }

    fn read<'a>(&'a self, _: &'a Files, path: &'a str) -> Later<'a, Vec<u8>> {
        let missing = || BuildError::new(ErrorKind::NotFound, format!("open {path}: no such file or directory"));
        let known = (path == "/known").then(|| b"0123456789".to_vec());
        Box::pin(std::future::ready(known.ok_or_else(missing)))
    }

    fn stat<'a>(&'a self, _: &'a Files, _: &'a str) -> Later<'a, FileStat> {
        Box::pin(std::future::ready(Ok(known())))
    }

    fn list<'a>(&'a self, _: &'a Files, _: &'a str, _: &'a str) -> Later<'a, Vec<FileStat>> {
        Box::pin(std::future::ready(Ok(vec![known()])))
    }

    fn resolve<'a>(&'a self, _: &'a ImageSource, _: &'a Platform, _: &'a Job) -> Later<'a, ResolvedImage> {
        Box::pin(std::future::ready(Err(BuildError::new(ErrorKind::NotFound, "there are no images"))))
    }

    fn look_at_git<'a>(&'a self, source: &'a GitSource, with_objects: bool, _: &'a Job) -> Later<'a, GitFacts> {
        let facts = GitFacts {
            object: "1".repeat(40),
            reference: source.reference.clone().unwrap_or_default(),
            commit: None,
            objects: with_objects.then(|| (b"tree".to_vec(), None)),
        };
        Box::pin(std::future::ready(Ok(facts)))
    }

    fn look_at_http<'a>(&'a self, _: &'a HttpSource, _: Option<Checksum>, _: &'a Job) -> Later<'a, HttpFacts> {
        Box::pin(std::future::ready(Err(BuildError::new(ErrorKind::NotFound, "there is no web"))))
    }

    fn container(
        &self,
        _: skep_engine::build::Place,
        _: &Job,
    ) -> Result<skep_engine::build::BuildContainer, BuildError> {
        Err(BuildError::new(ErrorKind::NotImplemented, "there is no machine"))
    }

    fn records(&self) -> Vec<BuildRecord> {
        self.kept.lock().iter().map(|(record, _)| record.clone()).collect()
    }

    fn keep_record(&self, record: BuildRecord, files: Vec<Vec<u8>>, done: WhenKept) {
        self.kept.lock().push((record, files));
        done(Vec::new());
    }

    fn forget_record(&self, id: &str) {
        self.kept.lock().retain(|(record, _)| record.id != id);
    }

    fn record_file(&self, digest: Digest) -> Later<'_, Option<Vec<u8>>> {
        let kept = self.kept.lock();
        let is = |content: &&Vec<u8>| RecordFile::of("", content, BTreeMap::new()).digest == Some(digest);
        let found = kept.iter().flat_map(|(_, files)| files).find(is).cloned();
        Box::pin(std::future::ready(Ok(found)))
    }

    fn usage(&self) -> Later<'_, Vec<Listed>> {
        Box::pin(std::future::ready(Ok(vec![])))
    }

    fn prune(&self, _: Prune) -> Later<'_, Vec<Listed>> {
        Box::pin(std::future::ready(Ok(vec![])))
    }

    fn platforms(&self) -> Vec<Platform> {
        vec![Platform::host()]
    }

    fn entitlements(&self) -> skep_engine::Entitlements {
        skep_engine::Entitlements::default()
    }

    fn host_gateway(&self) -> Option<String> {
        None
    }
}

/// A client with a session and a connection for calls.
struct Client {
    control: ControlClient<Channel>,
    bridge: LlbBridgeClient<Channel>,
    session: String,
    tasks: Vec<JoinHandle<()>>,
    _place: tempfile::TempDir,
}

impl Client {
    async fn connect(kit: &Arc<BuildKit>, dockerfile: &str) -> Client {
        let place = tempfile::tempdir().expect("a directory");
        std::fs::write(place.path().join("Dockerfile"), dockerfile).expect("write");
        let provider = Provider {
            directories: BTreeMap::from([("dockerfile".to_owned(), place.path().to_owned())]),
            secrets: BTreeMap::new(),
            agents: BTreeMap::new(),
            logins: Arc::new(|_| None),
            exports: Vec::new(),
            uploads: BTreeMap::new(),
            stores: BTreeMap::new(),
        };
        let session = super::result::new_id();
        let routes = provider.routes();
        let methods = routes.methods().to_vec();
        let announcement = Announcement { id: session.clone(), methods, ..Announcement::default() };
        let reserved = kit.sessions.reserve(announcement).expect("a place");
        let (client, engine) = tokio::io::duplex(1 << 16);
        let (caller, callee) = tokio::io::duplex(1 << 16);
        let served = kit.routes();
        let mut tasks = vec![
            tokio::spawn(async move { grpc::serve(client, routes).await.unwrap_or(()) }),
            tokio::spawn(async move { reserved.serve(engine).await.unwrap_or(()) }),
            tokio::spawn(async move { grpc::serve(callee, served).await.unwrap_or(()) }),
        ];
        let (channel, driver) = Channel::connect(caller).await.expect("a channel");
        tasks.push(tokio::spawn(async move { driver.await.unwrap_or(()) }));
        Client {
            control: ControlClient::with_origin(channel.clone(), Channel::origin()),
            bridge: LlbBridgeClient::with_origin(channel, Channel::origin()),
            session,
            tasks,
            _place: place,
        }
    }

    fn in_build<T>(message: T, build: &str) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("buildkit-controlapi-buildid", build.parse().expect("a value"));
        request
    }

    /// Begins a build whose result the gateway chooses.
    fn begin(&self, build: &str, exporter: &str) -> JoinHandle<Result<HashMap<String, String>, Status>> {
        let request = wire::SolveRequest {
            r#ref: build.to_owned(),
            session: self.session.clone(),
            exporters: vec![wire::Exporter {
                r#type: exporter.to_owned(),
                attrs: HashMap::from([("name".to_owned(), "n".to_owned())]),
            }],
            ..wire::SolveRequest::default()
        };
        let mut control = self.control.clone();
        tokio::spawn(async move { Ok(control.solve(request).await?.into_inner().exporter_response) })
    }

    async fn frontend(&self, build: &str, attributes: &[(&str, &str)]) -> Result<gateway::Result, Status> {
        self.frontend_with(build, attributes, HashMap::new()).await
    }

    async fn frontend_with(
        &self,
        build: &str,
        attributes: &[(&str, &str)],
        frontend_inputs: HashMap<String, skep_buildkit::proto::pb::Definition>,
    ) -> Result<gateway::Result, Status> {
        let frontend_opt = attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let request = gateway::SolveRequest {
            frontend: "dockerfile.v0".to_owned(),
            frontend_opt,
            frontend_inputs,
            ..gateway::SolveRequest::default()
        };
        let answer = self.bridge.clone().solve(Self::in_build(request, build)).await?;
        Ok(answer.into_inner().result.expect("a result"))
    }

    async fn give(&self, build: &str, result: Result<gateway::Result, rpc::Status>) {
        let request = match result {
            Ok(result) => gateway::ReturnRequest { result: Some(result), error: None },
            Err(error) => gateway::ReturnRequest { result: None, error: Some(error) },
        };
        self.bridge.clone().r#return(Self::in_build(request, build)).await.expect("taken");
    }
}

pub(crate) fn kit() -> (Arc<BuildKit>, Arc<Pretender>) {
    let pretender = Arc::new(Pretender::default());
    (BuildKit::new(pretender.clone()), pretender)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_builds_and_chooses() {
    let (kit, pretender) = kit();
    let client = Client::connect(&kit, "FROM x").await;
    let solving = client.begin("b1", "moby");
    let watching = client.control.clone().status(wire::StatusRequest { r#ref: "b1".to_owned() }).await;
    let caps = client.bridge.clone().ping(Client::in_build(gateway::PingRequest {}, "b1")).await.expect("a pong");
    assert!(caps.get_ref().frontend_api_caps.iter().any(|cap| cap.id == "return" && cap.enabled));
    let result = client.frontend("b1", &[("build-arg:A", "1"), ("no-cache", "x,y")]).await.expect("built");
    assert_eq!(result.metadata["containerimage.config"], b"{}");
    let read = gateway::ReadFileRequest {
        r#ref: match &result.result {
            Some(gateway::result::Result::Ref(one)) => one.id.clone(),
            other => panic!("{other:?}"),
        },
        file_path: "/known".to_owned(),
        range: Some(gateway::FileRange { offset: 2, length: 3 }),
        ..gateway::ReadFileRequest::default()
    };
    let read = client.bridge.clone().read_file(Client::in_build(read, "b1")).await.expect("read").into_inner();
    assert_eq!(read.data, b"234");
    client.give("b1", Ok(result)).await;
    let response = solving.await.expect("joined").expect("solved");
    assert_eq!(response["containerimage.digest"], "sha256:1");

    let mut stream = watching.expect("a stream").into_inner();
    let mut seen = wire::StatusResponse::default();
    while let Some(more) = stream.message().await.expect("a message") {
        seen.vertexes.extend(more.vertexes);
        seen.logs.extend(more.logs);
        seen.warnings.extend(more.warnings);
    }
    assert_eq!(seen.vertexes[0].name, "[1/1] FROM x");
    assert_eq!(seen.warnings[0].short, b"Rule: bad");
    assert_eq!(seen.logs.len(), 1, "output is clipped");
    assert_eq!(seen.logs[0].msg, b"\n[output clipped, log limit 2MiB reached]\n");

    let request = pretender.requests.lock()[0].clone();
    assert_eq!(request.args["A"], "1");
    assert_eq!(request.no_cache, NoCache::Stages(vec!["x".to_owned(), "y".to_owned()]));
    assert_eq!(pretender.exported.lock()[0][0].kind, ExportKind::Image);
    assert_eq!(pretender.exported.lock()[0][0].attributes["name"], "n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_has_its_place() {
    let (kit, _) = kit();
    let client = Client::connect(&kit, "FROM x\nFAIL").await;
    let solving = client.begin("b1", "moby");
    let status = client.frontend("b1", &[]).await.expect_err("a failure");
    let details = rpc::Status::decode(status.details()).expect("details");
    let kinds: Vec<&str> = details.details.iter().map(|detail| detail.type_url.as_str()).collect();
    assert_eq!(kinds, ["github.com/moby/buildkit/errdefs.Source+json", "github.com/moby/buildkit/errdefs.Vertex+json"]);
    let source: serde_json::Value = serde_json::from_slice(&details.details[0].value).expect("JSON");
    assert_eq!(source["ranges"][0]["start"]["line"], 2);
    assert_eq!(source["info"]["filename"], "Dockerfile");
    client.give("b1", Err(details)).await;
    let error = solving.await.expect("joined").expect_err("a failure");
    assert_eq!(error.code(), Code::Unknown);
    assert_eq!(error.message(), "process \"x\" did not complete successfully: exit code: 7");
    assert!(!error.details().is_empty());

    let request = wire::BuildHistoryRequest { early_exit: true, ..wire::BuildHistoryRequest::default() };
    let mut history = client.control.clone().listen_build_history(request).await.expect("a stream").into_inner();
    let record = history.message().await.expect("a message").expect("an event").record.expect("a record");
    assert_eq!((record.r#ref.as_str(), record.num_total_steps, record.num_cached_steps), ("b1", 1, 1));
    assert_eq!(record.error.expect("an error").message, error.message());
    assert!(history.message().await.expect("the end").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_becomes_the_context_of_another_build() {
    let (kit, pretender) = kit();
    let client = Client::connect(&kit, "FROM x").await;
    let first = client.begin("b1", "moby");
    let result = client.frontend("b1", &[("platform", "linux/amd64,linux/arm64")]).await.expect("built");
    let Some(gateway::result::Result::Refs(refs)) = result.result.clone() else { panic!("{result:?}") };
    assert!(result.metadata.contains_key("containerimage.config/linux/arm64"));
    let inputs =
        refs.refs.iter().map(|(platform, one)| (format!("base::{platform}"), one.def.clone().expect("a definition")));
    let inputs: HashMap<_, _> = inputs.collect();
    let second = client.begin("b2", "moby");
    let attributes = [("context:base::linux/amd64", "input:base::linux/amd64")];
    let linked = client.frontend_with("b2", &attributes, inputs.clone()).await.expect("built");
    assert!(matches!(pretender.requests.lock()[1].contexts["base"], NamedContext::Result(_)));
    client.give("b2", Ok(linked)).await;
    client.give("b1", Ok(result)).await;
    first.await.expect("joined").expect("solved");
    second.await.expect("joined").expect("solved");
    // Results end with their builds.
    let third = client.begin("b3", "moby");
    let error = client.frontend_with("b3", &attributes, inputs).await.expect_err("gone");
    assert!(error.message().contains("its build has ended"), "{error}");
    third.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_cancels_its_build() {
    let (kit, _) = kit();
    for (name, by_session) in [("b1", false), ("b2", true)] {
        let client = Client::connect(&kit, "WAIT").await;
        let solving = client.begin(name, "moby");
        let bridge = client.bridge.clone();
        let build = kit.builds.find(name).await.expect("a build");
        let running = tokio::spawn({
            let request =
                gateway::SolveRequest { frontend: "dockerfile.v0".to_owned(), ..gateway::SolveRequest::default() };
            let mut bridge = bridge;
            async move { bridge.solve(Client::in_build(request, name)).await }
        });
        let listening = async {
            let mut status =
                client.control.clone().status(wire::StatusRequest { r#ref: name.to_owned() }).await?.into_inner();
            status.message().await
        };
        listening.await.expect("progress").expect("a vertex");
        match by_session {
            true => client.tasks[0].abort(),
            false => solving.abort(),
        }
        tokio::time::timeout(Duration::from_secs(20), build.cancel.cancelled()).await.expect("cancelled");
        assert_eq!(running.await.expect("joined").expect_err("cancelled").code(), Code::Cancelled);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_about_a_dockerfile_are_answered_without_an_image() {
    let (kit, pretender) = kit();
    let client = Client::connect(&kit, "FROM x").await;
    let solving = client.begin("b1", "moby");
    let result = client.frontend("b1", &[("requestid", "frontend.lint")]).await.expect("answered");
    assert!(result.metadata["result.json"].starts_with(b"{\n  \"warnings\": ["));
    assert_eq!(result.metadata["result.txt"], b"\nWARNING: R\n\n");
    assert_eq!(result.metadata["result.statuscode"], b"1");
    let described = client.frontend("b1", &[("requestid", "frontend.subrequests.describe")]).await.expect("answered");
    assert!(described.metadata["result.json"].starts_with(b"["));
    let unknown = client.frontend("b1", &[("requestid", "frontend.other")]).await.expect_err("refused");
    assert_eq!(unknown.message(), "unsupported request frontend.other");
    client.give("b1", Ok(result)).await;
    solving.await.expect("joined").expect("solved");
    assert!(pretender.exported.lock().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_refused_by_name() {
    let (kit, _) = kit();
    let client = Client::connect(&kit, "FROM x").await;
    let mut control = client.control.clone();
    let other = wire::SolveRequest { frontend: "other.v0".to_owned(), ..wire::SolveRequest::default() };
    assert_eq!(control.solve(other).await.expect_err("refused").message(), "invalid frontend: other.v0");
    let solving = client.begin("b1", "nowhere");
    let error = client.frontend("b1", &[]).await.expect_err("refused");
    assert_eq!(error.message(), "exporter \"nowhere\" could not be found");
    assert_eq!(
        control
            .solve(wire::SolveRequest { r#ref: "b1".to_owned(), ..Default::default() })
            .await
            .expect_err("twice")
            .code(),
        Code::AlreadyExists
    );
    solving.abort();
}
