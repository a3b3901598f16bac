//! Follows a packet through the base chains of a hook.
//!
//! A rule that does not match for certain is no reason to stop: what it would do is kept as possible, with what that
//! depends on, and the walk goes on as if it had not matched. So an end is certain exactly if nothing else is possible.

use std::net::IpAddr;

use super::compat;
use super::expression::{Expression, Operator, Registers, Verdict};
use super::packet::Packet;
use super::ruleset::{Chain, Element, Hook, Rule, Ruleset, Set, TableName};
use super::value::{Truth, Value};

/// Chains may jump this deep, in the kernel too.
const DEPTH: usize = 16;
/// Targets of iptables after which a packet goes on.
const HARMLESS: [&str; 12] =
    ["LOG", "NFLOG", "TRACE", "CT", "CONNMARK", "TCPMSS", "CHECKSUM", "AUDIT", "CLASSIFY", "DSCP", "SECMARK", "ULOG"];

/// What a rule or policy does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Accept,
    Drop,
    /// Leads it elsewhere.
    Translate,
}

/// A rule, or a chain's policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) table: TableName,
    pub(super) chain: String,
    /// `None` for a policy.
    pub(super) handle: Option<u64>,
    pub(super) text: String,
}

/// Something that a rule may do, and what that depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Possible {
    pub(super) effect: Effect,
    pub(super) place: Place,
    pub(super) depends: Vec<String>,
}

/// What a base chain does with the packet.
#[derive(Debug)]
pub(super) struct Passage {
    pub(super) effect: Effect,
    pub(super) place: Place,
    /// What else it may do.
    pub(super) possible: Vec<Possible>,
}

/// Takes a packet through all base chains of a hook, as long as none drops it for certain.
pub(super) fn hook(rules: &Ruleset, hook: Hook, packet: &mut Packet, local: &[IpAddr]) -> Vec<Passage> {
    let mut passages = Vec::new();
    for chain in rules.at(hook, packet.v6) {
        let Some(base) = &chain.base else { continue };
        // Where one chain has translated, further ones are not asked.
        if base.nat && packet.translated && matches!(hook, Hook::Prerouting | Hook::Output) {
            continue;
        }
        let mut walk = Walk { rules, packet, local, possible: Vec::new() };
        let policy = || {
            let effect = if base.drops { Effect::Drop } else { Effect::Accept };
            let text = if base.drops { "policy drop" } else { "policy accept" };
            (
                effect,
                Place { table: chain.table.clone(), chain: chain.name.clone(), handle: None, text: text.to_owned() },
            )
        };
        let (effect, place) = match walk.chain(chain, &[], 0) {
            Flow::End(effect, place) => (effect, place),
            Flow::Back => policy(),
        };
        let possible = walk.possible;
        let drops = effect == Effect::Drop && possible.iter().all(|other| other.effect == Effect::Drop);
        passages.push(Passage { effect, place, possible });
        if drops {
            break;
        }
    }
    passages
}

struct Walk<'a> {
    rules: &'a Ruleset,
    packet: &'a mut Packet,
    local: &'a [IpAddr],
    possible: Vec<Possible>,
}

enum Flow {
    End(Effect, Place),
    /// The chain is through.
    Back,
}

/// What a rule does to a packet.
enum Outcome {
    /// It does not match, or only counts.
    Next,
    Verdict(Verdict),
    End(Effect),
}

impl Walk<'_> {
    /// `doubts`: what it depends on that the chain is passed at all.
    fn chain(&mut self, chain: &Chain, doubts: &[String], depth: usize) -> Flow {
        let mut doubts = doubts.to_vec();
        for rule in &chain.rules {
            let (outcome, mut depends) = self.rule(chain, rule);
            depends.splice(0..0, doubts.iter().cloned());
            let place = || Place {
                table: chain.table.clone(),
                chain: chain.name.clone(),
                handle: Some(rule.handle),
                text: rule.text.clone(),
            };
            match outcome {
                Outcome::Next | Outcome::Verdict(Verdict::Continue) => {}
                Outcome::End(effect) => match self.end(effect, place(), depends) {
                    Some(flow) => return flow,
                    None => continue,
                },
                Outcome::Verdict(Verdict::Accept) => match self.end(Effect::Accept, place(), depends) {
                    Some(flow) => return flow,
                    None => continue,
                },
                Outcome::Verdict(Verdict::Drop) => match self.end(Effect::Drop, place(), depends) {
                    Some(flow) => return flow,
                    None => continue,
                },
                Outcome::Verdict(Verdict::Queue) => {
                    depends.push("what the program says that the packet is queued to".to_owned());
                    self.possible.push(Possible { effect: Effect::Drop, place: place(), depends });
                }
                Outcome::Verdict(Verdict::Return) => {
                    if depends.is_empty() {
                        return Flow::Back;
                    }
                    doubts = depends;
                }
                Outcome::Verdict(ref verdict @ (Verdict::Jump(ref name) | Verdict::Goto(ref name))) => {
                    let target = self.rules.chain(&chain.table, name).filter(|_| depth < DEPTH);
                    let Some(target) = target else { continue };
                    let flow = self.chain(target, &depends, depth + 1);
                    match (flow, depends.is_empty()) {
                        (Flow::End(effect, place), true) => return Flow::End(effect, place),
                        (Flow::Back, true) if matches!(verdict, Verdict::Goto(_)) => return Flow::Back,
                        (Flow::Back, false) if matches!(verdict, Verdict::Goto(_)) => doubts = depends,
                        _ => {}
                    }
                }
            }
        }
        Flow::Back
    }

    fn end(&mut self, effect: Effect, place: Place, depends: Vec<String>) -> Option<Flow> {
        if depends.is_empty() {
            return Some(Flow::End(effect, place));
        }
        self.possible.push(Possible { effect, place, depends });
        None
    }

    /// Runs a rule: what it does, and on what it depends that it matches.
    fn rule(&mut self, chain: &Chain, rule: &Rule) -> (Outcome, Vec<String>) {
        let mut registers = Registers::new();
        let mut depends = Vec::new();
        for expression in &rule.expressions {
            let truth = match self.step(&chain.table, expression, &mut registers, &mut depends) {
                Step::Goes(truth) => truth,
                Step::Does(outcome) => return (outcome, depends),
            };
            if truth == Truth::No {
                return (Outcome::Next, Vec::new());
            }
        }
        (Outcome::Next, Vec::new())
    }

    fn step(&mut self, table: &TableName, step: &Expression, r: &mut Registers, depends: &mut Vec<String>) -> Step {
        match step {
            Expression::Load { field, into } => match self.packet.read(*field, self.local) {
                Some(value) => r.load(*into, &value, &field.label(Some(self.packet.protocol))),
                None => return Step::Goes(Truth::No),
            },
            Expression::Constant { into, value } => r.load(*into, &Value::exact(value), ""),
            Expression::Bitwise { from, into, mask, xor } => {
                let label = r.doubt(*from, mask.len());
                let masked = r.value(*from, mask.len()).masked(mask, xor);
                r.load(*into, &masked, &label);
            }
            Expression::Swap { from, into, length, size } => {
                let label = r.doubt(*from, *length);
                let mut value = r.value(*from, *length);
                value.bits.chunks_mut((*size).max(1)).for_each(<[u8]>::reverse);
                value.known.chunks_mut((*size).max(1)).for_each(<[u8]>::reverse);
                r.load(*into, &value, &label);
            }
            Expression::Compare { from, operator, value } => {
                let truth = compare(&r.value(*from, value.len()), *operator, value);
                return Step::open(truth, depends, || r.doubt(*from, value.len()));
            }
            Expression::Range { from, inverted, first, last } => {
                let within = r.value(*from, first.len()).within(first, last);
                let truth = if *inverted { within.not() } else { within };
                return Step::open(truth, depends, || r.doubt(*from, first.len()));
            }
            Expression::Lookup { set, from, into, verdict, inverted } => {
                let Some(found) = self.rules.sets.get(&(table.clone(), set.clone())) else {
                    return Step::open(Truth::Open, depends, || format!("what is in {set}"));
                };
                return lookup(found, r, (*from, *into, *verdict, *inverted), depends);
            }
            Expression::SetMark { from } => {
                let mark = r.value(*from, 4);
                self.packet.mark = if depends.is_empty() { mark } else { Value::unknown(4) };
            }
            Expression::Match { name, revision, info } => {
                let truth = compat::matches(name, *revision, info, self.packet, self.local);
                return Step::open(truth, depends, || format!("the match \"{name}\", which is not understood"));
            }
            Expression::Unknown(name) => {
                return Step::open(Truth::Open, depends, || format!("\"{name}\", which is not understood"));
            }
            Expression::Passing(_) | Expression::SourceNat => {}
            other => return self.act(other, r, depends),
        }
        Step::Goes(Truth::Yes)
    }

    /// What ends a rule.
    fn act(&mut self, step: &Expression, r: &Registers, depends: &mut Vec<String>) -> Step {
        Step::Does(match step {
            Expression::Verdict(verdict) => Outcome::Verdict(verdict.clone()),
            Expression::Reject => Outcome::End(Effect::Drop),
            Expression::DestinationNat { address, port } => {
                let length = self.packet.destination.bits.len();
                let address = address.map(|word| r.value(word, length));
                self.translate(address, port.map(|word| r.value(word, 2)), depends)
            }
            Expression::Redirect { port } => {
                // To the host itself, by whichever of its addresses.
                let own = self.local.iter().find(|ip| ip.is_ipv6() == self.packet.v6);
                let address = own.map(|ip| Value::address(*ip, 128));
                self.translate(address, port.map(|word| r.value(word, 2)), depends)
            }
            Expression::Target { name, .. } => match name.as_str() {
                "REJECT" => Outcome::End(Effect::Drop),
                "MASQUERADE" | "SNAT" | "NETMAP" => return Step::Goes(Truth::Yes),
                "MARK" => {
                    self.packet.mark = Value::unknown(4);
                    return Step::Goes(Truth::Yes);
                }
                harmless if HARMLESS.contains(&harmless) => return Step::Goes(Truth::Yes),
                other => {
                    depends.push(format!("the target \"{other}\", which is not understood"));
                    Outcome::End(Effect::Drop)
                }
            },
            _ => return Step::Goes(Truth::Yes),
        })
    }

    fn translate(&mut self, address: Option<Value>, port: Option<Value>, depends: &[String]) -> Outcome {
        if depends.is_empty() {
            self.packet.translate(address, port);
        }
        Outcome::End(Effect::Translate)
    }
}

enum Step {
    Goes(Truth),
    Does(Outcome),
}

impl Step {
    /// Goes on unless it certainly does not match; says what is open.
    fn open(truth: Truth, depends: &mut Vec<String>, what: impl FnOnce() -> String) -> Step {
        if truth == Truth::Open {
            let what = what();
            if !depends.contains(&what) {
                depends.push(what);
            }
        }
        Step::Goes(truth)
    }
}

fn compare(value: &Value, operator: Operator, wanted: &[u8]) -> Truth {
    let (low, high) = (vec![0; wanted.len()], vec![0xff; wanted.len()]);
    match operator {
        Operator::Equal => value.equals(wanted),
        Operator::NotEqual => value.equals(wanted).not(),
        Operator::LessOrEqual => value.within(&low, wanted),
        Operator::GreaterOrEqual => value.within(wanted, &high),
        Operator::Less => value.within(wanted, &high).not(),
        Operator::Greater => value.within(&low, wanted).not(),
    }
}

type LookupOf = (usize, Option<usize>, bool, bool);

fn lookup(set: &Set, r: &mut Registers, (from, into, verdict, inverted): LookupOf, depends: &mut Vec<String>) -> Step {
    let length = set.elements.first().map_or(0, |element| element.first.len());
    let key = r.value(from, length);
    let mut found: Option<(Truth, &Element)> = None;
    // An element without a key stands for all that have none.
    for element in &set.elements {
        let truth = if element.first.is_empty() { Truth::Open } else { contains(set, element, &key) };
        match (truth, &found) {
            (Truth::Yes, _) => {
                found = Some((Truth::Yes, element));
                break;
            }
            (Truth::Open, None) => found = Some((Truth::Open, element)),
            _ => {}
        }
    }
    let truth = found.map_or(Truth::No, |(truth, _)| truth);
    if verdict
        && truth == Truth::Yes
        && let Some((_, Element { verdict: Some(verdict), .. })) = found
    {
        return Step::Does(Outcome::Verdict(verdict.clone()));
    }
    if verdict && truth == Truth::Open {
        depends.push(r.doubt(from, length));
        depends.push("a verdict map".to_owned());
        return Step::Does(Outcome::End(Effect::Drop));
    }
    let doubt = r.doubt(from, length);
    if let (Some(into), Some((_, element))) = (into, found) {
        let data = element.data.clone().unwrap_or_default();
        let value = if truth == Truth::Yes { Value::exact(&data) } else { Value::unknown(data.len()) };
        r.load(into, &value, &doubt);
    }
    Step::open(if inverted { truth.not() } else { truth }, depends, || doubt)
}

fn contains(set: &Set, element: &Element, key: &Value) -> Truth {
    if element.first == element.last {
        return key.equals(&element.first);
    }
    if set.fields.len() < 2 {
        return key.within(&element.first, &element.last);
    }
    let (mut at, mut all) = (0, Truth::Yes);
    for field in &set.fields {
        let part = |bytes: &[u8]| bytes.get(at..at + field).unwrap_or_default().to_vec();
        let value = Value { bits: part(&key.bits), known: part(&key.known) };
        all = all.and(value.within(&part(&element.first), &part(&element.last)));
        at += field.next_multiple_of(4);
    }
    all
}
