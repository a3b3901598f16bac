//! Builds from the outside: begun, watched, listed; and what the cache takes.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use skep_build::Job;
use skep_buildkit::proto::moby::buildkit::v1 as wire;
use skep_buildkit::proto::moby::buildkit::v1::control_server::Control as Service;
use skep_buildkit::proto::moby::buildkit::v1::frontend::result::Result as Refs;
use skep_buildkit::proto::moby::buildkit::v1::frontend::{self, ReturnRequest};
use skep_buildkit::proto::moby::buildkit::v1::types::{BuildkitVersion, WorkerRecord};
use skep_buildkit::proto::pb;
use skep_buildkit::session::Announcement;
use tokio::sync::{mpsc, oneshot};
use tonic::codegen::tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::bridge::Evaluate;
use super::builds::{Build, Handed};
use super::progress::Progress;
use super::services::Client;
use super::{BuildKit, disk, entitlements, error};

/// The version of BuildKit whose behaviour is the measure. Clients decide by it what they may ask for.
const BUILDKIT: &str = "v0.25.1";

pub(crate) struct Control(pub(crate) Arc<BuildKit>);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A build that is under way. Dropped without an end, because its client went away, it is cancelled.
struct Running<'a> {
    kit: &'a BuildKit,
    build: Arc<Build>,
    ended: bool,
}

impl Running<'_> {
    fn end(&mut self, result: &Result<wire::SolveResponse, Status>) {
        self.ended = true;
        self.kit.builds.end(&self.build, result);
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.end(&Err(Status::cancelled("context canceled")));
        }
    }
}

impl BuildKit {
    async fn solve(
        &self,
        build: &Arc<Build>,
        returned: oneshot::Receiver<ReturnRequest>,
    ) -> Result<wire::SolveResponse, Status> {
        let definition = build.request.definition.as_ref().filter(|definition| !definition.def.is_empty());
        let result = if let (true, Some(definition)) = (build.request.frontend.is_empty(), definition) {
            self.solve_definition(build, definition, Evaluate::Now).await?
        } else if build.request.frontend.is_empty() {
            let answer = returned.await.map_err(|_| Status::cancelled("context canceled"))?;
            if let Some(error) = answer.error {
                return Err(error::from_wire(error));
            }
            answer.result.unwrap_or_default()
        } else {
            let (attributes, inputs) = (&build.request.frontend_attrs, &build.request.frontend_inputs);
            self.run(build, attributes, inputs, Evaluate::Now).await?
        };
        let mut response: HashMap<String, String> = result
            .metadata
            .iter()
            .filter(|(name, _)| name.starts_with("frontend.") || name.starts_with("result."))
            .filter_map(|(name, value)| Some((name.clone(), String::from_utf8(value.clone()).ok()?)))
            .collect();
        if let Some(handed) = chosen(build, &result)? {
            response.extend(self.export(build, &handed).await?);
        }
        Ok(wire::SolveResponse { exporter_response: response })
    }

    async fn export(&self, build: &Arc<Build>, handed: &Handed) -> Result<HashMap<String, String>, Status> {
        let (events, receiver) = mpsc::channel(64);
        let client = Client::new(self.sessions.clone(), build.request.session.clone());
        let inputs = Default::default();
        let job = Job { services: client, events, cancel: build.cancel.child_token(), inputs };
        let exporting = async move {
            // The job, and with it the events' sender, ends with the export.
            let job = job;
            self.builder.export(&handed.built, &handed.request, &job).await
        };
        let (exported, ()) = tokio::join!(exporting, build.progress.take(receiver));
        let exported = exported.map_err(|error| error::status(&error))?;
        *build.exported.lock() = exported.documents;
        Ok(exported.metadata.into_iter().collect())
    }

    /// What clients are told of the machine that builds.
    pub(crate) fn worker(&self) -> WorkerRecord {
        let label = |name: &str, value: &str| (format!("org.mobyproject.buildkit.worker.{name}"), value.to_owned());
        let mut labels = HashMap::from([
            label("executor", "skep"),
            label("hostname", rustix::system::uname().nodename().to_str().unwrap_or_default()),
            label("snapshotter", "overlayfs"),
            label("network", "bridge"),
        ]);
        if let Some(address) = self.builder.host_gateway() {
            labels.extend([label("moby.host-gateway-ip", &address)]);
        }
        let platform = |platform: skep_types::Platform| pb::Platform {
            os: platform.os,
            architecture: platform.architecture,
            variant: platform.variant,
            ..pb::Platform::default()
        };
        WorkerRecord {
            id: "skep".to_owned(),
            labels,
            platforms: self.builder.platforms().into_iter().map(platform).collect(),
            buildkit_version: Some(version()),
            ..WorkerRecord::default()
        }
    }
}

/// The result that the client chose, if it chose one. All refs of a result belong to one build. A client that is a frontend itself says
/// what the image's configuration is.
fn chosen(build: &Build, result: &frontend::Result) -> Result<Option<Handed>, Status> {
    let ids: Vec<&String> = match &result.result {
        Some(Refs::Ref(one)) => vec![&one.id],
        Some(Refs::Refs(several)) => several.refs.values().map(|one| &one.id).collect(),
        Some(Refs::RefDeprecated(id)) => vec![id],
        Some(Refs::RefsDeprecated(several)) => several.refs.values().collect(),
        None => Vec::new(),
    };
    let ids = ids.into_iter().filter(|id| !id.is_empty());
    let all = ids.map(|id| build.handed(id)).collect::<Result<Vec<_>, _>>()?;
    let Some(first) = all.first().cloned() else { return Ok(None) };
    if all.iter().any(|other| !Arc::ptr_eq(&other.built, &first.built)) {
        return Err(Status::unimplemented("an image of the results of several definitions is not supported by skep"));
    }
    let own = |platform: &skep_types::Platform| {
        let of_one = result.metadata.get(&format!("containerimage.config/{platform}"));
        of_one.or_else(|| result.metadata.get("containerimage.config")).cloned()
    };
    let differs = |image: &skep_build::BuiltImage| own(&image.platform).is_some_and(|config| config != image.config);
    if !first.built.images.iter().any(differs) {
        return Ok(Some(first));
    }
    let built = first.built.clone().configured(own).map_err(|error| error::status(&error))?;
    Ok(Some(Handed { built, ..first }))
}

fn version() -> BuildkitVersion {
    BuildkitVersion {
        package: "github.com/moby/buildkit".to_owned(),
        version: BUILDKIT.to_owned(),
        revision: format!("skep-{}", env!("CARGO_PKG_VERSION")),
    }
}

#[tonic::async_trait]
impl Service for Control {
    async fn solve(&self, request: Request<wire::SolveRequest>) -> Result<Response<wire::SolveResponse>, Status> {
        let request = request.into_inner();
        match request.frontend.as_str() {
            "" | "dockerfile.v0" | "gateway.v0" => {}
            other => return Err(Status::unknown(format!("invalid frontend: {other}"))),
        }
        let possible = self.0.builder.entitlements();
        entitlements::check(&request.entitlements, possible).map_err(|error| error::status(&error))?;
        let client = Client::new(self.0.sessions.clone(), request.session.clone());
        let (build, returned) = self.0.builds.begin(request)?;
        let mut running = Running { kit: &self.0, build: build.clone(), ended: false };
        let cancelled = build.cancel.clone();
        let result = tokio::select! {
            result = self.0.solve(&build, returned) => result,
            () = cancelled.cancelled() => Err(Status::cancelled("context canceled")),
            () = client.gone() => Err(Status::cancelled("context canceled: the session has ended")),
        };
        running.end(&result);
        result.map(Response::new)
    }

    type StatusStream = Answers<wire::StatusResponse>;

    async fn status(&self, request: Request<wire::StatusRequest>) -> Result<Response<Self::StatusStream>, Status> {
        let builds = &self.0.builds;
        let id = &request.get_ref().r#ref;
        if builds.find_now(id).is_none()
            && let Some(log) = builds.records.log(id).await?
        {
            return Ok(Response::new(Box::pin(futures_util::stream::iter(log.into_iter().map(Ok)))));
        }
        let build = builds.find(id).await?;
        Ok(Response::new(Box::pin(Progress::listen(build, |build| &build.progress))))
    }

    type SessionStream = Answers<wire::BytesMessage>;

    async fn session(
        &self,
        request: Request<Streaming<wire::BytesMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let announcement = Announcement::read(request.metadata().as_ref());
        let place = self.0.sessions.reserve(announcement).map_err(|error| Status::unknown(error.to_string()))?;
        let (io, answers) = skep_buildkit::session::over_call(request.into_inner());
        // The session is part of its answer: it ends when the client no longer reads.
        let serving = futures_util::stream::once(async move { place.serve(io).await.err().map(|_| ()) });
        let serving = serving.filter_map(|_| None);
        Ok(Response::new(Box::pin(answers.merge(serving))))
    }

    async fn list_workers(
        &self,
        _: Request<wire::ListWorkersRequest>,
    ) -> Result<Response<wire::ListWorkersResponse>, Status> {
        Ok(Response::new(wire::ListWorkersResponse { record: vec![self.0.worker()] }))
    }

    async fn info(&self, _: Request<wire::InfoRequest>) -> Result<Response<wire::InfoResponse>, Status> {
        Ok(Response::new(wire::InfoResponse { buildkit_version: Some(version()) }))
    }

    async fn disk_usage(
        &self,
        request: Request<wire::DiskUsageRequest>,
    ) -> Result<Response<wire::DiskUsageResponse>, Status> {
        let record = disk::usage(&*self.0.builder, &request.into_inner()).await?;
        Ok(Response::new(wire::DiskUsageResponse { record }))
    }

    type PruneStream = Answers<wire::UsageRecord>;

    async fn prune(&self, request: Request<wire::PruneRequest>) -> Result<Response<Self::PruneStream>, Status> {
        let gone = disk::prune(&*self.0.builder, &request.into_inner()).await?;
        Ok(Response::new(Box::pin(futures_util::stream::iter(gone.into_iter().map(Ok)))))
    }

    type ListenBuildHistoryStream = Answers<wire::BuildHistoryEvent>;

    async fn listen_build_history(
        &self,
        request: Request<wire::BuildHistoryRequest>,
    ) -> Result<Response<Self::ListenBuildHistoryStream>, Status> {
        Ok(Response::new(Box::pin(self.0.builds.records.listen(request.into_inner())?)))
    }

    async fn update_build_history(
        &self,
        request: Request<wire::UpdateBuildHistoryRequest>,
    ) -> Result<Response<wire::UpdateBuildHistoryResponse>, Status> {
        self.0.builds.records.update(&request.into_inner())?;
        Ok(Response::new(wire::UpdateBuildHistoryResponse {}))
    }
}
