//! `buildx history rm`.

use skep_buildkit::proto::moby::buildkit::v1::UpdateBuildHistoryRequest;

use super::record;
use crate::cli::builder::worker;
use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome};
use crate::ui;

flags! {
    pub(crate) struct RemoveFlags {
        all: bool => "all", "Remove all build records";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["buildx history rm"],
    usage: "[OPTIONS] [REF...]",
    about: "Remove build records",
    args: Args::AtLeast(0),
    completion: Completion::Nothing,
    flags: RemoveFlags::specs,
    run: runner!(RemoveFlags, run),
};

async fn run(cli: &Cli, flags: RemoveFlags, words: Vec<String>) -> Outcome {
    match (flags.all, words.is_empty()) {
        (false, true) => return Err(Failure::message("rm requires at least one argument")),
        (true, false) => return Err(Failure::message("rm requires either --all or at least one argument")),
        _ => {}
    }
    let mut control = worker::control(cli).await?;
    let records = record::all(&mut control, Vec::new()).await?;
    // All are found before any goes.
    let gone: Vec<String> = match flags.all {
        true => records.iter().filter(|record| record.completed().is_some()).map(|r| r.id().to_owned()).collect(),
        false => words
            .iter()
            .map(|word| Ok(record::find(&records, Some(word))?.id().to_owned()))
            .collect::<Result<_, Failure>>()?,
    };
    for id in gone {
        let request = UpdateBuildHistoryRequest { r#ref: id.clone(), delete: true, ..Default::default() };
        control.update_build_history(request).await.map_err(|status| worker::failed(&status))?;
        ui::line(&format!("Removed {id}"));
    }
    Ok(())
}
