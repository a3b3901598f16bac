//! `network create`.

use skep_wire::{ConfigReference, NetworkCreateRequest, NetworkCreateResponse};

use super::ipam;
use crate::cli::command::runner;
use crate::cli::container::options::environment::Labels;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::value::{KeyValues, Strings};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome};
use crate::ui;

flags! {
    pub(crate) struct CreateFlags {
        attachable: bool => "attachable", "Let containers connect that belong to no service (without a swarm all may)";
        aux_address: KeyValues => "aux-address", "Keep an address of a subnet for something else (name=address)";
        config_from: String => "config-from", "Take the configuration of this network, made with --config-only";
        config_only: bool => "config-only", "Make no network, only a configuration for others";
        driver: String = "bridge" => "driver" 'd', "Kind of network: bridge, macvlan, ipvlan";
        gateway: Strings => "gateway", "Gateway of a subnet; its first address if not given";
        ingress: bool => "ingress", "Make the routing mesh of a swarm";
        internal: bool => "internal", "No way out of the network, and none in";
        ip_range: Strings => "ip-range", "Part of a subnet that containers get their addresses from";
        ipam_driver: String = "default" => "ipam-driver", "Driver of the addresses (\"null\" for none)";
        ipam_opt: KeyValues => "ipam-opt", "Set an option of the driver of the addresses";
        ipv4: Option<bool> => "ipv4", "Give containers IPv4 addresses (default true)";
        ipv6: Option<bool> => "ipv6", "Give containers IPv6 addresses";
        label: Labels => "label", "Set a label";
        opt: KeyValues => "opt" 'o', "Set an option of the driver (com.docker.network.bridge.name=br0, parent=eth0.10)";
        scope: String => "scope", "Scope of the network; there is only \"local\" without a swarm";
        subnet: Strings => "subnet", "Subnet, such as 172.30.0.0/24 or fd00:30::/64; chosen from the pools if not given";
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
    let request = request(flags, words)?;
    let created: NetworkCreateResponse = cli.client().await?.post("/networks/create", &request).await?;
    if !created.warning.is_empty() {
        ui::error_line(&format!("WARNING: {}", created.warning));
    }
    ui::line(&created.id);
    Ok(())
}

fn request(flags: CreateFlags, words: Vec<String>) -> Result<NetworkCreateRequest, Failure> {
    let asked = ipam::Asked {
        subnets: &flags.subnet.0,
        ranges: &flags.ip_range.0,
        gateways: &flags.gateway.0,
        reserved: &flags.aux_address.0,
    };
    let pools = ipam::pools(&asked)?;
    Ok(NetworkCreateRequest {
        driver: flags.driver,
        scope: flags.scope,
        enable_ipv4: flags.ipv4,
        enable_ipv6: flags.ipv6,
        ipam: Some(skep_wire::Ipam { driver: flags.ipam_driver, options: flags.ipam_opt.0, config: pools }),
        internal: flags.internal,
        attachable: flags.attachable,
        ingress: flags.ingress,
        config_only: flags.config_only,
        config_from: (!flags.config_from.is_empty()).then_some(ConfigReference { network: flags.config_from }),
        options: flags.opt.0,
        labels: flags.label.into_map(),
        name: words.into_iter().next().unwrap_or_default(),
        check_duplicate: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::flags::{Order, parse};
    use serde_json::json;

    #[test]
    fn a_request_holds_what_the_flags_say() {
        let line = "-d macvlan --subnet 10.1.0.0/24,fd00::/64 --gateway=fd00::9 --ip-range 10.1.0.128/25 \
                    --aux-address router=10.1.0.5 -o parent=eth0.7 --internal --ipv6 --ipv4=false --label a=b --label c \
                    --ipam-opt x=y --config-from other lan";
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let (flags, rest) = parse::<CreateFlags>(&words, Order::Mixed).expect("good flags");
        let request = request(flags, rest).expect("a good request");
        let json = serde_json::to_value(&request).expect("json");
        for (pointer, value) in [
            ("/Name", json!("lan")),
            ("/Driver", json!("macvlan")),
            ("/EnableIPv4", json!(false)),
            ("/EnableIPv6", json!(true)),
            ("/Internal", json!(true)),
            ("/IPAM/Driver", json!("default")),
            ("/IPAM/Options", json!({"x": "y"})),
            (
                "/IPAM/Config/0",
                json!({
                    "Subnet": "10.1.0.0/24", "IPRange": "10.1.0.128/25", "AuxiliaryAddresses": {"router": "10.1.0.5"}
                }),
            ),
            ("/IPAM/Config/1", json!({"Subnet": "fd00::/64", "Gateway": "fd00::9"})),
            ("/ConfigFrom/Network", json!("other")),
            ("/Options", json!({"parent": "eth0.7"})),
            ("/Labels", json!({"a": "b", "c": ""})),
        ] {
            assert_eq!(json.pointer(pointer), Some(&value), "{pointer}");
        }
    }
}
