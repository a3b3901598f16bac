//! `restart`.

use skep_client::Method;

use super::each::each;
use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Outcome, reference};

flags! {
    pub(crate) struct RestartFlags {
        signal: String => "signal" 's', "Signal that stops the container";
        timeout: Option<i64> => "timeout" 't', "Seconds to wait before killing the container";
        time: Option<i64> => "time", "Seconds to wait before killing the container (old name of --timeout)";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["restart", "container restart"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Restart one or more containers",
    args: Args::AtLeast(1),
    completion: Completion::Containers,
    flags: RestartFlags::specs,
    run: runner!(RestartFlags, run),
};

async fn run(cli: &Cli, flags: RestartFlags, names: Vec<String>) -> Outcome {
    let client = cli.client().await?;
    let timeout = flags.timeout.or(flags.time).map(|seconds| seconds.to_string());
    each(&names, async |name| {
        client
            .request(Method::POST, reference::container(&name, "/restart")?)
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
