//! What a process will be, worked out before it exists: everything in a specification's `process` that can be wrong without asking the
//! kernel is found here.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit};

use super::error::{LaunchError, Result};
use crate::capability::CapabilitySet;
use crate::seccomp::{self, Program};
use crate::spec::{Capabilities, Process, Seccomp, User};

/// A process to be.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) args: Vec<CString>,
    pub(super) env: Vec<CString>,
    pub(super) cwd: PathBuf,
    pub(super) user: User,
    pub(super) capabilities: Option<Sets>,
    pub(super) no_new_privileges: bool,
    pub(super) rlimits: Vec<Limit>,
    pub(super) seccomp: Option<Program>,
    pub(super) oom_score_adj: Option<i32>,
    pub(super) apparmor_profile: Option<String>,
    pub(super) selinux_label: Option<String>,
    pub(super) scheduling: Scheduling,
}

/// The capability sets as bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sets {
    pub(super) bounding: u64,
    pub(super) effective: u64,
    pub(super) permitted: u64,
    pub(super) inheritable: u64,
    pub(super) ambient: u64,
}

/// A resource limit with the name to show.
#[derive(Debug)]
pub(super) struct Limit {
    pub(super) name: String,
    pub(super) resource: Resource,
    pub(super) value: Rlimit,
}

/// Scheduling policy and I/O priority, as the kernel takes them.
#[derive(Debug, Default)]
pub(super) struct Scheduling {
    pub(super) policy: Option<skep_sys::process::SchedulerAttributes>,
    pub(super) io_priority: Option<i32>,
}

impl Task {
    /// Works out a process.
    pub(super) fn new(process: &Process, seccomp: Option<&Seccomp>) -> Result<Self> {
        if process.args.first().is_none_or(String::is_empty) {
            return Err(LaunchError::invalid("args must not be empty"));
        }
        if !process.cwd.is_absolute() {
            return Err(LaunchError::invalid("Cwd must be an absolute path"));
        }
        let adj = process.oom_score_adj;
        if adj.is_some_and(|adj| !(-1000..=1000).contains(&adj)) {
            return Err(LaunchError::invalid("oomScoreAdj must be between -1000 and 1000"));
        }
        let seccomp = seccomp.filter(|filter| !filter.default_action.is_empty()).map(seccomp::compile).transpose();
        Ok(Self {
            args: c_strings(&process.args, "argument")?,
            env: c_strings(&process.env, "environment variable")?,
            cwd: process.cwd.clone(),
            user: process.user.clone(),
            capabilities: process.capabilities.as_ref().map(Sets::new),
            no_new_privileges: process.no_new_privileges,
            rlimits: process.rlimits.iter().map(Limit::new).collect::<Result<_>>()?,
            seccomp: seccomp.map_err(|error| LaunchError::invalid(error.to_string()))?,
            oom_score_adj: adj,
            apparmor_profile: process.apparmor_profile.clone().filter(|name| !name.is_empty()),
            selinux_label: process.selinux_label.clone().filter(|label| !label.is_empty()),
            scheduling: Scheduling::new(process)?,
        })
    }

    /// The value of an environment variable; of two, the last counts.
    pub(super) fn variable(&self, name: &str) -> Option<&[u8]> {
        let values = self.env.iter().filter_map(|pair| {
            let rest = pair.to_bytes().strip_prefix(name.as_bytes())?;
            rest.strip_prefix(b"=")
        });
        values.reduce(|_, later| later)
    }

    /// The program as it was named.
    pub(super) fn program(&self) -> &Path {
        use std::os::unix::ffi::OsStrExt;
        let name = self.args.first().map(|name| name.as_bytes()).unwrap_or_default();
        Path::new(std::ffi::OsStr::from_bytes(name))
    }
}

fn c_strings(texts: &[String], what: &str) -> Result<Vec<CString>> {
    let convert = |text: &String| {
        CString::new(text.as_str())
            .map_err(|_| LaunchError::invalid(format!("invalid {what} {text:?}: contains a zero byte")))
    };
    texts.iter().map(convert).collect()
}

impl Sets {
    fn new(capabilities: &Capabilities) -> Self {
        let bits = |names: &[String]| CapabilitySet::from_names(names).0.bits();
        Self {
            bounding: bits(&capabilities.bounding),
            effective: bits(&capabilities.effective),
            permitted: bits(&capabilities.permitted),
            inheritable: bits(&capabilities.inheritable),
            ambient: bits(&capabilities.ambient),
        }
    }
}

impl Limit {
    fn new(limit: &crate::spec::Rlimit) -> Result<Self> {
        let resource = match limit.kind.as_str() {
            "RLIMIT_AS" => Resource::As,
            "RLIMIT_CORE" => Resource::Core,
            "RLIMIT_CPU" => Resource::Cpu,
            "RLIMIT_DATA" => Resource::Data,
            "RLIMIT_FSIZE" => Resource::Fsize,
            "RLIMIT_LOCKS" => Resource::Locks,
            "RLIMIT_MEMLOCK" => Resource::Memlock,
            "RLIMIT_MSGQUEUE" => Resource::Msgqueue,
            "RLIMIT_NICE" => Resource::Nice,
            "RLIMIT_NOFILE" => Resource::Nofile,
            "RLIMIT_NPROC" => Resource::Nproc,
            "RLIMIT_RSS" => Resource::Rss,
            "RLIMIT_RTPRIO" => Resource::Rtprio,
            "RLIMIT_RTTIME" => Resource::Rttime,
            "RLIMIT_SIGPENDING" => Resource::Sigpending,
            "RLIMIT_STACK" => Resource::Stack,
            other => return Err(LaunchError::invalid(format!("invalid rlimit type: {other}"))),
        };
        if limit.soft > limit.hard {
            let text = format!("{}: the soft limit {} is above the hard limit {}", limit.kind, limit.soft, limit.hard);
            return Err(LaunchError::invalid(text));
        }
        let number = |value: u64| (value != u64::MAX).then_some(value);
        let value = Rlimit { current: number(limit.soft), maximum: number(limit.hard) };
        Ok(Self { name: limit.kind.clone(), resource, value })
    }
}

impl Scheduling {
    fn new(process: &Process) -> Result<Self> {
        let policy = process.scheduler.as_ref().map(scheduler).transpose()?;
        let io_priority = process.io_priority.as_ref().map(|priority| {
            let class = match priority.class.as_str() {
                "IOPRIO_CLASS_RT" => 1,
                "IOPRIO_CLASS_BE" => 2,
                "IOPRIO_CLASS_IDLE" => 3,
                other => return Err(LaunchError::invalid(format!("unknown ioPriority class {other}"))),
            };
            if !(0..=7).contains(&priority.priority) {
                return Err(LaunchError::invalid("ioPriority must be between 0 and 7"));
            }
            Ok(class << 13 | priority.priority)
        });
        Ok(Self { policy, io_priority: io_priority.transpose()? })
    }
}

fn scheduler(wanted: &crate::spec::Scheduler) -> Result<skep_sys::process::SchedulerAttributes> {
    let policy = match wanted.policy.as_str() {
        "SCHED_OTHER" => 0,
        "SCHED_FIFO" => 1,
        "SCHED_RR" => 2,
        "SCHED_BATCH" => 3,
        "SCHED_ISO" => 4,
        "SCHED_IDLE" => 5,
        "SCHED_DEADLINE" => 6,
        other => return Err(LaunchError::invalid(format!("unknown scheduler policy {other}"))),
    };
    let mut flags = 0;
    for flag in &wanted.flags {
        flags |= match flag.as_str() {
            "SCHED_FLAG_RESET_ON_FORK" => 0x01,
            "SCHED_FLAG_RECLAIM" => 0x02,
            "SCHED_FLAG_DL_OVERRUN" => 0x04,
            "SCHED_FLAG_KEEP_POLICY" => 0x08,
            "SCHED_FLAG_KEEP_PARAMS" => 0x10,
            "SCHED_FLAG_UTIL_CLAMP_MIN" => 0x20,
            "SCHED_FLAG_UTIL_CLAMP_MAX" => 0x40,
            other => return Err(LaunchError::invalid(format!("unknown scheduler flag {other}"))),
        };
    }
    let mut attributes = skep_sys::process::SchedulerAttributes::default();
    attributes.policy = policy;
    attributes.flags = flags;
    attributes.nice = wanted.nice.unwrap_or(0);
    attributes.priority = wanted.priority.unwrap_or(0);
    attributes.runtime = wanted.runtime.unwrap_or(0);
    attributes.deadline = wanted.deadline.unwrap_or(0);
    attributes.period = wanted.period.unwrap_or(0);
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(change: impl FnOnce(&mut Process)) -> Result<Task> {
        let mut process = Process { args: vec!["a".to_owned()], cwd: "/".into(), ..Process::default() };
        change(&mut process);
        Task::new(&process, None)
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        assert!(process(|_| ()).is_ok());
        assert!(process(|p| p.args.clear()).is_err());
        assert!(process(|p| p.cwd = "relative".into()).is_err());
        assert!(process(|p| p.env.push("A=\0".to_owned())).is_err());
        assert!(process(|p| p.oom_score_adj = Some(1001)).is_err());
        let limit = |kind: &str, soft, hard| crate::spec::Rlimit { kind: kind.to_owned(), soft, hard };
        assert!(process(|p| p.rlimits.push(limit("RLIMIT_NOFILE", 1, u64::MAX))).is_ok());
        assert!(process(|p| p.rlimits.push(limit("RLIMIT_NOFILE", 2, 1))).is_err());
        assert!(process(|p| p.rlimits.push(limit("nofile", 1, 1))).is_err());
    }

    #[test]
    fn the_last_of_two_variables_counts() {
        let task = process(|p| p.env = ["PATH=/a", "PATH=/b", "PATHX=/c"].map(str::to_owned).into()).expect("a task");
        assert_eq!(task.variable("PATH"), Some(&b"/b"[..]));
        assert_eq!(task.variable("PAT"), None);
    }
}
