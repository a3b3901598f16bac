//! The first packet of a connection that is followed through the packet filter.

use std::net::IpAddr;

use super::expression::Field;
use super::value::Value;

const STATE_NEW: u32 = 8;
const STATUS_DNAT: u32 = 32;
const SYN: u8 = 2;
const TCP: u8 = 6;
const TYPE_UNICAST: u32 = 1;
const TYPE_LOCAL: u32 = 2;
const FIB_SOURCE: u32 = 1;
const FIB_DESTINATION: u32 = 2;
const FIB_PRESENT: u32 = 1 << 5;

/// A link of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) index: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Packet {
    pub(super) v6: bool,
    pub(super) from: Option<Interface>,
    pub(super) to: Option<Interface>,
    pub(super) source: Value,
    pub(super) destination: Value,
    pub(super) protocol: u8,
    /// The destination port; not known when any is meant.
    pub(super) port: Value,
    /// Where it was sent before it was led elsewhere.
    pub(super) original: (Value, Value),
    pub(super) translated: bool,
    pub(super) mark: Value,
    /// The source is the host itself.
    pub(super) from_host: bool,
}

impl Packet {
    /// A TCP connection to any port of any of `destination`.
    pub(super) fn between(source: Value, destination: Value) -> Packet {
        let port = Value::unknown(2);
        Packet::with(source, destination, TCP, port)
    }

    pub(super) fn new(source: Value, destination: IpAddr, protocol: u8, port: Option<u16>) -> Packet {
        let port = port.map_or(Value::unknown(2), |port| Value::exact(&port.to_be_bytes()));
        Packet::with(source, Value::address(destination, 128), protocol, port)
    }

    fn with(source: Value, destination: Value, protocol: u8, port: Value) -> Packet {
        Packet {
            v6: destination.bits.len() == 16,
            from: None,
            to: None,
            source,
            original: (destination.clone(), port.clone()),
            destination,
            protocol,
            port,
            translated: false,
            mark: Value::exact(&[0; 4]),
            from_host: false,
        }
    }

    /// Leads it to another destination.
    pub(super) fn translate(&mut self, address: Option<Value>, port: Option<Value>) {
        self.destination = address.unwrap_or_else(|| self.destination.clone());
        self.port = port.unwrap_or_else(|| self.port.clone());
        self.translated = true;
    }

    /// What the packet has in a field; `None` ends the rule, as there is no such field.
    pub(super) fn read(&self, field: Field, local: &[IpAddr]) -> Option<Value> {
        match field {
            Field::Meta(key) => self.meta(key),
            Field::Conntrack { key, original } => Some(self.conntrack(key, original)),
            Field::Payload { base: 1, offset, length } => Some(self.network(offset, length)),
            Field::Payload { base: 2, offset: 0, length: 2 } => Some(Value::unknown(2)),
            Field::Payload { base: 2, offset: 2, length: 2 } => Some(self.port.clone()),
            Field::Payload { base: 2, offset: 0, length: 4 } => {
                let mut both = Value::unknown(2);
                both.bits.extend(&self.port.bits);
                both.known.extend(&self.port.known);
                Some(both)
            }
            Field::Payload { base: 2, offset: 13, length: 1 } if self.protocol == TCP => Some(Value::exact(&[SYN])),
            Field::Payload { length, .. } => Some(Value::unknown(usize::try_from(length).ok()?)),
            Field::Route { result, flags } => Some(self.route(result, flags, local)),
        }
    }

    fn meta(&self, key: u32) -> Option<Value> {
        let name = |link: &Option<Interface>| {
            let mut bytes = [0; 16];
            bytes.iter_mut().zip(link.as_ref()?.name.bytes()).for_each(|(to, from)| *to = from);
            Some(Value::exact(&bytes))
        };
        let index = |link: &Option<Interface>| Some(Value::exact(&link.as_ref()?.index.to_ne_bytes()));
        match key {
            1 => Some(Value::exact(if self.v6 { &[0x86, 0xdd] } else { &[0x08, 0x00] })),
            3 => Some(self.mark.clone()),
            4 => index(&self.from),
            5 => index(&self.to),
            6 => name(&self.from),
            7 => name(&self.to),
            15 => Some(Value::exact(&[if self.v6 { 10 } else { 2 }])),
            16 => Some(Value::exact(&[self.protocol])),
            19 => Some(Value::exact(&[0])),
            _ => Some(Value::unknown(4)),
        }
    }

    fn conntrack(&self, key: u32, original: bool) -> Value {
        match (key, original) {
            (0, _) => Value::exact(&STATE_NEW.to_ne_bytes()),
            (1, _) => Value::exact(&[0]),
            (2, _) => Value::exact(&(if self.translated { STATUS_DNAT } else { 0 }).to_ne_bytes()),
            (3, _) => Value::exact(&[0; 4]),
            (8 | 19 | 21, true) => self.source.clone(),
            (9 | 20 | 22, true) => self.original.0.clone(),
            (10, _) => Value::exact(&[self.protocol]),
            (12, true) => self.original.1.clone(),
            _ => Value::unknown(16),
        }
    }

    fn network(&self, offset: u32, length: u32) -> Value {
        match (self.v6, offset, length) {
            (false, 12, 4) | (true, 8, 16) => self.source.clone(),
            (false, 16, 4) | (true, 24, 16) => self.destination.clone(),
            (false, 9, 1) | (true, 6, 1) => Value::exact(&[self.protocol]),
            // The beginning of an address: as long as the prefix that a rule compares.
            (false, 12, 1..4) => part(&self.source, length),
            (false, 16, 1..4) => part(&self.destination, length),
            (true, 8, 1..16) => part(&self.source, length),
            (true, 24, 1..16) => part(&self.destination, length),
            (false, 12, 8) | (true, 8, 32) => {
                let mut both = self.source.clone();
                both.bits.extend(&self.destination.bits);
                both.known.extend(&self.destination.known);
                both
            }
            _ => Value::unknown(usize::try_from(length).unwrap_or_default()),
        }
    }

    fn route(&self, result: u32, flags: u32, local: &[IpAddr]) -> Value {
        if flags & FIB_PRESENT != 0 {
            return Value::exact(&[1]);
        }
        let type_of = |is_local: bool| Value::exact(&(if is_local { TYPE_LOCAL } else { TYPE_UNICAST }).to_ne_bytes());
        match (result, flags & (FIB_SOURCE | FIB_DESTINATION)) {
            (3, FIB_DESTINATION) => type_of(self.is_local(local)),
            (3, FIB_SOURCE) => type_of(self.from_host),
            // The way back is taken to be the way it came.
            (1, FIB_SOURCE) => {
                self.from.as_ref().map_or(Value::unknown(4), |link| Value::exact(&link.index.to_ne_bytes()))
            }
            _ => Value::unknown(4),
        }
    }

    /// The destination is an address of the host.
    pub(super) fn is_local(&self, local: &[IpAddr]) -> bool {
        self.destination.as_address().is_some_and(|ip| ip.is_loopback() || local.contains(&ip))
    }
}

fn part(value: &Value, length: u32) -> Value {
    let length = usize::try_from(length).unwrap_or_default().min(value.bits.len());
    Value { bits: value.bits[..length].to_vec(), known: value.known[..length].to_vec() }
}
