//! `attach`: the streams of a container's first process.

use skep_client::Method;
use skep_wire::ContainerInspect;

use super::session::{Resizer, Session, SessionEnd, check_tty, detach_keys};
use super::signals::SignalProxy;
use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome, reference};
use crate::ui;
use crate::ui::stdio::Shown;

flags! {
    pub(crate) struct AttachFlags {
        detach_keys: String => "detach-keys", "Keys that detach from the container";
        no_stdin: bool => "no-stdin", "Don't attach STDIN";
        sig_proxy: bool = true => "sig-proxy", "Pass signals on to the process";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["attach", "container attach"],
    usage: "[OPTIONS] CONTAINER",
    about: "Attach local standard input, output, and error streams to a running container",
    args: Args::Exactly(1),
    completion: Completion::RunningContainers,
    flags: AttachFlags::specs,
    run: runner!(AttachFlags, run),
};

async fn run(cli: &Cli, flags: AttachFlags, names: Vec<String>) -> Outcome {
    let client = cli.client().await?;
    let keys = detach_keys(cli, &flags.detach_keys)?;
    let name = names.first().map(String::as_str).unwrap_or_default();
    let container: ContainerInspect = client.get(reference::container(name, "/json")?).await?;
    let (state, config, id) = (&container.state, &container.config, &container.id);
    let refusal = match (state.running, state.paused, state.restarting) {
        (false, _, _) => Some("You cannot attach to a stopped container, start it first"),
        (_, true, _) => Some("You cannot attach to a paused container, unpause it first"),
        (_, _, true) => Some("You cannot attach to a restarting container, wait until it is running"),
        (true, false, false) => None,
    };
    if let Some(refusal) = refusal {
        return Err(Failure::message(refusal));
    }
    let stdin = !flags.no_stdin && config.open_stdin;
    check_tty(stdin, config.tty)?;
    let _proxy = (flags.sig_proxy && !config.tty)
        .then(|| SignalProxy::start(client, &format!("/containers/{id}/kill")))
        .transpose()?;
    let wait = client.request(Method::POST, format!("/containers/{id}/wait")).send();
    let attach = client
        .request(Method::POST, format!("/containers/{id}/attach"))
        .query("stream", "1")
        .query_flag("stdin", stdin)
        .query("stdout", "1")
        .query("stderr", "1")
        .query_opt("detachKeys", Some(&flags.detach_keys))
        .upgrade();
    let (wait, stream) = tokio::join!(wait, attach);
    let (wait, stream) = (wait?, stream?);
    let _resizer = (config.tty && ui::tty::size().is_some())
        .then(|| Resizer::start(client, format!("/containers/{id}/resize")))
        .transpose()?;
    let session = Session { tty: config.tty, stdin, shown: Shown { stdout: true, stderr: true }, keys };
    if session.run(stream).await? == SessionEnd::Detached {
        return Ok(());
    }
    let answer: skep_wire::WaitResponse = wait.json().await?;
    match answer.status_code {
        0 => Ok(()),
        code => Err(Failure::silent(i32::try_from(code).unwrap_or(1))),
    }
}
