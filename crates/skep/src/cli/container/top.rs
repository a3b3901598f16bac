//! `top`.

use skep_client::Method;
use skep_wire::ContainerTop;

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, NoFlags, Order};
use crate::cli::{Args, Cli, Command, Completion, Outcome, reference};
use crate::ui;

pub(crate) const COMMAND: Command = Command {
    paths: &["top", "container top"],
    usage: "CONTAINER [ps OPTIONS]",
    about: "Display the running processes of a container",
    args: Args::AtLeast(1),
    completion: Completion::RunningContainers,
    flags: NoFlags::specs,
    run: runner!(NoFlags, run, Order::FlagsFirst),
};

async fn run(cli: &Cli, _: NoFlags, words: Vec<String>) -> Outcome {
    let client = cli.client().await?;
    let name = words.first().map(String::as_str).unwrap_or_default();
    let options = words.get(1..).unwrap_or_default().join(" ");
    let top: ContainerTop = client
        .request(Method::GET, reference::container(name, "/top")?)
        .query_opt("ps_args", Some(&options))
        .send()
        .await?
        .json()
        .await?;
    let mut text = format!("{}\n", top.titles.join("\t"));
    for process in &top.processes {
        text.push_str(&process.join("\t"));
        text.push('\n');
    }
    ui::print(&ui::table::align_with(&text, 20, 3));
    Ok(())
}
