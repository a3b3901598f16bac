//! Endpoints of the Engine API that skep does not offer: 501, naming the endpoint. Anything that isn't in the API at all is
//! 404 like in dockerd.

use http::Method;

use crate::http::router::{Route, route};
use crate::http::{Answer, ApiError, Request};

const GET: &[&str] = &[
    "/containers/{id}/attach/ws",
    "/plugins",
    "/plugins/privileges",
    "/plugins/{name}/json",
    "/swarm",
    "/swarm/unlockkey",
    "/nodes",
    "/nodes/{id}",
    "/services",
    "/services/{id}",
    "/services/{id}/logs",
    "/tasks",
    "/tasks/{id}",
    "/tasks/{id}/logs",
    "/secrets",
    "/secrets/{id}",
    "/configs",
    "/configs/{id}",
];

const POST: &[&str] = &[
    "/containers/{id}/update",
    "/containers/{id}/checkpoints",
    "/plugins/pull",
    "/plugins/create",
    "/plugins/{name}/enable",
    "/plugins/{name}/disable",
    "/plugins/{name}/push",
    "/plugins/{name}/upgrade",
    "/plugins/{name}/set",
    "/swarm/init",
    "/swarm/join",
    "/swarm/leave",
    "/swarm/update",
    "/swarm/unlock",
    "/nodes/{id}/update",
    "/services/create",
    "/services/{id}/update",
    "/secrets/create",
    "/secrets/{id}/update",
    "/configs/create",
    "/configs/{id}/update",
];

const DELETE: &[&str] = &[
    "/containers/{id}/checkpoints/{checkpoint}",
    "/plugins/{name}",
    "/nodes/{id}",
    "/services/{id}",
    "/secrets/{id}",
    "/configs/{id}",
];

pub(crate) fn routes() -> Vec<Route> {
    let endpoints = |method: Method, patterns: &'static [&'static str]| {
        patterns.iter().map(move |&pattern| {
            let name = format!("{method} {pattern}");
            route(method.clone(), pattern, move |request| refuse(request, name.clone())).cancellable()
        })
    };
    endpoints(Method::GET, GET)
        .chain(endpoints(Method::GET, &["/containers/{id}/checkpoints"]))
        .chain(endpoints(Method::POST, POST))
        .chain(endpoints(Method::PUT, &["/volumes/{name}"]))
        .chain(endpoints(Method::DELETE, DELETE))
        .collect()
}

async fn refuse(_request: Request, endpoint: String) -> Result<Answer, ApiError> {
    Err(ApiError::unsupported(endpoint))
}
