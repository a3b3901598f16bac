//! Networks.

use http::{Method, StatusCode};
use skep_engine::model::request::ChangePorts;
use skep_wire::{
    NetworkConnectRequest, NetworkCreateRequest, NetworkCreateResponse, NetworkDisconnectRequest, NetworksPruned,
    PortsChange,
};

use crate::convert::{create_host, endpoint, host, network};
use crate::http::router::{Route, route};
use crate::http::{Answer, ApiError, Request};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route(Method::GET, "/networks", list),
        route(Method::POST, "/networks/create", create),
        route(Method::POST, "/networks/prune", prune),
        route(Method::GET, "/networks/{id}", inspect),
        route(Method::DELETE, "/networks/{id}", remove),
        route(Method::POST, "/networks/{id}/connect", connect),
        route(Method::POST, "/networks/{id}/disconnect", disconnect),
        route(Method::POST, "/skep/containers/{id}/ports", change_ports),
    ]
}

async fn list(request: Request) -> Result<Answer, ApiError> {
    let networks = request.engine.list_networks(&request.query.filters()?)?;
    Answer::json(&networks.into_iter().map(|view| network::network(view, false)).collect::<Vec<_>>())
}

async fn inspect(request: Request) -> Result<Answer, ApiError> {
    if !matches!(request.query.text("scope"), "" | "local") {
        return Err(skep_engine::Error::NoSuchNetwork(request.name().to_owned()).into());
    }
    Answer::json(&network::network(request.engine.network(request.name())?, true))
}

async fn create(mut request: Request) -> Result<Answer, ApiError> {
    let wanted: NetworkCreateRequest = request.json().await?;
    let id = request.engine.create_network(network::create(wanted)).await?;
    let answer = NetworkCreateResponse { id: id.to_string(), warning: String::new() };
    Answer::json_with(StatusCode::CREATED, &answer)
}

async fn remove(request: Request) -> Result<Answer, ApiError> {
    request.engine.remove_network(request.name()).await?;
    Ok(Answer::no_content())
}

async fn connect(mut request: Request) -> Result<Answer, ApiError> {
    let wanted: NetworkConnectRequest = request.json().await?;
    let settings = endpoint::settings(wanted.endpoint_config.unwrap_or_default())?;
    request.engine.connect_network(request.name(), &wanted.container, settings).await?;
    Ok(Answer::empty(StatusCode::OK))
}

async fn disconnect(mut request: Request) -> Result<Answer, ApiError> {
    let wanted: NetworkDisconnectRequest = request.json().await?;
    request.engine.disconnect_network(request.name(), &wanted.container, wanted.force).await?;
    Ok(Answer::empty(StatusCode::OK))
}

async fn change_ports(mut request: Request) -> Result<Answer, ApiError> {
    let wanted: PortsChange = request.json().await?;
    let unpublish = create_host::ports(wanted.unpublish)?;
    let change = ChangePorts { publish: create_host::port_bindings(wanted.publish)?, unpublish };
    request.engine.change_ports(request.name(), change).await?;
    let view = request.engine.container(request.name())?;
    Answer::json(&host::ports(&view.ports))
}

async fn prune(request: Request) -> Result<Answer, ApiError> {
    let pruned = request.engine.prune_networks(&request.query.filters()?).await?;
    Answer::json(&NetworksPruned { networks_deleted: pruned.removed })
}
