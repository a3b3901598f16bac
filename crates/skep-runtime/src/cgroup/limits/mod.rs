//! From [`Resources`] to the files that hold limits.
//!
//! The files of each controller, in both versions, are in a module of their own, which turns a part of `Resources` into
//! [`Step`]s. Those are plain data; this module writes them.

mod cpu;
mod io;
mod memory;
mod other;

use std::borrow::Cow;
use std::fmt;

use rustix::io::Errno;

use super::{Cgroup, Controllers, Error, Group, Reason, Result, Version, Warning, devices};
use crate::spec::Resources;

/// Whether a cgroup is being set up or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    New,
    InUse,
}

/// Something that `Resources` can limit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in Resources")]
pub enum Limit {
    Memory,
    MemoryReservation,
    MemorySwap,
    Swappiness,
    OomKillDisable,
    KernelTcpMemory,
    CpuShares,
    CpuIdle,
    CpuQuota,
    CpuPeriod,
    CpuBurst,
    CpuRealtime,
    CpusetCpus,
    CpusetMems,
    Pids,
    BlkioWeight,
    BlkioThrottle,
    HugePages,
    NetworkClass,
    NetworkPriority,
    Rdma,
    Devices,
    /// A file named in `unified`.
    File(String),
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Limit::Memory => "memory limit",
            Limit::MemoryReservation => "memory reservation",
            Limit::MemorySwap => "memory and swap limit",
            Limit::Swappiness => "memory swappiness",
            Limit::OomKillDisable => "disabling the OOM killer",
            Limit::KernelTcpMemory => "kernel TCP memory limit",
            Limit::CpuShares => "CPU shares",
            Limit::CpuIdle => "CPU idle mode",
            Limit::CpuQuota => "CPU quota",
            Limit::CpuPeriod => "CPU period",
            Limit::CpuBurst => "CPU burst",
            Limit::CpuRealtime => "CPU realtime limit",
            Limit::CpusetCpus => "CPU set",
            Limit::CpusetMems => "memory node set",
            Limit::Pids => "pids limit",
            Limit::BlkioWeight => "block IO weight",
            Limit::BlkioThrottle => "block IO rate",
            Limit::HugePages => "huge page limit",
            Limit::NetworkClass => "network class",
            Limit::NetworkPriority => "network priority",
            Limit::Rdma => "RDMA limit",
            Limit::Devices => "device rules",
            Limit::File(name) => name,
        })
    }
}

/// One value for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    limit: Limit,
    controller: Controllers,
    file: Cow<'static, str>,
    value: String,
    /// What to write if there is no such file.
    otherwise: Otherwise,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Otherwise {
    Warn,
    /// The value says the same as the file's absence.
    Ignore,
    /// The same limit in another file.
    Write(Cow<'static, str>, String),
}

/// What to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Write(Setting),
    /// Two values that the kernel compares with each other: if the first is refused as it would not fit to the present value of
    /// the second, the second goes first.
    Pair(Setting, Setting),
    /// Fails if the number in the file is higher than the limit that is about to be written.
    Check {
        controller: Controllers,
        file: &'static str,
        limit: u64,
    },
    /// A limit that this version does not have.
    Missing(Limit, String),
}

impl Step {
    fn write(limit: Limit, controller: Controllers, file: impl Into<Cow<'static, str>>, value: impl ToString) -> Step {
        Step::Write(Setting::new(limit, controller, file, value))
    }
}

impl Setting {
    fn new(limit: Limit, controller: Controllers, file: impl Into<Cow<'static, str>>, value: impl ToString) -> Setting {
        Setting { limit, controller, file: file.into(), value: value.to_string(), otherwise: Otherwise::Warn }
    }
}

pub(super) fn apply(cgroup: &Cgroup, resources: &Resources, occasion: Occasion) -> Result<Vec<Warning>> {
    let version = |controller| cgroup.group(controller).map_or(Version::V2, |group| group.version);
    let mut steps = Vec::new();
    if let Some(cpu) = &resources.cpu {
        cpu::steps(cpu, version(Controllers::CPU), &mut steps);
    }
    if let Some(memory) = &resources.memory {
        memory::steps(memory, version(Controllers::MEMORY), &mut steps)?;
    }
    if let Some(block_io) = &resources.block_io {
        io::steps(block_io, version(Controllers::BLKIO), &mut steps)?;
    }
    other::steps(resources, &version, &mut steps)?;

    let mut warnings = Vec::new();
    if occasion == Occasion::New {
        warnings.extend(devices::apply(cgroup.group(Controllers::DEVICES), &resources.devices)?);
    }
    for step in steps {
        run(cgroup, step, &mut warnings)?;
    }
    Ok(warnings)
}

fn run(cgroup: &Cgroup, step: Step, warnings: &mut Vec<Warning>) -> Result<()> {
    match step {
        Step::Write(setting) => write(cgroup, setting, warnings),
        Step::Pair(first, second) => match try_write(cgroup, &first) {
            Err(Outcome::Failed(Errno::INVAL | Errno::BUSY, _)) => {
                write(cgroup, second, warnings)?;
                write(cgroup, first, warnings)
            }
            outcome => {
                report(first, outcome, warnings)?;
                write(cgroup, second, warnings)
            }
        },
        Step::Check { controller, file, limit } => match cgroup.group(controller).map(|group| group.number(file)) {
            Some(Ok(Some(usage))) if usage > limit => Err(Error::Invalid {
                limit: Limit::Memory,
                reason: format!("the limit of {limit} bytes is below the present usage of {usage} bytes"),
            }),
            Some(Err(error)) => Err(error),
            _ => Ok(()),
        },
        Step::Missing(limit, value) => {
            warnings.push(Warning { limit, value, reason: Reason::NotInThisVersion });
            Ok(())
        }
    }
}

/// Why a value is not in force.
enum Outcome<'a> {
    /// Nothing that an error could be made of.
    Skipped(Reason),
    Failed(Errno, &'a Group),
}

fn write(cgroup: &Cgroup, setting: Setting, warnings: &mut Vec<Warning>) -> Result<()> {
    let outcome = try_write(cgroup, &setting);
    report(setting, outcome, warnings)
}

fn try_write<'a>(cgroup: &'a Cgroup, setting: &Setting) -> std::result::Result<(), Outcome<'a>> {
    let Some(group) = cgroup.group(setting.controller) else {
        return Err(Outcome::Skipped(Reason::NoController(setting.controller)));
    };
    let result = match (group.write(&setting.file, &setting.value), &setting.otherwise) {
        (Err(Errno::NOENT), Otherwise::Ignore) => Ok(()),
        (Err(Errno::NOENT), Otherwise::Write(file, value)) => group.write(file, value),
        (result, _) => result,
    };
    result.map_err(|errno| match errno {
        Errno::NOENT => Outcome::Skipped(Reason::NoFile(group.path.join(&*setting.file))),
        Errno::PERM | Errno::ACCESS | Errno::ROFS => {
            Outcome::Skipped(Reason::Refused { path: group.path.join(&*setting.file), errno: errno.raw_os_error() })
        }
        errno => Outcome::Failed(errno, group),
    })
}

fn report(setting: Setting, outcome: std::result::Result<(), Outcome<'_>>, warnings: &mut Vec<Warning>) -> Result<()> {
    let Setting { limit, file, value, .. } = setting;
    match outcome {
        Ok(()) => Ok(()),
        Err(Outcome::Skipped(reason)) => {
            warnings.push(Warning { limit, value, reason });
            Ok(())
        }
        Err(Outcome::Failed(errno, group)) => {
            Err(Error::Limit { limit, value, path: group.path.join(&*file), source: errno.into() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps as lines, for the tests of the modules that make them.
    pub(super) fn lines(steps: Vec<Step>) -> Vec<String> {
        let one = |setting: &Setting| format!("{}={}", setting.file, setting.value);
        steps
            .iter()
            .map(|step| match step {
                Step::Write(setting) => match &setting.otherwise {
                    Otherwise::Write(file, value) => format!("{} else {file}={value}", one(setting)),
                    Otherwise::Warn | Otherwise::Ignore => one(setting),
                },
                Step::Pair(first, second) => format!("{} | {}", one(first), one(second)),
                Step::Check { file, limit, .. } => format!("{file}<={limit}"),
                Step::Missing(limit, _) => format!("(no {limit})"),
            })
            .collect()
    }
}
