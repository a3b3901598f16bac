//! Attaching to a container's streams.

use http::Method;
use skep_engine::model::request::AttachOptions;

use crate::http::framing::{MULTIPLEXED, RAW};
use crate::http::hijack;
use crate::http::router::{Route, route};
use crate::http::version::ApiVersion;
use crate::http::{Answer, ApiError, Request};

pub(crate) fn routes() -> Vec<Route> {
    vec![route(Method::POST, "/containers/{id}/attach", attach).cancellable()]
}

async fn attach(request: Request) -> Result<Answer, ApiError> {
    let query = &request.query;
    let options = AttachOptions {
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        logs: query.flag("logs"),
        stream: query.flag("stream"),
        detach_keys: query.filled("detachKeys").map(str::to_owned),
    };
    let attachment = request.engine.attach_container(request.name(), options).await?;
    let content_type = content_type(&request, attachment.tty);
    Ok(Answer::Hijack { content_type, session: hijack::attach(attachment) })
}

/// How the output of a process is announced.
pub(crate) fn content_type(request: &Request, tty: bool) -> &'static str {
    let framed = !tty && request.upgrade && request.version >= ApiVersion::minor(42);
    if framed { MULTIPLEXED } else { RAW }
}
