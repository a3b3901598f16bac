//! Which devices the processes of a cgroup may make nodes of, read, and write: rules into the lists of v1, or into a program
//! for v2.
//!
//! Rules apply in order, and separately for each kind of access: the last rule that matches the device and names the access
//! decides. What no rule matches is denied.

use std::fmt::Write as _;
use std::os::fd::AsFd;

use rustix::fs::OFlags;
use rustix::io::{Errno, retry_on_intr};
use skep_sys::bpf::{self, Instruction};

use super::{Controllers, Error, Group, Limit, Reason, Result, Version, Warning};
use crate::spec::DeviceRule;

/// A rule in checked form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    allow: bool,
    /// `None` for block and character devices.
    kind: Option<DeviceKind>,
    major: Option<u32>,
    minor: Option<u32>,
    access: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DeviceKind {
    Block,
    Character,
}

// The bits of `BPF_DEVCG_ACC_*`.
const MAKE: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const ALL: u8 = MAKE | READ | WRITE;

/// What every container may do, whatever its rules say: make any node, and use those that are in every /dev.
const EVERY_CONTAINER: [Rule; 10] = [
    allowed(DeviceKind::Character, None, None, MAKE),
    allowed(DeviceKind::Block, None, None, MAKE),
    allowed(DeviceKind::Character, Some(1), Some(3), ALL), // null
    allowed(DeviceKind::Character, Some(1), Some(5), ALL), // zero
    allowed(DeviceKind::Character, Some(1), Some(7), ALL), // full
    allowed(DeviceKind::Character, Some(1), Some(8), ALL), // random
    allowed(DeviceKind::Character, Some(1), Some(9), ALL), // urandom
    allowed(DeviceKind::Character, Some(5), Some(0), ALL), // tty
    allowed(DeviceKind::Character, Some(5), Some(2), ALL), // ptmx
    allowed(DeviceKind::Character, Some(136), None, ALL),  // pts/*
];

const fn allowed(kind: DeviceKind, major: Option<u32>, minor: Option<u32>, access: u8) -> Rule {
    Rule { allow: true, kind: Some(kind), major, minor, access }
}

/// Puts the rules of a new container in force.
pub(super) fn apply(group: Option<&Group>, rules: &[DeviceRule]) -> Result<Option<Warning>> {
    let mut parsed = rules.iter().map(Rule::parse).collect::<Result<Vec<_>>>()?;
    parsed.extend(EVERY_CONTAINER);
    let warning = |reason| Some(Warning { limit: Limit::Devices, value: format!("({} rules)", rules.len()), reason });
    let Some(group) = group else { return Ok(warning(Reason::NoController(Controllers::DEVICES))) };
    let (file, result) = match group.version {
        Version::V1 => ("devices.allow", write_lists(group, &Lists::new(&parsed)?)),
        Version::V2 => ("", load(group, &parsed)?),
    };
    match result {
        Ok(()) => Ok(None),
        Err(errno @ (Errno::PERM | Errno::ACCESS | Errno::ROFS)) => {
            Ok(warning(Reason::Refused { path: group.path.join(file), errno: errno.raw_os_error() }))
        }
        Err(errno) => Err(group.error("set device rules of", file, errno)),
    }
}

impl Rule {
    fn parse(rule: &DeviceRule) -> Result<Rule> {
        let invalid = |reason: String| Error::Invalid { limit: Limit::Devices, reason };
        let kind = match rule.kind.as_deref() {
            None | Some("" | "a") => None,
            Some("b") => Some(DeviceKind::Block),
            Some("c" | "u") => Some(DeviceKind::Character),
            Some(other) => return Err(invalid(format!("unknown device type {other:?}"))),
        };
        let number = |number: Option<i64>| match number {
            None | Some(-1) => Ok(None),
            Some(number) => u32::try_from(number)
                .ok()
                .filter(|number| i32::try_from(*number).is_ok())
                .map(Some)
                .ok_or_else(|| invalid(format!("device number {number} is out of range"))),
        };
        let mut access = 0;
        for character in rule.access.as_deref().filter(|access| !access.is_empty()).unwrap_or("rwm").chars() {
            access |= match character {
                'r' => READ,
                'w' => WRITE,
                'm' => MAKE,
                other => return Err(invalid(format!("unknown kind of access {other:?}"))),
            };
        }
        Ok(Rule { allow: rule.allow, kind, major: number(rule.major)?, minor: number(rule.minor)?, access })
    }

    /// Whether it is about every device and every access.
    fn is_total(&self) -> bool {
        self.kind.is_none() && self.major.is_none() && self.minor.is_none() && self.access == ALL
    }

    /// Whether every device of `other` is one of `self`.
    fn covers(&self, other: &Rule) -> bool {
        fn within<T: PartialEq>(wide: Option<T>, narrow: Option<T>) -> bool {
            wide.is_none() || wide == narrow
        }
        within(self.kind, other.kind) && within(self.major, other.major) && within(self.minor, other.minor)
    }

    /// Whether some device is one of both.
    fn meets(&self, other: &Rule) -> bool {
        fn meet<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
            one.is_none() || other.is_none() || one == other
        }
        meet(self.kind, other.kind) && meet(self.major, other.major) && meet(self.minor, other.minor)
    }
}

/// The form that v1 can hold: allow or deny everything, and exceptions from that.
#[derive(Debug, PartialEq, Eq)]
struct Lists {
    allow_by_default: bool,
    exceptions: Vec<Rule>,
}

impl Lists {
    fn new(rules: &[Rule]) -> Result<Lists> {
        let mut lists = Lists { allow_by_default: false, exceptions: Vec::new() };
        for rule in rules {
            if rule.is_total() {
                lists = Lists { allow_by_default: rule.allow, exceptions: Vec::new() };
            } else if rule.kind.is_none() {
                for kind in [DeviceKind::Block, DeviceKind::Character] {
                    lists.add(Rule { kind: Some(kind), ..*rule })?;
                }
            } else {
                lists.add(*rule)?;
            }
        }
        Ok(lists)
    }

    fn add(&mut self, rule: Rule) -> Result<()> {
        if rule.allow != self.allow_by_default {
            let same = |have: &&mut Rule| (have.kind, have.major, have.minor) == (rule.kind, rule.major, rule.minor);
            match self.exceptions.iter_mut().find(same) {
                Some(have) => have.access |= rule.access,
                None => self.exceptions.push(rule),
            }
            return Ok(());
        }
        for exception in &mut self.exceptions {
            if rule.covers(exception) {
                exception.access &= !rule.access;
            } else if rule.meets(exception) && rule.access & exception.access != 0 {
                let reason = format!(
                    "cgroup v1 can't express an exception ({}) from a wider rule ({})",
                    line(&rule),
                    line(exception)
                );
                return Err(Error::Invalid { limit: Limit::Devices, reason });
            }
        }
        self.exceptions.retain(|exception| exception.access != 0);
        Ok(())
    }
}

/// A rule as a line of `devices.list`.
fn line(rule: &Rule) -> String {
    let mut text = String::with_capacity(16);
    text.push(match rule.kind {
        None => 'a',
        Some(DeviceKind::Block) => 'b',
        Some(DeviceKind::Character) => 'c',
    });
    for (separator, number) in [(' ', rule.major), (':', rule.minor)] {
        text.push(separator);
        match number {
            Some(number) => {
                let _ = write!(text, "{number}"); // a String takes everything
            }
            None => text.push('*'),
        }
    }
    text.push(' ');
    text.extend(
        [(READ, 'r'), (WRITE, 'w'), (MAKE, 'm')].iter().filter(|(bit, _)| rule.access & bit != 0).map(|(_, name)| name),
    );
    text
}

fn write_lists(group: &Group, lists: &Lists) -> std::result::Result<(), Errno> {
    let (all, exceptions) =
        if lists.allow_by_default { ("devices.allow", "devices.deny") } else { ("devices.deny", "devices.allow") };
    group.write(all, "a")?;
    let file = group.open(exceptions, OFlags::WRONLY)?;
    for exception in &lists.exceptions {
        retry_on_intr(|| rustix::io::write(&file, line(exception).as_bytes()))?;
    }
    Ok(())
}

/// Loads and attaches the program, in place of one left by an earlier use of the cgroup.
fn load(group: &Group, rules: &[Rule]) -> Result<std::result::Result<(), Errno>> {
    let program = match bpf::load_device_filter(&assemble(rules)) {
        Ok(program) => program,
        Err(error) if error.log.is_empty() => return Ok(Err(error.errno)),
        Err(error) => return Err(Error::Invalid { limit: Limit::Devices, reason: error.to_string() }),
    };
    Ok(attach(group, &program))
}

fn attach(group: &Group, program: &std::os::fd::OwnedFd) -> std::result::Result<(), Errno> {
    let old = bpf::attached_device_filters(group.fd.as_fd())?;
    let replaced = old.last().map(AsFd::as_fd);
    bpf::attach_device_filter(group.fd.as_fd(), program.as_fd(), replaced)?;
    for program in old.iter().rev().skip(1) {
        bpf::detach_device_filter(group.fd.as_fd(), program.as_fd())?;
    }
    Ok(())
}

// Registers of the program: what the kernel passes and the parts of it.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
/// The accesses asked for that no rule has decided yet.
const UNDECIDED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// The program, rules from last to first:
///
/// ```text
///   a rule that matches and denies an undecided access:  return 0
///   a rule that matches and allows:                      those accesses are decided; if none is left, return 1
///   at the end:                                          return 0
/// ```
fn assemble(rules: &[Rule]) -> Vec<Instruction> {
    let mut code = vec![
        load_word(KIND, CONTEXT, 0), // access in the upper half, kind in the lower
        copy(UNDECIDED, KIND),
        immediate(AND, KIND, 0xffff),
        immediate(SHIFT_RIGHT, UNDECIDED, 16),
        load_word(MAJOR, CONTEXT, 4),
        load_word(MINOR, CONTEXT, 8),
    ];
    for rule in rules.iter().rev() {
        let body = match (rule.allow, rule.access) {
            (allow, ALL) => leave(allow).to_vec(),
            (true, access) => {
                let [result, exit] = leave(true);
                vec![immediate(AND, UNDECIDED, !i32::from(access)), jump(IF_NOT_EQUAL, UNDECIDED, 0, 2), result, exit]
            }
            (false, access) => {
                let [result, exit] = leave(false);
                vec![jump(IF_ANY_SET, UNDECIDED, i32::from(access), 1), jump(ALWAYS, 0, 0, 2), result, exit]
            }
        };
        let kind = rule.kind.map(|kind| match kind {
            DeviceKind::Block => 1,
            DeviceKind::Character => 2,
        });
        let tests: Vec<(u8, u32)> = [(KIND, kind), (MAJOR, rule.major), (MINOR, rule.minor)]
            .into_iter()
            .filter_map(|(register, wanted)| Some((register, wanted?)))
            .collect();
        for (position, (register, wanted)) in tests.iter().enumerate() {
            // Rules are a handful of instructions, numbers were checked to fit: neither conversion can fail.
            let distance = i16::try_from(tests.len() - position - 1 + body.len()).unwrap_or(i16::MAX);
            code.push(jump(IF_NOT_EQUAL, *register, i32::try_from(*wanted).unwrap_or(i32::MAX), distance));
        }
        code.extend(body);
        if rule.is_total() {
            return code; // the verifier refuses code that can't be reached
        }
    }
    code.extend(leave(false));
    code
}

const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const MOVE: u8 = 0xb7;
const ALWAYS: u8 = 0x05;
const IF_ANY_SET: u8 = 0x45;
const IF_NOT_EQUAL: u8 = 0x55;

fn load_word(to: u8, from: u8, offset: i16) -> Instruction {
    Instruction { code: 0x61, registers: from << 4 | to, offset, immediate: 0 }
}

fn copy(to: u8, from: u8) -> Instruction {
    Instruction { code: 0xbf, registers: from << 4 | to, offset: 0, immediate: 0 }
}

fn immediate(code: u8, register: u8, immediate: i32) -> Instruction {
    Instruction { code, registers: register, offset: 0, immediate }
}

fn jump(code: u8, register: u8, immediate: i32, offset: i16) -> Instruction {
    Instruction { code, registers: register, offset, immediate }
}

fn leave(allow: bool) -> [Instruction; 2] {
    [immediate(MOVE, RESULT, i32::from(allow)), Instruction { code: 0x95, ..Instruction::default() }]
}

#[cfg(test)]
mod tests;
