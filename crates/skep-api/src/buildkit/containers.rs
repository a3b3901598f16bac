//! Containers that a client makes during its build (BuildKit's `NewContainer`), to look into a result or into a step that failed.
//!
//! A container may have what a step of the same build may have, and no more: the host's network and all privileges only if the build
//! was allowed them when it began.

use std::sync::Arc;

use skep_build::Job;
use skep_build::graph::{Limits, Mount, MountKind, Network, Run, StepId};
use skep_build::worker::Tree;
use skep_buildkit::proto::moby::buildkit::v1::frontend as wire;
use skep_buildkit::proto::pb;
use skep_engine::build::{BuildContainer, Place, Process};
use tokio::sync::mpsc;
use tonic::Status;

use super::builds::Build;
use super::entitlements::{NETWORK_HOST, SECURITY_INSECURE};
use super::failed::{Ground, tree_of};
use super::services::Client;
use super::{BuildKit, error, mounts};

/// Containers of one build at a time.
const MOST: usize = 64;

/// A container of a build, and what it was made from.
pub(crate) struct Made {
    pub(crate) container: BuildContainer,
    /// What its mounts are of, in the client's order.
    pub(crate) grounds: Vec<Option<Ground>>,
}

impl BuildKit {
    /// Makes a container; nothing runs in it yet.
    pub(crate) fn new_container(&self, build: &Build, request: wire::NewContainerRequest) -> Result<(), Status> {
        let grounds: Vec<Option<Ground>> =
            request.mounts.iter().map(|mount| ground(build, mount)).collect::<Result<_, _>>()?;
        let place = place(build, &request, &grounds)?;
        let (events, _) = mpsc::channel(1);
        let client = Client::new(self.sessions.clone(), build.request.session.clone());
        let job = Job { services: client, events, cancel: build.cancel.child_token(), inputs: Default::default() };
        let container = self.builder.container(place, &job).map_err(|error| error::status(&error))?;
        let mut containers = build.containers.lock();
        if containers.len() >= MOST {
            return Err(Status::resource_exhausted(format!("a build may have {MOST} containers at a time")));
        }
        if build.cancel.is_cancelled() {
            return Err(Status::cancelled("context canceled"));
        }
        match containers.entry(request.container_id) {
            std::collections::hash_map::Entry::Occupied(taken) => {
                Err(Status::already_exists(format!("container {} exists", taken.key())))
            }
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(Arc::new(Made { container, grounds }));
                Ok(())
            }
        }
    }
}

/// What a program is, as the client says it.
pub(crate) fn process(build: &Build, init: &wire::InitMessage) -> Result<Process, Status> {
    let meta = init.meta.clone().unwrap_or_default();
    if meta.args.is_empty() {
        return Err(Status::invalid_argument("a process needs at least one argument"));
    }
    let insecure = init.security == i32::from(pb::SecurityMode::Insecure);
    if insecure && !allows(build, SECURITY_INSECURE) {
        return Err(Status::unknown("security.insecure is not allowed"));
    }
    Ok(Process {
        argv: meta.args,
        env: meta.env,
        secrets: init.secretenv.iter().map(mounts::secret_env).collect(),
        cwd: meta.cwd,
        user: meta.user,
        terminal: init.tty,
        insecure,
    })
}

/// Whether the build may have an entitlement. Whoever began it decided; a container can't ask for more.
fn allows(build: &Build, entitlement: &str) -> bool {
    build.request.entitlements.iter().any(|given| given == entitlement)
}

fn ground(build: &Build, mount: &pb::Mount) -> Result<Option<Ground>, Status> {
    if mount.result_id.is_empty() { Ok(None) } else { build.ground(&mount.result_id).map(Some) }
}

fn place(build: &Build, request: &wire::NewContainerRequest, grounds: &[Option<Ground>]) -> Result<Place, Status> {
    let both = || request.mounts.iter().zip(grounds);
    let is_root = |mount: &pb::Mount| matches!(mount.dest.as_str(), "/" | "");
    let root = both().find(|(mount, _)| is_root(mount));
    let (_, root) = root.ok_or_else(|| Status::invalid_argument("a container needs a mount at /"))?;
    let invalid = || Status::invalid_argument("the mount at / is not of a result");
    let base = match root {
        None => None,
        Some(ground) => ground.stack().ok_or_else(invalid)?,
    };
    let written = match root {
        Some(Ground::After(step)) => step.written.clone(),
        _ => None,
    };
    let (mut mounts, mut inputs) = (Vec::new(), Vec::new());
    for (wanted, ground) in both().filter(|(mount, _)| !is_root(mount)) {
        let (kind, tree) = kind(wanted, ground.as_ref())?;
        mounts.push(Mount { target: wanted.dest.clone().into(), kind, readonly: wanted.readonly });
        inputs.extend(tree);
    }
    let step = root.as_ref().and_then(Ground::step);
    let mut limits = step.map_or_else(Limits::default, |step| step.run.limits.clone());
    limits.extra_hosts.extend(request.extra_hosts.iter().map(|entry| (entry.host.clone(), entry.ip.clone())));
    let hostname = Some(request.hostname.clone()).filter(|name| !name.is_empty());
    let run = Run {
        base: StepId(0),
        argv: Vec::new(),
        env: Vec::new(),
        silent_env: step.map_or_else(Vec::new, |step| step.run.silent_env.clone()),
        cwd: "/".into(),
        user: String::new(),
        hostname: hostname.or_else(|| step.and_then(|step| step.run.hostname.clone())),
        mounts,
        network: network(build, request.network)?,
        insecure: false,
        devices: Vec::new(),
        limits,
    };
    Ok(Place { base, written, run, inputs })
}

fn network(build: &Build, wanted: i32) -> Result<Network, Status> {
    match pb::NetMode::try_from(wanted) {
        Ok(pb::NetMode::Unset) => Ok(Network::Default),
        Ok(pb::NetMode::None) => Ok(Network::None),
        Ok(pb::NetMode::Host) if allows(build, NETWORK_HOST) => Ok(Network::Host),
        Ok(pb::NetMode::Host) => Err(Status::unknown("network.host is not allowed")),
        Err(_) => Err(Status::invalid_argument(format!("unknown network mode {wanted}"))),
    }
}

/// What is mounted, and the files that it is of.
fn kind(wanted: &pb::Mount, ground: Option<&Ground>) -> Result<(MountKind, Option<Tree>), Status> {
    if let Some(Ground::Mount(step, index)) = ground {
        let mount = step.run.mounts.get(*index).ok_or_else(|| Status::not_found("no such mount"))?;
        return Ok((mount.kind.clone(), tree_of(step, *index).cloned()));
    }
    if wanted.mount_type != i32::from(pb::MountType::Bind) {
        return Ok((mounts::kind(wanted, None).map_err(|error| error::status(&error))?, None));
    }
    let missing = || Status::invalid_argument(format!("the mount at {} is of nothing", wanted.dest));
    let stack = ground.and_then(Ground::stack).ok_or_else(missing)?;
    let kind = mounts::kind(wanted, Some(StepId(0))).map_err(|error| error::status(&error))?;
    Ok((kind, Some(Tree::Layers(stack))))
}
