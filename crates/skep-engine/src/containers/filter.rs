//! Which containers `ps` lists.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use skep_types::Port;

use crate::model::host::PortBinding;
use crate::model::request::ListContainers;
use crate::model::status::Status;
use crate::model::view::ContainerView;
use crate::{Error, Result};

const KEYS: [&str; 17] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
    "until",
    "label!",
];
const STATES: [&str; 7] = ["paused", "restarting", "removing", "running", "dead", "created", "exited"];

/// Filters and sorts newest first. `image_ids` turns an image's name into the ids of the images behind it, for `ancestor`.
pub(crate) fn select(
    mut all: Vec<Arc<ContainerView>>,
    options: &ListContainers,
    image_ids: &dyn Fn(&str) -> BTreeSet<skep_types::Digest>,
) -> Result<Vec<Arc<ContainerView>>> {
    let filters = &options.filters;
    check(filters)?;
    all.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| b.id.cmp(&a.id)));
    let moment = |key: &str| -> Result<Option<DateTime<Utc>>> {
        let Some(name) = filters.get(key).and_then(|values| values.first()) else { return Ok(None) };
        let found = all.iter().find(|view| is_named(view, name));
        found.map(|view| Some(view.created)).ok_or_else(|| Error::NoSuchContainer(name.clone()))
    };
    let (before, since) = (moment("before")?, moment("since")?);
    let ancestors: BTreeSet<skep_types::Digest> =
        values(filters, "ancestor").flat_map(|name| image_ids(name)).collect();
    // Asking for a state, or for the newest so many, includes those that don't run.
    let everything =
        options.all || options.limit.is_some() || filters.contains_key("status") || filters.contains_key("exited");
    let mut selected: Vec<Arc<ContainerView>> = all
        .into_iter()
        .filter(|view| everything || view.status.running().is_some() || matches!(view.status, Status::Restarting(_)))
        .filter(|view| before.is_none_or(|moment| view.created < moment))
        .filter(|view| since.is_none_or(|moment| view.created > moment))
        .filter(|view| {
            !filters.contains_key("ancestor")
                || ancestors.contains(&view.image_id)
                || values(filters, "ancestor").any(|name| *name == view.config.image)
        })
        .filter(|view| matches(view, filters))
        .collect();
    if let Some(limit) = options.limit {
        selected.truncate(limit);
    }
    Ok(selected)
}

fn check(filters: &BTreeMap<String, Vec<String>>) -> Result<()> {
    if let Some(key) = filters.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(Error::Invalid(format!("invalid filter '{key}'")));
    }
    if let Some(state) = values(filters, "status").find(|state| !STATES.contains(&state.as_str())) {
        return Err(Error::Invalid(format!(
            "invalid filter 'status={state}': invalid value for state ({state}): must be one of created, running, paused, \
             restarting, removing, exited, dead"
        )));
    }
    if let Some(code) = values(filters, "exited").find(|code| code.parse::<i32>().is_err()) {
        return Err(Error::Invalid(format!("invalid filter 'exited={code}'")));
    }
    if let Some(health) = values(filters, "health")
        .find(|health| !["none", "starting", "healthy", "unhealthy"].contains(&health.as_str()))
    {
        return Err(Error::Invalid(format!("invalid filter 'health={health}'")));
    }
    Ok(())
}

fn values<'a>(filters: &'a BTreeMap<String, Vec<String>>, key: &str) -> impl Iterator<Item = &'a String> {
    filters.get(key).into_iter().flatten()
}

fn is_named(view: &ContainerView, name: &str) -> bool {
    view.name.as_str() == name.trim_start_matches('/') || view.id.to_string().starts_with(name)
}

fn matches(view: &ContainerView, filters: &BTreeMap<String, Vec<String>>) -> bool {
    filters.iter().all(|(key, wanted)| match key.as_str() {
        "label" => wanted.iter().all(|label| has_label(&view.config.labels, label)),
        "label!" => !wanted.iter().any(|label| has_label(&view.config.labels, label)),
        "before" | "since" | "ancestor" => true,
        _ => wanted.iter().any(|value| matches_one(view, key, value)),
    })
}

fn matches_one(view: &ContainerView, key: &str, value: &str) -> bool {
    match key {
        "id" => view.id.to_string().starts_with(value),
        "name" => name_matches(view.name.as_str(), value),
        "status" => view.status.name() == value,
        "exited" => view.status.exited().is_some_and(|exited| value.parse() == Ok(exited.code)),
        "health" => value == "none",
        "is-task" => matches!(value, "false" | "0"),
        "isolation" => value == "default",
        "network" => view.endpoints.iter().any(|(name, endpoint)| {
            name == value || (value.len() >= 12 && endpoint.network.to_string().starts_with(value))
        }),
        "volume" => {
            view.mounts.iter().any(|mount| mount.name == value || mount.destination == value || mount.source == value)
        }
        // The host's side of what is published, the container's of what is exposed.
        "publish" => in_ports(value, view.ports.iter().flat_map(|(port, bound)| host_sides(*port, bound))),
        "expose" => in_ports(value, view.config.exposed_ports.iter().chain(view.ports.keys()).copied()),
        _ => false,
    }
}

/// Docker takes the value as a regular expression; anchors and plain text are what people write.
pub(crate) fn name_matches(name: &str, pattern: &str) -> bool {
    let (start, end) = (pattern.starts_with('^'), pattern.ends_with('$'));
    let text = pattern.trim_start_matches('^').trim_end_matches('$').trim_start_matches('/');
    match (start, end) {
        (true, true) => name == text,
        (true, false) => name.starts_with(text),
        (false, true) => name.ends_with(text),
        (false, false) => name.contains(text),
    }
}

fn has_label(labels: &BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
        None => labels.contains_key(wanted),
    }
}

fn host_sides(port: Port, bound: &[PortBinding]) -> impl Iterator<Item = Port> {
    let numbers = bound.iter().filter_map(|binding| binding.host_port.parse().ok());
    numbers.map(move |number| Port { number, protocol: port.protocol })
}

/// `80`, `80/udp`, `8000-8010/tcp`.
fn in_ports(value: &str, mut ports: impl Iterator<Item = Port>) -> bool {
    let (range, protocol) = value.split_once('/').unwrap_or((value, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else { return false };
    ports.any(|port| (first..=last).contains(&port.number) && port.protocol.as_str() == protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_with_and_without_anchors() {
        assert!(name_matches("web_1", "web"));
        assert!(name_matches("web_1", "^web_1$") && name_matches("web_1", "^/web_1$"));
        assert!(!name_matches("my_web", "^web"));
    }

    #[test]
    fn ports_match_in_ranges() {
        let ports = ["80/tcp".parse().expect("a port"), "53/udp".parse().expect("a port")];
        let found = |value: &str| in_ports(value, ports.iter().copied());
        assert!(found("80") && found("70-90/tcp") && found("53/udp"));
        assert!(!found("53") && !found("x"));
        let bound = ["8080", ""].map(|port| PortBinding { host_ip: String::new(), host_port: port.to_owned() });
        assert!(in_ports("8080", host_sides(ports[0], &bound)));
        assert!(!in_ports("80", host_sides(ports[0], &bound)));
    }

    #[test]
    fn wrong_filters_get_dockers_words() {
        let one = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), vec![value.to_owned()])]);
        assert_eq!(check(&one("color", "red")).expect_err("unknown").to_string(), "invalid filter 'color'");
        assert_eq!(
            check(&one("status", "dizzy")).expect_err("unknown").to_string(),
            "invalid filter 'status=dizzy': invalid value for state (dizzy): must be one of created, running, paused, restarting, \
             removing, exited, dead"
        );
    }
}
