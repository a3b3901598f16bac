//! `system dial-stdio`: the far end of an `ssh://` connection.

use tokio::io::{AsyncWriteExt, copy, split, stdin, stdout};

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, NoFlags};
use crate::cli::{Args, Cli, Command, Completion, Outcome};

pub(crate) const COMMAND: Command = Command {
    paths: &["system dial-stdio"],
    usage: "",
    about: "Proxy the stdio stream to the daemon connection. Should not be invoked manually.",
    args: Args::None,
    completion: Completion::Nothing,
    flags: NoFlags::specs,
    run: runner!(NoFlags, run),
};

async fn run(cli: &Cli, _: NoFlags, _: Vec<String>) -> Outcome {
    let connection = cli.client().await?.dial().await?;
    let (mut from_engine, mut to_engine) = split(connection);
    let upward = async {
        copy(&mut stdin(), &mut to_engine).await?;
        // The engine sees the end of the requests; its last answer still comes.
        to_engine.shutdown().await
    };
    let downward = async {
        let mut out = stdout();
        copy(&mut from_engine, &mut out).await?;
        out.flush().await
    };
    tokio::pin!(upward, downward);
    let mut sending = true;
    loop {
        tokio::select! {
            sent = &mut upward, if sending => {
                sent?;
                sending = false;
            }
            // Nothing can come back any more, whatever stdin still holds.
            received = &mut downward => return Ok(received?),
        }
    }
}
