//! Builds: BuildKit's two connections (calls to the engine, and calls back to the client), and the classic endpoints.

use http::Method;
use skep_buildkit::grpc;
use skep_buildkit::session::{Announcement, SessionError};
use skep_types::ErrorKind;
use skep_wire::BuilderPruned;

use crate::http::router::{Route, route};
use crate::http::{Answer, ApiError, Request};

/// HTTP/2 without TLS, which the client begins as if it had connected just now.
const H2C: &str = "h2c";

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route(Method::POST, "/grpc", calls).cancellable(),
        route(Method::POST, "/session", session).cancellable(),
        route(Method::POST, "/build", build).cancellable(),
        route(Method::POST, "/build/prune", prune),
        route(Method::POST, "/build/cancel", cancel),
    ]
}

async fn calls(request: Request) -> Result<Answer, ApiError> {
    let routes = request.builds.routes();
    check(&request)?;
    Ok(Answer::Upgrade {
        protocol: H2C,
        session: Box::new(|hijacked| {
            Box::pin(async move {
                if let Err(error) = grpc::serve(hijacked.io, routes).await {
                    tracing::debug!(%error, "a client of the builder has gone");
                }
            })
        }),
    })
}

async fn session(request: Request) -> Result<Answer, ApiError> {
    check(&request)?;
    let place = request.builds.sessions.reserve(Announcement::read(&request.headers))?;
    Ok(Answer::Upgrade {
        protocol: H2C,
        session: Box::new(|hijacked| {
            Box::pin(async move {
                if let Err(error) = place.serve(hijacked.io).await {
                    tracing::debug!(%error, "a client's session has ended");
                }
            })
        }),
    })
}

async fn build(request: Request) -> Result<Answer, ApiError> {
    let builds = request.builds.clone();
    crate::classic::build(request, builds).await
}

async fn prune(request: Request) -> Result<Answer, ApiError> {
    let gone = request.builds.builder.prune(crate::classic::prune(&request.query)?).await?;
    Answer::json(&BuilderPruned {
        caches_deleted: gone.iter().map(|one| one.record.id()).collect(),
        space_reclaimed: gone.iter().map(|one| one.record.size).sum(),
    })
}

async fn cancel(request: Request) -> Result<Answer, ApiError> {
    match request.query.text("id") {
        "" => Err(ApiError::invalid("build ID not provided")),
        id => {
            request.builds.builds.cancel(id); // one that is not there has ended, which is what was asked for
            Ok(Answer::no_content())
        }
    }
}

fn check(request: &Request) -> Result<(), ApiError> {
    match request.header("upgrade") {
        "" => Err(ApiError::invalid("no upgrade proto in request")),
        proto if proto.eq_ignore_ascii_case(H2C) => Ok(()),
        proto => Err(ApiError::invalid(format!("protocol {proto} not supported"))),
    }
}

impl From<SessionError> for ApiError {
    fn from(error: SessionError) -> Self {
        let kind = match error {
            SessionError::NoId => ErrorKind::InvalidParameter,
            SessionError::Exists(_) => ErrorKind::Conflict,
            SessionError::Missing(_) => ErrorKind::NotFound,
            SessionError::Broken(..) => ErrorKind::System,
        };
        ApiError::new(kind, error.to_string())
    }
}
