//! The gateway: a client asks for the frontend's result, may ask for others, and says which is the build's.

use std::collections::HashMap;
use std::path::Path;
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
use super::{BuildKit, caps, error, request, result};

/// Which build a call belongs to.
const BUILD_ID: &str = "buildkit-controlapi-buildid";

/// Events that wait to be taken over; the builder waits when they are more.
const EVENTS: usize = 64;

pub(crate) struct Bridge(pub(crate) Arc<BuildKit>);

impl BuildKit {
    /// Runs the frontend for a build. Progress goes to the build's listeners.
    pub(crate) async fn run(
        &self,
        build: &Arc<Build>,
        attributes: &request::Attributes,
        inputs: &HashMap<String, skep_buildkit::proto::pb::Definition>,
    ) -> Result<wire::Result, Status> {
        let inputs = request::inputs(&self.builds, inputs).map_err(|error| error::status(&error))?;
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
        made.map_err(|error| error::status(&error))
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

/// A call that the engine does not have, by what it would be for.
fn refuse<T>(what: &str) -> Result<Response<T>, Status> {
    Err(Status::unimplemented(format!("{what} is not supported by skep")))
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
        match request.frontend.as_str() {
            "dockerfile.v0" | "gateway.v0" => {}
            "" => return self.definition(&build, &request),
            other => return Err(Status::unknown(format!("invalid frontend: {other}"))),
        }
        let cancelled = build.cancel.clone();
        let solving = self.0.run(&build, &request.frontend_opt, &request.frontend_inputs);
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
        let build = self.build(&request).await?;
        let request = request.into_inner();
        let handed = build.handed(&request.r#ref)?;
        let read = self.0.builder.read(&handed.built, handed.image, Path::new(&request.file_path)).await;
        let missing = || Status::unknown(format!("open {}: no such file or directory", request.file_path));
        let mut data = read.map_err(|error| error::status(&error))?.ok_or_else(missing)?;
        if let Some(range) = request.range {
            let at = usize::try_from(range.offset).unwrap_or(0).min(data.len());
            data.drain(..at);
            data.truncate(usize::try_from(range.length).unwrap_or(0));
        }
        Ok(Response::new(wire::ReadFileResponse { data }))
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
        _: Request<wire::ResolveImageConfigRequest>,
    ) -> Result<Response<wire::ResolveImageConfigResponse>, Status> {
        refuse("resolving images for a client")
    }

    async fn resolve_source_meta(
        &self,
        _: Request<wire::ResolveSourceMetaRequest>,
    ) -> Result<Response<wire::ResolveSourceMetaResponse>, Status> {
        refuse("resolving sources for a client")
    }

    async fn read_dir(&self, _: Request<wire::ReadDirRequest>) -> Result<Response<wire::ReadDirResponse>, Status> {
        refuse("listing directories of a result")
    }

    async fn stat_file(&self, _: Request<wire::StatFileRequest>) -> Result<Response<wire::StatFileResponse>, Status> {
        refuse("looking at files of a result")
    }

    async fn new_container(
        &self,
        _: Request<wire::NewContainerRequest>,
    ) -> Result<Response<wire::NewContainerResponse>, Status> {
        refuse("a container made by a client")
    }

    async fn release_container(
        &self,
        _: Request<wire::ReleaseContainerRequest>,
    ) -> Result<Response<wire::ReleaseContainerResponse>, Status> {
        refuse("a container made by a client")
    }

    type ExecProcessStream = Pin<Box<dyn Stream<Item = Result<wire::ExecMessage, Status>> + Send>>;

    async fn exec_process(
        &self,
        _: Request<Streaming<wire::ExecMessage>>,
    ) -> Result<Response<Self::ExecProcessStream>, Status> {
        refuse("a container made by a client")
    }

    async fn read_file_container(
        &self,
        _: Request<wire::ReadFileRequest>,
    ) -> Result<Response<wire::ReadFileResponse>, Status> {
        refuse("a container made by a client")
    }

    async fn read_dir_container(
        &self,
        _: Request<wire::ReadDirRequest>,
    ) -> Result<Response<wire::ReadDirResponse>, Status> {
        refuse("a container made by a client")
    }

    async fn stat_file_container(
        &self,
        _: Request<wire::StatFileRequest>,
    ) -> Result<Response<wire::StatFileResponse>, Status> {
        refuse("a container made by a client")
    }
}

impl Bridge {
    /// A definition instead of a frontend: nothing at all, or a result that was handed out before.
    fn definition(&self, build: &Build, request: &wire::SolveRequest) -> Result<Response<wire::SolveResponse>, Status> {
        let given = request.definition.as_ref().filter(|definition| !definition.def.is_empty());
        let result = match given {
            None => None,
            Some(definition) => {
                let id = result::of_definition(definition).filter(|id| build.handed(id).is_ok());
                let id = id.ok_or_else(|| Status::unimplemented("a definition of steps is not supported by skep"))?;
                Some(Refs::Ref(wire::Ref { id, def: Some(definition.clone()) }))
            }
        };
        let result = wire::Result { result, ..wire::Result::default() };
        Ok(Response::new(wire::SolveResponse { result: Some(result), ..wire::SolveResponse::default() }))
    }
}
