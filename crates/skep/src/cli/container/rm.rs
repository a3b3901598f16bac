//! `rm`.

use skep_client::Method;

use super::each::each;
use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Outcome, reference};

flags! {
    pub(crate) struct RemoveFlags {
        force: bool => "force" 'f', "Kill a container that is running";
        link: bool => "link" 'l', "Remove the link, not the container";
        volumes: bool => "volumes" 'v', "Remove the container's anonymous volumes";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["rm", "container rm", "container remove"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Remove one or more containers",
    args: Args::AtLeast(1),
    completion: Completion::Containers,
    flags: RemoveFlags::specs,
    run: runner!(RemoveFlags, run),
};

async fn run(cli: &Cli, flags: RemoveFlags, names: Vec<String>) -> Outcome {
    let client = cli.client().await?;
    each(&names, async |name| {
        let removed = client
            .request(Method::DELETE, reference::container(&name, "")?)
            .query_flag("force", flags.force)
            .query_flag("link", flags.link)
            .query_flag("v", flags.volumes)
            .send()
            .await;
        match removed {
            // With -f it is the absence that counts.
            Err(error) if flags.force && error.is_not_found() => {
                crate::ui::error_line(&error.to_string());
                Err(crate::cli::Failure::silent(0))
            }
            other => Ok(other?.bytes().await.map(drop)?),
        }
    })
    .await
}
