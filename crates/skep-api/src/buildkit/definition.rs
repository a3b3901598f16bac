//! Definitions that clients send, and results that they send back as definitions.

use std::collections::HashMap;
use std::sync::Arc;

use skep_build::graph::Given;
use skep_build::request::Allow;
use skep_build::{BuildError, Built, Definition, Job};
use skep_buildkit::proto::moby::buildkit::v1::frontend as wire;
use skep_buildkit::proto::moby::buildkit::v1::frontend::result::Result as Refs;
use skep_buildkit::proto::pb;
use tonic::Status;

use super::bridge::{EVENTS, Evaluate};
use super::builds::{Build, Handed};
use super::request::{self, Attributes, Inputs};
use super::services::Client;
use super::{BuildKit, entitlements, error, failed, llb, result};

impl BuildKit {
    /// Makes what a definition says.
    pub(crate) async fn define(&self, build: &Arc<Build>, definition: &pb::Definition) -> Result<Handed, BuildError> {
        let request = Arc::new(request::build(&Attributes::new(), &build.request, &Inputs::new())?);
        let allow = entitlements::granted(&build.request.entitlements)?;
        let definition = self.read_definition(build, definition, &allow)?;
        let (events, receiver) = tokio::sync::mpsc::channel(EVENTS);
        let services = Client::new(self.sessions.clone(), build.request.session.clone());
        let job = Job { services, events, cancel: build.cancel.child_token(), inputs: Inputs::new() };
        let making = self.builder.define(definition, (*request).clone(), job);
        let (built, ()) = tokio::join!(making, build.progress.take(receiver));
        Ok(Handed { built: built?, image: 0, request })
    }

    fn read_definition(
        &self,
        build: &Build,
        definition: &pb::Definition,
        allow: &Allow,
    ) -> Result<Definition, BuildError> {
        let given = |id: &str| {
            let (built, image) = self.builds.handed_out(id)?;
            let image = built.images.get(image)?;
            Some(Given { stack: image.stack, diff_ids: image.diff_ids.clone() })
        };
        llb::read(definition, &llb::Surroundings { given: &given, allow, session: &build.request.session })
    }

    /// The same for a client's gateway: a ref, which is that of the definition if it is one that was handed out before.
    pub(crate) async fn solve_definition(
        &self,
        build: &Arc<Build>,
        definition: &pb::Definition,
        when: Evaluate,
    ) -> Result<wire::Result, Status> {
        let known = result::of_definition(definition).filter(|id| build.has(id));
        let made = match known {
            Some(id) => {
                if when == Evaluate::Now {
                    build.handed(&id)?;
                }
                Ok(id)
            }
            None => self.define(build, definition).await.map(|handed| build.hand_out(&self.builds, handed)),
        };
        let id = match made {
            Ok(id) => id,
            Err(failure) => self.failed(build, &failure, when)?,
        };
        let result = Some(Refs::Ref(wire::Ref { id, def: Some(definition.clone()) }));
        Ok(wire::Result { result, ..wire::Result::default() })
    }

    /// A build that failed: now, or under a ref, for when the client needs its files.
    pub(crate) fn failed(&self, build: &Build, failure: &BuildError, when: Evaluate) -> Result<String, Status> {
        let status = match &failure.failed {
            Some(step) => error::enterable(failure, &failed::detail(build, step)),
            None => return Err(error::status(failure)),
        };
        match when {
            Evaluate::Now => Err(status),
            Evaluate::Later => Ok(build.hand_out_failure(&self.builds, status)),
        }
    }

    /// What a client gives a frontend: results of other targets, and definitions, which are made now.
    pub(crate) async fn inputs(
        &self,
        build: &Arc<Build>,
        given: &HashMap<String, pb::Definition>,
    ) -> Result<Inputs, BuildError> {
        let mut inputs = Inputs::new();
        // Context and Dockerfile are often one.
        let mut made: Vec<(&pb::Definition, Arc<Built>)> = Vec::new();
        for (name, definition) in given {
            let known = made.iter().find(|(other, _)| *other == definition).map(|(_, built)| Arc::clone(built));
            let built = match (result::of_definition(definition), known) {
                (Some(id), _) => self.result(name, &id)?,
                (None, Some(built)) => built,
                (None, None) => self.define(build, definition).await?.built,
            };
            made.push((definition, Arc::clone(&built)));
            inputs.insert(name.clone(), built);
        }
        Ok(inputs)
    }

    fn result(&self, name: &str, id: &str) -> Result<Arc<Built>, BuildError> {
        if let Some(failure) = self.builds.failure(id) {
            return Err(BuildError::invalid(failure));
        }
        let built = self.builds.handed_out(id).map(|(built, _)| built);
        built.ok_or_else(|| BuildError::invalid(format!("input {name}: its build has ended")))
    }
}
