//! runc's command line.
//!
//! Every command is a file with a `run` that takes the global options and its arguments and returns an exit code. The state of containers
//! is kept by [`store`]; nothing outside of the root directory is remembered.

mod args;
mod attached;
mod bundle;
mod create;
mod delete;
mod exec;
mod features;
mod help;
mod idmap;
mod kill;
mod list;
mod log;
mod pause;
mod ps;
mod spec;
mod start;
mod state;
mod store;
mod update;

use std::ffi::OsString;
use std::path::PathBuf;

use args::{Args, Item};
use skep_runtime::container::{LaunchError, Result, protect_runtime_binary};

/// Options that stand before the command.
#[derive(Debug)]
pub(crate) struct Global {
    /// Where the state of containers is kept.
    pub(crate) root: PathBuf,
    /// Where messages go besides standard error.
    pub(crate) log: log::Log,
}

/// Runs a command line; returns the exit code.
pub(crate) fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let mut log = log::Log::default();
    match dispatch(arguments, &mut log) {
        Ok(code) => code,
        Err(error) => {
            log.error(&error.to_string());
            error.kind.exit_code()
        }
    }
}

/// Makes sure that the running binary can't be written by containers; says so on standard error if that is not possible.
pub(crate) fn protected() -> bool {
    protect_runtime_binary().map_err(|error| log::Log::default().error(&error.to_string())).is_ok()
}

fn dispatch(arguments: impl IntoIterator<Item = OsString>, log: &mut log::Log) -> Result<u8> {
    let mut args = Args::new(arguments)?;
    let mut root = None;
    let command = loop {
        let Some(item) = args.next()? else { return help::general() };
        let name = match item {
            Item::Word(command) => break command,
            Item::Option(name) => name,
        };
        match name.as_str() {
            "root" => root = Some(PathBuf::from(args.value()?)),
            "log" => log.file = Some(args.value()?.into()).filter(|path: &PathBuf| !path.as_os_str().is_empty()),
            "log-format" => log.format = args.parsed()?,
            "debug" => log.debug = args.flag()?,
            // Accepted for callers that always pass it: privileges are found out by trying.
            "rootless" | "criu" => drop(args.value()?),
            "systemd-cgroup" => {
                if args.flag()? {
                    return Err(LaunchError::invalid(
                        "--systemd-cgroup is not supported: cgroups are made directly; choose the cgroupfs driver",
                    ));
                }
            }
            "version" | "v" => return help::version(),
            "help" | "h" => return help::general(),
            _ => return Err(args.unknown()),
        }
    };
    let global = Global { root: root.unwrap_or_else(default_root), log: log.clone() };
    let result = command_of(&command, &global, args);
    // A command may ask for help in its own place.
    match result {
        Err(error) if error.step == help::ASKED => help::of(&command),
        result => result,
    }
}

fn command_of(command: &str, global: &Global, args: Args) -> Result<u8> {
    match command {
        "create" | "run" | "exec" => protect_runtime_binary()?,
        _ => {}
    }
    match command {
        "create" => create::run(global, args, create::Then::Leave),
        "run" => create::run(global, args, create::Then::Start),
        "start" => start::run(global, args),
        "state" => state::run(global, args),
        "kill" => kill::run(global, args),
        "delete" => delete::run(global, args),
        "exec" => exec::run(global, args),
        "list" => list::run(global, args),
        "spec" => spec::run(args),
        "features" => features::run(args),
        "pause" => pause::run(global, args, pause::To::Frozen),
        "resume" => pause::run(global, args, pause::To::Running),
        "ps" => ps::run(global, args),
        "update" => update::run(global, args),
        // For the engine, so it is not in the help.
        "idmap" => idmap::run(args),
        "help" => help::general(),
        other => Err(LaunchError::invalid(format!("unknown command {other:?}: see --help"))),
    }
}

fn default_root() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(directory) if !rustix::process::geteuid().is_root() => PathBuf::from(directory).join("skep-runtime"),
        _ => "/run/skep-runtime".into(),
    }
}

/// Reads the words of a command that has no options but `--help`.
fn words(mut args: Args) -> Result<Vec<String>> {
    let mut words = Vec::new();
    while let Some(item) = args.next()? {
        match item {
            Item::Word(word) => words.push(word),
            Item::Option(name) => return Err(help::or_unknown(&name, &args)),
        }
    }
    Ok(words)
}

/// Prints a text for the caller to read or parse.
fn print(text: &str) -> Result<()> {
    use std::io::Write;
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| LaunchError::os("write", error))
}

/// Prints a value as JSON.
fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| LaunchError::system("json", error.to_string()))?;
    print(&(text + "\n"))
}
