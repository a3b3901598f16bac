//! `wait`.

use skep_client::Method;
use skep_wire::WaitResponse;

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, NoFlags};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome, reference};
use crate::ui;

pub(crate) const COMMAND: Command = Command {
    paths: &["wait", "container wait"],
    usage: "CONTAINER [CONTAINER...]",
    about: "Block until one or more containers stop, then print their exit codes",
    args: Args::AtLeast(1),
    completion: Completion::RunningContainers,
    flags: NoFlags::specs,
    run: runner!(NoFlags, run),
};

async fn run(cli: &Cli, _: NoFlags, names: Vec<String>) -> Outcome {
    let client = cli.client().await?;
    let mut failed = Vec::new();
    for name in &names {
        let path = reference::container(name, "/wait")?;
        match client.request(Method::POST, path).send().await {
            Err(error) => failed.push(error.to_string()),
            Ok(response) => {
                let answer: WaitResponse = response.json().await?;
                match answer.error {
                    Some(error) if !error.message.is_empty() => failed.push(error.message),
                    _ => ui::line(&answer.status_code.to_string()),
                }
            }
        }
    }
    Failure::all(failed)
}
