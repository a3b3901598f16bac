//! `save`.

use std::path::Path;

use skep_client::Method;

use super::load::platform_query;
use super::output_file::OutputFile;
use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome};
use crate::ui::{self, tty};

flags! {
    pub(crate) struct SaveFlags {
        output: String => "output" 'o', "Write to a file, instead of STDOUT";
        platform: String => "platform",
            "Save only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["save", "image save"],
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Save one or more images to a tar archive (streamed to STDOUT by default)",
    args: Args::AtLeast(1),
    completion: Completion::Images,
    flags: SaveFlags::specs,
    run: runner!(SaveFlags, run),
};

async fn run(cli: &Cli, flags: SaveFlags, names: Vec<String>) -> Outcome {
    let platform = platform_query(&flags.platform)?;
    let file = match flags.output.as_str() {
        "" if tty::is_terminal(std::io::stdout()) => {
            return Err(Failure::message("cowardly refusing to save to a terminal. Use the -o flag or redirect"));
        }
        "" => None,
        path => Some(OutputFile::check(Path::new(path)).map_err(|reason| format!("failed to save image: {reason}"))?),
    };
    let mut request = cli.client().await?.request(Method::GET, "/images/get").query_opt("platform", platform);
    for name in &names {
        request = request.query("names", name);
    }
    let mut response = request.send().await?;
    match file {
        Some(file) => file.write(response).await,
        None => {
            while let Some(chunk) = response.chunk().await? {
                ui::write_stdout(&chunk);
            }
            Ok(())
        }
    }
}
