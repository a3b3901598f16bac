//! `stop`, and what `restart` shares with it.

use skep_client::Method;

use super::each::each;
use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Outcome, reference};

flags! {
    pub(crate) struct StopFlags {
        signal: String => "signal" 's', "Signal that stops the container";
        timeout: Option<i64> => "timeout" 't', "Seconds to wait before killing the container";
        time: Option<i64> => "time", "Seconds to wait before killing the container (old name of --timeout)";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["stop", "container stop"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Stop one or more running containers",
    args: Args::AtLeast(1),
    completion: Completion::RunningContainers,
    flags: StopFlags::specs,
    run: runner!(StopFlags, run),
};

async fn run(cli: &Cli, flags: StopFlags, names: Vec<String>) -> Outcome {
    ask(cli, "/stop", flags, names).await
}

pub(super) async fn ask(cli: &Cli, operation: &str, flags: StopFlags, names: Vec<String>) -> Outcome {
    let client = cli.client().await?;
    let timeout = flags.timeout.or(flags.time).map(|seconds| seconds.to_string());
    each(&names, async |name| {
        client
            .request(Method::POST, reference::container(&name, operation)?)
            .query_opt("signal", Some(&flags.signal))
            .query_opt("t", timeout.as_deref())
            .send()
            .await?
            .bytes()
            .await?;
        Ok(())
    })
    .await
}
