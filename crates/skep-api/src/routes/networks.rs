//! Networks.

use http::Method;

use crate::convert::network::network;
use crate::http::router::{Route, route};
use crate::http::{Answer, ApiError, Request};

pub(crate) fn routes() -> Vec<Route> {
    vec![route(Method::GET, "/networks", list), route(Method::GET, "/networks/{id}", inspect)]
}

async fn list(request: Request) -> Result<Answer, ApiError> {
    let networks = request.engine.list_networks(&request.query.filters()?)?;
    Answer::json(&networks.into_iter().map(|view| network(view, false)).collect::<Vec<_>>())
}

async fn inspect(request: Request) -> Result<Answer, ApiError> {
    if !matches!(request.query.text("scope"), "" | "local") {
        return Err(skep_engine::Error::NoSuchNetwork(request.name().to_owned()).into());
    }
    Answer::json(&network(request.engine.network(request.name())?, true))
}
