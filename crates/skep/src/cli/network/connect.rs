//! `network connect`.

use skep_client::Method;
use skep_wire::{EndpointIpamConfig, EndpointSettings, NetworkConnectRequest};

use crate::cli::command::runner;
use crate::cli::container::options::lists::Links;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::value::Words;
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome, reference};

flags! {
    pub(crate) struct ConnectFlags {
        alias: Words => "alias", "Add network-scoped alias for the container";
        driver_opt: Words => "driver-opt", "driver options for the network";
        gw_priority: i64 => "gw-priority", "Highest gw-priority provides the default gateway";
        ip: Option<String> => "ip", "IPv4 address (e.g., \"172.30.100.104\")";
        ip6: Option<String> => "ip6", "IPv6 address (e.g., \"2001:db8::33\")";
        link: Links => "link", "Add link to another container";
        link_local_ip: Words => "link-local-ip", "Add a link-local address for the container";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["network connect"],
    usage: "[OPTIONS] NETWORK CONTAINER",
    about: "Connect a container to a network",
    args: Args::Exactly(2),
    completion: Completion::Networks,
    flags: ConnectFlags::specs,
    run: runner!(ConnectFlags, run),
};

async fn run(cli: &Cli, flags: ConnectFlags, words: Vec<String>) -> Outcome {
    let [network, container] = words.as_slice() else { return Ok(()) };
    let mut driver_opts = std::collections::BTreeMap::new();
    for option in &flags.driver_opt.0 {
        let (key, value) = option
            .split_once('=')
            .ok_or_else(|| Failure::message(format!("invalid key/value pair format in driver options: {option}")))?;
        driver_opts.insert(key.to_owned(), value.to_owned());
    }
    let settings = EndpointSettings {
        ipam_config: Some(EndpointIpamConfig {
            ipv4_address: flags.ip.unwrap_or_default(),
            ipv6_address: flags.ip6.unwrap_or_default(),
            link_local_ips: flags.link_local_ip.0,
        }),
        links: flags.link.0,
        aliases: flags.alias.0,
        driver_opts,
        gw_priority: flags.gw_priority,
        ..EndpointSettings::default()
    };
    let request = NetworkConnectRequest { container: container.clone(), endpoint_config: Some(settings) };
    let path = reference::network(network, "/connect")?;
    cli.client().await?.request(Method::POST, path).json(&request)?.send().await?.bytes().await?;
    Ok(())
}
