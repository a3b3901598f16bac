//! Deletes links.
//!
//! The kernel takes some 20 ms to delete a link, nearly all of it waiting until nobody can still be looking at it. It can
//! wait once for many: links that are asked for while it is busy are gathered in a group, and the group is deleted in one go.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use rustix::io::Errno;

use crate::bridge::failed;
use crate::error::NetError;
use crate::netlink::{Batch, Socket, route};

const HIGH: u32 = 0x4000_0000;

/// One per stack. [`Reaper::delete`] may be called by many at once.
#[derive(Debug)]
pub(crate) struct Reaper {
    /// The number by which the kernel tells the gathered links from all others.
    group: u32,
    waiting: Mutex<Waiting>,
    work: Mutex<Work>,
}

#[derive(Debug, Default)]
struct Waiting {
    tickets: u64,
    names: Vec<(u64, String)>,
}

#[derive(Debug)]
struct Work {
    socket: Socket,
    /// All tickets below are done with.
    done: u64,
    failures: BTreeMap<u64, NetError>,
}

impl Reaper {
    pub(crate) fn new(socket: Socket) -> Self {
        // No other reaper of the namespace has the same socket number, and administrators' groups are small ones.
        let group = socket.port() | HIGH;
        let work = Work { socket, done: 0, failures: BTreeMap::new() };
        Reaper { group, waiting: Mutex::default(), work: Mutex::new(work) }
    }

    /// Deletes links and waits until they are gone. Those that are gone already are no error.
    pub(crate) fn delete(&self, names: impl IntoIterator<Item = String>) -> Result<(), NetError> {
        let (first, behind) = self.enqueue(names);
        if first == behind {
            return Ok(());
        }
        let mut work = self.work.lock();
        // Whoever had the socket before may have done it along with its own.
        if work.done < behind {
            let (names, done) = self.take_waiting();
            work.delete(&names, self.group);
            work.done = done;
        }
        let mut failures = work.failures.split_off(&first);
        work.failures.append(&mut failures.split_off(&behind));
        failures.into_values().next().map_or(Ok(()), Err)
    }

    /// The tickets that `names` have got: from the first up to, and without, the second.
    fn enqueue(&self, names: impl IntoIterator<Item = String>) -> (u64, u64) {
        let mut waiting = self.waiting.lock();
        let first = waiting.tickets;
        for name in names {
            let ticket = waiting.tickets;
            waiting.names.push((ticket, name));
            waiting.tickets += 1;
        }
        (first, waiting.tickets)
    }

    fn take_waiting(&self) -> (Vec<(u64, String)>, u64) {
        let mut waiting = self.waiting.lock();
        (std::mem::take(&mut waiting.names), waiting.tickets)
    }
}

impl Work {
    fn delete(&mut self, names: &[(u64, String)], group: u32) {
        if let [(ticket, name)] = names {
            return self.one(*ticket, name, route::delete_link);
        }
        for (ticket, name) in names {
            self.one(*ticket, name, |batch, name| route::set_group(batch, name, group));
        }
        let mut batch = Batch::new();
        route::delete_group(&mut batch, group);
        match self.socket.run(&batch) {
            Err(e) if e.errno != Errno::NODEV => {
                let failed = |(ticket, name): &(u64, String)| (*ticket, failed("delete", name, e.clone()));
                self.failures.extend(names.iter().map(failed));
            }
            Ok(()) | Err(_) => {}
        }
    }

    fn one(&mut self, ticket: u64, name: &str, request: impl FnOnce(&mut Batch, &str)) {
        let mut batch = Batch::new();
        request(&mut batch, name);
        match self.socket.run(&batch) {
            Err(e) if e.errno != Errno::NODEV => drop(self.failures.insert(ticket, failed("delete", name, e))),
            Ok(()) | Err(_) => {}
        }
    }
}
