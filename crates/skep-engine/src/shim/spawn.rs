//! Starting a shim, and finding it again.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;

use skep_runtime::protocol::{EXIT_RECORD, ExitRecord, Phase, Reply, Request, SHIM_CONFIG, ShimConfig, State};
use tokio::net::UnixStream;
use tokio::process::Command;

use super::connection::{Connection, wrong_answer};
use super::{ShimError, ShimEvents, ShimHandle};

/// The descriptor of the shim that a network namespace is passed as: its standard output, which it has no other use for.
const NETNS_FD: i32 = 1;

/// A container whose init waits at the gate.
#[derive(Debug)]
pub struct Spawned {
    /// To ask things of it.
    pub shim: ShimHandle,
    /// What happens to it. Dropping this before the start undoes the container.
    pub events: ShimEvents,
    /// What it is.
    pub created: Created,
}

/// The init at the gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Its process id.
    pub pid: i32,
    /// Its start time: field 22 of `/proc/PID/stat`.
    pub start_time: u64,
    /// What the machine refused but the container can do without, as sentences for the user.
    pub warnings: Vec<String>,
}

/// What became of a container while no daemon was there.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made once for a container, at the start of the daemon")]
pub enum Reconnected {
    /// It is still there; so are its events.
    Connected {
        /// To ask things of it.
        shim: ShimHandle,
        /// What happens from now on.
        events: ShimEvents,
        /// What it is now. Ended execs are listed here once.
        state: State,
    },
    /// It has ended.
    ExitedWhileAway(ExitRecord),
    /// Shim and record are both missing: the shim was killed, or the machine was started anew. What is left of the container is
    /// to be ended by its cgroup.
    Lost,
}

impl ShimHandle {
    /// Writes `shim.json` and starts the shim of the container in `bundle`, where `config.json` already is. Returns when the
    /// container's init waits at the gate. `runtime` is the path of the `skep-runtime` program.
    pub async fn spawn(
        runtime: &Path,
        bundle: &Path,
        mut config: ShimConfig,
        netns: Option<OwnedFd>,
    ) -> Result<Spawned, ShimError> {
        config.netns_fd = netns.as_ref().map(|_| NETNS_FD);
        let config_path = bundle.join(SHIM_CONFIG);
        let text = serde_json::to_vec(&config).map_err(skep_runtime::protocol::frame::FrameError::from)?;
        std::fs::write(&config_path, text).map_err(|source| ShimError::Bundle { path: config_path, source })?;

        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        // Without pre_exec and process group, the standard library takes posix_spawn: no copy of the daemon's page tables.
        let child = Command::new(runtime)
            .arg("shim")
            .arg("--bundle")
            .arg(bundle)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(netns.map_or_else(Stdio::null, Stdio::from))
            .spawn()
            .map_err(|source| ShimError::Spawn { path: runtime.to_owned(), source })?;

        let mut connection = Connection::new(UnixStream::from_std(ours)?);
        match connection.answer().await? {
            Reply::Created { pid, start_time, warnings } => Ok(Spawned {
                shim: ShimHandle::new(bundle),
                events: ShimEvents::new(connection, Some(child)),
                created: Created { pid, start_time, warnings },
            }),
            other => Err(wrong_answer(&other)),
        }
    }

    /// Finds the shim of a container that an earlier daemon has started, or how the container ended.
    pub async fn reconnect(bundle: &Path) -> Result<Reconnected, ShimError> {
        let found = match Connection::open(bundle).await {
            Ok(connection) => subscribe(connection).await,
            Err(e) => Err(e),
        };
        match found {
            Ok((connection, state)) if !matches!(state.phase, Phase::Exited(_)) => Ok(Reconnected::Connected {
                shim: ShimHandle::new(bundle),
                events: ShimEvents::new(connection, None),
                state,
            }),
            // It ends right now: the record is complete, and the bundle free for another start, when the shim is gone.
            Ok((mut connection, _)) => {
                let gone = async { while let Ok(Some(_)) = connection.receive().await {} };
                // A shim that does not end is no reason to wait for ever; what it has written so far is read.
                let _ = tokio::time::timeout(ENDING, gone).await;
                read_record(bundle)
            }
            // It ended: the record is written before the socket goes.
            Err(ShimError::Unreachable(_) | ShimError::NoAnswer | ShimError::Io(_)) => read_record(bundle),
            Err(e) => Err(e),
        }
    }
}

/// How long a shim whose container has ended may take to end.
const ENDING: std::time::Duration = std::time::Duration::from_secs(10);

async fn subscribe(mut connection: Connection) -> Result<(Connection, State), ShimError> {
    connection.send(&Request::Subscribe, None).await?;
    match connection.answer().await? {
        Reply::State(state) => Ok((connection, state)),
        other => Err(wrong_answer(&other)),
    }
}

fn read_record(bundle: &Path) -> Result<Reconnected, ShimError> {
    let path = bundle.join(EXIT_RECORD);
    match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Reconnected::ExitedWhileAway)
            .map_err(|e| ShimError::Bundle { path, source: e.into() }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Reconnected::Lost),
        Err(source) => Err(ShimError::Bundle { path, source }),
    }
}
