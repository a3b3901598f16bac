//! The gateway: a client asks for the frontend's result, may ask for others, and says which is the build's.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use skep_build::{BuildRequest, Built, Job};
use skep_buildkit::proto::moby::buildkit::v1::frontend as wire;
use skep_buildkit::proto::moby::buildkit::v1::frontend::llb_bridge_server::LlbBridge;
use skep_buildkit::proto::moby::buildkit::v1::frontend::result::Result as Refs;
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::builds::{Build, Handed};
use super::services::Client;
use super::{BuildKit, caps, error, processes, request, result};

/// Which build a call belongs to.
const BUILD_ID: &str = "buildkit-controlapi-buildid";

/// Events that wait to be taken over; the builder waits when they are more.
pub(crate) const EVENTS: usize = 64;

/// When a client hears of a step that failed. BuildKit runs no step before somebody needs its files, and debuggers wait for the failure
/// there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Evaluate {
    /// With the answer.
    Now,
    /// When it wants something of the result.
    Later,
}

pub(crate) struct Bridge(pub(crate) Arc<BuildKit>);

impl BuildKit {
    /// Runs the frontend for a build. Progress goes to the build's listeners.
    pub(crate) async fn run(
        &self,
        build: &Arc<Build>,
        attributes: &request::Attributes,
        inputs: &HashMap<String, skep_buildkit::proto::pb::Definition>,
        when: Evaluate,
    ) -> Result<wire::Result, Status> {
        let inputs = self.inputs(build, inputs).await.map_err(|error| error::status(&error))?;
        let request = request::build(attributes, &build.request, &inputs).map_err(|error| error::status(&error))?;
        let (events, receiver) = mpsc::channel(EVENTS);
        let client = Client::new(self.sessions.clone(), build.request.session.clone());
        self.builds.records.learned(&build.id, "dockerfile.v0", attributes);
        let job = Job { services: client, events, cancel: build.cancel.child_token(), inputs };
        let made = async {
            match attributes.get("requestid").and_then(|id| id.strip_prefix("frontend.")) {
                Some(question) => {
                    let metadata = self.answer(question, request, job).await?;
                    Ok(wire::Result { metadata, ..wire::Result::default() })
                }
                None => {
                    let request = Arc::new(request);
                    let built = self.builder.build((*request).clone(), job).await?;
                    Ok(self.hand_out(build, &request, &built, attributes))
                }
            }
        };
        let (made, ()) = tokio::join!(made, build.progress.take(receiver));
        made.or_else(|error: skep_build::BuildError| {
            let id = self.failed(build, &error, when)?;
            let result = Some(Refs::Ref(wire::Ref { def: Some(result::definition(&id)), id }));
            Ok(wire::Result { result, ..wire::Result::default() })
        })
    }

    /// The result as the client gets it: a ref for each image, and the images' configurations.
    fn hand_out(
        &self,
        build: &Build,
        request: &Arc<BuildRequest>,
        built: &Arc<Built>,
        attributes: &request::Attributes,
    ) -> wire::Result {
        let asked = attributes.get("multi-platform").is_some_and(|value| matches!(value.as_str(), "1" | "true"));
        let several = asked || built.images.len() > 1;
        let mut metadata = HashMap::new();
        let mut refs = HashMap::new();
        let mut platforms = Vec::new();
        for (number, image) in built.images.iter().enumerate() {
            let handed = Handed { built: built.clone(), image: number, request: request.clone() };
            let id = build.hand_out(&self.builds, handed);
            let name = image.platform.to_string();
            let key =
                if several { format!("containerimage.config/{name}") } else { "containerimage.config".to_owned() };
            metadata.insert(key, image.config.clone());
            platforms.push(serde_json::json!({ "ID": name, "Platform": image.platform }));
            refs.insert(name, wire::Ref { def: Some(result::definition(&id)), id });
        }
        metadata.insert("refs.platforms".to_owned(), serde_json::json!({ "Platforms": platforms }).to_string().into());
        let result = match several {
            true => Some(Refs::Refs(wire::RefMap { refs })),
            false => refs.into_values().next().map(Refs::Ref),
        };
        wire::Result { result, metadata, ..wire::Result::default() }
    }
}

impl Bridge {
    async fn build<T>(&self, request: &Request<T>) -> Result<Arc<Build>, Status> {
        let id = request.metadata().get(BUILD_ID).and_then(|value| value.to_str().ok());
        let id = id.ok_or_else(|| Status::unknown("no buildid found in context"))?;
        self.0.builds.find(id).await
    }
}

#[tonic::async_trait]
impl LlbBridge for Bridge {
    async fn ping(&self, request: Request<wire::PingRequest>) -> Result<Response<wire::PongResponse>, Status> {
        self.build(&request).await?;
        Ok(Response::new(wire::PongResponse {
            frontend_api_caps: caps::frontend(),
            llb_caps: caps::steps(),
            workers: vec![self.0.worker()],
        }))
    }

    async fn solve(&self, request: Request<wire::SolveRequest>) -> Result<Response<wire::SolveResponse>, Status> {
        let build = self.build(&request).await?;
        let request = request.into_inner();
        let when = if request.evaluate { Evaluate::Now } else { Evaluate::Later };
        let definition = request.definition.as_ref().filter(|definition| !definition.def.is_empty());
        let solving = async {
            match (request.frontend.as_str(), definition) {
                ("dockerfile.v0" | "gateway.v0", _) => {
                    self.0.run(&build, &request.frontend_opt, &request.frontend_inputs, when).await
                }
                ("", Some(definition)) => self.0.solve_definition(&build, definition, when).await,
                ("", None) => Ok(wire::Result::default()),
                (other, _) => Err(Status::unknown(format!("invalid frontend: {other}"))),
            }
        };
        let cancelled = build.cancel.clone();
        let result = tokio::select! {
            result = solving => result?,
            () = cancelled.cancelled() => return Err(Status::cancelled("context canceled")),
        };
        Ok(Response::new(wire::SolveResponse { result: Some(result), ..wire::SolveResponse::default() }))
    }

    async fn r#return(&self, request: Request<wire::ReturnRequest>) -> Result<Response<wire::ReturnResponse>, Status> {
        let build = self.build(&request).await?;
        build.finish(request.into_inner())?;
        Ok(Response::new(wire::ReturnResponse {}))
    }

    async fn evaluate(
        &self,
        request: Request<wire::EvaluateRequest>,
    ) -> Result<Response<wire::EvaluateResponse>, Status> {
        // Results are made before they are handed out.
        self.build(&request).await?.handed(&request.get_ref().r#ref)?;
        Ok(Response::new(wire::EvaluateResponse {}))
    }

    async fn read_file(
        &self,
        request: Request<wire::ReadFileRequest>,
    ) -> Result<Response<wire::ReadFileResponse>, Status> {
        let files = self.build(&request).await?.files(&request.get_ref().r#ref)?;
        self.0.read(&files, request.get_ref()).await.map(Response::new)
    }

    async fn inputs(&self, request: Request<wire::InputsRequest>) -> Result<Response<wire::InputsResponse>, Status> {
        let build = self.build(&request).await?;
        Ok(Response::new(wire::InputsResponse { definitions: build.request.frontend_inputs.clone() }))
    }

    async fn warn(&self, request: Request<wire::WarnRequest>) -> Result<Response<wire::WarnResponse>, Status> {
        let build = self.build(&request).await?;
        build.progress.warn(request.into_inner())?;
        Ok(Response::new(wire::WarnResponse {}))
    }

    async fn resolve_image_config(
        &self,
        request: Request<wire::ResolveImageConfigRequest>,
    ) -> Result<Response<wire::ResolveImageConfigResponse>, Status> {
        let build = self.build(&request).await?;
        let request = request.get_ref();
        let found = self.0.image(&build, &request.r#ref, request.platform.as_ref(), &request.resolve_mode).await?;
        let (r#ref, digest, config) = found;
        Ok(Response::new(wire::ResolveImageConfigResponse { digest, config, r#ref }))
    }

    async fn resolve_source_meta(
        &self,
        request: Request<wire::ResolveSourceMetaRequest>,
    ) -> Result<Response<wire::ResolveSourceMetaResponse>, Status> {
        let build = self.build(&request).await?;
        self.0.source(&build, request.into_inner()).await.map(Response::new)
    }

    async fn read_dir(
        &self,
        request: Request<wire::ReadDirRequest>,
    ) -> Result<Response<wire::ReadDirResponse>, Status> {
        let files = self.build(&request).await?.files(&request.get_ref().r#ref)?;
        self.0.list(&files, request.get_ref()).await.map(Response::new)
    }

    async fn stat_file(
        &self,
        request: Request<wire::StatFileRequest>,
    ) -> Result<Response<wire::StatFileResponse>, Status> {
        let files = self.build(&request).await?.files(&request.get_ref().r#ref)?;
        self.0.stat(&files, request.get_ref()).await.map(Response::new)
    }

    async fn new_container(
        &self,
        request: Request<wire::NewContainerRequest>,
    ) -> Result<Response<wire::NewContainerResponse>, Status> {
        let build = self.build(&request).await?;
        self.0.new_container(&build, request.into_inner())?;
        Ok(Response::new(wire::NewContainerResponse {}))
    }

    async fn release_container(
        &self,
        request: Request<wire::ReleaseContainerRequest>,
    ) -> Result<Response<wire::ReleaseContainerResponse>, Status> {
        let build = self.build(&request).await?;
        let made = build.containers.lock().remove(&request.get_ref().container_id);
        let missing = || Status::not_found(format!("no such container: {}", request.get_ref().container_id));
        made.ok_or_else(missing)?.container.release();
        Ok(Response::new(wire::ReleaseContainerResponse {}))
    }

    type ExecProcessStream = Pin<Box<dyn Stream<Item = Result<wire::ExecMessage, Status>> + Send>>;

    async fn exec_process(
        &self,
        request: Request<Streaming<wire::ExecMessage>>,
    ) -> Result<Response<Self::ExecProcessStream>, Status> {
        let build = self.build(&request).await?;
        Ok(Response::new(processes::serve(build, request.into_inner())))
    }

    async fn read_file_container(
        &self,
        request: Request<wire::ReadFileRequest>,
    ) -> Result<Response<wire::ReadFileResponse>, Status> {
        let build = self.build(&request).await?;
        let files = build.container_files(&request.get_ref().r#ref, request.get_ref().mount_index)?;
        self.0.read(&files, request.get_ref()).await.map(Response::new)
    }

    async fn read_dir_container(
        &self,
        request: Request<wire::ReadDirRequest>,
    ) -> Result<Response<wire::ReadDirResponse>, Status> {
        let build = self.build(&request).await?;
        let files = build.container_files(&request.get_ref().r#ref, request.get_ref().mount_index)?;
        self.0.list(&files, request.get_ref()).await.map(Response::new)
    }

    async fn stat_file_container(
        &self,
        request: Request<wire::StatFileRequest>,
    ) -> Result<Response<wire::StatFileResponse>, Status> {
        let build = self.build(&request).await?;
        let files = build.container_files(&request.get_ref().r#ref, request.get_ref().mount_index)?;
        self.0.stat(&files, request.get_ref()).await.map(Response::new)
    }
}
