//! The stream of events.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::StreamExt;
use http::Method;
use skep_engine::model::event::EventFilter;

use crate::convert;
use crate::http::answer::json_line;
use crate::http::router::{Route, route};
use crate::http::{Answer, ApiError, Request};

pub(crate) fn routes() -> Vec<Route> {
    vec![route(Method::GET, "/events", events)]
}

async fn events(request: Request) -> Result<Answer, ApiError> {
    let filter = EventFilter {
        since: request.query.time("since")?,
        until: request.query.time("until")?,
        filters: request.query.filters()?,
    };
    if let (Some(since), Some(until)) = (filter.since, filter.until)
        && since > until
    {
        return Err(ApiError::invalid(format!(
            "`since` time ({}) cannot be after `until` time ({})",
            request.query.text("since"),
            request.query.text("until")
        )));
    }
    let lines = request
        .engine
        .events(filter)
        .map(|event| Ok::<Bytes, Infallible>(json_line(&convert::stats::event(event)).unwrap_or_default()))
        .take_until(request.closing.cancelled_owned());
    Ok(Answer::stream("application/json", lines))
}
