//! Assembling the filter: from the rules of each architecture to instructions of classic BPF.
//!
//! ```text
//!   load arch ─ is x86-64? ──▶ load number ─▶ search tree of x86-64 and x32
//!             └ is i386?   ──▶ load number ─▶ search tree of i386
//!             └ ...
//!             └ none       ──▶ kill the process
//! ```
//!
//! The tree of an architecture divides all numbers into ranges with one outcome each; half a dozen comparisons find the range. All
//! code is relative and only jumps forward, so parts are put together by appending.

use skep_sys::seccomp::Instruction;

use super::action::Action;

/// A condition on one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    /// 0 to 5.
    pub(super) argument: u32,
    pub(super) test: Test,
}

/// Comparisons are of 64 bits, without sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    Equal(u64),
    NotEqual(u64),
    Less(u64),
    LessOrEqual(u64),
    Greater(u64),
    GreaterOrEqual(u64),
    MaskedEqual { mask: u64, value: u64 },
}

/// What happens to the calls of one number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Tried in order: the first whose conditions all hold decides.
    pub(super) conditional: Vec<(Vec<Condition>, Action)>,
    /// If none of them does.
    pub(super) otherwise: Action,
}

/// The calls from `first` up to the next range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u32,
    pub(super) outcome: Outcome,
}

// Offsets in struct seccomp_data.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

// Operations of linux/bpf_common.h.
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
const IF_GREATER_OR_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

/// The whole filter: for each `AUDIT_ARCH_*` value its ranges, sorted by their first number, beginning at 0.
pub(super) fn assemble(architectures: &[(u32, Vec<Range>)], unknown: Action) -> Vec<Instruction> {
    let mut code = vec![load(ARCH)];
    for (audit, ranges) in architectures {
        let mut body = vec![load(NUMBER)];
        body.extend(tree(ranges));
        code.extend(skip_unless(IF_EQUAL, *audit, body.len()));
        code.extend(body);
    }
    code.push(leave(unknown));
    code
}

/// Code that finds the range of the number in the accumulator.
fn tree(ranges: &[Range]) -> Vec<Instruction> {
    match ranges {
        [] => Vec::new(),
        [range] => body(&range.outcome),
        _ => {
            let (lower, upper) = ranges.split_at(ranges.len() / 2);
            let lower = tree(lower);
            let mut code = skip_if(IF_GREATER_OR_EQUAL, upper[0].first, lower.len());
            code.extend(lower);
            code.extend(tree(upper));
            code
        }
    }
}

fn body(outcome: &Outcome) -> Vec<Instruction> {
    let mut code = Vec::new();
    for (conditions, action) in &outcome.conditional {
        let mut rule = vec![leave(*action)];
        for condition in conditions.iter().rev() {
            let mut tested = condition_code(condition, rule.len());
            tested.append(&mut rule);
            rule = tested;
        }
        code.extend(rule);
    }
    code.push(leave(outcome.otherwise));
    code
}

/// Code that goes on to what follows it if the condition holds, and else skips `miss` instructions of that.
fn condition_code(condition: &Condition, miss: usize) -> Vec<Instruction> {
    let low_word = ARGUMENTS + 8 * condition.argument;
    let high_word = low_word + 4;
    let halves = |value: u64| ((value >> 32) as u32, (value & 0xffff_ffff) as u32);
    // Each test is: the high words decide, unless they are equal.
    let (high, low) = match condition.test {
        Test::Equal(value) | Test::NotEqual(value) | Test::MaskedEqual { value, .. } => halves(value),
        Test::Less(value) | Test::LessOrEqual(value) | Test::Greater(value) | Test::GreaterOrEqual(value) => {
            halves(value)
        }
    };
    let mut parts = Code::default();
    match condition.test {
        Test::Equal(_) => {
            parts.push(load(high_word)).test(IF_EQUAL, high, Go::On, Go::Miss);
            parts.push(load(low_word)).test(IF_EQUAL, low, Go::Hit, Go::Miss);
        }
        Test::MaskedEqual { mask, .. } => {
            let (high_mask, low_mask) = halves(mask);
            if high_mask != 0 || high != 0 {
                parts.push(load(high_word)).push(and(high_mask)).test(IF_EQUAL, high, Go::On, Go::Miss);
            }
            parts.push(load(low_word)).push(and(low_mask)).test(IF_EQUAL, low, Go::Hit, Go::Miss);
        }
        Test::NotEqual(_) => {
            parts.push(load(high_word)).test(IF_EQUAL, high, Go::On, Go::Hit);
            parts.push(load(low_word)).test(IF_EQUAL, low, Go::Miss, Go::Hit);
        }
        Test::Greater(_) | Test::GreaterOrEqual(_) => {
            parts.push(load(high_word)).test(IF_GREATER, high, Go::Hit, Go::On).test(IF_EQUAL, high, Go::On, Go::Miss);
            let last = if matches!(condition.test, Test::Greater(_)) { IF_GREATER } else { IF_GREATER_OR_EQUAL };
            parts.push(load(low_word)).test(last, low, Go::Hit, Go::Miss);
        }
        Test::Less(_) | Test::LessOrEqual(_) => {
            parts.push(load(high_word)).test(IF_GREATER, high, Go::Miss, Go::On).test(IF_EQUAL, high, Go::On, Go::Hit);
            let last = if matches!(condition.test, Test::Less(_)) { IF_GREATER_OR_EQUAL } else { IF_GREATER };
            parts.push(load(low_word)).test(last, low, Go::Miss, Go::Hit);
        }
    }
    parts.resolve(miss)
}

/// Where a comparison inside a condition goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Go {
    On,
    Hit,
    Miss,
}

/// The few instructions of a condition, with jumps that are not distances yet.
#[derive(Default)]
struct Code(Vec<(Instruction, Go, Go)>);

impl Code {
    fn push(&mut self, instruction: Instruction) -> &mut Code {
        self.0.push((instruction, Go::On, Go::On));
        self
    }

    fn test(&mut self, operation: u16, operand: u32, yes: Go, no: Go) -> &mut Code {
        self.0.push((Instruction { code: operation, jump_true: 0, jump_false: 0, operand }, yes, no));
        self
    }

    /// A miss jumps to one long jump at the end, which any distance fits; a hit jumps over it.
    fn resolve(self, miss: usize) -> Vec<Instruction> {
        let count = self.0.len();
        let mut code = Vec::with_capacity(count + 1);
        for (position, (mut instruction, yes, no)) in self.0.into_iter().enumerate() {
            let distance = |go| match go {
                Go::On => 0,
                Go::Miss => short(count - position - 1).unwrap_or(u8::MAX),
                Go::Hit => short(count - position).unwrap_or(u8::MAX),
            };
            (instruction.jump_true, instruction.jump_false) = (distance(yes), distance(no));
            code.push(instruction);
        }
        code.push(jump(miss));
        code
    }
}

/// Skips the `distance` instructions that follow if the comparison holds.
fn skip_if(operation: u16, operand: u32, distance: usize) -> Vec<Instruction> {
    match short(distance) {
        Some(jump_true) => vec![Instruction { code: operation, jump_true, jump_false: 0, operand }],
        None => vec![Instruction { code: operation, jump_true: 0, jump_false: 1, operand }, jump(distance)],
    }
}

/// Skips the `distance` instructions that follow if the comparison does not hold.
fn skip_unless(operation: u16, operand: u32, distance: usize) -> Vec<Instruction> {
    match short(distance) {
        Some(jump_false) => vec![Instruction { code: operation, jump_true: 0, jump_false, operand }],
        None => vec![Instruction { code: operation, jump_true: 1, jump_false: 0, operand }, jump(distance)],
    }
}

/// Comparisons jump at most this far.
fn short(distance: usize) -> Option<u8> {
    u8::try_from(distance).ok()
}

fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD, jump_true: 0, jump_false: 0, operand: offset }
}

fn and(mask: u32) -> Instruction {
    Instruction { code: AND, jump_true: 0, jump_false: 0, operand: mask }
}

fn jump(distance: usize) -> Instruction {
    // Filters are limited to 4096 instructions, which is checked before one is loaded.
    Instruction { code: JUMP, jump_true: 0, jump_false: 0, operand: u32::try_from(distance).unwrap_or(u32::MAX) }
}

fn leave(action: Action) -> Instruction {
    Instruction { code: RETURN, jump_true: 0, jump_false: 0, operand: action.0 }
}
