//! `kill`.

use skep_client::Method;

use super::each::each;
use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Outcome, reference};

flags! {
    pub(crate) struct KillFlags {
        signal: String => "signal" 's', "Signal to send (KILL unless given)";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["kill", "container kill"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Kill one or more running containers",
    args: Args::AtLeast(1),
    completion: Completion::RunningContainers,
    flags: KillFlags::specs,
    run: runner!(KillFlags, run),
};

async fn run(cli: &Cli, flags: KillFlags, names: Vec<String>) -> Outcome {
    let client = cli.client().await?;
    each(&names, async |name| {
        client
            .request(Method::POST, reference::container(&name, "/kill")?)
            .query_opt("signal", Some(&flags.signal))
            .send()
            .await?
            .bytes()
            .await?;
        Ok(())
    })
    .await
}
