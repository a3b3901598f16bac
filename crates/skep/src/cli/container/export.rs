//! `export`.

use std::io::IsTerminal;
use std::path::Path;

use skep_client::{Method, Response};

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::image::output_file::OutputFile;
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome, reference};
use crate::ui;

flags! {
    pub(crate) struct ExportFlags {
        output: String => "output" 'o', "Write to a file instead of STDOUT";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["export", "container export"],
    usage: "[OPTIONS] CONTAINER",
    about: "Export a container's filesystem as a tar archive",
    args: Args::Exactly(1),
    completion: Completion::Containers,
    flags: ExportFlags::specs,
    run: runner!(ExportFlags, run),
};

async fn run(cli: &Cli, flags: ExportFlags, words: Vec<String>) -> Outcome {
    let target = Target::check(&flags.output, "failed to export container")?;
    let name = words.first().map(String::as_str).unwrap_or_default();
    let client = cli.client().await?;
    target.write(client.request(Method::GET, reference::container(name, "/export")?).send().await?).await
}

/// Where an archive goes: a file, or standard output if that is no terminal.
pub(crate) struct Target(Option<OutputFile>);

impl Target {
    /// Looks whether it can be written, before the engine is asked. `failed` begins what is said if not.
    pub(crate) fn check(output: &str, failed: &str) -> Result<Self, Failure> {
        if output.is_empty() && std::io::stdout().is_terminal() {
            return Err(Failure::message("cowardly refusing to save to a terminal. Use the -o flag or redirect"));
        }
        let file = match output {
            "" => None,
            path => Some(OutputFile::check(Path::new(path)).map_err(|e| format!("{failed}: {e}"))?),
        };
        Ok(Target(file))
    }

    /// Writes what the engine answers.
    pub(crate) async fn write(self, archive: Response) -> Outcome {
        match self.0 {
            None => to_stdout(archive).await,
            Some(file) => file.write(archive).await,
        }
    }
}

/// Copies a body to stdout.
pub(crate) async fn to_stdout(mut body: Response) -> Outcome {
    while let Some(chunk) = body.chunk().await? {
        ui::write_stdout(&chunk);
    }
    Ok(())
}
