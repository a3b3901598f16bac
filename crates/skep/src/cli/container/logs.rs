//! `logs`.

use skep_client::Method;
use skep_wire::ContainerInspect;

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Outcome, moment, reference};
use crate::ui;
use crate::ui::stdio::{Shown, Splitter};

flags! {
    pub(crate) struct LogFlags {
        details: bool => "details", "Show the attributes that the log options add";
        follow: bool => "follow" 'f', "Go on with what is written from now on";
        since: String => "since", "Show what was written after a time (\"2013-01-02T13:23:37Z\") or span (\"42m\")";
        tail: String = "all" => "tail" 'n', "Number of lines to show from the end";
        timestamps: bool => "timestamps" 't', "Show the time of each line";
        until: String => "until", "Show what was written before a time (\"2013-01-02T13:23:37Z\") or span (\"42m\")";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["logs", "container logs"],
    usage: "[OPTIONS] CONTAINER",
    about: "Fetch the logs of a container",
    args: Args::Exactly(1),
    completion: Completion::Containers,
    flags: LogFlags::specs,
    run: runner!(LogFlags, run),
};

async fn run(cli: &Cli, flags: LogFlags, words: Vec<String>) -> Outcome {
    let name = words.first().map(String::as_str).unwrap_or_default();
    let client = cli.client().await?;
    let container: ContainerInspect = client.get(reference::container(name, "/json")?).await?;
    let since = moment::parse(&flags.since).map_err(|e| format!("invalid value for \"since\": {}", e.text))?;
    let until = moment::parse(&flags.until).map_err(|e| format!("invalid value for \"until\": {}", e.text))?;
    let mut body = client
        .request(Method::GET, format!("/containers/{}/logs", container.id))
        .query("stdout", "1")
        .query("stderr", "1")
        .query_opt("since", Some(since))
        .query_opt("until", Some(until))
        .query_flag("timestamps", flags.timestamps)
        .query_flag("details", flags.details)
        .query_flag("follow", flags.follow)
        .query("tail", &flags.tail)
        .send()
        .await?;
    let mut splitter = Splitter::new(Shown { stdout: true, stderr: true });
    while let Some(chunk) = body.chunk().await? {
        match container.config.tty {
            true => ui::write_stdout(&chunk),
            false => splitter.feed(&chunk).await?,
        }
    }
    Ok(())
}
