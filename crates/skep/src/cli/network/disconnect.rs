//! `network disconnect`.

use skep_client::Method;
use skep_wire::NetworkDisconnectRequest;

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Outcome, reference};

flags! {
    pub(crate) struct DisconnectFlags {
        force: bool => "force" 'f', "Disconnect the container even if the engine knows it no longer";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["network disconnect"],
    usage: "[OPTIONS] NETWORK CONTAINER",
    about: "Disconnect a container from a network",
    args: Args::Exactly(2),
    completion: Completion::NetworkAndContainer,
    flags: DisconnectFlags::specs,
    run: runner!(DisconnectFlags, run),
};

async fn run(cli: &Cli, flags: DisconnectFlags, words: Vec<String>) -> Outcome {
    let [network, container] = words.as_slice() else { return Ok(()) };
    let request = NetworkDisconnectRequest { container: container.clone(), force: flags.force };
    let path = reference::network(network, "/disconnect")?;
    reference::container(container, "")?;
    let sent = cli.client().await?.request(Method::POST, path).json(&request)?.send().await?;
    Ok(sent.bytes().await.map(drop)?)
}
