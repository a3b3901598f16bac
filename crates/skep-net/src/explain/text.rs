//! Rules in `nft`'s words.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::expression::{Expression, Field, Operator, Verdict};
use super::ruleset::{Rule, Set};

/// Elements of an anonymous set that are shown.
const SHOWN: usize = 8;

/// What a register holds, for the reader.
#[derive(Debug, Clone, Default)]
struct Held {
    label: String,
    field: Option<Field>,
    mask: Option<Vec<u8>>,
    length: usize,
}

#[derive(Default)]
struct Writer {
    words: Vec<String>,
    held: [Held; 16],
    transport: Option<u8>,
}

/// The rule as one line; `set` finds the sets of its table.
pub(super) fn rule<'a>(rule: &Rule, set: &dyn Fn(&str) -> Option<&'a Set>) -> String {
    let mut writer = Writer::default();
    for expression in &rule.expressions {
        writer.expression(expression, set);
    }
    // What another word of the rule implies.
    let has = |words: &[String], start: &str| words.iter().any(|word| word.starts_with(start));
    for (implied, by) in [("ipv4", "ip "), ("ipv6", "ip6 ")] {
        if has(&writer.words, by) {
            writer.words.retain(|word| *word != format!("meta nfproto {implied}"));
        }
    }
    for protocol in ["tcp", "udp", "sctp"] {
        if has(&writer.words, &format!("{protocol} ")) {
            let implied = [format!("meta l4proto {protocol}"), format!("ip protocol {protocol}")];
            writer.words.retain(|word| !implied.contains(word));
        }
    }
    ranges(&mut writer.words);
    writer.words.join(" ")
}

/// A range that is written as two comparisons, as one.
fn ranges(words: &mut Vec<String>) {
    let mut n = 0;
    while let [from, to, ..] = &words[n..] {
        let joined = from.split_once(" >= ").and_then(|(label, first)| {
            let last = to.strip_prefix(label)?.strip_prefix(" <= ")?;
            Some(format!("{label} {first}-{last}"))
        });
        if let Some(joined) = joined {
            words.splice(n..n + 2, [joined]);
        }
        n += 1;
    }
}

impl Writer {
    fn expression<'a>(&mut self, expression: &Expression, set: &dyn Fn(&str) -> Option<&'a Set>) {
        match expression {
            Expression::Load { field, into } => self.load(*field, *into),
            Expression::Constant { into, value } => {
                let label = self.constant(value);
                self.hold(*into, Held { label, length: value.len(), ..Held::default() });
            }
            Expression::Bitwise { from, into, mask, .. } => {
                let held = Held { mask: Some(mask.clone()), ..self.at(*from) };
                self.hold(*into, held);
            }
            Expression::Swap { from, into, .. } => self.hold(*into, self.at(*from)),
            Expression::Compare { from, operator, value } => self.compare(*from, *operator, value),
            Expression::Range { from, inverted, first, last } => {
                let held = self.at(*from);
                let range = format!("{}-{}", show(held.field, first), show(held.field, last));
                self.say(format!("{} {}{range}", held.label, if *inverted { "!= " } else { "" }));
            }
            Expression::Lookup { set: name, from, into, verdict, inverted } => {
                self.lookup(name, *from, *into, *verdict, *inverted, set(name));
            }
            Expression::SetMark { from } => self.say(format!("meta mark set {}", self.at(*from).label)),
            Expression::Verdict(verdict) => self.say(verdict_text(verdict)),
            Expression::DestinationNat { address, port } => {
                let to = address.map(|word| self.at(word).label).unwrap_or_default();
                match port.map(|word| self.at(word).label) {
                    // Address and port of one map.
                    Some(port) if port != to && !port.is_empty() => self.say(format!("dnat to {to}:{port}")),
                    _ => self.say(format!("dnat to {to}")),
                }
            }
            Expression::SourceNat => self.say("masquerade or snat".to_owned()),
            Expression::Redirect { port } => {
                let to = port.map(|word| format!(" to :{}", self.at(word).label)).unwrap_or_default();
                self.say(format!("redirect{to}"));
            }
            Expression::Reject => self.say("reject".to_owned()),
            Expression::Passing(name) if name == "counter" || name == "last" => {}
            Expression::Passing(name) | Expression::Unknown(name) => self.say(name.clone()),
            Expression::Match { name, .. } if name == "comment" => {}
            Expression::Match { name, .. } => self.say(format!("xt match \"{name}\"")),
            Expression::Target { name, .. } => self.say(format!("xt target \"{name}\"")),
        }
    }

    fn load(&mut self, field: Field, into: usize) {
        let length = match field {
            Field::Payload { length, .. } => usize::try_from(length).unwrap_or(4),
            Field::Meta(6 | 7 | 17 | 18) => 16,
            _ => 4,
        };
        self.hold(into, Held { label: field.label(self.transport), field: Some(field), mask: None, length });
    }

    fn compare(&mut self, from: usize, operator: Operator, value: &[u8]) {
        let held = self.at(from);
        if matches!(held.field, Some(Field::Meta(16) | Field::Payload { base: 1, offset: 9 | 6, length: 1 })) {
            self.transport = value.first().copied();
        }
        let zero = value.iter().all(|byte| *byte == 0);
        let text = match (&held.mask, operator) {
            (Some(mask), Operator::NotEqual) if zero => format!("{} {}", held.label, show(held.field, mask)),
            (Some(mask), _) => match prefix(held.field, mask) {
                Some(bits) => {
                    format!("{} {}{}/{bits}", held.label, sign(operator), show(held.field, value))
                }
                None => {
                    let (mask, value) = (show(held.field, mask), show(held.field, value));
                    format!(
                        "{} & {mask} {}{value}",
                        held.label,
                        if operator == Operator::Equal { "== " } else { sign(operator) }
                    )
                }
            },
            (None, _) => format!("{} {}{}", held.label, sign(operator), show(held.field, value)),
        };
        self.say(text);
    }

    fn lookup(&mut self, name: &str, from: usize, into: Option<usize>, verdict: bool, not: bool, set: Option<&Set>) {
        let length = set.and_then(|set| set.elements.first()).map_or(4, |element| element.first.len());
        let key = self.key(from, length);
        let field = self.at(from).field;
        let shown = match set.filter(|_| name.starts_with("__")) {
            Some(set) if !key.contains(" . ") => {
                let mut shown: Vec<_> = set
                    .elements
                    .iter()
                    .take(SHOWN)
                    .map(|element| {
                        let first = show(field, &element.first);
                        let key = if element.first == element.last {
                            first
                        } else {
                            format!("{first}-{}", show(field, &element.last))
                        };
                        match &element.verdict {
                            Some(verdict) => format!("{key} : {}", verdict_text(verdict)),
                            None => key,
                        }
                    })
                    .collect();
                shown.extend((set.elements.len() > SHOWN).then(|| "…".to_owned()));
                format!("{{ {} }}", shown.join(", "))
            }
            _ => format!("@{name}"),
        };
        match into {
            Some(into) => {
                let label = format!("{key} map {shown}");
                for word in into..16 {
                    self.hold(word, Held { label: label.clone(), length: 4, ..Held::default() });
                }
            }
            None if verdict => self.say(format!("{key} vmap {shown}")),
            None => self.say(format!("{key} {}{shown}", if not { "!= " } else { "" })),
        }
    }

    /// The labels of a concatenated key.
    fn key(&self, from: usize, length: usize) -> String {
        let (mut word, mut labels) = (from, Vec::new());
        while word < (from + length.div_ceil(4)).min(16) {
            let held = self.at(word);
            word += held.length.div_ceil(4).max(1);
            labels.push(held.label);
        }
        labels.join(" . ")
    }

    /// A constant is shown as the address or port that it most likely is.
    fn constant(&self, value: &[u8]) -> String {
        match value {
            [a, b] => u16::from_be_bytes([*a, *b]).to_string(),
            [a, b, c, d] => Ipv4Addr::new(*a, *b, *c, *d).to_string(),
            other => show(Some(Field::Payload { base: 1, offset: 8, length: 16 }), other),
        }
    }

    fn at(&self, word: usize) -> Held {
        self.held.get(word).cloned().unwrap_or_default()
    }

    fn hold(&mut self, word: usize, held: Held) {
        if let Some(place) = self.held.get_mut(word) {
            *place = held;
        }
    }

    fn say(&mut self, text: String) {
        self.words.push(text);
    }
}

fn sign(operator: Operator) -> &'static str {
    match operator {
        Operator::Equal => "",
        Operator::NotEqual => "!= ",
        Operator::Less => "< ",
        Operator::LessOrEqual => "<= ",
        Operator::Greater => "> ",
        Operator::GreaterOrEqual => ">= ",
    }
}

pub(super) fn verdict_text(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accept => "accept".to_owned(),
        Verdict::Drop => "drop".to_owned(),
        Verdict::Jump(chain) => format!("jump {chain}"),
        Verdict::Goto(chain) => format!("goto {chain}"),
        Verdict::Return => "return".to_owned(),
        Verdict::Continue => "continue".to_owned(),
        Verdict::Queue => "queue".to_owned(),
    }
}

/// The length of the prefix that a mask of an address is.
fn prefix(field: Option<Field>, mask: &[u8]) -> Option<u32> {
    if !matches!(field, Some(Field::Payload { base: 1, length: 4 | 16, .. })) {
        return None;
    }
    let ones: u32 = mask.iter().map(|byte| byte.leading_ones()).sum();
    let all: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
    (ones == all).then_some(ones)
}

/// A value as its field is written.
fn show(field: Option<Field>, value: &[u8]) -> String {
    match (field, value) {
        (Some(Field::Meta(6 | 7 | 17 | 18)), name) => interface(name),
        (Some(Field::Meta(15)), [2, ..]) => "ipv4".to_owned(),
        (Some(Field::Meta(15)), [10, ..]) => "ipv6".to_owned(),
        (Some(Field::Meta(16) | Field::Payload { base: 1, offset: 9 | 6, length: 1 }), [number, ..]) => {
            protocol(*number)
        }
        (Some(Field::Conntrack { key: 0, .. }), bits) => {
            bits_of(bits, &[(1, "invalid"), (2, "established"), (4, "related"), (8, "new"), (64, "untracked")])
        }
        (Some(Field::Conntrack { key: 2, .. }), bits) => bits_of(
            bits,
            &[(1, "expected"), (2, "seen-reply"), (4, "assured"), (8, "confirmed"), (16, "snat"), (32, "dnat")],
        ),
        (Some(Field::Route { result: 3, .. }), value) => match host_number(value) {
            2 => "local".to_owned(),
            1 => "unicast".to_owned(),
            3 => "broadcast".to_owned(),
            5 => "multicast".to_owned(),
            other => other.to_string(),
        },
        (Some(Field::Payload { base: 1, .. }), [a, b, c, d]) => Ipv4Addr::new(*a, *b, *c, *d).to_string(),
        (Some(Field::Payload { base: 1, offset: 12 | 16, .. }), bytes) if bytes.len() < 4 => {
            let mut whole = [0; 4];
            whole[..bytes.len()].copy_from_slice(bytes);
            format!("{}/{}", Ipv4Addr::from(whole), bytes.len() * 8)
        }
        (Some(Field::Payload { base: 1, offset: 8 | 24, .. }), bytes) if bytes.len() <= 16 => {
            let mut whole = [0; 16];
            whole[..bytes.len()].copy_from_slice(bytes);
            let prefix = if bytes.len() < 16 { format!("/{}", bytes.len() * 8) } else { String::new() };
            format!("{}{prefix}", Ipv6Addr::from(whole))
        }
        (Some(Field::Payload { base: 2, .. }), [a, b]) => u16::from_be_bytes([*a, *b]).to_string(),
        (Some(Field::Meta(_) | Field::Conntrack { .. }), value) if value.len() <= 4 => {
            format!("{:#x}", host_number(value))
        }
        (_, value) => format!("0x{}", value.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
    }
}

fn protocol(number: u8) -> String {
    match number {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "ipv6-icmp".to_owned(),
        132 => "sctp".to_owned(),
        other => other.to_string(),
    }
}

fn interface(name: &[u8]) -> String {
    let end = name.iter().position(|byte| *byte == 0);
    let text = String::from_utf8_lossy(&name[..end.unwrap_or(name.len())]).into_owned();
    // Without its closing zero it is the beginning of a name.
    if end.is_none() && name.len() < 16 { format!("\"{text}*\"") } else { format!("\"{text}\"") }
}

fn bits_of(value: &[u8], names: &[(u32, &str)]) -> String {
    let number = host_number(value);
    let set: Vec<_> = names.iter().filter(|(bit, _)| number & bit != 0).map(|(_, name)| *name).collect();
    if set.is_empty() { format!("{number:#x}") } else { set.join(",") }
}

fn host_number(value: &[u8]) -> u32 {
    let mut whole = [0; 4];
    for (to, from) in whole.iter_mut().zip(value) {
        *to = *from;
    }
    u32::from_ne_bytes(whole)
}
