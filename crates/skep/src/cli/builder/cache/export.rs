//! `builder cache export`.

use skep_client::Method;

use super::request;
use crate::cli::command::runner;
use crate::cli::container::export::Target;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Outcome};

flags! {
    pub(crate) struct ExportFlags {
        output: String => "output" 'o', "Write to a file instead of STDOUT";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["builder cache export", "buildx cache export"],
    usage: "[OPTIONS] CACHE",
    about: "Write the files of a cache mount to a tar archive",
    args: Args::Exactly(1),
    completion: Completion::CacheMounts,
    flags: ExportFlags::specs,
    run: runner!(ExportFlags, run),
};

async fn run(cli: &Cli, flags: ExportFlags, words: Vec<String>) -> Outcome {
    let target = Target::check(&flags.output, "failed to export the cache mount")?;
    let name = words.first().map(String::as_str).unwrap_or_default();
    let client = cli.client().await?;
    target.write(request(client, Method::GET, "/skep/build/caches/archive", name).send().await?).await
}
