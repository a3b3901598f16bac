//! `network connect`.

use std::collections::BTreeMap;

use skep_client::Method;
use skep_wire::{EndpointIpamConfig, EndpointSettings, NetworkConnectRequest};

use crate::cli::command::runner;
use crate::cli::container::options::lists::Links;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::value::Strings;
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome, reference};

flags! {
    pub(crate) struct ConnectFlags {
        alias: Strings => "alias", "Another name of the container in this network";
        driver_opt: Strings => "driver-opt", "Set an option of the network's driver (key=value)";
        gw_priority: i64 => "gw-priority", "The network with the highest number has the default gateway; may be negative";
        ip: String => "ip", "IPv4 address (e.g., \"172.30.100.104\")";
        ip6: String => "ip6", "IPv6 address (e.g., \"2001:db8::33\")";
        link: Links => "link", "Give another container a name that this one knows it by (container[:name])";
        link_local_ip: Strings => "link-local-ip", "Add a link-local address";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["network connect"],
    usage: "[OPTIONS] NETWORK CONTAINER",
    about: "Connect a container to a network",
    args: Args::Exactly(2),
    completion: Completion::NetworkAndContainer,
    flags: ConnectFlags::specs,
    run: runner!(ConnectFlags, run),
};

async fn run(cli: &Cli, flags: ConnectFlags, words: Vec<String>) -> Outcome {
    let [network, container] = words.as_slice() else { return Ok(()) };
    let request = NetworkConnectRequest { container: container.clone(), endpoint_config: Some(endpoint(flags)?) };
    let path = reference::network(network, "/connect")?;
    reference::container(container, "")?;
    let sent = cli.client().await?.request(Method::POST, path).json(&request)?.send().await?;
    Ok(sent.bytes().await.map(drop)?)
}

fn endpoint(flags: ConnectFlags) -> Result<EndpointSettings, Failure> {
    Ok(EndpointSettings {
        ipam_config: Some(EndpointIpamConfig {
            ipv4_address: flags.ip,
            ipv6_address: flags.ip6,
            link_local_ips: flags.link_local_ip.0,
        }),
        links: flags.link.0,
        aliases: flags.alias.0,
        driver_opts: driver_options(&flags.driver_opt.0)?,
        gw_priority: flags.gw_priority,
        ..EndpointSettings::default()
    })
}

fn driver_options(texts: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let option = |text: &String| {
        let (key, value) = text.split_once('=').map(|(key, value)| (key.trim(), value.trim()))?;
        (!key.is_empty()).then(|| (key.to_owned(), value.to_owned()))
    };
    let options: Option<_> = texts.iter().map(option).collect();
    options.ok_or_else(|| Failure::message("invalid key/value pair format in driver options"))
}
