//! `network create`.

use skep_wire::{ConfigReference, Ipam, NetworkCreateRequest, NetworkCreateResponse};

use super::ipam;
use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::value::{KeyValues, Words};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome};
use crate::ui;

flags! {
    pub(crate) struct CreateFlags {
        attachable: bool => "attachable", "Enable manual container attachment";
        aux_address: KeyValues => "aux-address", "Auxiliary IPv4 or IPv6 addresses used by Network driver";
        config_from: Option<String> => "config-from", "The network from which to copy the configuration";
        config_only: bool => "config-only", "Create a configuration only network";
        driver: String = "bridge" => "driver" 'd', "Driver to manage the Network";
        gateway: Words => "gateway", "IPv4 or IPv6 Gateway for the master subnet";
        ingress: bool => "ingress", "Create swarm routing-mesh network";
        internal: bool => "internal", "Restrict external access to the network";
        ip_range: Words => "ip-range", "Allocate container ip from a sub-range";
        ipam_driver: String = "default" => "ipam-driver", "IP Address Management Driver";
        ipam_opt: KeyValues => "ipam-opt", "Set IPAM driver specific options";
        ipv4: Option<bool> => "ipv4", "Enable or disable IPv4 address assignment";
        ipv6: Option<bool> => "ipv6", "Enable or disable IPv6 address assignment";
        label: Vec<String> => "label", "Set metadata on a network";
        opt: KeyValues => "opt" 'o', "Set driver specific options";
        scope: Option<String> => "scope", "Control the network's scope";
        subnet: Words => "subnet", "Subnet in CIDR format that represents a network segment";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["network create"],
    usage: "[OPTIONS] NETWORK",
    about: "Create a network",
    args: Args::Exactly(1),
    completion: Completion::Nothing,
    flags: CreateFlags::specs,
    run: runner!(CreateFlags, run),
};

async fn run(cli: &Cli, flags: CreateFlags, words: Vec<String>) -> Outcome {
    let name = words.into_iter().next().unwrap_or_default();
    let pools = ipam::pools(&flags.subnet.0, &flags.ip_range.0, &flags.gateway.0, &flags.aux_address.0)
        .map_err(Failure::message)?;
    let labels = flags.label.iter().map(|label| {
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        (key.to_owned(), value.to_owned())
    });
    let request = NetworkCreateRequest {
        name,
        driver: flags.driver,
        scope: flags.scope.unwrap_or_default(),
        enable_ipv4: flags.ipv4,
        enable_ipv6: flags.ipv6,
        ipam: Some(Ipam { driver: flags.ipam_driver, options: flags.ipam_opt.0, config: pools }),
        internal: flags.internal,
        attachable: flags.attachable,
        ingress: flags.ingress,
        config_only: flags.config_only,
        config_from: flags.config_from.filter(|name| !name.is_empty()).map(|network| ConfigReference { network }),
        options: flags.opt.0,
        labels: labels.collect(),
        ..NetworkCreateRequest::default()
    };
    let made: NetworkCreateResponse = cli.client().await?.post("/networks/create", &request).await?;
    if !made.warning.is_empty() {
        ui::error_line(&format!("WARNING: {}", made.warning));
    }
    ui::line(&made.id);
    Ok(())
}
