//! What the packet filter of a network namespace consists of, as the kernel lists it (linux/netfilter/nf_tables.h).

use std::collections::BTreeMap;
use std::fmt;

use super::expression::{Expression, Verdict};
use super::text;
use crate::netlink::{Batch, Refused, Socket, attributes, find};

const SUBSYSTEM: u16 = 10;
const GET_CHAIN: u16 = 4;
const GET_RULE: u16 = 7;
const GET_SET: u16 = 10;
const GET_ELEMENT: u16 = 13;
const GET_GENERATION: u16 = 16;
/// How often the ruleset may change while it is being read.
const ATTEMPTS: u32 = 5;
const INTERVAL_END: u32 = 1;

/// An address family of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Family(pub(crate) u8);

impl Family {
    pub(crate) const INET: Family = Family(1);
    pub(crate) const IPV4: Family = Family(2);
    pub(crate) const IPV6: Family = Family(10);

    /// Chains of the family see packets of this version of IP.
    pub(super) fn sees(self, v6: bool) -> bool {
        self == Family::INET || self == if v6 { Family::IPV6 } else { Family::IPV4 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Family::INET => f.write_str("inet"),
            Family::IPV4 => f.write_str("ip"),
            Family::IPV6 => f.write_str("ip6"),
            Family(3) => f.write_str("arp"),
            Family(5) => f.write_str("netdev"),
            Family(7) => f.write_str("bridge"),
            Family(other) => write!(f, "family {other}"),
        }
    }
}

/// Where packets pass a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hook {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
    Other,
}

/// A table: its family and name. Rules of iptables' old kernel part are told apart by `legacy`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TableName {
    pub(crate) family: Family,
    pub(crate) name: String,
    pub(crate) legacy: bool,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.legacy, self.family == Family::IPV6) {
            (false, _) => write!(f, "{} {}", self.family, self.name),
            (true, false) => write!(f, "iptables-legacy {}", self.name),
            (true, true) => write!(f, "ip6tables-legacy {}", self.name),
        }
    }
}

/// What makes a chain a base chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) hook: Hook,
    pub(crate) priority: i32,
    pub(crate) drops: bool,
    /// Address translation: only the first packet of a connection passes.
    pub(crate) nat: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) table: TableName,
    pub(crate) name: String,
    pub(crate) base: Option<Base>,
    pub(crate) rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    /// The kernel's number for it; its place in the chain for rules of iptables-legacy.
    pub(crate) handle: u64,
    pub(crate) expressions: Vec<Expression>,
    pub(crate) text: String,
    /// What whoever made the rule wrote to it.
    pub(crate) comment: Option<String>,
}

/// A set or map.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Set {
    /// Lengths of the parts of a concatenated key.
    pub(super) fields: Vec<usize>,
    pub(super) elements: Vec<Element>,
}

/// An element: the keys from the first to the last, and what they stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) first: Vec<u8>,
    pub(super) last: Vec<u8>,
    pub(super) data: Option<Vec<u8>>,
    pub(super) verdict: Option<Verdict>,
}

/// Everything that filters in a network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ruleset {
    pub(crate) chains: Vec<Chain>,
    pub(super) sets: BTreeMap<(TableName, String), Set>,
    /// What could not be read.
    pub(crate) unread: Vec<String>,
}

impl Ruleset {
    /// Reads all tables of nf_tables as they were at one moment.
    pub(crate) fn read(socket: &mut Socket) -> Result<Ruleset, Refused> {
        let mut attempt = 1;
        loop {
            let before = generation(socket)?;
            let mut ruleset = Ruleset::default();
            let done = ruleset.fill(socket);
            if generation(socket)? == before || attempt == ATTEMPTS {
                done?;
                return Ok(ruleset);
            }
            attempt += 1;
        }
    }

    /// The base chains at a hook in the order in which packets pass them.
    pub(crate) fn at(&self, hook: Hook, v6: bool) -> Vec<&Chain> {
        let here =
            |chain: &&Chain| chain.table.family.sees(v6) && chain.base.as_ref().is_some_and(|base| base.hook == hook);
        let mut chains: Vec<_> = self.chains.iter().filter(here).collect();
        chains.sort_by_key(|chain| chain.base.as_ref().map_or(0, |base| base.priority));
        chains
    }

    /// Whether ufw keeps its rules here.
    pub(super) fn has_ufw(&self) -> bool {
        self.chains.iter().any(|chain| chain.name.starts_with("ufw"))
    }

    /// Base chains that are not followed, as packets pass them at places of their own.
    pub(super) fn unfollowed(&self) -> Vec<String> {
        let elsewhere = self.chains.iter().filter(|chain| {
            !chain.rules.is_empty() && chain.base.as_ref().is_some_and(|base| base.hook == Hook::Other)
        });
        elsewhere.map(|chain| format!("chain {} of table {} is not followed", chain.name, chain.table)).collect()
    }

    pub(super) fn chain(&self, table: &TableName, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|chain| chain.table == *table && chain.name == name)
    }

    fn fill(&mut self, socket: &mut Socket) -> Result<(), Refused> {
        self.chains = chains(socket)?;
        for (table, name, mut set) in sets(socket)? {
            set.elements = elements(socket, &table, &name)?;
            self.sets.insert((table, name), set);
        }
        let mut rules = Vec::new();
        dump(
            socket,
            GET_RULE,
            0,
            |_| {},
            |family, attrs| {
                let (Some(table), Some(chain)) = (table_of(family, attrs), find(attrs, 2).map(name)) else { return };
                rules.push((table, chain, read_rule(attrs)));
            },
        )?;
        for (table, chain, mut rule) in rules {
            rule.text = text::rule(&rule, &|set| self.sets.get(&(table.clone(), set.to_owned())));
            if let Some(chain) = self.chains.iter_mut().find(|c| c.table == table && c.name == chain) {
                chain.rules.push(rule);
            }
        }
        Ok(())
    }
}

fn chains(socket: &mut Socket) -> Result<Vec<Chain>, Refused> {
    let mut chains = Vec::new();
    dump(
        socket,
        GET_CHAIN,
        0,
        |_| {},
        |family, attrs| {
            let (Some(table), Some(chain)) = (table_of(family, attrs), find(attrs, 3).map(name)) else { return };
            let base = find(attrs, 4).map(|hook| Base {
                hook: hook_of(family, find(hook, 1).and_then(be32).unwrap_or(u32::MAX)),
                priority: find(hook, 2).and_then(be32).unwrap_or_default().cast_signed(),
                drops: find(attrs, 5).and_then(be32) == Some(0),
                nat: find(attrs, 7).map(name).as_deref() == Some("nat"),
            });
            chains.push(Chain { table, name: chain, base, rules: Vec::new() });
        },
    )?;
    Ok(chains)
}

fn sets(socket: &mut Socket) -> Result<Vec<(TableName, String, Set)>, Refused> {
    let mut sets = Vec::new();
    dump(
        socket,
        GET_SET,
        0,
        |_| {},
        |family, attrs| {
            let (Some(table), Some(set)) = (table_of(family, attrs), find(attrs, 2).map(name)) else { return };
            let description = find(attrs, 9).and_then(|description| find(description, 2)).unwrap_or_default();
            let length = |field: &[u8]| find(field, 1).and_then(be32).and_then(|n| usize::try_from(n).ok());
            let fields = attributes(description).filter_map(|(_, field)| length(field)).collect();
            sets.push((table, set, Set { fields, elements: Vec::new() }));
        },
    )?;
    Ok(sets)
}

fn elements(socket: &mut Socket, table: &TableName, set: &str) -> Result<Vec<Element>, Refused> {
    let mut raw = Vec::new();
    let ask = |m: &mut crate::netlink::Message<'_>| {
        m.text(1, &table.name);
        m.text(2, set);
    };
    dump(socket, GET_ELEMENT, table.family.0, ask, |_, attrs| {
        for (_, element) in attributes(find(attrs, 3).unwrap_or_default()) {
            // An element that stands for all keys has none of its own.
            let key = find(element, 1).and_then(|key| find(key, 1)).unwrap_or_default().to_vec();
            let last = find(element, 10).and_then(|key| find(key, 1)).map(<[u8]>::to_vec);
            let flags = find(element, 3).and_then(be32).unwrap_or_default();
            let data = find(element, 2);
            let element = Element {
                last: last.unwrap_or_else(|| key.clone()),
                first: key,
                data: data.and_then(|data| find(data, 1)).map(<[u8]>::to_vec),
                verdict: data.and_then(|data| find(data, 2)).map(Verdict::read),
            };
            raw.push((element, flags & INTERVAL_END != 0));
        }
    })?;
    Ok(joined(raw))
}

/// Intervals of a set of single keys are listed as two elements: the first key, and the first one behind the last.
fn joined(mut raw: Vec<(Element, bool)>) -> Vec<Element> {
    if !raw.iter().any(|(_, ends)| *ends) {
        return raw.into_iter().map(|(element, _)| element).collect();
    }
    // Where one interval ends and the next one begins, the end comes first.
    raw.sort_by(|(a, a_ends), (b, b_ends)| a.first.cmp(&b.first).then(b_ends.cmp(a_ends)));
    let mut elements: Vec<Element> = Vec::new();
    let mut open = false;
    for (element, ends) in raw {
        match (ends, elements.last_mut()) {
            (true, Some(interval)) if open => interval.last = before(&element.first),
            (true, _) => {}
            (false, _) => {
                let last = vec![0xff; element.first.len()];
                elements.push(Element { last, ..element });
            }
        }
        open = !ends;
    }
    elements
}

/// The key before this one.
fn before(key: &[u8]) -> Vec<u8> {
    let mut key = key.to_vec();
    for byte in key.iter_mut().rev() {
        let borrow = *byte == 0;
        *byte = byte.wrapping_sub(1);
        if !borrow {
            break;
        }
    }
    key
}

fn read_rule(attrs: &[u8]) -> Rule {
    let handle = find(attrs, 3).and_then(<[u8]>::first_chunk).map_or(0, |b| u64::from_be_bytes(*b));
    let expressions = attributes(find(attrs, 4).unwrap_or_default());
    Rule {
        handle,
        expressions: expressions.map(|(_, expression)| Expression::read(expression)).collect(),
        text: String::new(),
        comment: find(attrs, 7).and_then(comment),
    }
}

/// The comment in a rule's user data, a list of type, length, value.
fn comment(mut data: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = data {
        let length = usize::from(*length);
        if *kind == 0 {
            return rest.get(..length).map(name);
        }
        data = rest.get(length..)?;
    }
    None
}

fn hook_of(family: u8, number: u32) -> Hook {
    if !matches!(Family(family), Family::INET | Family::IPV4 | Family::IPV6) {
        return Hook::Other;
    }
    match number {
        0 => Hook::Prerouting,
        1 => Hook::Input,
        2 => Hook::Forward,
        3 => Hook::Output,
        4 => Hook::Postrouting,
        _ => Hook::Other,
    }
}

fn generation(socket: &mut Socket) -> Result<Option<u32>, Refused> {
    let mut generation = None;
    let mut batch = Batch::new();
    batch.message(SUBSYSTEM << 8 | GET_GENERATION, libc::NLM_F_ACK, |m| m.raw(&[0, 0, 0, 0]));
    socket.exchange(&batch, |_, payload| {
        generation = payload.get(4..).and_then(|attrs| find(attrs, 1)).and_then(be32);
    })?;
    Ok(generation)
}

fn dump(
    socket: &mut Socket,
    kind: u16,
    family: u8,
    ask: impl FnOnce(&mut crate::netlink::Message<'_>),
    mut each: impl FnMut(u8, &[u8]),
) -> Result<(), Refused> {
    let mut batch = Batch::new();
    batch.message(SUBSYSTEM << 8 | kind, libc::NLM_F_DUMP, |m| {
        m.raw(&[family, 0, 0, 0]);
        ask(m);
    });
    socket.exchange(&batch, |_, payload| {
        if let (Some(family), Some(attrs)) = (payload.first(), payload.get(4..)) {
            each(*family, attrs);
        }
    })
}

fn table_of(family: u8, attrs: &[u8]) -> Option<TableName> {
    let name = name(find(attrs, 1)?);
    Some(TableName { family: Family(family), name, legacy: false })
}

pub(super) fn name(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

pub(super) fn be32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|b| u32::from_be_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_put_together() {
        let element = |key: u8, ends: bool| {
            let element = Element { first: vec![10, key], last: vec![10, key], data: None, verdict: None };
            (element, ends)
        };
        let ranges = |raw| joined(raw).into_iter().map(|e| (e.first[1], e.last[1])).collect::<Vec<_>>();
        assert_eq!(ranges(vec![element(8, true), element(4, false), element(0, true)]), [(4, 7)]);
        assert_eq!(
            ranges(vec![element(4, false), element(8, true), element(8, false), element(9, true)]),
            [(4, 7), (8, 8)]
        );
        assert_eq!(ranges(vec![element(4, false), element(0, true)])[0].1, 255, "to the very end");
        assert_eq!(ranges(vec![element(4, false), element(9, false)]), [(4, 4), (9, 9)], "single keys");
        assert_eq!(before(&[1, 0]), [0, 255]);
    }
}
