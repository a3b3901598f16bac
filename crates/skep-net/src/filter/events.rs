//! What the kernel announces about changes of the packet filter.

use super::present::text;
use super::rules::{CHAINS, SETS, USER};
use crate::netlink::{Received, find};

const SUBSYSTEM: u8 = 10;
const FAMILY_INET: u8 = 1;
const NEW_GENERATION: u16 = 15;

/// Whom a change made by somebody else concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    /// Other tables.
    Elsewhere,
    /// A part of the engine's table that is not the administrator's.
    Ours,
}

/// Reads one announcement; `None` for the engine's own changes (`port`) and for what is the administrator's to change.
pub(crate) fn read(message: &Received<'_>, table: &str, port: u32) -> Option<Change> {
    let [kind, SUBSYSTEM] = message.kind.to_le_bytes() else { return None };
    let kind = u16::from(kind);
    if message.port == port || kind == NEW_GENERATION {
        return None;
    }
    let family = message.payload.first().copied();
    let attrs = message.payload.get(4..)?;
    if family != Some(FAMILY_INET) || find(attrs, 1).map(text).as_deref() != Some(table) {
        return Some(Change::Elsewhere);
    }
    let named = |attribute: u16| find(attrs, attribute).map(text).unwrap_or_default();
    let ours = match kind {
        // Chains: new, gone. One with a hook would filter beside the engine's.
        3 | 5 => {
            let name = named(3);
            find(attrs, 4).is_some() || CHAINS.contains(&name.as_str()) || (kind == 5 && name == USER)
        }
        // Rules.
        6 | 8 => CHAINS.contains(&named(2).as_str()),
        // Sets and their elements.
        9 | 11 => SETS.contains(&named(2).as_str()),
        12 | 14 => SETS.contains(&named(2).as_str()),
        // The table itself: gone, or made to sleep.
        _ => true,
    };
    ours.then_some(Change::Ours)
}
