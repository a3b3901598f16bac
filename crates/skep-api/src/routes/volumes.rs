//! Volumes.

use http::{Method, StatusCode};
use skep_engine::model::volume::CreateVolume;
use skep_types::VolumeName;
use skep_wire::{VolumeCreateRequest, VolumeList, VolumesPruned};

use crate::convert::network::volume;
use crate::http::router::{Route, route};
use crate::http::{Answer, ApiError, Request};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route(Method::GET, "/volumes", list),
        route(Method::POST, "/volumes/create", create),
        route(Method::POST, "/volumes/prune", prune),
        route(Method::GET, "/volumes/{name}", inspect),
        route(Method::DELETE, "/volumes/{name}", remove),
    ]
}

async fn list(request: Request) -> Result<Answer, ApiError> {
    let volumes = request.engine.list_volumes(&request.query.filters()?)?;
    Answer::json(&VolumeList { volumes: volumes.into_iter().map(volume).collect(), warnings: Vec::new() })
}

async fn create(mut request: Request) -> Result<Answer, ApiError> {
    let wanted: VolumeCreateRequest = request.json().await?;
    if wanted.cluster_volume_spec.is_some() {
        return Err(ApiError::unsupported("ClusterVolumeSpec"));
    }
    let name = match wanted.name.as_str() {
        "" => None,
        name => Some(name.parse::<VolumeName>().map_err(|error| ApiError::invalid(format!("create {name}: {error}")))?),
    };
    let wanted = CreateVolume { name, driver: wanted.driver, options: wanted.driver_opts, labels: wanted.labels };
    Answer::json_with(StatusCode::CREATED, &volume(request.engine.create_volume(wanted).await?))
}

async fn inspect(request: Request) -> Result<Answer, ApiError> {
    Answer::json(&volume(request.engine.volume(request.name())?))
}

async fn remove(request: Request) -> Result<Answer, ApiError> {
    request.engine.remove_volume(request.name(), request.query.flag("force")).await?;
    Ok(Answer::no_content())
}

async fn prune(request: Request) -> Result<Answer, ApiError> {
    let pruned = request.engine.prune_volumes(&request.query.filters()?).await?;
    Answer::json(&VolumesPruned { volumes_deleted: pruned.removed, space_reclaimed: pruned.reclaimed })
}
