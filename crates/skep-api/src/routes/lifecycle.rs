//! What a container does: start, stop, restart, kill, pause, unpause, wait, resize.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use http::{Method, StatusCode};
use skep_engine::model::request::{Change, WaitCondition};
use skep_types::Signal;
use skep_wire::{WaitError, WaitResponse};

use crate::http::answer::json_line;
use crate::http::router::{Route, route};
use crate::http::{Answer, ApiError, Request};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route(Method::POST, "/containers/{id}/start", start),
        route(Method::POST, "/containers/{id}/stop", stop),
        route(Method::POST, "/containers/{id}/restart", restart),
        route(Method::POST, "/containers/{id}/kill", kill),
        route(Method::POST, "/containers/{id}/pause", pause),
        route(Method::POST, "/containers/{id}/unpause", unpause),
        route(Method::POST, "/containers/{id}/wait", wait).cancellable(),
        route(Method::POST, "/containers/{id}/resize", resize),
    ]
}

fn changed(change: Change) -> Answer {
    match change {
        Change::Done => Answer::no_content(),
        Change::Already => Answer::empty(StatusCode::NOT_MODIFIED),
    }
}

/// The signal that was asked for; `verb` says in an error what it was meant for.
fn signal(request: &Request, verb: &str) -> Result<Option<Signal>, ApiError> {
    let parse = |text: &str| {
        text.parse().map_err(|error: skep_types::SignalError| {
            ApiError::invalid(format!("cannot {verb} container: {}: {error}", request.name()))
        })
    };
    request.query.filled("signal").map(parse).transpose()
}

async fn start(request: Request) -> Result<Answer, ApiError> {
    if request.query.filled("checkpoint").is_some() {
        return Err(ApiError::unsupported("starting from a checkpoint"));
    }
    request.engine.start_container(request.name()).await.map(changed).map_err(Into::into)
}

async fn stop(request: Request) -> Result<Answer, ApiError> {
    let (timeout, signal) = (request.query.number("t")?, signal(&request, "stop")?);
    request.engine.stop_container(request.name(), timeout, signal).await.map(changed).map_err(Into::into)
}

async fn restart(request: Request) -> Result<Answer, ApiError> {
    let (timeout, signal) = (request.query.number("t")?, signal(&request, "restart")?);
    request.engine.restart_container(request.name(), timeout, signal).await?;
    Ok(Answer::no_content())
}

async fn kill(request: Request) -> Result<Answer, ApiError> {
    let signal = signal(&request, "kill")?.unwrap_or(Signal::KILL);
    request.engine.kill_container(request.name(), signal).await?;
    Ok(Answer::no_content())
}

async fn pause(request: Request) -> Result<Answer, ApiError> {
    request.engine.pause_container(request.name()).await?;
    Ok(Answer::no_content())
}

async fn unpause(request: Request) -> Result<Answer, ApiError> {
    request.engine.unpause_container(request.name()).await?;
    Ok(Answer::no_content())
}

/// The head of the answer goes out once the wait is registered: clients start the container after they have seen it.
async fn wait(request: Request) -> Result<Answer, ApiError> {
    let condition = match request.query.text("condition") {
        "" | "not-running" => WaitCondition::NotRunning,
        "next-exit" => WaitCondition::NextExit,
        "removed" => WaitCondition::Removed,
        other => return Err(ApiError::invalid(format!("invalid condition: {other:?}"))),
    };
    let waiting = request.engine.wait_container(request.name(), condition)?;
    // Who waits for a coming end gets the failure of a start from the start itself; telling it twice would print it twice.
    let tell = condition == WaitCondition::NotRunning;
    let body = waiting.map(move |ended| {
        let response = match ended {
            Ok(ended) => WaitResponse {
                error: Some(WaitError { message: ended.error }).filter(|error| tell && !error.message.is_empty()),
                status_code: i64::from(ended.code),
            },
            Err(error) => WaitResponse { error: Some(WaitError { message: error.to_string() }), status_code: 0 },
        };
        Ok::<Bytes, Infallible>(json_line(&response).unwrap_or_default())
    });
    let pieces = stream::once(body).take_until(request.closing.cancelled_owned());
    Ok(Answer::stream("application/json", pieces))
}

async fn resize(request: Request) -> Result<Answer, ApiError> {
    let (height, width) = terminal_size(&request)?;
    request.engine.resize_container(request.name(), height, width).await?;
    Ok(Answer::empty(StatusCode::OK))
}

/// `h` and `w`, in characters.
pub(crate) fn terminal_size(request: &Request) -> Result<(u16, u16), ApiError> {
    let side = |key: &str, what: &str| -> Result<u16, ApiError> {
        let text = request.query.text(key);
        text.parse().map_err(|_| {
            let fault = if text.parse::<u64>().is_ok() { "value out of range" } else { "invalid syntax" };
            ApiError::invalid(format!("invalid resize {what} {text:?}: {fault}"))
        })
    };
    Ok((side("h", "height")?, side("w", "width")?))
}
