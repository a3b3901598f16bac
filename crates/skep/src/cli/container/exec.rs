//! `exec`: one more process in a running container.

use skep_client::{Client, Method};
use skep_wire::{ExecCreateRequest, ExecInspect, ExecStartRequest, IdResponse};

use super::options::environment::{Environment, environment};
use super::session::{Resizer, Session, SessionEnd, check_tty, detach_keys};
use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, Order, flags};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome, reference};
use crate::ui;
use crate::ui::stdio::Shown;

flags! {
    pub(crate) struct ExecFlags {
        detach: bool => "detach" 'd', "Run in the background";
        detach_keys: String => "detach-keys", "Keys that detach from the process";
        env: Environment => "env" 'e', "Set environment variables";
        env_file: Vec<String> => "env-file", "Read environment variables from a file";
        interactive: bool => "interactive" 'i', "Keep STDIN open even if not attached";
        privileged: bool => "privileged", "Give the process all privileges";
        tty: bool => "tty" 't', "Allocate a pseudo-terminal";
        user: String => "user" 'u', "User and group (<name|uid>[:<group|gid>])";
        workdir: String => "workdir" 'w', "Working directory";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["exec", "container exec"],
    usage: "[OPTIONS] CONTAINER COMMAND [ARG...]",
    about: "Execute a command in a running container",
    args: Args::AtLeast(2),
    completion: Completion::RunningContainers,
    flags: ExecFlags::specs,
    run: runner!(ExecFlags, run, Order::FlagsFirst),
};

async fn run(cli: &Cli, mut flags: ExecFlags, words: Vec<String>) -> Outcome {
    let stdin = flags.interactive && !flags.detach;
    let console_size =
        if flags.tty { ui::tty::size().map(|(rows, columns)| [u64::from(rows), u64::from(columns)]) } else { None };
    let request = ExecCreateRequest {
        user: flags.user.clone(),
        privileged: flags.privileged,
        tty: flags.tty,
        console_size,
        attach_stdin: stdin,
        attach_stdout: !flags.detach,
        attach_stderr: !flags.detach,
        detach: flags.detach,
        detach_keys: flags.detach_keys.clone(),
        env: environment(&flags.env_file, std::mem::take(&mut flags.env.0))?,
        working_dir: flags.workdir.clone(),
        cmd: words.get(1..).map(<[String]>::to_vec),
    };
    check_tty(stdin, flags.tty)?;
    let keys = detach_keys(cli, &flags.detach_keys)?;
    let container = words.first().map(String::as_str).unwrap_or_default();
    let client = cli.client().await?;
    let exec: IdResponse = client.post(reference::container(container, "/exec")?, &request).await?;
    let id = exec.id.as_str();
    if id.is_empty() {
        return Err(Failure::message("exec ID empty"));
    }
    let start = ExecStartRequest { detach: flags.detach, tty: flags.tty, console_size };
    if flags.detach {
        let request = client.request(Method::POST, format!("/exec/{id}/start")).json(&start)?;
        return Ok(request.send().await?.bytes().await.map(drop)?);
    }
    let stream = client.request(Method::POST, format!("/exec/{id}/start")).json(&start)?.upgrade().await;
    let stream = stream.map_err(|e| start_failure(&e))?;
    let resizer = (flags.tty && console_size.is_some())
        .then(|| Resizer::start(client, format!("/exec/{id}/resize")))
        .transpose()?;
    let session = Session { tty: flags.tty, stdin, shown: Shown { stdout: true, stderr: true }, keys };
    let end = session.run(stream).await?;
    drop(resizer);
    if end == SessionEnd::Detached {
        return Ok(());
    }
    match exit_code(client, id).await? {
        0 => Ok(()),
        code => Err(Failure::silent(code)),
    }
}

/// A command that is not there or cannot be executed has codes of its own.
fn start_failure(error: &skep_client::Error) -> Failure {
    let text = error.to_string();
    match super::run::command_code(&text) {
        code @ (126 | 127) => Failure::new(code, text),
        _ => Failure::message(text),
    }
}

async fn exit_code(client: &Client, id: &str) -> Result<i32, Failure> {
    let exec: ExecInspect = client.get(format!("/exec/{id}/json")).await?;
    Ok(exec.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or(0))
}
