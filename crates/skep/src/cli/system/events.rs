//! `events`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{DateTime, Local, SecondsFormat};
use serde_json::Value;
use skep_client::Method;
use skep_wire::Event;

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::moment;
use crate::cli::value::Filter;
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome};
use crate::ui;
use crate::ui::template::{Format, Purpose};

flags! {
    pub(crate) struct EventsFlags {
        filter: Filter => "filter" 'f', "Filter output based on conditions provided";
        format: String => "format", "Format output: 'json' or a Go template";
        since: String => "since", "Show all events created since timestamp";
        until: String => "until", "Stream events until this timestamp";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["events", "system events"],
    usage: "[OPTIONS]",
    about: "Get real time events from the server",
    args: Args::None,
    completion: Completion::Nothing,
    flags: EventsFlags::specs,
    run: runner!(EventsFlags, run),
};

async fn run(cli: &Cli, flags: EventsFlags, _: Vec<String>) -> Outcome {
    const BAD_TEMPLATE: i32 = 64;
    let format = match flags.format.as_str() {
        "" => None,
        "json" => Some(Format::parse("{{json .}}", Purpose::Data)?),
        text => Some(Format::parse(text, Purpose::Data).map_err(|text| Failure::new(BAD_TEMPLATE, text))?),
    };
    let is_json = matches!(flags.format.as_str(), "json" | "{{json .}}");
    let response = cli
        .client()
        .await?
        .request(Method::GET, "/events")
        .query_opt("since", Some(moment::parse(&flags.since)?))
        .query_opt("until", Some(moment::parse(&flags.until)?))
        .query_opt("filters", flags.filter.to_query())
        .send()
        .await?;
    let mut events = response.json_stream::<Event>();
    while let Some(event) = events.next().await? {
        match &format {
            None => ui::line(&line(&event)),
            // Written from the type: its fields stay in the engine's order.
            Some(_) if is_json => ui::line(&serde_json::to_string(&event)?),
            Some(format) => ui::line(&format.render(&fields(&event)?, "*events.Message")?),
        }
    }
    Ok(())
}

/// An event as templates see it: with Go's names, and every field there.
fn fields(event: &Event) -> Result<Value, serde_json::Error> {
    Ok(serde_json::json!({
        "Status": event.status,
        "ID": event.id,
        "From": event.from,
        "Type": event.kind,
        "Action": event.action,
        "Actor": {"ID": event.actor.id, "Attributes": attributes(&event.actor.attributes)?},
        "Scope": event.scope,
        "Time": event.time,
        "TimeNano": event.time_nano,
    }))
}

fn attributes(attributes: &BTreeMap<String, String>) -> Result<Value, serde_json::Error> {
    serde_json::to_value(attributes)
}

/// `TIME TYPE ACTION ID (key=value, ...)`, in local time.
fn line(event: &Event) -> String {
    let mut out = String::new();
    let time = match event.time_nano {
        0 => DateTime::from_timestamp(event.time, 0),
        nanos => Some(DateTime::from_timestamp_nanos(nanos)),
    };
    if let Some(time) = time.filter(|time| time.timestamp() != 0) {
        let text = time.with_timezone(&Local).to_rfc3339_opts(SecondsFormat::Nanos, true);
        let _ = write!(out, "{text} ");
    }
    let _ = write!(out, "{} {} {}", event.kind, event.action, event.actor.id);
    if !event.actor.attributes.is_empty() {
        let pairs: Vec<String> = event.actor.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let _ = write!(out, " ({})", pairs.join(", "));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_time_thing_and_attributes() {
        let event = Event {
            kind: "container".into(),
            action: "start".into(),
            actor: skep_wire::EventActor {
                id: "abc".into(),
                attributes: [("name", "web"), ("image", "busybox")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            },
            time_nano: 1_700_000_000_000_000_001,
            ..Event::default()
        };
        let line = line(&event);
        assert!(line.contains(":20.000000001"), "{line}");
        assert!(line.ends_with(" container start abc (image=busybox, name=web)"), "{line}");
        let format = Format::parse("{{.Type}} {{.Actor.Attributes.name}} {{.Time}}", Purpose::Data).expect("good");
        assert_eq!(format.render(&fields(&event).expect("json"), "").as_deref(), Ok("container web 0"));
    }
}
