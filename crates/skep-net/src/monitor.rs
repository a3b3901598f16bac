//! Hears what others do to the packet filter, and has the engine's table put back when it was among that.
//!
//! One thread per [`crate::NetworkStack`] sleeps on a netlink socket. The kernel announces each change with the number of
//! the socket that asked for it, so the engine's own are told apart. Somebody who removes the table again and again is
//! answered more and more slowly, but always.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use crate::error::NetError;
use crate::filter::{Change, read_event};
use crate::netlink::Events;

/// Changes within this time of each other are a quarrel.
const QUIET: Duration = Duration::from_secs(2);
/// Changes of a quarrel that are answered at once.
const PATIENT: u32 = 8;
/// The longest pause in a quarrel.
const LONGEST: Duration = Duration::from_secs(4);

/// The thread; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Monitor {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Monitor {
    /// Starts to listen in the calling thread's network namespace. `react` is called after changes that others made;
    /// `table` and `port` say what is the engine's.
    pub(crate) fn start(
        table: String,
        port: u32,
        react: impl FnMut(Change) + Send + 'static,
    ) -> Result<Monitor, NetError> {
        let failed = |source| NetError::Socket { operation: "listen to nftables", source };
        let events = Events::open().map_err(failed)?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
        let stop = Arc::new(stop);
        let stopped = Arc::clone(&stop);
        let listen = move || Listener { events, stop: stopped, table, port, react }.run();
        let thread = thread::Builder::new().name("net-monitor".to_owned()).spawn(listen).map_err(failed)?;
        Ok(Monitor { stop, thread: Some(thread) })
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let told = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        if let (Ok(_), Some(thread)) = (told, self.thread.take())
            && thread.join().is_err()
        {
            tracing::error!("the thread that watches the packet filter panicked");
        }
    }
}

struct Listener<R> {
    events: Events,
    stop: Arc<OwnedFd>,
    table: String,
    port: u32,
    react: R,
}

impl<R: FnMut(Change)> Listener<R> {
    fn run(mut self) {
        let mut pace = Pace::default();
        loop {
            let change = match self.next() {
                Ok(Some(change)) => change,
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(%error, "the packet filter is not watched any more");
                    return;
                }
            };
            if change == Change::Ours {
                let pause = pace.pause(Instant::now());
                if !pause.is_zero() && self.stopped_within(pause) {
                    return;
                }
            }
            (self.react)(change);
        }
    }

    /// The next change that others made; `None` when it is time to end.
    fn next(&mut self) -> io::Result<Option<Change>> {
        loop {
            let mut fds =
                [PollFd::from_borrowed_fd(self.stop.as_fd(), PollFlags::IN), PollFd::new(&self.events, PollFlags::IN)];
            match poll(&mut fds, None) {
                Err(Errno::INTR) => continue,
                other => other?,
            };
            if !fds[0].revents().is_empty() {
                return Ok(None);
            }
            let (table, port) = (&self.table, self.port);
            let mut change = None;
            let complete = self.events.drain(|message| change = change.max(read_event(message, table, port)))?;
            // Of what was lost the worst is assumed.
            let change = if complete { change } else { Some(Change::Ours) };
            if change.is_some() {
                return Ok(change);
            }
        }
    }

    /// Waits, unless it is time to end.
    fn stopped_within(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let mut fds = [PollFd::from_borrowed_fd(self.stop.as_fd(), PollFlags::IN)];
            let timeout = Timespec::try_from(left).ok();
            match poll(&mut fds, timeout.as_ref()) {
                Ok(0) => return false,
                Ok(_) => return true,
                Err(_) => {}
            }
        }
    }
}

/// How fast changes are answered.
#[derive(Debug, Default)]
struct Pace {
    last: Option<Instant>,
    quarrel: u32,
}

impl Pace {
    fn pause(&mut self, now: Instant) -> Duration {
        let quick = self.last.is_some_and(|last| now.saturating_duration_since(last) < QUIET + LONGEST);
        self.last = Some(now);
        self.quarrel = if quick { self.quarrel.saturating_add(1) } else { 0 };
        match self.quarrel.checked_sub(PATIENT) {
            None | Some(0) => Duration::ZERO,
            Some(more) => LONGEST.min(Duration::from_millis(25 << more.min(8))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarrel_is_answered_slower_and_forgotten() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let pauses: Vec<_> = (0..30).map(|_| pace.pause(now)).collect();
        assert!(pauses[..9].iter().all(Duration::is_zero));
        assert!(pauses[9..].windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(pauses[29], LONGEST);
        assert!(pace.pause(now + QUIET + LONGEST).is_zero());
    }
}
