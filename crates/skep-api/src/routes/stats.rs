//! Resource usage, once or as it goes.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::Method;
use skep_engine::Engine;
use skep_engine::model::stats::{Sample, Stats};

use crate::convert;
use crate::http::answer::json_line;
use crate::http::router::{Route, route};
use crate::http::{Answer, ApiError, Request};

/// Time between two lines.
const INTERVAL: Duration = Duration::from_secs(1);

pub(crate) fn routes() -> Vec<Route> {
    vec![route(Method::GET, "/containers/{id}/stats", stats)]
}

async fn stats(request: Request) -> Result<Answer, ApiError> {
    let streamed = request.query.flag_or("stream", true);
    let one_shot = request.query.flag("one-shot");
    if streamed && one_shot {
        return Err(ApiError::invalid("cannot have stream=true and one-shot=true"));
    }
    let first = request.engine.container_stats(request.name(), !streamed && !one_shot).await?;
    if !streamed {
        return Answer::json(&convert::stats::stats(&first));
    }
    let lines =
        stream::unfold(Some((request.engine.clone(), first)), next).take_until(request.closing.cancelled_owned());
    Ok(Answer::stream("application/json", lines))
}

/// The line for a sample, and the sample after it. Ends when the container is gone.
async fn next(state: Option<(Engine, Stats)>) -> Option<(Result<Bytes, Infallible>, Option<(Engine, Stats)>)> {
    let (engine, stats) = state?;
    let line = json_line(&convert::stats::stats(&stats)).unwrap_or_default();
    Some((Ok(line), following(engine, stats).await))
}

async fn following(engine: Engine, stats: Stats) -> Option<(Engine, Stats)> {
    tokio::time::sleep(INTERVAL).await;
    let before: Option<Sample> = stats.now;
    let now = engine.container_stats(&stats.id.to_string(), false).await.ok()?;
    Some((engine, Stats { before, ..now }))
}
