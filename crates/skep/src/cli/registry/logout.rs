//! `logout`: forgets credentials.

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, NoFlags};
use crate::cli::{Args, Cli, Command, Completion, Outcome, credentials};
use crate::ui;

pub(crate) const COMMAND: Command = Command {
    paths: &["logout"],
    usage: "[SERVER]",
    about: "Log out from a registry.\nIf no server is specified, the default is defined by the daemon.",
    args: Args::AtMost(1),
    completion: Completion::Nothing,
    flags: NoFlags::specs,
    run: runner!(NoFlags, run),
};

async fn run(cli: &Cli, _: NoFlags, words: Vec<String>) -> Outcome {
    let given = words.first().map(String::as_str).filter(|server| !server.is_empty());
    let (shown, servers) = match given {
        None => (credentials::HUB, vec![credentials::HUB.to_owned()]),
        Some(server) => {
            let host = credentials::host_of(server);
            // Older clients kept credentials under any of these.
            (host, vec![server.to_owned(), host.to_owned(), format!("http://{host}"), format!("https://{host}")])
        }
    };
    ui::line(&format!("Removing login credentials for {shown}"));
    let config = cli.config();
    let failures: Vec<String> = servers
        .iter()
        .filter_map(|server| {
            let failure = credentials::erase(config, server).err()?;
            Some(format!("{server}: {}", failure.text))
        })
        .collect();
    if failures.len() == servers.len() {
        ui::error_line("WARNING: could not erase credentials:");
        failures.iter().for_each(|line| ui::error_line(line));
    }
    Ok(())
}
