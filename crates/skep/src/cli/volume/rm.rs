//! `volume rm`.

use skep_client::Method;

use crate::cli::command::runner;
use crate::cli::container::each::each;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Outcome, reference};

flags! {
    pub(crate) struct RemoveFlags {
        force: bool => "force" 'f', "Force the removal of one or more volumes";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["volume rm", "volume remove"],
    usage: "[OPTIONS] VOLUME [VOLUME...]",
    about: "Remove one or more volumes. You cannot remove a volume that is in use by a container.",
    args: Args::AtLeast(1),
    completion: Completion::Volumes,
    flags: RemoveFlags::specs,
    run: runner!(RemoveFlags, run),
};

async fn run(cli: &Cli, flags: RemoveFlags, names: Vec<String>) -> Outcome {
    let client = cli.client().await?;
    each(&names, async |name| {
        let path = reference::volume(&name)?;
        let response = client.request(Method::DELETE, path).query_flag("force", flags.force).send().await?;
        Ok(response.bytes().await.map(drop)?)
    })
    .await
}
