//! `rename`.

use skep_client::Method;

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, NoFlags};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome, reference};

pub(crate) const COMMAND: Command = Command {
    paths: &["rename", "container rename"],
    usage: "CONTAINER NEW_NAME",
    about: "Rename a container",
    args: Args::Exactly(2),
    completion: Completion::Containers,
    flags: NoFlags::specs,
    run: runner!(NoFlags, run),
};

async fn run(cli: &Cli, _: NoFlags, words: Vec<String>) -> Outcome {
    let [old, new] = words.as_slice() else { return Ok(()) };
    if old.trim().is_empty() || new.trim().is_empty() {
        return Err(Failure::message("Error: Neither old nor new names may be empty"));
    }
    let client = cli.client().await?;
    let renamed = client.request(Method::POST, reference::container(old, "/rename")?).query("name", new).send().await;
    match renamed {
        Ok(answer) => Ok(answer.bytes().await.map(drop)?),
        Err(error) => Err(Failure::message(format!("{error}\nError: failed to rename container named {old}"))),
    }
}
