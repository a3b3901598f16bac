//! A terminal or pipes tied to a process in a container: streams, raw mode, size, detaching.

use std::future::pending;
use std::io;

use skep_client::{Client, Hijacked};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use crate::cli::{Cli, Failure};
use crate::ui::stdio::{DetachKeys, InputEnd, Shown, copy_multiplexed, copy_raw, copy_stdin};
use crate::ui::tty::{self, RawMode};

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionEnd {
    /// The process closed its output.
    Finished,
    /// The user typed the detach keys; the process goes on.
    Detached,
}

/// What a session ties together.
pub(crate) struct Session {
    /// The process has a terminal: one raw stream.
    pub(crate) tty: bool,
    /// Our stdin goes to the process.
    pub(crate) stdin: bool,
    pub(crate) shown: Shown,
    pub(crate) keys: DetachKeys,
}

impl Session {
    /// Copies until the process is done or the user detaches. The terminal's mode is restored on every way out.
    pub(crate) async fn run(self, stream: Hijacked) -> Result<SessionEnd, Failure> {
        let raw = if self.tty && self.stdin { RawMode::enter()? } else { None };
        let multiplexed = stream.is_multiplexed().unwrap_or(!self.tty) && !self.tty;
        let (mut reader, mut writer) = stream.split();
        let keys = self.tty.then_some(self.keys);
        let output = async {
            match multiplexed {
                true => copy_multiplexed(&mut reader, self.shown).await,
                false => copy_raw(&mut reader).await,
            }
        };
        let input = async {
            if !self.stdin {
                // The process sees at once that nothing will come.
                let _ = writer.close().await;
                return pending().await;
            }
            match copy_stdin(writer, keys).await {
                Ok(InputEnd::Detached) => SessionEnd::Detached,
                // The output decides when the session is over.
                Ok(InputEnd::Closed) | Err(_) => pending().await,
            }
        };
        let end = tokio::select! {
            biased;
            done = output => done.map(|()| SessionEnd::Finished),
            end = input => Ok(end),
        };
        drop(raw);
        end
    }
}

/// Refuses a terminal for the process when there is none for us to type at.
pub(crate) fn check_tty(stdin_attached: bool, tty: bool) -> Result<(), Failure> {
    if stdin_attached && tty && !tty::is_terminal(io::stdin()) {
        return Err(Failure::message("the input device is not a TTY"));
    }
    Ok(())
}

/// The keys of `--detach-keys`, of the config file, or Docker's.
pub(crate) fn detach_keys(cli: &Cli, given: &str) -> Result<DetachKeys, Failure> {
    let keys = match given {
        "" => cli.config().detach_keys.as_deref().unwrap_or(DetachKeys::DEFAULT),
        _ => given,
    };
    DetachKeys::parse(keys).map_err(|reason| Failure::message(format!("invalid detach keys ({keys}): {reason}")))
}

/// Tells the engine the terminal's size now and at every change, until dropped. `path` ends in `/resize`.
pub(crate) struct Resizer(JoinHandle<()>);

impl Resizer {
    pub(crate) fn start(client: &Client, path: String) -> Result<Self, Failure> {
        let mut changes = signal(SignalKind::window_change())?;
        let client = client.clone();
        Ok(Resizer(tokio::spawn(async move {
            loop {
                if let Some((rows, columns)) = tty::size() {
                    // The process may not have its terminal yet, or not any more; the next change tells again.
                    let _ = client.post_empty(format!("{path}?h={rows}&w={columns}")).await;
                }
                if changes.recv().await.is_none() {
                    return;
                }
            }
        })))
    }
}

impl Drop for Resizer {
    fn drop(&mut self) {
        self.0.abort();
    }
}
