//! `port`.

use skep_wire::ContainerInspect;

use super::published::join_host_port;
use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, NoFlags};
use crate::cli::value::go_reason;
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome, reference};
use crate::ui;

pub(crate) const COMMAND: Command = Command {
    paths: &["port", "container port"],
    usage: "CONTAINER [PRIVATE_PORT[/PROTO]]",
    about: "List port mappings or a specific mapping for the container",
    args: Args::Between(1, 2),
    completion: Completion::RunningContainers,
    flags: NoFlags::specs,
    run: runner!(NoFlags, run),
};

async fn run(cli: &Cli, _: NoFlags, words: Vec<String>) -> Outcome {
    let name = words.first().map(String::as_str).unwrap_or_default();
    let container: ContainerInspect = cli.client().await?.get(reference::container(name, "/json")?).await?;
    let lines = lines(name, words.get(1).map(String::as_str), &container.network_settings.ports)?;
    for line in lines {
        ui::line(&line);
    }
    Ok(())
}

fn lines(name: &str, wanted: Option<&str>, ports: &skep_wire::PortMap) -> Result<Vec<String>, Failure> {
    let number = |port: &str| port.split('/').next().and_then(|digits| digits.parse::<u16>().ok());
    let wanted = match wanted {
        None | Some("") => None,
        Some(text) => {
            let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
            port.parse::<u16>().map_err(|error| {
                let reason = go_reason(&error);
                Failure::message(format!("Error: invalid port ({port}): strconv.ParseUint: parsing {port:?}: {reason}"))
            })?;
            Some((text, format!("{port}/{}", if protocol.is_empty() { "tcp" } else { protocol })))
        }
    };
    let mut found = Vec::new();
    for (port, bindings) in ports {
        if wanted.as_ref().is_some_and(|(_, key)| key != port) {
            continue;
        }
        for binding in bindings.iter().flatten() {
            let host = join_host_port(&binding.host_ip, &binding.host_port);
            let line = if wanted.is_some() { host } else { format!("{port} -> {host}") };
            found.push((number(port), line));
        }
    }
    match wanted {
        Some((text, _)) if found.is_empty() => {
            Err(Failure::message(format!("Error: No public port '{text}' published for {name}")))
        }
        _ => {
            found.sort();
            Ok(found.into_iter().map(|(_, line)| line).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_wire::PortBinding;

    #[test]
    fn ports_are_listed_by_number() {
        let binding = |port: &str| Some(vec![PortBinding { host_ip: "0.0.0.0".into(), host_port: port.into() }]);
        let ports = [("80/tcp", binding("8080")), ("9/udp", binding("99")), ("443/tcp", None)];
        let ports = ports.into_iter().map(|(key, bindings)| (key.to_owned(), bindings)).collect();
        assert_eq!(lines("web", None, &ports).expect("good"), ["9/udp -> 0.0.0.0:99", "80/tcp -> 0.0.0.0:8080"]);
        assert_eq!(lines("web", Some("80"), &ports).expect("good"), ["0.0.0.0:8080"]);
        let failure = lines("web", Some("443"), &ports).expect_err("not published");
        assert_eq!(failure.text, "Error: No public port '443' published for web");
        assert!(lines("web", Some("x"), &ports).is_err());
    }
}
