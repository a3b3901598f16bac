//! `exec`.

use std::os::fd::AsFd;
use std::path::PathBuf;

use skep_runtime::container::{ExecTarget, LaunchError, Result, Status, exec};
use skep_runtime::spec::{Process, Spec, User};

use super::args::{Args, Item};
use super::bundle::{self, Mode};
use super::create::process_of;
use super::store::Entry;
use super::{Global, attached, help};

/// What the command line says.
#[derive(Default)]
struct Wanted {
    id: String,
    command: Vec<String>,
    process: Option<PathBuf>,
    tty: bool,
    detach: bool,
    env: Vec<String>,
    cwd: Option<PathBuf>,
    user: Option<(u32, Option<u32>)>,
    groups: Vec<u32>,
    capabilities: Vec<String>,
    no_new_privileges: bool,
    apparmor: Option<String>,
    pid_file: Option<PathBuf>,
    console_socket: Option<PathBuf>,
    preserve_fds: u32,
    ignore_paused: bool,
}

fn parse(mut args: Args) -> Result<Wanted> {
    let mut wanted = Wanted::default();
    while let Some(item) = args.next()? {
        let name = match item {
            Item::Word(id) => {
                wanted.id = id;
                // What follows is the command's own.
                wanted.command = args.remaining();
                if wanted.command.first().is_some_and(|first| first == "--") {
                    wanted.command.remove(0);
                }
                break;
            }
            Item::Option(name) => name,
        };
        match name.as_str() {
            "t" | "tty" => wanted.tty = args.flag()?,
            "d" | "detach" => wanted.detach = args.flag()?,
            "e" | "env" => wanted.env.push(args.value()?),
            "cwd" => wanted.cwd = Some(args.value()?.into()),
            "u" | "user" => wanted.user = Some(user(&args.value()?)?),
            "g" | "additional-gids" => wanted.groups.push(args.parsed()?),
            "c" | "cap" => wanted.capabilities.push(args.value()?),
            "no-new-privs" => wanted.no_new_privileges = args.flag()?,
            "apparmor" => wanted.apparmor = Some(args.value()?),
            "p" | "process" => wanted.process = Some(args.value()?.into()),
            "pid-file" => wanted.pid_file = Some(args.value()?.into()),
            "console-socket" => wanted.console_socket = Some(args.value()?.into()),
            "preserve-fds" => wanted.preserve_fds = args.parsed()?,
            "ignore-paused" => wanted.ignore_paused = args.flag()?,
            "no-subreaper" => drop(args.flag()?),
            other => return Err(help::or_unknown(other, &args)),
        }
    }
    match (wanted.id.is_empty(), wanted.command.is_empty(), &wanted.process) {
        (true, _, _) => Err(LaunchError::invalid("the container's id is missing: see --help")),
        (_, true, None) => Err(LaunchError::invalid("process args cannot be empty")),
        _ => Ok(wanted),
    }
}

/// Reads UID[:GID]. Names are never looked up: a number that does not fit is an error, not root.
fn user(text: &str) -> Result<(u32, Option<u32>)> {
    let number = |text: &str| {
        text.parse::<u32>()
            .map_err(|_| LaunchError::invalid(format!("invalid user {text:?}: expected numbers, UID[:GID]")))
    };
    match text.split_once(':') {
        Some((uid, gid)) => Ok((number(uid)?, Some(number(gid)?))),
        None => Ok((number(text)?, None)),
    }
}

fn process(wanted: &Wanted, spec: &Spec) -> Result<Process> {
    if let Some(path) = &wanted.process {
        let text = std::fs::read(path).map_err(|error| LaunchError::os(format!("read {}", path.display()), error))?;
        let mut process = Process::from_slice(&text).map_err(|error| LaunchError::invalid(error.to_string()))?;
        process.terminal |= wanted.tty;
        return Ok(process);
    }
    let mut process = process_of(spec)?.clone();
    process.args.clone_from(&wanted.command);
    process.terminal = wanted.tty;
    process.console_size = None;
    process.env.extend(wanted.env.iter().cloned());
    process.no_new_privileges |= wanted.no_new_privileges;
    if let Some(cwd) = &wanted.cwd {
        process.cwd.clone_from(cwd);
    }
    if let Some(profile) = &wanted.apparmor {
        process.apparmor_profile = Some(profile.clone());
    }
    if let Some((uid, gid)) = wanted.user {
        process.user = User { uid, gid: gid.unwrap_or(process.user.gid), ..process.user };
    }
    process.user.additional_gids.extend(&wanted.groups);
    let sets = process.capabilities.get_or_insert_default();
    for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
        set.extend(wanted.capabilities.iter().cloned());
    }
    Ok(process)
}

/// Runs the command.
pub(crate) fn run(global: &Global, args: Args) -> Result<u8> {
    let wanted = parse(args)?;
    let entry = Entry::open(&global.root, &wanted.id)?;
    let record = entry.made()?;
    match entry.status(Some(&record)) {
        Status::Running | Status::Created => {}
        Status::Paused if wanted.ignore_paused => {}
        Status::Paused => {
            return Err(LaunchError::wrong_state(
                "cannot exec in a paused container (use --ignore-paused to override)",
            ));
        }
        Status::Stopped | Status::Creating => {
            return Err(LaunchError::wrong_state("cannot exec in a stopped container"));
        }
    }
    let first = record.process().ok_or_else(|| LaunchError::wrong_state("cannot exec in a stopped container"))?;
    let spec = entry.spec()?;
    let mut process = process(&wanted, &spec)?;
    let mode = if wanted.detach { Mode::Detached } else { Mode::Attached };
    let preserve_fds = bundle::preserved(&mut process, wanted.preserve_fds);
    let console = bundle::console(&process, wanted.console_socket.as_deref(), mode)?;
    let cgroup = record.cgroup();
    let target = ExecTarget {
        pid: record.pid,
        pidfd: first.as_fd(),
        cgroup: cgroup.as_ref(),
        spec: &spec,
        id: &entry.id,
        preserve_fds,
    };
    let mut launched = exec(&target, &process, bundle::stdio(&process))?;
    let handed = match (&console, &launched.pty_master) {
        (Some(console), Some(master)) => bundle::hand_over(console, master),
        _ => Ok(()),
    };
    let started = handed
        .and_then(|()| wanted.pid_file.as_ref().map_or(Ok(()), |path| bundle::write_pid(path, launched.pid)))
        .and_then(|()| launched.start());
    if let Err(error) = started {
        launched.abandon();
        return Err(error);
    }
    match mode {
        Mode::Detached => Ok(0),
        Mode::Attached => attached::wait(launched),
    }
}

#[cfg(test)]
mod tests {
    use super::user;

    #[test]
    fn users_are_numbers_that_fit() {
        assert_eq!(user("1000").unwrap(), (1000, None));
        assert_eq!(user("0:4294967295").unwrap(), (0, Some(u32::MAX)));
        for bad in ["", "root", "-1", "4294967296", "1:", ":1", "1:2:3", "0x10", " 1"] {
            assert!(user(bad).is_err(), "{bad:?}");
        }
    }
}
