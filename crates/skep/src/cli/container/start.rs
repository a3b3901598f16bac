//! `start`, with or without attaching.

use skep_client::{Client, Method};
use skep_wire::ContainerInspect;

use super::run::{Wait, command_code};
use super::session::{Resizer, Session, SessionEnd, check_tty, detach_keys};
use super::signals::SignalProxy;
use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome, reference};
use crate::ui;
use crate::ui::stdio::Shown;

flags! {
    pub(crate) struct StartFlags {
        attach: bool => "attach" 'a', "Attach STDOUT and STDERR and pass signals on";
        detach_keys: String => "detach-keys", "Keys that detach from the container";
        interactive: bool => "interactive" 'i', "Attach STDIN";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["start", "container start"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Start one or more stopped containers",
    args: Args::AtLeast(1),
    completion: Completion::Containers,
    flags: StartFlags::specs,
    run: runner!(StartFlags, run),
};

async fn run(cli: &Cli, flags: StartFlags, names: Vec<String>) -> Outcome {
    let client = cli.client().await?;
    if flags.attach || flags.interactive {
        let [name] = names.as_slice() else {
            return Err(Failure::message("you cannot start and attach multiple containers at once"));
        };
        return attached(cli, client, &flags, name).await;
    }
    let mut failed = Vec::new();
    for name in &names {
        match client.post_empty(reference::container(name, "/start")?).await {
            Ok(()) => ui::line(name),
            Err(error) => {
                ui::error_line(&error.to_string());
                failed.push(name.as_str());
            }
        }
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(Failure::message(format!("Error: failed to start containers: {}", failed.join(", ")))),
    }
}

async fn attached(cli: &Cli, client: &Client, flags: &StartFlags, name: &str) -> Outcome {
    let keys = detach_keys(cli, &flags.detach_keys)?;
    let container: ContainerInspect = client.get(reference::container(name, "/json")?).await?;
    let config = &container.config;
    let stdin = flags.interactive && config.open_stdin;
    check_tty(stdin, config.tty)?;
    let id = &container.id;
    let _proxy = (!config.tty).then(|| SignalProxy::start(client, &format!("/containers/{id}/kill"))).transpose()?;
    let attach = client
        .request(Method::POST, format!("/containers/{id}/attach"))
        .query("stream", "1")
        .query_flag("stdin", stdin)
        .query("stdout", "1")
        .query("stderr", "1")
        .query_opt("detachKeys", Some(&flags.detach_keys))
        .upgrade();
    let (stream, wait) = tokio::join!(attach, Wait::begin(client, id, container.host_config.auto_remove));
    let (stream, wait) = (stream?, wait?);
    if let Err(error) = client.post_empty(format!("/containers/{id}/start")).await {
        let text = error.to_string();
        return Err(Failure::new(if command_code(&text) == 125 { 1 } else { command_code(&text) }, text));
    }
    let _resizer = (config.tty && ui::tty::size().is_some())
        .then(|| Resizer::start(client, format!("/containers/{id}/resize")))
        .transpose()?;
    let session = Session { tty: config.tty, stdin, shown: Shown { stdout: true, stderr: true }, keys };
    if session.run(stream).await? == SessionEnd::Detached {
        return Ok(());
    }
    match wait.status().await? {
        0 => Ok(()),
        code => Err(Failure::silent(code)),
    }
}
