//! `stats`: one task per container takes its samples off the stream, a clock draws them.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use skep_client::{Client, JsonStream, Method};
use skep_wire::{ContainerSummary, Event, Stats};
use tokio::task::JoinSet;

use super::sample::{Sample, row};
use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome, reference};
use crate::ui;
use crate::ui::listing::{self, Columns};

const REDRAW: Duration = Duration::from_millis(500);

flags! {
    pub(crate) struct StatsFlags {
        all: bool => "all" 'a', "Show containers that are not running, too";
        format: String => "format", "Form of the output: table, 'table TEMPLATE', json, or a Go TEMPLATE";
        no_stream: bool => "no-stream", "Show one sample and end";
        no_trunc: bool => "no-trunc", "Do not shorten the output";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["stats", "container stats"],
    usage: "[OPTIONS] [CONTAINER...]",
    about: "Display a live stream of container(s) resource usage statistics",
    args: Args::AtLeast(0),
    completion: Completion::RunningContainers,
    flags: StatsFlags::specs,
    run: runner!(StatsFlags, run),
};

const COLUMNS: Columns = Columns {
    type_name: "*container.statsContext",
    titles: &[
        ("Container", "CONTAINER"),
        ("ID", "CONTAINER ID"),
        ("Name", "NAME"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
    default_table: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
};

/// The containers shown, in the order in which they came.
#[derive(Clone, Default)]
struct Board(Arc<Mutex<Rows>>);

/// Ids, and what was heard of them last.
type Rows = Vec<(String, Option<Sample>)>;

impl Board {
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False if it is shown already.
    fn add(&self, name: &str) -> bool {
        let mut rows = self.rows();
        let is_new = rows.iter().all(|(shown, _)| shown != name);
        if is_new {
            rows.push((name.to_owned(), None));
        }
        is_new
    }

    fn set(&self, name: &str, sample: Sample) {
        if let Some((_, slot)) = self.rows().iter_mut().find(|(shown, _)| shown == name) {
            *slot = Some(sample);
        }
    }

    fn remove(&self, name: &str) {
        self.rows().retain(|(shown, _)| shown != name);
    }

    fn render(&self, format: &str, truncate: bool) -> Result<String, String> {
        let rows: Vec<Value> = self.rows().iter().map(|(name, sample)| row(name, sample.as_ref(), truncate)).collect();
        listing::render(&COLUMNS, format, &rows)
    }
}

async fn run(cli: &Cli, flags: StatsFlags, names: Vec<String>) -> Outcome {
    let client = cli.client().await?;
    let format = match (flags.format.as_str(), &cli.config().stats_format) {
        ("", Some(configured)) => configured.clone(),
        (given, _) => given.to_owned(),
    };
    let follow_engine = names.is_empty();
    // Subscribed before the list is read, so that no container is missed in between.
    let events = match follow_engine && !flags.no_stream {
        true => Some(container_events(client).await?),
        false => None,
    };
    let names = if follow_engine { listed(client, flags.all).await? } else { names };
    let board = Board::default();
    let mut watchers = JoinSet::new();
    for name in &names {
        watch(&mut watchers, client, &board, name, !flags.no_stream)?;
    }
    if flags.no_stream {
        let failed = finish(watchers).await;
        if failed.is_empty() || follow_engine {
            ui::print(&board.render(&format, !flags.no_trunc)?);
        }
        return if follow_engine { Ok(()) } else { Failure::all(failed) };
    }
    live(client, &flags, &format, &board, watchers, events).await
}

/// Draws until all containers that were named are gone.
async fn live(
    client: &Client,
    flags: &StatsFlags,
    format: &str,
    board: &Board,
    mut watchers: JoinSet<Option<String>>,
    mut events: Option<JsonStream<Event>>,
) -> Outcome {
    let redraw = std::io::stdout().is_terminal();
    let mut clock = tokio::time::interval(REDRAW);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    if redraw {
        ui::print("\u{1b}[2J");
    }
    let mut failed = Vec::new();
    loop {
        tokio::select! {
            _ = clock.tick() => {
                let text = board.render(format, !flags.no_trunc)?;
                match redraw {
                    // Lines are overwritten in place, which flickers less than clearing the screen.
                    true => ui::print(&format!("\u{1b}[H{}\u{1b}[J", text.replace('\n', "\u{1b}[K\n"))),
                    false => ui::print(&text),
                }
            }
            event = next_event(&mut events) => match event? {
                None => return Ok(()),
                Some(event) => match event.action.as_str() {
                    "create" if flags.all => watch(&mut watchers, client, board, &event.actor.id, true)?,
                    "start" => watch(&mut watchers, client, board, &event.actor.id, true)?,
                    "die" if !flags.all => board.remove(&event.actor.id),
                    "destroy" => board.remove(&event.actor.id),
                    _ => {}
                },
            },
            Some(ended) = watchers.join_next() => {
                failed.extend(ended.ok().flatten());
                if watchers.is_empty() && events.is_none() {
                    return Failure::all(failed);
                }
            }
        }
    }
}

/// Waits for ever if nobody asked for events.
async fn next_event(events: &mut Option<JsonStream<Event>>) -> Result<Option<Event>, Failure> {
    match events {
        Some(events) => Ok(events.next().await?),
        None => std::future::pending().await,
    }
}

async fn finish(mut watchers: JoinSet<Option<String>>) -> Vec<String> {
    let mut failed = Vec::new();
    while let Some(ended) = watchers.join_next().await {
        failed.extend(ended.ok().flatten());
    }
    failed
}

/// Puts a container on the board and starts a task that keeps its line fresh; the task ends with the reason if it failed.
fn watch(
    watchers: &mut JoinSet<Option<String>>,
    client: &Client,
    board: &Board,
    name: &str,
    stream: bool,
) -> Result<(), Failure> {
    let path = reference::container(name, "/stats")?;
    if !board.add(name) {
        return Ok(());
    }
    let (client, board, name) = (client.clone(), board.clone(), name.to_owned());
    watchers.spawn(async move {
        let outcome = follow(&client, &board, &name, path, stream).await;
        if stream || outcome.is_err() {
            board.remove(&name);
        }
        outcome.err().map(|error| error.to_string())
    });
    Ok(())
}

async fn follow(
    client: &Client,
    board: &Board,
    name: &str,
    path: String,
    stream: bool,
) -> Result<(), skep_client::Error> {
    let request = client.request(Method::GET, path).query("stream", if stream { "1" } else { "0" });
    let mut samples = request.send().await?.json_stream::<Stats>();
    while let Some(stats) = samples.next().await? {
        board.set(name, Sample::new(&stats));
        if !stream {
            break;
        }
    }
    Ok(())
}

async fn listed(client: &Client, all: bool) -> Result<Vec<String>, Failure> {
    let request = client.request(Method::GET, "/containers/json").query_flag("all", all);
    let containers: Vec<ContainerSummary> = request.send().await?.json().await?;
    Ok(containers.into_iter().map(|container| container.id).collect())
}

async fn container_events(client: &Client) -> Result<JsonStream<Event>, Failure> {
    let request = client.request(Method::GET, "/events").query("filters", r#"{"type":{"container":true}}"#);
    Ok(request.send().await?.json_stream())
}
