//! Processes exec'd in running containers.

use bytes::Bytes;
use http::{Method, StatusCode};
use skep_engine::model::exec::ExecConfig;
use skep_engine::model::request::{Attachment, OutputStream};
use skep_wire::{ExecCreateRequest, ExecStartRequest, IdResponse};

use crate::convert;
use crate::http::framing::frame;
use crate::http::hijack;
use crate::http::router::{Route, route};
use crate::http::{Answer, ApiError, Request};
use crate::routes::{attach, lifecycle};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route(Method::POST, "/containers/{id}/exec", create),
        route(Method::POST, "/exec/{id}/start", start),
        route(Method::POST, "/exec/{id}/resize", resize),
        route(Method::GET, "/exec/{id}/json", inspect),
    ]
}

async fn create(mut request: Request) -> Result<Answer, ApiError> {
    let wanted: ExecCreateRequest = request.json().await?;
    let cmd = wanted.cmd.unwrap_or_default();
    if cmd.is_empty() {
        return Err(ApiError::invalid("No exec command specified"));
    }
    let config = ExecConfig {
        cmd,
        attach_stdin: wanted.attach_stdin,
        attach_stdout: wanted.attach_stdout,
        attach_stderr: wanted.attach_stderr,
        tty: wanted.tty,
        env: wanted.env,
        working_dir: wanted.working_dir,
        user: wanted.user,
        privileged: wanted.privileged,
        detach_keys: Some(wanted.detach_keys).filter(|keys| !keys.is_empty()),
        console_size: console_size(wanted.console_size),
    };
    let id = request.engine.create_exec(request.name(), config).await?;
    Answer::json_with(StatusCode::CREATED, &IdResponse { id: id.to_string() })
}

async fn start(mut request: Request) -> Result<Answer, ApiError> {
    let options: ExecStartRequest = request.json().await?;
    if options.console_size.is_some() && !options.tty {
        return Err(ApiError::invalid("console size is only supported when TTY is enabled"));
    }
    let size = console_size(options.console_size);
    let tty = request.engine.exec(request.name())?.config.tty;
    let attachment = match request.engine.start_exec(request.name(), options.detach, options.tty, size).await {
        Ok(None) => return Ok(Answer::empty(StatusCode::OK)),
        Ok(Some(attachment)) => attachment,
        Err(error) if options.detach => return Err(error.into()),
        Err(error) => said(tty, &error.to_string()),
    };
    let content_type = attach::content_type(&request, attachment.tty);
    Ok(Answer::Hijack { content_type, session: hijack::attach(attachment) })
}

/// What went wrong, as the output of the process. Clients expect the connection to be theirs and look for the exit code
/// afterwards, so an error can be told no other way.
fn said(tty: bool, text: &str) -> Attachment {
    let line = format!("{text}\r\n");
    let output: Bytes = if tty { line.into() } else { frame(OutputStream::Stdout, &[line.as_bytes()]) };
    Attachment { tty, output: Box::pin(std::io::Cursor::new(output)), input: None }
}

fn console_size(size: Option<[u64; 2]>) -> Option<[u32; 2]> {
    size.map(|size| size.map(|side| u32::try_from(side).unwrap_or(u32::MAX)))
}

async fn resize(request: Request) -> Result<Answer, ApiError> {
    let (height, width) = lifecycle::terminal_size(&request)?;
    request.engine.resize_exec(request.name(), height, width).await?;
    Ok(Answer::empty(StatusCode::OK))
}

async fn inspect(request: Request) -> Result<Answer, ApiError> {
    Answer::json(&convert::inspect::exec(&request.engine.exec(request.name())?))
}
