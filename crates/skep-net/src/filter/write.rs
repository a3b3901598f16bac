//! Messages and expressions of nf_tables (linux/netfilter/nf_tables.h), as far as the table needs them.

use crate::netlink::{Batch, Message};

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const FAMILY_INET: u8 = 1;
/// Family, version, and the subsystem in network order.
const BATCH_HEADER: [u8; 4] = [0, 0, 0, 10];

/// Message types within the subsystem.
pub(super) const NEW_TABLE: u16 = 0;
pub(super) const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
pub(super) const GET_CHAIN: u16 = 4;
const DELETE_CHAIN: u16 = 5;
const NEW_RULE: u16 = 6;
const NEW_SET: u16 = 9;
pub(super) const GET_SET: u16 = 10;
const DELETE_SET: u16 = 11;
pub(super) const NEW_ELEMENT: u16 = 12;
pub(super) const DELETE_ELEMENT: u16 = 14;

pub(super) const ACCEPT: i32 = 1;
pub(super) const DROP: i32 = 0;
pub(super) const RETURN: i32 = -5;
const JUMP: i32 = -3;

/// The `n`th of the 32-bit registers; four of them make one of the 128-bit registers.
pub(super) const fn register(n: u32) -> u32 {
    8 + n
}

/// A batch of changes to one table.
pub(super) struct FilterBatch<'a> {
    batch: Batch,
    pub(super) table: &'a str,
    sets: u32,
}

impl<'a> FilterBatch<'a> {
    pub(super) fn new(table: &'a str) -> Self {
        let mut batch = Batch::new();
        batch.message(BATCH_BEGIN, 0, |m| m.raw(&BATCH_HEADER));
        FilterBatch { batch, table, sets: 0 }
    }

    pub(super) fn finish(mut self) -> Batch {
        self.batch.message(BATCH_END, 0, |m| m.raw(&BATCH_HEADER));
        self.batch
    }

    pub(super) fn message(&mut self, kind: u16, flags: i32, fill: impl FnOnce(&mut Message<'_>)) {
        write_message(&mut self.batch, kind, flags, fill);
    }

    pub(super) fn table(&mut self, kind: u16) {
        let name = self.table;
        self.message(kind, libc::NLM_F_CREATE, |m| {
            m.text(1, name);
            // Not dormant, whatever it was.
            if kind == NEW_TABLE {
                m.be32(2, 0);
            }
        });
    }

    /// A chain that is only jumped to; one that is there keeps its rules.
    pub(super) fn plain_chain(&mut self, name: &str) {
        let table = self.table;
        self.message(NEW_CHAIN, libc::NLM_F_CREATE, |m| {
            m.text(1, table);
            m.text(3, name);
        });
    }

    /// Removes a chain with its rules.
    pub(super) fn delete_chain(&mut self, name: &str) {
        let table = self.table;
        self.message(DELETE_CHAIN, 0, |m| {
            m.text(1, table);
            m.text(3, name);
        });
    }

    /// Removes a set that no rule uses any more.
    pub(super) fn delete_set(&mut self, name: &str) {
        let table = self.table;
        self.message(DELETE_SET, 0, |m| {
            m.text(1, table);
            m.text(2, name);
        });
    }

    pub(super) fn chain(&mut self, name: &str, kind: &str, hook: i32, priority: i32, policy: i32) {
        let table = self.table;
        self.message(NEW_CHAIN, libc::NLM_F_CREATE, |m| {
            m.text(1, table);
            m.text(3, name);
            m.nest(4, |m| {
                m.be32(1, hook.cast_unsigned());
                m.be32(2, priority.cast_unsigned());
            });
            m.be32(5, policy.cast_unsigned());
            m.text(7, kind);
        });
    }

    /// A set of single keys.
    pub(super) fn set(&mut self, name: &str, key: Type) {
        self.any_set(name, 0, key, None);
    }

    /// A set of intervals of keys.
    pub(super) fn intervals(&mut self, name: &str, key: Type) {
        self.any_set(name, 4, key, None);
    }

    /// A map from keys to values.
    pub(super) fn map(&mut self, name: &str, key: Type, data: Type) {
        self.any_set(name, 8, key, Some(data));
    }

    fn any_set(&mut self, name: &str, flags: u32, key: Type, data: Option<Type>) {
        self.sets += 1;
        let (table, id) = (self.table, self.sets);
        self.message(NEW_SET, libc::NLM_F_CREATE, |m| {
            m.text(1, table);
            m.text(2, name);
            m.be32(3, flags);
            m.be32(4, key.number);
            m.be32(5, key.size);
            if let Some(data) = data {
                m.be32(6, data.number);
                m.be32(7, data.size);
            }
            m.be32(10, id);
            m.bytes(13, &key.byte_order);
        });
    }

    pub(super) fn rule(&mut self, chain: &str, fill: impl FnOnce(&mut Rule<'_, '_>)) {
        let table = self.table;
        self.message(NEW_RULE, libc::NLM_F_CREATE | libc::NLM_F_APPEND, |m| {
            m.text(1, table);
            m.text(2, chain);
            m.nest(4, |m| fill(&mut Rule { message: m }));
        });
    }
}

pub(super) fn write_message(batch: &mut Batch, kind: u16, flags: i32, fill: impl FnOnce(&mut Message<'_>)) {
    batch.message(SUBSYSTEM << 8 | kind, flags, |m| {
        m.raw(&[FAMILY_INET, 0, 0, 0]);
        fill(m);
    });
}

/// The type of a key or value: `nft`'s number, and bytes with each part rounded up to four.
#[derive(Debug, Clone, Copy)]
pub(super) struct Type {
    number: u32,
    size: u32,
    /// User data of a set (type, length, value) that tells `nft` the keys' byte order: 1 host's, 2 network's.
    byte_order: [u8; 6],
}

impl Type {
    pub(super) const IPV4: Type = Type::of(7, 4, 2);
    pub(super) const IPV6: Type = Type::of(8, 16, 2);
    pub(super) const PROTOCOL: Type = Type::of(12, 4, 2);
    pub(super) const PORT: Type = Type::of(13, 4, 2);
    pub(super) const IFNAME: Type = Type::of(41, 16, 1);

    const fn of(number: u32, size: u32, order: u32) -> Type {
        let [a, b, c, d] = order.to_ne_bytes();
        Type { number, size, byte_order: [0, 4, a, b, c, d] }
    }

    /// The concatenation `self . next`.
    pub(super) const fn then(self, next: Type) -> Type {
        Type::of(self.number << 6 | next.number, self.size + next.size, 2)
    }
}

/// The rule being written: expressions run in order, and the first that does not match ends the rule.
pub(super) struct Rule<'a, 'b> {
    message: &'a mut Message<'b>,
}

impl Rule<'_, '_> {
    fn expression(&mut self, name: &str, fill: impl FnOnce(&mut Message<'_>)) -> &mut Self {
        self.message.nest(1, |m| {
            m.text(1, name);
            m.nest(2, fill);
        });
        self
    }

    pub(super) fn meta(&mut self, key: u32, into: u32) -> &mut Self {
        self.expression("meta", |m| {
            m.be32(1, into);
            m.be32(2, key);
        })
    }

    pub(super) fn payload(&mut self, base: u32, offset: u32, length: u32, into: u32) -> &mut Self {
        self.expression("payload", |m| {
            m.be32(1, into);
            m.be32(2, base);
            m.be32(3, offset);
            m.be32(4, length);
        })
    }

    pub(super) fn compare(&mut self, from: u32, operator: Operator, value: &[u8]) -> &mut Self {
        self.expression("cmp", |m| {
            m.be32(1, from);
            m.be32(2, operator as u32);
            m.nest(3, |m| m.bytes(1, value));
        })
    }

    pub(super) fn mask(&mut self, register: u32, mask: &[u8]) -> &mut Self {
        self.expression("bitwise", |m| {
            m.be32(1, register);
            m.be32(2, register);
            m.be32(3, u32::try_from(mask.len()).expect("a register's size"));
            m.nest(4, |m| m.bytes(1, mask));
            m.nest(5, |m| m.bytes(1, &[0; 16][..mask.len()]));
        })
    }

    pub(super) fn conntrack(&mut self, key: u32, into: u32) -> &mut Self {
        self.expression("ct", |m| {
            m.be32(1, into);
            m.be32(2, key);
        })
    }

    /// Goes on if the key is in the set.
    pub(super) fn is_in(&mut self, set: &str, key: u32) -> &mut Self {
        self.expression("lookup", |m| {
            m.text(1, set);
            m.be32(2, key);
        })
    }

    /// Goes on if the key is not in the set.
    pub(super) fn is_not_in(&mut self, set: &str, key: u32) -> &mut Self {
        self.expression("lookup", |m| {
            m.text(1, set);
            m.be32(2, key);
            m.be32(5, 1);
        })
    }

    /// Goes on with the key's value, if the map has one.
    pub(super) fn map(&mut self, map: &str, key: u32, into: u32) -> &mut Self {
        self.expression("lookup", |m| {
            m.text(1, map);
            m.be32(2, key);
            m.be32(3, into);
        })
    }

    /// The type of the destination address in the host's routing table.
    pub(super) fn destination_type(&mut self, into: u32) -> &mut Self {
        self.expression("fib", |m| {
            m.be32(1, into);
            m.be32(2, 3);
            m.be32(3, 2);
        })
    }

    /// Destination NAT to the address and port in two registers. `family` is 2 (IPv4) or 10 (IPv6).
    pub(super) fn destination_nat(&mut self, family: u32, address: u32, port: u32) -> &mut Self {
        self.expression("nat", |m| {
            m.be32(1, 1);
            m.be32(2, family);
            m.be32(3, address);
            m.be32(5, port);
        })
    }

    /// Source NAT to the outgoing interface's address.
    pub(super) fn masquerade(&mut self) -> &mut Self {
        self.expression("masq", |_| {})
    }

    pub(super) fn verdict(&mut self, code: i32) -> &mut Self {
        self.expression("immediate", |m| {
            m.be32(1, 0);
            m.nest(2, |m| m.nest(2, |m| m.be32(1, code.cast_unsigned())));
        })
    }

    /// Goes through another chain and comes back, unless that one decides.
    pub(super) fn jump(&mut self, chain: &str) -> &mut Self {
        self.expression("immediate", |m| {
            m.be32(1, 0);
            m.nest(2, |m| {
                m.nest(2, |m| {
                    m.be32(1, JUMP.cast_unsigned());
                    m.text(2, chain);
                });
            });
        })
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Operator {
    Equal = 0,
    NotEqual = 1,
}
