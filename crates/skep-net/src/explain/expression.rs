//! The expressions that rules are made of, read from the kernel's form.

use super::ruleset::{be32, name};
use super::value::Value;
use crate::netlink::find;

/// What happens to a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accept,
    Drop,
    Jump(String),
    Goto(String),
    Return,
    Continue,
    /// A program decides.
    Queue,
}

impl Verdict {
    pub(super) fn read(attrs: &[u8]) -> Verdict {
        let chain = || find(attrs, 2).map(name).unwrap_or_default();
        match find(attrs, 1).and_then(be32).unwrap_or_default().cast_signed() {
            0 => Verdict::Drop,
            -1 | -2 => Verdict::Continue,
            -3 => Verdict::Jump(chain()),
            -4 => Verdict::Goto(chain()),
            -5 => Verdict::Return,
            code if code & 0xff == 3 => Verdict::Queue,
            _ => Verdict::Accept,
        }
    }
}

/// Something of a packet, or of what is known about it, that can be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Meta(u32),
    Conntrack {
        key: u32,
        original: bool,
    },
    Payload {
        base: u32,
        offset: u32,
        length: u32,
    },
    /// A question to the routing table.
    Route {
        result: u32,
        flags: u32,
    },
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// One step of a rule. Registers are counted in words of four bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expression {
    Load {
        field: Field,
        into: usize,
    },
    /// The packet's mark takes a register's value.
    SetMark {
        from: usize,
    },
    Compare {
        from: usize,
        operator: Operator,
        value: Vec<u8>,
    },
    Range {
        from: usize,
        inverted: bool,
        first: Vec<u8>,
        last: Vec<u8>,
    },
    Bitwise {
        from: usize,
        into: usize,
        mask: Vec<u8>,
        xor: Vec<u8>,
    },
    Swap {
        from: usize,
        into: usize,
        length: usize,
        size: usize,
    },
    Lookup {
        set: String,
        from: usize,
        into: Option<usize>,
        verdict: bool,
        inverted: bool,
    },
    Constant {
        into: usize,
        value: Vec<u8>,
    },
    Verdict(Verdict),
    DestinationNat {
        address: Option<usize>,
        port: Option<usize>,
    },
    /// Of the source, which changes nothing about who is reached.
    SourceNat,
    Redirect {
        port: Option<usize>,
    },
    Reject,
    /// Counters, logs and the like, by name: the packet goes on.
    Passing(String),
    /// A match of iptables.
    Match {
        name: String,
        revision: u32,
        info: Vec<u8>,
    },
    /// A target of iptables.
    Target {
        name: String,
        info: Vec<u8>,
    },
    /// A condition that is there by name only.
    Unknown(String),
}

impl Expression {
    /// Reads one of a rule's expressions.
    pub(super) fn read(attrs: &[u8]) -> Expression {
        let kind = find(attrs, 1).map(name).unwrap_or_default();
        let data = find(attrs, 2).unwrap_or_default();
        read(&kind, data).unwrap_or(Expression::Unknown(kind))
    }
}

fn read(kind: &str, data: &[u8]) -> Option<Expression> {
    let number = |attribute: u16| find(data, attribute).and_then(be32);
    let register = |attribute: u16| number(attribute).and_then(word);
    let value = |attribute: u16| find(data, attribute).and_then(|value| find(value, 1)).map(<[u8]>::to_vec);
    Some(match kind {
        "meta" if find(data, 3).is_some() => match number(2)? {
            3 => Expression::SetMark { from: register(3)? },
            _ => Expression::Passing("meta set".to_owned()),
        },
        "meta" => Expression::Load { field: Field::Meta(number(2)?), into: register(1)? },
        "ct" if find(data, 4).is_some() => Expression::Passing("ct set".to_owned()),
        "ct" => {
            let original = find(data, 3).is_none_or(|direction| direction.first() == Some(&0));
            Expression::Load { field: Field::Conntrack { key: number(2)?, original }, into: register(1)? }
        }
        "payload" if find(data, 5).is_some() => Expression::Unknown("payload set".to_owned()),
        "payload" => {
            let field = Field::Payload { base: number(2)?, offset: number(3)?, length: number(4)? };
            Expression::Load { field, into: register(1)? }
        }
        "fib" => Expression::Load { field: Field::Route { result: number(2)?, flags: number(3)? }, into: register(1)? },
        "cmp" => Expression::Compare { from: register(1)?, operator: operator(number(2)?)?, value: value(3)? },
        "range" => {
            Expression::Range { from: register(1)?, inverted: number(2)? == 1, first: value(3)?, last: value(4)? }
        }
        "bitwise" if number(6).unwrap_or_default() == 0 => {
            Expression::Bitwise { from: register(1)?, into: register(2)?, mask: value(4)?, xor: value(5)? }
        }
        "byteorder" => Expression::Swap {
            from: register(1)?,
            into: register(2)?,
            length: usize::try_from(number(4)?).ok()?,
            size: usize::try_from(number(5)?).ok()?,
        },
        "lookup" => Expression::Lookup {
            set: find(data, 1).map(name)?,
            from: register(2)?,
            into: number(3).filter(|into| *into != 0).and_then(word),
            verdict: number(3) == Some(0),
            inverted: number(5).unwrap_or_default() & 1 == 1,
        },
        "immediate" => match (find(data, 2).and_then(|data| find(data, 2)), number(1)?) {
            (Some(verdict), 0) => Expression::Verdict(Verdict::read(verdict)),
            _ => Expression::Constant { into: register(1)?, value: value(2)? },
        },
        "nat" if number(1)? == 1 => Expression::DestinationNat { address: register(3), port: register(5) },
        "nat" | "masq" => Expression::SourceNat,
        "redir" => Expression::Redirect { port: register(1) },
        "reject" => Expression::Reject,
        "counter" | "log" | "notrack" | "last" | "dup" => Expression::Passing(kind.to_owned()),
        "match" => Expression::Match {
            name: find(data, 1).map(name)?,
            revision: number(2).unwrap_or_default(),
            info: find(data, 3)?.to_vec(),
        },
        "target" => Expression::Target { name: find(data, 1).map(name)?, info: find(data, 3)?.to_vec() },
        _ => return None,
    })
}

/// The kernel numbers registers of 16 bytes from 1 and, on the same memory, those of 4 bytes from 8.
fn word(register: u32) -> Option<usize> {
    match register {
        1..=4 => usize::try_from((register - 1) * 4).ok(),
        8..=23 => usize::try_from(register - 8).ok(),
        _ => None,
    }
}

fn operator(number: u32) -> Option<Operator> {
    Some(match number {
        0 => Operator::Equal,
        1 => Operator::NotEqual,
        2 => Operator::Less,
        3 => Operator::LessOrEqual,
        4 => Operator::Greater,
        5 => Operator::GreaterOrEqual,
        _ => return None,
    })
}

impl Field {
    /// The field in `nft`'s words.
    pub(super) fn label(self, transport: Option<u8>) -> String {
        let ports = match transport {
            Some(6) => "tcp",
            Some(17) => "udp",
            Some(132) => "sctp",
            _ => "th",
        };
        match self {
            Field::Meta(key) => meta_label(key),
            Field::Conntrack { key, original } => conntrack_label(key, original),
            // Also the beginning of an address: as much of it as a prefix of whole bytes asks for.
            Field::Payload { base: 1, offset: 12, length: 1..=4 } => "ip saddr".to_owned(),
            Field::Payload { base: 1, offset: 16, length: 1..=4 } => "ip daddr".to_owned(),
            Field::Payload { base: 1, offset: 9, length: 1 } => "ip protocol".to_owned(),
            Field::Payload { base: 1, offset: 8, length: 1 } => "ip ttl".to_owned(),
            Field::Payload { base: 1, offset: 8, length: 2..=16 } => "ip6 saddr".to_owned(),
            Field::Payload { base: 1, offset: 24, length: 1..=16 } => "ip6 daddr".to_owned(),
            Field::Payload { base: 1, offset: 6, length: 1 } => "ip6 nexthdr".to_owned(),
            Field::Payload { base: 2, offset: 0, length: 2 } => format!("{ports} sport"),
            Field::Payload { base: 2, offset: 2, length: 2 } => format!("{ports} dport"),
            Field::Payload { base: 2, offset: 13, length: 1 } => "tcp flags".to_owned(),
            Field::Payload { base, offset, length } => {
                let base = ["ll", "nh", "th"].get(usize::try_from(base).unwrap_or(9)).unwrap_or(&"inner");
                format!("@{base},{},{}", offset * 8, length * 8)
            }
            Field::Route { result, flags } => {
                let words = ["saddr", "daddr", "mark", "iif", "oif"];
                let asked = words.iter().enumerate().filter(|(bit, _)| flags & (1 << bit) != 0).map(|(_, word)| *word);
                let result = ["", "oif", "oifname", "type"].get(usize::try_from(result).unwrap_or(0)).unwrap_or(&"");
                format!("fib {} {result}", asked.collect::<Vec<_>>().join(" . "))
            }
        }
    }
}

fn meta_label(key: u32) -> String {
    let known = match key {
        0 => "meta length",
        1 => "meta protocol",
        2 => "meta priority",
        3 => "meta mark",
        4 => "iif",
        5 => "oif",
        6 => "iifname",
        7 => "oifname",
        8 => "iiftype",
        9 => "oiftype",
        10 => "meta skuid",
        11 => "meta skgid",
        15 => "meta nfproto",
        16 => "meta l4proto",
        17 => "ibrname",
        18 => "obrname",
        19 => "meta pkttype",
        21 => "iifgroup",
        22 => "oifgroup",
        23 => "meta cgroup",
        24 => "meta random",
        other => return format!("meta key {other}"),
    };
    known.to_owned()
}

fn conntrack_label(key: u32, original: bool) -> String {
    let direction = if original { "original" } else { "reply" };
    match key {
        0 => "ct state".to_owned(),
        1 => "ct direction".to_owned(),
        2 => "ct status".to_owned(),
        3 => "ct mark".to_owned(),
        8 | 19 | 21 => format!("ct {direction} saddr"),
        9 | 20 | 22 => format!("ct {direction} daddr"),
        10 => format!("ct {direction} protocol"),
        11 => format!("ct {direction} proto-src"),
        12 => format!("ct {direction} proto-dst"),
        17 => "ct zone".to_owned(),
        other => format!("ct key {other}"),
    }
}

/// The bytes of a rule while it runs, and what those stand for that are not known.
#[derive(Debug, Clone)]
pub(super) struct Registers {
    bits: [u8; 64],
    known: [u8; 64],
    labels: [Option<String>; 16],
}

impl Registers {
    pub(super) fn new() -> Registers {
        Registers { bits: [0; 64], known: [0; 64], labels: [const { None }; 16] }
    }

    pub(super) fn load(&mut self, word: usize, value: &Value, label: &str) {
        let from = word * 4;
        for (n, (bits, known)) in value.bits.iter().zip(&value.known).enumerate() {
            if let (Some(to), Some(mask)) = (self.bits.get_mut(from + n), self.known.get_mut(from + n)) {
                (*to, *mask) = (*bits, *known);
            }
        }
        // The rest of the last word is nothing.
        for n in value.bits.len()..value.bits.len().next_multiple_of(4) {
            if let (Some(to), Some(mask)) = (self.bits.get_mut(from + n), self.known.get_mut(from + n)) {
                (*to, *mask) = (0, 0xff);
            }
        }
        for label_of in self.labels.iter_mut().skip(word).take(value.bits.len().div_ceil(4)) {
            *label_of = Some(label.to_owned());
        }
    }

    pub(super) fn value(&self, word: usize, length: usize) -> Value {
        let from = (word * 4).min(64);
        let to = (from + length).min(64);
        Value { bits: self.bits[from..to].to_vec(), known: self.known[from..to].to_vec() }
    }

    /// What a doubt about some bytes is about.
    pub(super) fn doubt(&self, word: usize, length: usize) -> String {
        let words = word..word + length.div_ceil(4);
        let open = |n: &usize| self.known.get(n * 4..n * 4 + 4).is_some_and(|known| known.iter().any(|k| *k != 0xff));
        let named = words.filter(open).find_map(|n| self.labels.get(n).cloned().flatten());
        named.unwrap_or_else(|| "an unknown value".to_owned())
    }
}
