//! `create`, and `run`, which goes on where `create` ends.

use std::fs;
use std::path::{Path, PathBuf};

use skep_runtime::cgroup::{Cgroup, CgroupPath};
use skep_runtime::container::{
    Keyring, LaunchError, LaunchOptions, Launched, Result, Rootfs, State, Status, launch, run_hooks,
};
use skep_runtime::protocol::FirstProcess;
use skep_runtime::spec::{Process, Spec};

use super::args::{Args, Item, only};
use super::bundle::{self, Mode};
use super::store::{Entry, Record};
use super::{Global, attached, delete, help};

/// What happens to the container that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// It waits for `start`.
    Leave,
    /// It is started.
    Start,
}

/// What the command line says.
struct Wanted {
    id: String,
    bundle: PathBuf,
    pid_file: Option<PathBuf>,
    console_socket: Option<PathBuf>,
    preserve_fds: u32,
    keyring: Keyring,
    mode: Mode,
    keep: bool,
}

fn parse(mut args: Args, then: Then) -> Result<Wanted> {
    let mut wanted = Wanted {
        id: String::new(),
        bundle: PathBuf::from("."),
        pid_file: None,
        console_socket: None,
        preserve_fds: 0,
        keyring: Keyring::Own,
        mode: if then == Then::Leave { Mode::Detached } else { Mode::Attached },
        keep: false,
    };
    let mut words = Vec::new();
    while let Some(item) = args.next()? {
        let name = match item {
            Item::Word(word) => {
                words.push(word);
                continue;
            }
            Item::Option(name) => name,
        };
        match name.as_str() {
            "b" | "bundle" => wanted.bundle = args.value()?.into(),
            "pid-file" => wanted.pid_file = Some(args.value()?.into()),
            "console-socket" => wanted.console_socket = Some(args.value()?.into()),
            "preserve-fds" => wanted.preserve_fds = args.parsed()?,
            "no-new-keyring" if args.flag()? => wanted.keyring = Keyring::Inherit,
            // The old root is left in a way that works from an initramfs' descendants too; on the initramfs itself it can't.
            "no-pivot" | "no-subreaper" | "no-new-keyring" => drop(args.flag()?),
            "d" | "detach" if then == Then::Start => {
                if args.flag()? {
                    wanted.mode = Mode::Detached;
                }
            }
            "keep" if then == Then::Start => wanted.keep = args.flag()?,
            other => return Err(help::or_unknown(other, &args)),
        }
    }
    wanted.id = only(words, "the container's id")?;
    let bundle = &wanted.bundle;
    wanted.bundle = fs::canonicalize(bundle).map_err(|e| LaunchError::os(format!("bundle {}", bundle.display()), e))?;
    Ok(wanted)
}

/// Runs the command.
pub(crate) fn run(global: &Global, args: Args, then: Then) -> Result<u8> {
    let wanted = parse(args, then)?;
    let path = wanted.bundle.join("config.json");
    let text = fs::read(&path).map_err(|error| LaunchError::os(format!("open {}", path.display()), error))?;
    let mut spec = Spec::from_slice(&text).map_err(|error| LaunchError::invalid(error.to_string()))?;
    check_version(&spec.oci_version)?;
    let mut process = spec.process.take().ok_or_else(|| LaunchError::invalid("config.json has no process"))?;
    let preserve_fds = bundle::preserved(&mut process, wanted.preserve_fds);
    let console = bundle::console(&process, wanted.console_socket.as_deref(), wanted.mode)?;
    spec.process = Some(process);

    let entry = Entry::create(&global.root, &wanted.id)?;
    let made = make(global, &entry, &wanted, &spec, preserve_fds, then);
    let (mut launched, cgroup, place) = match made {
        Ok(made) => made,
        Err(error) => {
            let _ = entry.remove();
            return Err(error);
        }
    };
    global.log.debug(&format!("container {}: process {} waits", entry.id, launched.pid));
    let finished =
        record(&entry, &wanted, &spec, &text, &launched, place, console.as_ref()).and_then(|record| match then {
            Then::Leave => Ok(record),
            Then::Start => launched.start().map(|()| record),
        });
    let record = match finished {
        Ok(record) => record,
        Err(error) => {
            launched.abandon();
            let _ = cgroup.kill_all();
            let _ = cgroup.remove();
            let _ = entry.remove();
            return Err(error);
        }
    };
    if then == Then::Leave {
        return Ok(0);
    }
    poststart(global, &wanted, &spec, record.pid)?;
    if wanted.mode == Mode::Detached {
        return Ok(0);
    }
    let code = attached::wait(launched)?;
    if !wanted.keep {
        delete::clean_up(global, entry, Some(&record), &spec)?;
    }
    Ok(code)
}

fn check_version(version: &str) -> Result<()> {
    match version.split('.').next() {
        Some("1") => Ok(()),
        _ => Err(LaunchError::invalid(format!("unsupported ociVersion {version:?}: this runtime implements 1.x"))),
    }
}

fn make(
    global: &Global,
    entry: &Entry,
    wanted: &Wanted,
    spec: &Spec,
    preserve_fds: u32,
    then: Then,
) -> Result<(Launched, Cgroup, String)> {
    let place = cgroup_of(spec, &entry.id);
    let failed = |error: skep_runtime::cgroup::Error| LaunchError::system("cgroup", error.to_string());
    let path = CgroupPath::new(Some(&place), &entry.id).map_err(failed)?;
    let cgroup = Cgroup::create(&path).map_err(failed)?;
    let limits = spec.linux().resources.clone().unwrap_or_default();
    let launched = cgroup.apply(&limits).map_err(failed).and_then(|warnings| {
        for warning in warnings {
            global.log.warn(&warning.to_string());
        }
        let gate = match then {
            Then::Leave => Some(entry.build_gate()?),
            Then::Start => None,
        };
        let process = spec.process.as_ref().map(bundle::stdio);
        launch(LaunchOptions {
            id: &entry.id,
            spec,
            bundle: &wanted.bundle,
            rootfs: Rootfs::Spec,
            stdio: process.unwrap_or(skep_runtime::container::Stdio::Inherit),
            netns: None,
            cgroup: Some(&cgroup),
            gate: gate.as_ref().map(std::os::fd::AsFd::as_fd),
            preserve_fds,
            keyring: wanted.keyring,
            first: FirstProcess::Program,
        })
    });
    match launched {
        Ok(launched) => Ok((launched, cgroup, place)),
        Err(error) => {
            let _ = cgroup.remove();
            Err(error)
        }
    }
}

/// The cgroup's path from the top of each hierarchy. A relative one starts there too: later commands may run in any cgroup, and have to
/// find the same one.
fn cgroup_of(spec: &Spec, id: &str) -> String {
    let asked = spec.linux().cgroups_path.as_deref().and_then(Path::to_str).filter(|path| !path.is_empty());
    format!("/{}", asked.unwrap_or(id).trim_start_matches('/'))
}

fn record(
    entry: &Entry,
    wanted: &Wanted,
    spec: &Spec,
    text: &[u8],
    launched: &Launched,
    place: String,
    console: Option<&std::os::fd::OwnedFd>,
) -> Result<Record> {
    if let (Some(console), Some(master)) = (console, &launched.pty_master) {
        bundle::hand_over(console, master)?;
    }
    let record = Record::new(launched.pid, launched.start_time, &wanted.bundle, spec, place);
    entry.save(text, &record)?;
    if let Some(path) = &wanted.pid_file {
        bundle::write_pid(path, launched.pid)?;
    }
    Ok(record)
}

fn poststart(global: &Global, wanted: &Wanted, spec: &Spec, pid: i32) -> Result<()> {
    let Some(hooks) = &spec.hooks else { return Ok(()) };
    let state = State::new(&wanted.id, spec, &wanted.bundle, Status::Running, pid);
    // The specification wants a failure to be logged, no more.
    if let Err(error) = run_hooks("poststart", &hooks.poststart, &state) {
        global.log.warn(&error.to_string());
    }
    Ok(())
}

/// The process of a specification, which must have one.
pub(crate) fn process_of(spec: &Spec) -> Result<&Process> {
    spec.process.as_ref().ok_or_else(|| LaunchError::invalid("config.json has no process"))
}
