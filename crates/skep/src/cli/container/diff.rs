//! `diff`.

use skep_wire::FilesystemChange;

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, NoFlags};
use crate::cli::{Args, Cli, Command, Completion, Outcome, reference};
use crate::ui;

pub(crate) const COMMAND: Command = Command {
    paths: &["diff", "container diff"],
    usage: "CONTAINER",
    about: "Inspect changes to files or directories on a container's filesystem",
    args: Args::Exactly(1),
    completion: Completion::Containers,
    flags: NoFlags::specs,
    run: runner!(NoFlags, run),
};

async fn run(cli: &Cli, _: NoFlags, words: Vec<String>) -> Outcome {
    let client = cli.client().await?;
    let name = words.first().map(String::as_str).unwrap_or_default();
    let changes: Option<Vec<FilesystemChange>> = client.get(reference::container(name, "/changes")?).await?;
    let mut text = String::new();
    for change in changes.unwrap_or_default() {
        let letter = match change.kind {
            0 => 'C',
            1 => 'A',
            _ => 'D',
        };
        text.push_str(&format!("{letter} {}\n", change.path));
    }
    ui::print(&text);
    Ok(())
}
