//! The event stream: a bounded memory of the past and a broadcast of what comes.
//!
//! Events are not stored: after a restart of the daemon the past is empty, as with Docker. A subscriber that is too slow
//! loses the oldest events rather than holding up the engine.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;

use chrono::Utc;
use futures_util::{Stream, StreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

use crate::model::event::{Event, EventFilter, EventType};

/// How many past events are kept; Docker keeps 256, which a busy minute overruns.
const KEPT: usize = 4096;
/// How far a subscriber may lag.
const BUFFER: usize = 4096;

pub(crate) struct Events {
    past: Mutex<VecDeque<Event>>,
    sender: broadcast::Sender<Event>,
}

impl Events {
    pub(crate) fn new() -> Self {
        Events { past: Mutex::new(VecDeque::new()), sender: broadcast::channel(BUFFER).0 }
    }

    pub(crate) fn emit(
        &self,
        kind: EventType,
        action: impl Into<String>,
        actor: impl Into<String>,
        attributes: BTreeMap<String, String>,
    ) {
        let event = Event { kind, action: action.into(), actor: actor.into(), attributes, time: Utc::now() };
        let mut past = self.past.lock();
        if past.len() == KEPT {
            past.pop_front();
        }
        past.push_back(event.clone());
        // Sent under the lock, so that a subscriber sees each event once: in the past or live. No subscriber is no error.
        let _ = self.sender.send(event);
    }

    pub(crate) fn listeners(&self) -> usize {
        self.sender.receiver_count()
    }

    pub(crate) fn subscribe(&self, filter: EventFilter) -> Pin<Box<dyn Stream<Item = Event> + Send>> {
        let past = self.past.lock();
        let live = BroadcastStream::new(self.sender.subscribe());
        let wanted = |event: &Event| {
            filter.since.is_some_and(|since| event.time >= since)
                && filter.until.is_none_or(|until| event.time <= until)
        };
        let replay: Vec<Event> =
            past.iter().filter(|event| wanted(event) && matches(event, &filter.filters)).cloned().collect();
        drop(past);
        let replay = stream::iter(replay);
        let Some(until) = filter.until else {
            let filters = filter.filters;
            let live = live.filter_map(move |event| {
                let keep = event.ok().filter(|event| matches(event, &filters));
                async move { keep }
            });
            return Box::pin(replay.chain(live));
        };
        let left = (until - Utc::now()).to_std().unwrap_or_default();
        if left.is_zero() {
            return Box::pin(replay);
        }
        let filters = filter.filters;
        let live = live
            .filter_map(move |event| {
                let keep = event.ok().filter(|event| matches(event, &filters));
                async move { keep }
            })
            .take_until(tokio::time::sleep(left));
        Box::pin(replay.chain(live))
    }
}

fn matches(event: &Event, filters: &BTreeMap<String, Vec<String>>) -> bool {
    let attribute = |name: &str| event.attributes.get(name).map_or("", String::as_str);
    let names = |kind: EventType, value: &str| {
        event.kind == kind
            && (event.actor == value || attribute("name") == value || {
                kind == EventType::Container && value.len() >= 4 && event.actor.starts_with(value)
            })
    };
    filters.iter().all(|(key, values)| {
        values.is_empty()
            || values.iter().any(|value| match key.as_str() {
                "type" => event.kind.as_str() == value,
                "event" => event.action == *value || event.action.split(':').next() == Some(value),
                "container" => names(EventType::Container, value) || attribute("container") == value,
                "image" => {
                    names(EventType::Image, value) || event.kind == EventType::Container && attribute("image") == value
                }
                "volume" => names(EventType::Volume, value),
                "network" => names(EventType::Network, value),
                "daemon" => names(EventType::Daemon, value),
                "scope" => value == "local",
                "label" => match value.split_once('=') {
                    Some((name, wanted)) => event.attributes.get(name).is_some_and(|found| found == wanted),
                    None => event.attributes.contains_key(value),
                },
                // Kinds of things that there are none of.
                "config" | "node" | "plugin" | "secret" | "service" => false,
                // dockerd takes no notice of keys that it doesn't know.
                _ => true,
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(key: &str, value: &str) -> EventFilter {
        EventFilter {
            since: Some(chrono::DateTime::UNIX_EPOCH),
            until: Some(Utc::now() + chrono::Duration::milliseconds(50)),
            filters: BTreeMap::from([(key.to_owned(), vec![value.to_owned()])]),
        }
    }

    #[tokio::test]
    async fn past_and_coming_events_are_each_seen_once() {
        let events = Events::new();
        events.emit(EventType::Container, "create", "c1", BTreeMap::from([("name".to_owned(), "web".to_owned())]));
        events.emit(EventType::Volume, "create", "v1", BTreeMap::new());
        let stream = events.subscribe(filter("container", "web"));
        events.emit(EventType::Container, "start", "c1", BTreeMap::from([("name".to_owned(), "web".to_owned())]));
        let seen: Vec<String> = stream.map(|event| event.action).collect().await;
        assert_eq!(seen, ["create", "start"]);
    }

    #[tokio::test]
    async fn exec_events_match_by_their_first_word() {
        let events = Events::new();
        events.emit(EventType::Container, "exec_create: sh -c true", "c1", BTreeMap::new());
        let stream = events.subscribe(filter("event", "exec_create"));
        assert_eq!(stream.count().await, 1);
    }

    #[tokio::test]
    async fn unknown_filters_leave_everything() {
        let events = Events::new();
        events.emit(EventType::Volume, "create", "v1", BTreeMap::new());
        assert_eq!(events.subscribe(filter("colour", "red")).count().await, 1);
        assert_eq!(events.subscribe(filter("plugin", "red")).count().await, 0);
    }
}
