//! `build --on-error=shell`: a shell where a step failed, with what the step wrote before it did.
//!
//! The build is asked for by way of BuildKit's gateway, so that the engine keeps it open after the failure:
//!
//! ```text
//! Control.Solve ────────────────────────────────────────────────────────────────────── ends with the build
//!     LLBBridge.Solve ──▶ failed: NewContainer ─▶ ExecProcess (the shell) ─▶ Return(the failure)
//!                    └──▶ built:  Return(the result) ─▶ export
//! ```

use skep_buildkit::errors::{self, FailedStep};
use skep_buildkit::grpc::Channel;
use skep_buildkit::proto::google::rpc;
use skep_buildkit::proto::moby::buildkit::v1 as proto;
use skep_buildkit::proto::moby::buildkit::v1::control_client::ControlClient;
use skep_buildkit::proto::moby::buildkit::v1::frontend as gateway;
use skep_buildkit::proto::moby::buildkit::v1::frontend::exec_message::Input;
use skep_buildkit::proto::moby::buildkit::v1::frontend::llb_bridge_client::LlbBridgeClient;
use skep_buildkit::proto::pb;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

use crate::ui;
use crate::ui::tty::{self, RawMode};

/// The metadata that says which build a call of the gateway belongs to.
const BUILD_ID: &str = "buildkit-controlapi-buildid";
/// The shell of a step that was not run by one.
const SHELL: &str = "/bin/sh";
const BUFFER: usize = 32 * 1024;

/// What `--on-error` asks for.
pub(super) fn wanted(on_error: &str) -> Result<bool, String> {
    match on_error {
        "" => Ok(false),
        "shell" => Ok(true),
        other => Err(format!("unsupported --on-error {other:?}: it can only be shell")),
    }
}

/// A build that stays open when a step fails.
pub(super) struct Entry {
    bridge: LlbBridgeClient<Channel>,
    build: String,
    whole: JoinHandle<Result<proto::SolveResponse, Status>>,
    frontend: gateway::SolveRequest,
}

impl Entry {
    /// Begins the build.
    pub(super) fn open(channel: &Channel, request: &proto::SolveRequest) -> Self {
        let limit = skep_buildkit::MESSAGE_LIMIT;
        let mut control =
            ControlClient::with_origin(channel.clone(), Channel::origin()).max_decoding_message_size(limit);
        let whole = proto::SolveRequest {
            frontend: String::new(),
            frontend_attrs: std::collections::HashMap::new(),
            ..request.clone()
        };
        let frontend = gateway::SolveRequest {
            frontend: request.frontend.clone(),
            frontend_opt: request.frontend_attrs.clone(),
            evaluate: true,
            ..gateway::SolveRequest::default()
        };
        Entry {
            bridge: LlbBridgeClient::with_origin(channel.clone(), Channel::origin()).max_decoding_message_size(limit),
            build: request.r#ref.clone(),
            whole: tokio::spawn(async move { control.solve(whole).await.map(tonic::Response::into_inner) }),
            frontend,
        }
    }

    fn call<T>(&self, message: T) -> Result<Request<T>, Status> {
        let mut request = Request::new(message);
        let id = self.build.parse().map_err(|_| Status::invalid_argument("the name of the build"))?;
        request.metadata_mut().insert(BUILD_ID, id);
        Ok(request)
    }

    /// Builds. If a step fails, the build is still open.
    pub(super) async fn solve(&mut self) -> Result<proto::SolveResponse, Status> {
        let request = self.call(self.frontend.clone())?;
        let answer = tokio::select! {
            answer = self.bridge.solve(request) => answer?.into_inner(),
            ended = &mut self.whole => return ended.unwrap_or_else(|_| Err(lost())),
        };
        let done = gateway::ReturnRequest { result: answer.result, ..gateway::ReturnRequest::default() };
        self.bridge.r#return(self.call(done)?).await?;
        (&mut self.whole).await.unwrap_or_else(|_| Err(lost()))
    }

    /// Opens a shell where a step failed, if one did, and ends the build after it.
    pub(super) async fn enter(mut self, failure: &Status) {
        if let Some(step) = errors::failed_step(failure) {
            ui::error_line(&format!("{}: a shell where it failed, ended by exit or Ctrl-D", failure.message()));
            if let Err(status) = self.shell(step).await {
                ui::error_line(&format!("no shell where the step failed: {}", status.message()));
            }
        }
        let error = rpc::Status { code: failure.code().into(), message: failure.message().to_owned(), details: vec![] };
        let done = gateway::ReturnRequest { error: Some(error), ..gateway::ReturnRequest::default() };
        if let Ok(request) = self.call(done)
            && self.bridge.r#return(request).await.is_ok()
        {
            // Why it failed is known.
            let _ = self.whole.await;
        }
    }

    async fn shell(&mut self, step: FailedStep) -> Result<(), Status> {
        let container = skep_fs::atomic::random_name();
        let request = gateway::NewContainerRequest {
            container_id: container.clone(),
            mounts: step.mounts,
            network: step.network.into(),
            hostname: step.hostname,
            ..gateway::NewContainerRequest::default()
        };
        self.bridge.new_container(self.call(request)?).await?;
        let terminal = tty::is_terminal(std::io::stdin()) && tty::is_terminal(std::io::stdout());
        let meta = pb::Meta {
            args: vec![shell_of(&step.args)],
            env: step.env,
            cwd: step.cwd,
            user: step.user,
            ..pb::Meta::default()
        };
        let init = gateway::InitMessage {
            container_id: container.clone(),
            meta: Some(meta),
            fds: vec![0, 1, 2],
            tty: terminal,
            security: step.security.into(),
            secretenv: Vec::new(),
        };
        let ended = self.process(init, terminal).await;
        let release = self.call(gateway::ReleaseContainerRequest { container_id: container })?;
        // The build's end releases it too.
        let _ = self.bridge.release_container(release).await;
        ended
    }

    /// Ties a process to this terminal until it ends.
    async fn process(&mut self, init: gateway::InitMessage, terminal: bool) -> Result<(), Status> {
        let (sender, receiver) = mpsc::channel(16);
        let process_id = init.container_id.clone();
        let message = |input| gateway::ExecMessage { process_id: process_id.clone(), input: Some(input) };
        sender.send(message(Input::Init(init))).await.map_err(|_| lost())?;
        let request = self.call(ReceiverStream::new(receiver))?;
        let mut answers = self.bridge.exec_process(request).await?.into_inner();
        match answers.message().await? {
            Some(gateway::ExecMessage { input: Some(Input::Started(_)), .. }) => {}
            _ => return Err(lost()),
        }
        let raw = if terminal { RawMode::enter().map_err(failed_here)? } else { None };
        let output = async {
            while let Some(answer) = answers.message().await? {
                match answer.input {
                    Some(Input::File(file)) => show(&file).await.map_err(failed_here)?,
                    Some(Input::Done(_)) => break,
                    _ => {}
                }
            }
            Ok(())
        };
        let input = async {
            let sizes = resize(&sender, &message, terminal);
            tokio::join!(type_in(&sender, &message), sizes);
            std::future::pending::<()>().await
        };
        let ended = tokio::select! {
            ended = output => ended,
            () = input => Ok(()), // it never ends
        };
        drop(raw);
        ended
    }
}

fn lost() -> Status {
    Status::unavailable("the engine went away")
}

fn failed_here(error: std::io::Error) -> Status {
    Status::unknown(error.to_string())
}

/// The shell that ran the step, if one did.
fn shell_of(args: &[String]) -> String {
    let runs = |option: &String| option.starts_with('-') && !option.starts_with("--") && option.contains('c');
    match args {
        [program, options @ ..] if program.ends_with("sh") && options.iter().any(runs) => program.clone(),
        _ => SHELL.to_owned(),
    }
}

async fn show(file: &gateway::FdMessage) -> std::io::Result<()> {
    if file.fd == 2 {
        let mut stderr = tokio::io::stderr();
        stderr.write_all(&file.data).await?;
        return stderr.flush().await;
    }
    let mut stdout = tokio::io::stdout();
    stdout.write_all(&file.data).await?;
    stdout.flush().await
}

/// Sends what is typed, and its end.
async fn type_in(sender: &mpsc::Sender<gateway::ExecMessage>, message: &impl Fn(Input) -> gateway::ExecMessage) {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = stdin.read(&mut buffer).await.unwrap_or(0);
        let file = gateway::FdMessage { fd: 0, eof: length == 0, data: buffer[..length].to_vec() };
        // The output tells when the process has ended.
        if sender.send(message(Input::File(file))).await.is_err() || length == 0 {
            return;
        }
    }
}

/// Tells the size of the terminal now and at every change.
async fn resize(
    sender: &mpsc::Sender<gateway::ExecMessage>,
    message: &impl Fn(Input) -> gateway::ExecMessage,
    terminal: bool,
) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    if !terminal {
        return;
    }
    loop {
        if let Some((rows, columns)) = tty::size() {
            let size = gateway::ResizeMessage { rows: rows.into(), cols: columns.into() };
            let _ = sender.send(message(Input::Resize(size))).await;
        }
        if changes.recv().await.is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shell_is_the_steps_own() {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        assert_eq!(shell_of(&words(&["/bin/bash", "-o", "pipefail", "-c", "x"])), "/bin/bash");
        assert_eq!(shell_of(&words(&["/bin/bash", "-euxc", "x"])), "/bin/bash");
        assert_eq!(shell_of(&words(&["/bin/false"])), "/bin/sh");
        assert_eq!(wanted("shell"), Ok(true));
        assert!(wanted("debug").is_err());
    }
}
