//! What a shim reports by itself.

use skep_runtime::protocol::{Exit, Reply, Target};
use tokio::process::Child;

use super::ShimError;
use super::connection::{Connection, wrong_answer};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShimEvent {
    /// The container's init or an exec'd process has ended. For the container, its log is complete, its cgroup is gone and
    /// `exit.json` is written.
    Exited {
        /// Which.
        target: Target,
        /// How.
        exit: Exit,
    },
    /// A sentence for the user and the daemon's log, such as that the container's log can't be written.
    Trouble(String),
}

/// The events of one container, in order. For its owner task.
#[derive(Debug)]
pub struct ShimEvents {
    connection: Connection,
    /// The shim, if this daemon is its parent and so has to reap it. If dropped before, tokio does.
    child: Option<Child>,
}

impl ShimEvents {
    pub(super) fn new(connection: Connection, child: Option<Child>) -> Self {
        ShimEvents { connection, child }
    }

    /// The next event. `None` when the shim is gone; if no `Exited` of the container came before, it was killed, and the
    /// caller has to end what is left of the container by its cgroup. Safe to cancel.
    pub async fn next(&mut self) -> Result<Option<ShimEvent>, ShimError> {
        match self.connection.receive().await? {
            Some(Reply::Exited { target, exit }) => Ok(Some(ShimEvent::Exited { target, exit })),
            Some(Reply::Trouble(text)) => Ok(Some(ShimEvent::Trouble(text))),
            Some(other) => Err(wrong_answer(&other)),
            None => {
                if let Some(child) = &mut self.child {
                    child.wait().await?;
                }
                self.child = None;
                Ok(None)
            }
        }
    }
}
