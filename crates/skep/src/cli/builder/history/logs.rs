//! `buildx history logs`: what a build said, of one that goes on also what it says.

use skep_buildkit::proto::moby::buildkit::v1::StatusRequest;

use super::record;
use crate::cli::build::updates;
use crate::cli::builder::worker;
use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome};
use crate::ui::build::{Display, Style};

flags! {
    pub(crate) struct LogsFlags {
        progress: String = "plain" => "progress", "Set type of progress output (\"plain\", \"rawjson\", \"tty\")";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["buildx history logs"],
    usage: "[OPTIONS] [REF]",
    about: "Print the logs of a build record",
    args: Args::AtMost(1),
    completion: Completion::Nothing,
    flags: LogsFlags::specs,
    run: runner!(LogsFlags, run),
};

async fn run(cli: &Cli, flags: LogsFlags, words: Vec<String>) -> Outcome {
    let style = Style::parse(&flags.progress).map_err(Failure::message)?;
    let mut control = worker::control(cli).await?;
    let records = record::all(&mut control, Vec::new()).await?;
    let id = record::find(&records, words.first().map(String::as_str))?.id().to_owned();
    let answer = control.status(StatusRequest { r#ref: id }).await.map_err(|status| worker::failed(&status))?;
    let mut updates = answer.into_inner();
    let mut display = Display::new(style, "Building", "skep:default");
    while let Some(message) = updates.message().await.map_err(|status| worker::failed(&status))? {
        updates::show(message, style, &mut display);
        display.tick();
    }
    display.end();
    Ok(())
}
