//! Who can reach a container or a published port: what Docker's API has no words for, below `/skep`.

use http::Method;

use crate::convert;
use crate::http::router::{Route, route};
use crate::http::{Answer, ApiError, Request};

pub(crate) fn routes() -> Vec<Route> {
    vec![route(Method::GET, "/skep/networks/explain", explain)]
}

/// `what` is a published port (`8080`, `53/udp`), or a container's name or id.
async fn explain(request: Request) -> Result<Answer, ApiError> {
    let what = request.query.text("what");
    if what.is_empty() {
        return Err(ApiError::invalid("a port or a container is needed".to_owned()));
    }
    Answer::json(&convert::explain::explanation(request.engine.explain_network(what).await?))
}
