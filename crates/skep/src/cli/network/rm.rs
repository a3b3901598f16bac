//! `network rm`.

use crate::cli::command::runner;
use crate::cli::container::each::each;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome, reference};

flags! {
    pub(crate) struct RemoveFlags {
        force: bool => "force" 'f', "Do not mind networks that are not there";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["network rm", "network remove"],
    usage: "NETWORK [NETWORK...]",
    about: "Remove one or more networks",
    args: Args::AtLeast(1),
    completion: Completion::Networks,
    flags: RemoveFlags::specs,
    run: runner!(RemoveFlags, run),
};

async fn run(cli: &Cli, flags: RemoveFlags, names: Vec<String>) -> Outcome {
    let client = cli.client().await?;
    each(&names, async |name| match client.delete(reference::network(&name, "")?).await {
        // Nothing is said of one that is not there, not even its name.
        Err(error) if flags.force && error.is_not_found() => Err(Failure::silent(0)),
        other => Ok(other?),
    })
    .await
}
