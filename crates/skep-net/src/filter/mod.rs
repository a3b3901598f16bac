//! The engine's nftables table.
//!
//! One table of family inet holds a fixed set of chains and rules ([`rules`]); networks and published ports are only
//! elements of its sets and maps ([`elements`]). Every change is one netlink batch, which the kernel applies whole or not
//! at all. If somebody flushes the table away, it is put back whole, at once ([`crate::monitor`]).

mod elements;
mod events;
mod present;
mod rules;
mod write;

use std::io;

use rustix::io::Errno;

pub(crate) use elements::{Element, arrange};
pub(crate) use events::{Change, read as read_event};
use write::{DELETE_TABLE, FilterBatch, NEW_TABLE};

use crate::bypass;
use crate::error::NetError;
use crate::netlink::{Batch, Refused, Socket};

/// What the forward chain does with traffic that is not the engine's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Others {
    Accept,
    Drop,
}

/// How often the table may change under the engine's hands while it is being replaced.
const ATTEMPTS: u32 = 5;

/// The table and the socket to change it with.
#[derive(Debug)]
pub(crate) struct Filter {
    socket: Socket,
    table: String,
}

impl Filter {
    pub(crate) fn open(table: &str) -> Result<Self, NetError> {
        let socket =
            Socket::netfilter().map_err(|source| NetError::Socket { operation: "open for nftables", source })?;
        Ok(Filter { socket, table: table.to_owned() })
    }

    /// Puts the whole table in force in one step, in place of whatever it was. The administrator's chain is kept.
    pub(crate) fn replace(&mut self, others: Others, elements: &[Element]) -> Result<(), NetError> {
        let mut attempt = 1;
        loop {
            let present = present::read(&mut self.socket, &self.table).map_err(|e| self.error("read", e))?;
            let mut batch = FilterBatch::new(&self.table);
            batch.table(NEW_TABLE);
            present.remove(&mut batch);
            rules::write(&mut batch, others, crate::bridge::filters_ipv6());
            elements::add(&mut batch, elements);
            let batch = batch.finish();
            match self.commit(&batch, "replace") {
                Ok(()) => return Ok(()),
                // Somebody else removed a part of it since it was read.
                Err(Refused { errno: Errno::NOENT, .. }) if attempt < ATTEMPTS => attempt += 1,
                // It was put to sleep: a table that wakes up can't have its chains changed in the same step.
                Err(Refused { errno: Errno::INVAL, .. }) if attempt < ATTEMPTS => {
                    attempt += 1;
                    let mut batch = FilterBatch::new(&self.table);
                    batch.table(NEW_TABLE);
                    let batch = batch.finish();
                    self.commit(&batch, "wake").map_err(|e| self.error("wake", e))?;
                }
                Err(e) => return Err(self.error("replace", e)),
            }
        }
    }

    /// Has others accept what goes through `bridges`, or takes such rules away ([`crate::bypass`]).
    pub(crate) fn bypass(&mut self, bridges: &[String]) -> Result<(), NetError> {
        bypass::apply(&mut self.socket, &self.table, bridges).map_err(|e| self.error("bypass others", e))
    }

    /// The table's name, and the number under which the kernel announces changes made here.
    pub(crate) fn identity(&self) -> (String, u32) {
        (self.table.clone(), self.socket.port())
    }

    /// Adds elements; `None` if the table is not there.
    pub(crate) fn add(&mut self, elements: &[Element]) -> Result<Option<()>, NetError> {
        self.change("add", elements, elements::add)
    }

    /// Removes elements; `None` if the table or one of them is not there.
    pub(crate) fn remove(&mut self, elements: &[Element]) -> Result<Option<()>, NetError> {
        self.change("remove", elements, elements::remove)
    }

    fn change(
        &mut self,
        operation: &'static str,
        elements: &[Element],
        write: fn(&mut FilterBatch<'_>, &[Element]),
    ) -> Result<Option<()>, NetError> {
        if elements.is_empty() {
            return Ok(Some(()));
        }
        let mut batch = FilterBatch::new(&self.table);
        write(&mut batch, elements);
        let batch = batch.finish();
        match self.commit(&batch, operation) {
            Ok(()) => Ok(Some(())),
            Err(Refused { errno: Errno::NOENT, .. }) => Ok(None),
            Err(e) => Err(self.error(operation, e)),
        }
    }

    /// Removes the table; one that is not there is no error.
    pub(crate) fn destroy(&mut self) -> Result<(), NetError> {
        let mut batch = FilterBatch::new(&self.table);
        batch.table(NEW_TABLE);
        batch.table(DELETE_TABLE);
        let batch = batch.finish();
        self.commit(&batch, "remove").map_err(|e| self.error("remove", e))
    }

    /// True if a table of an earlier run is in force and drops what is not the engine's.
    pub(crate) fn drops_others(&mut self) -> bool {
        rules::forward_policy_is_drop(&mut self.socket, &self.table)
    }

    fn commit(&mut self, batch: &Batch, operation: &'static str) -> Result<(), Refused> {
        let done = self.socket.run(batch);
        tracing::trace!(
            table = self.table,
            operation,
            bytes = batch.bytes().len(),
            ok = done.is_ok(),
            "nftables batch"
        );
        done
    }

    fn error(&self, operation: &'static str, refused: Refused) -> NetError {
        NetError::Filter { operation, table: self.table.clone(), source: io::Error::from(refused) }
    }
}
