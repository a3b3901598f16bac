//! `run`: create, attach, start, wait.
//!
//! ```text
//! create ──> attach (connection 2) ─┐
//!        └─> wait   (connection 3) ─┴─> start (connection 1) ──> streams end ──> exit status
//! ```
//! Attaching and waiting are asked for side by side and both stand before the start, so that neither the first byte of
//! output nor a very short life is missed.

use skep_client::{Client, Hijacked, Method};
use skep_wire::{ContainerCreateRequest, WaitResponse};

use super::create::{check_pull, create, with_hint};
use super::options::{ContainerFlags, request};
use super::session::{Resizer, Session, SessionEnd, check_tty, detach_keys};
use super::signals::SignalProxy;
use crate::cli::command::runner;
use crate::cli::failure::USAGE;
use crate::cli::flags::{FlagSet, Order, flags};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome, reference};
use crate::ui;
use crate::ui::stdio::Shown;

flags! {
    /// What only `run` has.
    pub(crate) struct RunFlags {
        detach: bool => "detach" 'd', "Run in the background and print the container's ID";
        detach_keys: String => "detach-keys", "Keys that detach from the container";
        sig_proxy: bool = true => "sig-proxy", "Pass signals on to the process";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["run", "container run"],
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    about: "Create and run a new container from an image",
    args: Args::AtLeast(1),
    completion: Completion::Images,
    flags: <(RunFlags, ContainerFlags)>::specs,
    run: runner!((RunFlags, ContainerFlags), run, Order::FlagsFirst),
};

async fn run(cli: &Cli, (flags, container): (RunFlags, ContainerFlags), words: Vec<String>) -> Outcome {
    let hint = |failure| with_hint(cli, "run", failure);
    check_pull(&container.pull).map_err(|e| hint(e.into()))?;
    let mut request = request::build(&container, &words).map_err(hint)?;
    if flags.detach {
        if !container.attach.0.is_empty() {
            return Err(Failure::message("conflicting options: cannot specify both --attach and --detach"));
        }
        let config = &mut request.config;
        (config.attach_stdin, config.attach_stdout, config.attach_stderr) = (false, false, false);
        config.stdin_once = false;
    } else {
        check_tty(request.config.attach_stdin, request.config.tty)?;
    }
    if request.config.tty
        && let Some((rows, columns)) = ui::tty::size()
    {
        request.host_config.console_size = [u64::from(rows), u64::from(columns)];
    }
    let plan = Plan {
        attach: request.config.attach_stdin || request.config.attach_stdout || request.config.attach_stderr,
        stdin: request.config.attach_stdin,
        shown: Shown { stdout: request.config.attach_stdout, stderr: request.config.attach_stderr },
        tty: request.config.tty,
        auto_remove: request.host_config.auto_remove,
        sig_proxy: flags.sig_proxy && !request.config.tty && !flags.detach,
    };
    execute(cli, &flags, &container, request, plan).await
}

/// What happens once the container exists.
struct Plan {
    attach: bool,
    stdin: bool,
    shown: Shown,
    tty: bool,
    auto_remove: bool,
    sig_proxy: bool,
}

async fn execute(
    cli: &Cli,
    flags: &RunFlags,
    container: &ContainerFlags,
    request: ContainerCreateRequest,
    plan: Plan,
) -> Outcome {
    let hint = |failure| with_hint(cli, "run", failure);
    let keys = detach_keys(cli, &flags.detach_keys).map_err(hint)?;
    let id = create(cli, container, request).await.map_err(|failure| {
        let code = command_code(&failure.text);
        Failure { code, ..hint(failure) }
    })?;
    let client = cli.client().await?;
    if flags.detach {
        start(client, &id).await.map_err(|e| start_failure(cli, &e))?;
        ui::line(&id);
        return Ok(());
    }
    let _proxy =
        plan.sig_proxy.then(|| SignalProxy::start(client, &reference::container(&id, "/kill")?)).transpose()?;
    let (stream, wait) =
        tokio::join!(attach(client, &id, &plan, &flags.detach_keys), Wait::begin(client, &id, plan.auto_remove));
    let stream = stream.map_err(|e| hint(e.into()))?;
    let wait = wait.map_err(|e| hint(e.into()))?;
    if let Err(error) = start(client, &id).await {
        drop(stream);
        if plan.auto_remove {
            // The engine removes a container that could not start; the caller may count on its name being free.
            let _ = wait.status().await;
        }
        return Err(start_failure(cli, &error));
    }
    if let Some(stream) = stream {
        let _resizer = (plan.tty && ui::tty::size().is_some())
            .then(|| Resizer::start(client, reference::container(&id, "/resize")?))
            .transpose()?;
        let session = Session { tty: plan.tty, stdin: plan.stdin, shown: plan.shown, keys };
        if session.run(stream).await? == SessionEnd::Detached {
            return Ok(());
        }
    }
    match wait.status().await? {
        0 => Ok(()),
        code => Err(Failure::silent(code)),
    }
}

async fn attach(client: &Client, id: &str, plan: &Plan, keys: &str) -> skep_client::Result<Option<Hijacked>> {
    if !plan.attach {
        return Ok(None);
    }
    client
        .request(Method::POST, format!("/containers/{id}/attach"))
        .query("stream", "1")
        .query_flag("stdin", plan.stdin)
        .query_flag("stdout", plan.shown.stdout)
        .query_flag("stderr", plan.shown.stderr)
        .query_opt("detachKeys", Some(keys))
        .upgrade()
        .await
        .map(Some)
}

pub(crate) async fn start(client: &Client, id: &str) -> skep_client::Result<()> {
    client.post_empty(format!("/containers/{id}/start")).await
}

/// 127 for a command that does not exist, 126 for one that cannot be executed, 125 for all else.
fn start_failure(cli: &Cli, error: &skep_client::Error) -> Failure {
    let text = error.to_string();
    let code = command_code(&text);
    let program = &cli.program;
    Failure::new(code, format!("{program}: {text}\n\nRun '{program} run --help' for more information"))
}

/// The exit code that the engine's message stands for. The API has no other place for it: Docker's client reads the text,
/// so every engine has to word it like this.
pub(crate) fn command_code(message: &str) -> i32 {
    let has = |parts: &[&str]| parts.iter().any(|part| message.contains(part));
    if has(&["executable file not found", "no such file or directory", "system cannot find the file specified"]) {
        127
    } else if has(&["permission denied", "is a directory"]) {
        126
    } else {
        USAGE
    }
}

/// A wait that the engine has taken note of.
pub(crate) struct Wait(skep_client::Response);

impl Wait {
    /// Returns once the engine has promised to tell: from then on no exit is missed.
    pub(crate) async fn begin(client: &Client, id: &str, until_removed: bool) -> skep_client::Result<Self> {
        let condition = if until_removed { "removed" } else { "next-exit" };
        client
            .request(Method::POST, format!("/containers/{id}/wait"))
            .query("condition", condition)
            .send()
            .await
            .map(Wait)
    }

    /// The exit status.
    pub(crate) async fn status(self) -> Result<i32, Failure> {
        let answer: WaitResponse = self.0.json().await?;
        match answer.error {
            Some(error) if !error.message.is_empty() => {
                Err(Failure::new(USAGE, format!("Error waiting for container: {}", error.message)))
            }
            _ => Ok(i32::try_from(answer.status_code).unwrap_or(USAGE)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::command_code;

    #[test]
    fn codes_follow_the_message() {
        assert_eq!(command_code("exec: \"x\": executable file not found in $PATH"), 127);
        assert_eq!(command_code("exec: \"/x\": stat /x: no such file or directory"), 127);
        assert_eq!(command_code("exec: \"/etc/passwd\": permission denied"), 126);
        assert_eq!(command_code("exec: \"/etc\": is a directory"), 126);
        assert_eq!(command_code("driver failed programming external connectivity"), 125);
    }
}
