//! `builder cache export`.

use std::io::IsTerminal;
use std::path::Path;

use skep_client::Method;

use super::request;
use crate::cli::command::runner;
use crate::cli::container::export::to_stdout;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::image::output_file::OutputFile;
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome};

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
    if flags.output.is_empty() && std::io::stdout().is_terminal() {
        return Err(Failure::message("cowardly refusing to save to a terminal. Use the -o flag or redirect"));
    }
    let file = match flags.output.as_str() {
        "" => None,
        path => Some(OutputFile::check(Path::new(path)).map_err(|e| format!("failed to export the cache mount: {e}"))?),
    };
    let name = words.first().map(String::as_str).unwrap_or_default();
    let client = cli.client().await?;
    let archive = request(client, Method::GET, "/skep/build/caches/archive", name).send().await?;
    match file {
        None => to_stdout(archive).await,
        Some(file) => file.write(archive).await,
    }
}
