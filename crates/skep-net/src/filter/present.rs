//! What of the engine's table is there, so that it can be replaced around the administrator's chain.

use rustix::io::Errno;

use super::rules::{CHAINS, FORMER_SETS, SETS};
use super::write::{FilterBatch, GET_CHAIN, GET_SET, write_message};
use crate::netlink::{Batch, Refused, Socket, find};

/// Names of the parts that a new version of the table takes the place of.
#[derive(Debug, Default)]
pub(super) struct Present {
    chains: Vec<String>,
    sets: Vec<String>,
}

/// Lists the parts; none of a table that is not there.
pub(super) fn read(socket: &mut Socket, table: &str) -> Result<Present, Refused> {
    let mut present = Present::default();
    list(socket, GET_CHAIN, table, |attrs| {
        let Some(name) = find(attrs, 3).map(text) else { return };
        // Chains with a hook are all the engine's: those of other versions too.
        if find(attrs, 4).is_some() || CHAINS.contains(&name.as_str()) {
            present.chains.push(name);
        }
    })?;
    list(socket, GET_SET, table, |attrs| {
        let is_ours = |name: &String| SETS.contains(&name.as_str()) || FORMER_SETS.contains(&name.as_str());
        present.sets.extend(find(attrs, 2).map(text).filter(is_ours));
    })?;
    Ok(present)
}

impl Present {
    /// Chains first: their rules use the sets.
    pub(super) fn remove(&self, batch: &mut FilterBatch<'_>) {
        for name in &self.chains {
            batch.delete_chain(name);
        }
        for name in &self.sets {
            batch.delete_set(name);
        }
    }
}

fn list(socket: &mut Socket, kind: u16, table: &str, mut each: impl FnMut(&[u8])) -> Result<(), Refused> {
    let mut batch = Batch::new();
    write_message(&mut batch, kind, libc::NLM_F_DUMP, |m| m.text(1, table));
    let listed = socket.exchange(&batch, |_, payload| {
        // The kernel lists the chains of all tables whatever it is asked for.
        if let Some(attrs) = payload.get(4..)
            && find(attrs, 1).map(text).as_deref() == Some(table)
        {
            each(attrs);
        }
    });
    match listed {
        Err(Refused { errno: Errno::NOENT, .. }) => Ok(()),
        other => other,
    }
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}
