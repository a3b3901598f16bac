//! `builder cache rm`.

use skep_client::Method;

use super::request;
use crate::cli::command::runner;
use crate::cli::container::each::each;
use crate::cli::flags::{FlagSet, NoFlags};
use crate::cli::{Args, Cli, Command, Completion, Outcome};

pub(crate) const COMMAND: Command = Command {
    paths: &["builder cache rm", "builder cache remove", "buildx cache rm"],
    usage: "CACHE [CACHE...]",
    about: "Remove cache mounts that no build uses",
    args: Args::AtLeast(1),
    completion: Completion::CacheMounts,
    flags: NoFlags::specs,
    run: runner!(NoFlags, run),
};

async fn run(cli: &Cli, _: NoFlags, names: Vec<String>) -> Outcome {
    let client = cli.client().await?;
    each(&names, async |name| {
        let response = request(client, Method::DELETE, "/skep/build/caches", &name).send().await?;
        Ok(response.bytes().await.map(drop)?)
    })
    .await
}
