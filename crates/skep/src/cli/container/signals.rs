//! Passing the signals that we receive on to a container's process.

use skep_client::Client;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use crate::cli::Failure;

/// Signals that a user or a supervisor sends to us and means for the process.
const FORWARDED: [(i32, &str); 13] = [
    (1, "HUP"),
    (2, "INT"),
    (3, "QUIT"),
    (10, "USR1"),
    (12, "USR2"),
    (14, "ALRM"),
    (15, "TERM"),
    (18, "CONT"),
    (24, "XCPU"),
    (25, "XFSZ"),
    (26, "VTALRM"),
    (29, "IO"),
    (30, "PWR"),
];

/// Forwards signals until dropped.
pub(crate) struct SignalProxy(Vec<JoinHandle<()>>);

impl SignalProxy {
    /// Takes the signals over at once. `path` is the container's, ending in `/kill`.
    pub(crate) fn start(client: &Client, path: &str) -> Result<Self, Failure> {
        let mut tasks = Vec::with_capacity(FORWARDED.len());
        for (number, name) in FORWARDED {
            let mut received = signal(SignalKind::from_raw(number))?;
            let client = client.clone();
            let target = format!("{path}?signal={name}");
            tasks.push(tokio::spawn(async move {
                while received.recv().await.is_some() {
                    // A process that is gone by now needs no signal.
                    let _ = client.post_empty(target.clone()).await;
                }
            }));
        }
        Ok(SignalProxy(tasks))
    }
}

impl Drop for SignalProxy {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}
