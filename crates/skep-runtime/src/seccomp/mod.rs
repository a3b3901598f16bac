//! System call filters: from the `linux.seccomp` of a spec to a program of classic BPF, and into the kernel. Without libseccomp,
//! whose behaviour is kept where specs rely on it:
//!
//! - the machine's own architecture is always filtered, named or not; calls by an architecture that is not named end the process;
//! - several conditions of one rule on the same argument are alternatives, each a rule of its own (as runc has it);
//! - names that an architecture does not have are skipped;
//! - if the default action is not to let calls through, calls with numbers higher than any that the rules name for the
//!   architecture fail with ENOSYS, so that programs fall back as on a kernel that does not have them yet.
//!
//! Where rules for one call overlap, those with conditions come first, in their order; then the first one without.

mod action;
mod arch;
mod code;
mod profile;

use std::os::fd::OwnedFd;

use skep_sys::seccomp::{Flags, Instruction};

use crate::spec::{Seccomp, SeccompArg, SeccompRule};
use action::Action;
use arch::{Arch, X32_BIT};
use code::{Condition, Outcome, Range, Test};

/// The kernel's `BPF_MAXINSNS`.
const LONGEST_PROGRAM: usize = 4096;

/// A compiled filter with the flags to load it with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Instructions of classic BPF.
    pub instructions: Vec<Instruction>,
    /// What seccomp(2) is to do besides.
    pub flags: Flags,
}

/// Why a filter could not be compiled or loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text of the spec makes no sense.
    #[error("invalid seccomp filter: {0}")]
    Invalid(String),
    /// The kernel did not take the filter.
    #[error("cannot load the seccomp filter: {0}")]
    Load(#[source] std::io::Error),
}

/// Compiles a filter.
pub fn compile(seccomp: &Seccomp) -> Result<Program, Error> {
    let default = Action::named(&seccomp.default_action, seccomp.default_errno_ret)?;
    if default.notifies() {
        return Err(Error::Invalid("SCMP_ACT_NOTIFY can't be the default action".to_owned()));
    }
    let mut rules = Vec::with_capacity(seccomp.syscalls.len());
    for rule in &seccomp.syscalls {
        parse_rule(rule, &mut rules)?;
    }
    let mut architectures = vec![Arch::NATIVE];
    for name in &seccomp.architectures {
        if let Some(arch) = Arch::named(name)?.filter(|arch| !architectures.contains(arch)) {
            architectures.push(arch);
        }
    }
    let mut trees: Vec<(u32, Vec<Range>)> = Vec::with_capacity(architectures.len());
    for arch in architectures.iter().filter(|arch| **arch != Arch::X32) {
        let mut tree = ranges(*arch, &rules, default);
        if *arch == Arch::X86_64 {
            if architectures.contains(&Arch::X32) {
                tree.append(&mut ranges(Arch::X32, &rules, default));
            } else {
                tree.push(Range { first: X32_BIT, outcome: always(Action::KILL_PROCESS) });
            }
        }
        trees.push((arch.audit(), tree));
    }
    let instructions = code::assemble(&trees, Action::KILL_PROCESS);
    if instructions.len() > LONGEST_PROGRAM {
        return Err(Error::Invalid(format!("{} instructions are too many for the kernel", instructions.len())));
    }
    let notifies = rules.iter().any(|rule| rule.action.notifies());
    Ok(Program { instructions, flags: flags(&seccomp.flags, notifies)? })
}

impl Program {
    /// Puts the filter in force for the calling thread, and for what it will execute. Needs no_new_privs or CAP_SYS_ADMIN. Returns
    /// the notify descriptor if the filter has `SCMP_ACT_NOTIFY`.
    pub fn load(&self) -> Result<Option<OwnedFd>, Error> {
        skep_sys::seccomp::load(&self.instructions, self.flags).map_err(|errno| Error::Load(errno.into()))
    }
}

/// The filter of containers that ask for none: what is not known to be harmless is refused, with more allowed for some
/// capabilities. `capabilities` are those that the container gets (its bounding set), as `CAP_CHOWN`.
pub fn default_profile<S: AsRef<str>>(capabilities: &[S]) -> Seccomp {
    profile::build(capabilities)
}

/// A rule of a spec; one with alternatives has become several.
struct Rule<'a> {
    names: &'a [String],
    conditions: Vec<Condition>,
    action: Action,
}

fn parse_rule<'a>(rule: &'a SeccompRule, rules: &mut Vec<Rule<'a>>) -> Result<(), Error> {
    let action = Action::named(&rule.action, rule.errno_ret)?;
    if action.notifies() && rule.names.iter().any(|name| name == "write") {
        return Err(Error::Invalid(
            "SCMP_ACT_NOTIFY can't be the action for write, which the runtime needs itself".to_owned(),
        ));
    }
    let names = &rule.names;
    let conditions = rule.args.iter().map(parse_condition).collect::<Result<Vec<_>, _>>()?;
    let alternatives = conditions.iter().enumerate().any(|(position, one)| {
        conditions[position + 1..].iter().any(|other| other.argument == one.argument) // at most six arguments
    });
    if alternatives {
        rules.extend(conditions.into_iter().map(|condition| Rule { names, conditions: vec![condition], action }));
    } else {
        rules.push(Rule { names, conditions, action });
    }
    Ok(())
}

fn parse_condition(arg: &SeccompArg) -> Result<Condition, Error> {
    if arg.index > 5 {
        return Err(Error::Invalid(format!("a system call has no argument {}", arg.index)));
    }
    let test = match arg.op.as_str() {
        "SCMP_CMP_EQ" => Test::Equal(arg.value),
        "SCMP_CMP_NE" => Test::NotEqual(arg.value),
        "SCMP_CMP_LT" => Test::Less(arg.value),
        "SCMP_CMP_LE" => Test::LessOrEqual(arg.value),
        "SCMP_CMP_GT" => Test::Greater(arg.value),
        "SCMP_CMP_GE" => Test::GreaterOrEqual(arg.value),
        "SCMP_CMP_MASKED_EQ" => {
            let (mask, value) = (arg.value, arg.value_two.unwrap_or(0));
            Test::MaskedEqual { mask, value: value & mask }
        }
        other => return Err(Error::Invalid(format!("unknown comparison {other:?}"))),
    };
    Ok(Condition { argument: arg.index, test })
}

/// The ranges of all numbers of an architecture. For x32 they begin at its bit, otherwise at 0.
fn ranges(arch: Arch, rules: &[Rule<'_>], default: Action) -> Vec<Range> {
    let mut found: Vec<(u32, &Rule<'_>)> = Vec::with_capacity(512);
    for rule in rules {
        found.extend(rule.names.iter().filter_map(|name| Some((arch.number(name)?, rule))));
    }
    found.sort_by_key(|(number, _)| *number); // stable: rules stay in their order
    let first = if arch == Arch::X32 { X32_BIT } else { 0 };
    let above = if default.lets_through() { default } else { Action::NO_SUCH_CALL };
    let mut ranges: Vec<Range> = Vec::with_capacity(found.len());
    let add = |ranges: &mut Vec<Range>, first: u32, outcome: Outcome| {
        if ranges.last().is_none_or(|last| last.outcome != outcome) {
            ranges.push(Range { first, outcome });
        }
    };
    let mut next = first;
    for call in found.chunk_by(|(one, _), (other, _)| one == other) {
        let number = call[0].0;
        if number > next {
            add(&mut ranges, next, always(default));
        }
        let mut outcome = always(default);
        let with_conditions = call.iter().filter(|(_, rule)| !rule.conditions.is_empty());
        outcome.conditional.extend(with_conditions.map(|(_, rule)| (rule.conditions.clone(), rule.action)));
        if let Some((_, rule)) = call.iter().find(|(_, rule)| rule.conditions.is_empty()) {
            outcome.otherwise = rule.action;
        }
        add(&mut ranges, number, outcome);
        next = number + 1;
    }
    add(&mut ranges, next, always(above));
    ranges
}

fn always(action: Action) -> Outcome {
    Outcome { conditional: Vec::new(), otherwise: action }
}

/// Without flags in the spec, filters do not switch on the mitigation of speculative store bypass, as in other runtimes.
fn flags(names: &[String], notifies: bool) -> Result<Flags, Error> {
    let mut flags = if names.is_empty() { Flags::SPEC_ALLOW } else { Flags::default() };
    for name in names {
        flags = flags.with(match name.as_str() {
            "SECCOMP_FILTER_FLAG_LOG" => Flags::LOG,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => Flags::SPEC_ALLOW,
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => Flags::WAIT_KILLABLE_RECV,
            "SECCOMP_FILTER_FLAG_TSYNC" => Flags::default(), // the runtime loads filters in processes of one thread
            other => return Err(Error::Invalid(format!("unknown flag {other:?}"))),
        });
    }
    if flags.contains(Flags::WAIT_KILLABLE_RECV) && !notifies {
        return Err(Error::Invalid("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs SCMP_ACT_NOTIFY".to_owned()));
    }
    Ok(if notifies { flags.with(Flags::NEW_LISTENER) } else { flags })
}

#[cfg(test)]
mod tests;
