//! Rows of `ps`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use skep_engine::model::status::Status;
use skep_engine::model::view::{ContainerSize, ContainerView};
use skep_types::Digest;
use skep_wire::{ContainerSummary, Port, SummaryHostConfig, SummaryNetworks};

use super::{endpoint, host, inspect};

/// One row. `current` is what the name of its image leads to now: a container of an image that lost that name shows the
/// image's id instead.
pub(crate) fn container(
    view: &ContainerView,
    current: Option<Digest>,
    size: Option<ContainerSize>,
    now: DateTime<Utc>,
) -> ContainerSummary {
    let bytes = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let image = if current == Some(view.image_id) { view.config.image.clone() } else { view.image_id.to_string() };
    ContainerSummary {
        id: view.id.to_string(),
        names: vec![format!("/{}", view.name)],
        image,
        image_id: view.image_id.to_string(),
        command: command(&view.argv),
        created: view.created.timestamp(),
        ports: if view.status.running().is_some() { ports(view) } else { Vec::new() },
        size_rw: size.map_or(0, |size| bytes(size.writable)),
        size_root_fs: size.map_or(0, |size| bytes(size.root)),
        labels: view.config.labels.clone(),
        state: if inspect::never_ran(&view.status) { Status::Created.name() } else { view.status.name() }.to_owned(),
        status: status(&view.status, now),
        host_config: SummaryHostConfig {
            network_mode: host::network_mode(&view.host.network_mode),
            annotations: view.host.annotations.clone(),
        },
        network_settings: SummaryNetworks {
            networks: view.endpoints.iter().map(|(name, place)| (name.clone(), endpoint::endpoint(place))).collect(),
        },
        mounts: view.mounts.iter().map(inspect::mount_point).collect(),
        ..ContainerSummary::default()
    }
}

/// The command line; arguments with blanks are quoted.
fn command(argv: &[String]) -> String {
    let quoted = |(index, word): (usize, &String)| match index > 0 && word.contains(' ') {
        true => format!("'{word}'"),
        false => word.clone(),
    };
    argv.iter().enumerate().map(quoted).collect::<Vec<_>>().join(" ")
}

fn ports(view: &ContainerView) -> Vec<Port> {
    let mut ports = Vec::new();
    for (port, places) in &view.ports {
        let exposed =
            Port { private_port: port.number, protocol: port.protocol.as_str().to_owned(), ..Port::default() };
        if places.is_empty() {
            ports.push(exposed);
            continue;
        }
        ports.extend(places.iter().map(|place| Port {
            ip: place.host_ip.clone(),
            public_port: place.host_port.parse().unwrap_or_default(),
            ..exposed.clone()
        }));
    }
    ports
}

/// The column STATUS.
fn status(status: &Status, now: DateTime<Utc>) -> String {
    let since = |time: DateTime<Utc>| human((now - time).to_std().unwrap_or_default());
    match status {
        Status::Created => "Created".to_owned(),
        status if inspect::never_ran(status) => "Created".to_owned(),
        Status::Running(running) => format!("Up {}", since(running.started_at)),
        Status::Paused(running) => format!("Up {} (Paused)", since(running.started_at)),
        Status::Restarting(ended) => format!("Restarting ({}) {} ago", ended.code, since(ended.finished_at)),
        Status::Exited(ended) => format!("Exited ({}) {} ago", ended.code, since(ended.finished_at)),
        Status::Removing => "Removal In Progress".to_owned(),
        Status::Dead => "Dead".to_owned(),
    }
}

/// About how long: Docker's `units.HumanDuration`.
fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let hours = (seconds + 1800) / 3600;
    match (seconds, seconds / 60) {
        (0, _) => "Less than a second".to_owned(),
        (1, _) => "1 second".to_owned(),
        (2..60, _) => format!("{seconds} seconds"),
        (_, 1) => "About a minute".to_owned(),
        (_, minutes @ 2..60) => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_dockers() {
        const HOUR: u64 = 3600;
        const DAY: u64 = 24 * HOUR;
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (59 * 60 + 59, "59 minutes"),
            (HOUR, "About an hour"),
            (HOUR + 1800, "2 hours"),
            (47 * HOUR, "47 hours"),
            (2 * DAY, "2 days"),
            (13 * DAY, "13 days"),
            (14 * DAY, "2 weeks"),
            (59 * DAY, "8 weeks"),
            (60 * DAY, "2 months"),
            (729 * DAY, "24 months"),
            (730 * DAY, "2 years"),
        ] {
            assert_eq!(human(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn words_with_blanks_are_quoted() {
        let argv = ["sh", "-c", "echo a"].map(str::to_owned);
        assert_eq!(command(&argv), "sh -c 'echo a'");
    }
}
