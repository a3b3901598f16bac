//! `network ls`.

use serde_json::{Value, json};
use skep_client::Method;
use skep_wire::Network;

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::value::Filter;
use crate::cli::{Args, Cli, Command, Completion, Outcome};
use crate::ui;
use crate::ui::listing::{self, Columns};

flags! {
    pub(crate) struct ListFlags {
        filter: Filter => "filter" 'f', "Provide filter values (e.g. \"driver=bridge\")";
        format: Option<String> => "format", "Format output: 'table', 'table TEMPLATE', 'json' or a Go template";
        no_trunc: bool => "no-trunc", "Do not truncate the output";
        quiet: bool => "quiet" 'q', "Only display network IDs";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["network ls", "network list"],
    usage: "[OPTIONS]",
    about: "List networks",
    args: Args::None,
    completion: Completion::Nothing,
    flags: ListFlags::specs,
    run: runner!(ListFlags, run),
};

const COLUMNS: Columns = Columns {
    type_name: "*network.networkContext",
    titles: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ],
    default_table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
};

const RAW: &str = "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n";

async fn run(cli: &Cli, flags: ListFlags, _: Vec<String>) -> Outcome {
    let mut networks: Vec<Network> = cli
        .client()
        .await?
        .request(Method::GET, "/networks")
        .query_opt("filters", flags.filter.to_query())
        .send()
        .await?
        .json()
        .await?;
    networks.sort_by(|a, b| listing::natural_order(&a.name, &b.name));
    let rows: Vec<Value> = networks.iter().map(|network| row(network, flags.no_trunc)).collect();
    let configured = || cli.config().networks_format.clone().filter(|_| !flags.quiet);
    let given = flags.format.filter(|format| !format.is_empty());
    let format = given.or_else(configured).unwrap_or_default();
    let format = match format.as_str() {
        "" | "table" if flags.quiet => "{{.ID}}",
        "raw" if flags.quiet => "network_id: {{.ID}}",
        "raw" => RAW,
        other => other,
    };
    ui::print(&listing::render(&COLUMNS, format, &rows)?);
    Ok(())
}

fn row(network: &Network, full_id: bool) -> Value {
    let labels: Vec<String> = network.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let id = if full_id { network.id.as_str() } else { ui::human::short_id(&network.id) };
    let created = network.created.time().map_or_else(
        || "0001-01-01 00:00:00 +0000 UTC".to_owned(),
        |time| {
            let text = time.format("%Y-%m-%d %H:%M:%S%.9f").to_string();
            format!("{} +0000 UTC", text.trim_end_matches('0').trim_end_matches('.'))
        },
    );
    json!({
        "CreatedAt": created,
        "Driver": network.driver,
        "ID": id,
        "IPv4": network.enable_ipv4.to_string(),
        "IPv6": network.enable_ipv6.to_string(),
        "Internal": network.internal.to_string(),
        "LabelMap": network.labels,
        "Labels": labels.join(","),
        "Name": network.name,
        "Scope": network.scope,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_listed_as_docker_does() {
        let network = Network {
            name: "bridge".into(),
            id: "0123456789abcdef".into(),
            driver: "bridge".into(),
            scope: "local".into(),
            created: "2026-01-02T03:04:05.5Z".parse().expect("a time"),
            ..Network::default()
        };
        let show = |format: &str, full: bool| listing::render(&COLUMNS, format, &[row(&network, full)]).expect("good");
        assert_eq!(
            show("", false),
            "NETWORK ID     NAME      DRIVER    SCOPE\n0123456789ab   bridge    bridge    local\n"
        );
        assert_eq!(show("{{.ID}} {{.CreatedAt}}", true), "0123456789abcdef 2026-01-02 03:04:05.5 +0000 UTC\n");
    }
}
