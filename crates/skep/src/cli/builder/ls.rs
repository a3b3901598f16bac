//! `buildx ls`: the engine is the only builder.

use super::worker::{NAME, Worker};
use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, NoFlags};
use crate::cli::{Args, Cli, Command, Completion, Outcome};
use crate::ui::{self, table};

pub(crate) const COMMAND: Command = Command {
    paths: &["buildx ls"],
    usage: "",
    about: "List builder instances",
    args: Args::None,
    completion: Completion::Nothing,
    flags: NoFlags::specs,
    run: runner!(NoFlags, run),
};

async fn run(cli: &Cli, _: NoFlags, _: Vec<String>) -> Outcome {
    let worker = Worker::ask(cli).await?;
    ui::print(&listing(worker.version(), &worker.platforms().join(", ")));
    Ok(())
}

fn listing(version: &str, platforms: &str) -> String {
    table::align(&format!(
        "NAME/NODE\tDRIVER/ENDPOINT\tSTATUS\tBUILDKIT\tPLATFORMS\n\
         {NAME}*\tdocker\t\t\t\n \\_ {NAME}\t \\_ {NAME}\trunning\t{version}\t{platforms}\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_is_the_only_builder() {
        insta::assert_snapshot!(listing("v1", "linux/amd64"), @r"
        NAME/NODE     DRIVER/ENDPOINT   STATUS    BUILDKIT   PLATFORMS
        default*      docker                                 
         \_ default    \_ default       running   v1         linux/amd64
        ");
    }
}
