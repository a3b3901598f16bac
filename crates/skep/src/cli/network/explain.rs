//! `network explain`: who can reach a port or a container, and which rule decides.

use skep_client::Method;
use skep_wire::{ExplainedAnswer, ExplainedContainer, ExplainedPort, ExplainedReason, NetworkExplanation};

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome};
use crate::ui;

flags! {
    pub(crate) struct ExplainFlags {
        format: String => "format", "Format output: 'json' for everything that was found";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["network explain"],
    usage: "[OPTIONS] PORT[/PROTOCOL]|CONTAINER",
    about: "Say who can reach a published port or a container, and which firewall rule decides",
    args: Args::Exactly(1),
    completion: Completion::RunningContainers,
    flags: ExplainFlags::specs,
    run: runner!(ExplainFlags, run),
};

/// Lines of a table below a port.
const TITLES: [&str; 4] = ["FROM", "TO", "REACHED", "DECIDED BY"];

async fn run(cli: &Cli, flags: ExplainFlags, args: Vec<String>) -> Outcome {
    if !matches!(flags.format.as_str(), "" | "json") {
        return Err(Failure::message(format!("invalid format \"{}\": only json is there", flags.format)));
    }
    let what = args.first().map(String::as_str).unwrap_or_default();
    let request = cli.client().await?.request(Method::GET, "/skep/networks/explain").query("what", what);
    let found: NetworkExplanation = request.send().await?.json().await?;
    if flags.format == "json" {
        ui::line(&serde_json::to_string(&found).map_err(|error| Failure::message(error.to_string()))?);
    } else {
        ui::print(&text(&found));
    }
    Ok(())
}

fn text(found: &NetworkExplanation) -> String {
    let mut parts: Vec<String> = found.containers.iter().map(container).collect();
    parts.extend(found.unread.iter().map(|unread| format!("Not looked at: {unread}\n")));
    parts.join("\n")
}

fn container(found: &ExplainedContainer) -> String {
    let network = if found.network.is_empty() { String::new() } else { format!(" in network {}", found.network) };
    let mut text = format!("{}{network}\n", found.name);
    if !found.note.is_empty() {
        text += &format!("  {}\n", found.note);
    }
    for port in &found.ports {
        text += &format!("\n{}\n{}", heading(port), table(&port.answers));
        let mut said: Vec<&str> = Vec::new();
        for answer in port.answers.iter().filter(|answer| !answer.advice.is_empty()) {
            if !said.contains(&answer.advice.as_str()) {
                said.push(&answer.advice);
            }
        }
        if !said.is_empty() {
            text += "  The host's firewall is in the way. To let it pass:\n";
            said.iter().for_each(|advice| text += &format!("    {advice}\n"));
        }
    }
    text
}

fn heading(port: &ExplainedPort) -> String {
    let own = if port.address.contains(':') { format!("[{}]", port.address) } else { port.address.clone() };
    match (port.published.as_str(), port.port.as_str()) {
        (_, "") => format!("every other port of {}", port.address),
        ("", number) => format!("{own}:{number}"),
        (published, number) => format!("{published} -> {own}:{number}"),
    }
}

fn table(answers: &[ExplainedAnswer]) -> String {
    let mut rows = vec![TITLES.map(str::to_owned)];
    rows.extend(
        answers.iter().map(|answer| [origin(answer), answer.to.clone(), answer.reach.clone(), decides(answer)]),
    );
    let mut widths = [0; 4];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; 4]| {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("  {}\n", cells.join("   ").trim_end())
    };
    rows.iter().map(line).collect()
}

fn origin(answer: &ExplainedAnswer) -> String {
    match answer.from.as_str() {
        "host" => "this host".to_owned(),
        "other-hosts" => format!("other hosts ({})", answer.link),
        "internet" => format!("the internet ({})", answer.link),
        "same-network" => "the same network".to_owned(),
        "other-networks" => format!("network {}", answer.networks.join(", ")),
        other => other.to_owned(),
    }
}

/// What drops it; or else what lets it pass, the engine's own rule first.
fn decides(answer: &ExplainedAnswer) -> String {
    match answer.reach.as_str() {
        "yes" => {
            let accepts = |reason: &&ExplainedReason| reason.effect == "accepts" && reason.own;
            let own = answer.reasons.iter().rfind(accepts).or(answer.reasons.last());
            own.map(place).unwrap_or_default()
        }
        "no" => answer.reasons.first().map(place).unwrap_or_default(),
        _ => answer.reasons.iter().map(place).collect::<Vec<_>>().join("; else "),
    }
}

fn place(reason: &ExplainedReason) -> String {
    if reason.table.is_empty() {
        return reason.text.clone();
    }
    let handle = if reason.handle == 0 { String::new() } else { format!(" #{}", reason.handle) };
    let depends = match reason.depends_on.as_slice() {
        [] => String::new(),
        on => format!(" (depends on {})", on.join(", ")),
    };
    format!("{} {}{handle}: {}{depends}", reason.table, reason.chain, reason.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(table: &str, chain: &str, handle: u64, text: &str, effect: &str) -> ExplainedReason {
        ExplainedReason {
            table: table.into(),
            chain: chain.into(),
            handle,
            text: text.into(),
            effect: effect.into(),
            depends_on: Vec::new(),
            own: table == "inet skep0",
        }
    }

    #[test]
    fn an_explanation_is_a_table_per_port() {
        let answer = |from: &str, to: &str, reach: &str, reason: ExplainedReason| ExplainedAnswer {
            from: from.into(),
            link: "eth0".into(),
            to: to.into(),
            reach: reach.into(),
            reasons: vec![reason],
            ..ExplainedAnswer::default()
        };
        let mut outside =
            answer("other-hosts", "192.0.2.1:8080", "no", rule("ip filter", "FORWARD", 0, "policy drop", "drops"));
        outside.advice = "ufw route allow proto tcp from any to 172.17.0.2 port 80".into();
        let mut limited = rule("inet own", "forward", 3, "limit rate drop", "drops");
        limited.depends_on = vec!["\"limit\", which is not understood".into()];
        let port = ExplainedPort {
            published: "0.0.0.0:8080".into(),
            address: "172.17.0.2".into(),
            port: "80/tcp".into(),
            answers: vec![
                answer("host", "127.0.0.1:8080", "yes", rule("inet skep0", "output", 9, "dnat to …", "leads")),
                outside,
                answer("same-network", "172.17.0.2:80", "depends", limited),
            ],
        };
        let container = ExplainedContainer {
            name: "web".into(),
            network: "bridge".into(),
            ports: vec![port],
            ..Default::default()
        };
        let found = NetworkExplanation { containers: vec![container], unread: vec!["chain x".into()] };
        let expected = "web in network bridge

0.0.0.0:8080 -> 172.17.0.2:80/tcp
  FROM                 TO               REACHED   DECIDED BY
  this host            127.0.0.1:8080   yes       inet skep0 output #9: dnat to …
  other hosts (eth0)   192.0.2.1:8080   no        ip filter FORWARD: policy drop
  the same network     172.17.0.2:80    depends   inet own forward #3: limit rate drop (depends on \"limit\", which is not understood)
  The host's firewall is in the way. To let it pass:
    ufw route allow proto tcp from any to 172.17.0.2 port 80

Not looked at: chain x
";
        assert_eq!(text(&found), expected);
    }
}
