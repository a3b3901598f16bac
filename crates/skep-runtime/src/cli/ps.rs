//! `ps`: the processes of a container, read from /proc; no program is called.

use std::fs;

use skep_runtime::container::{LaunchError, Result};

use super::args::{Args, Item};
use super::list::columns;
use super::store::Entry;
use super::{Global, help, print, print_json};

/// Runs the command. What follows the id are options of ps(1) for runc; they are refused, as there is no ps(1) here.
pub(crate) fn run(global: &Global, mut args: Args) -> Result<u8> {
    let (mut format, mut words) = ("table".to_owned(), Vec::new());
    while let Some(item) = args.next()? {
        match item {
            Item::Word(word) => words.push(word),
            Item::Option(name) => match name.as_str() {
                "f" | "format" => format = args.value()?,
                other => return Err(help::or_unknown(other, &args)),
            },
        }
    }
    let entry = Entry::open(&global.root, &super::args::only(words, "the container's id")?)?;
    let record = entry.made()?;
    let cgroup = record.cgroup().ok_or_else(|| LaunchError::wrong_state("the container has no cgroup"))?;
    let mut pids = cgroup.pids().map_err(|error| LaunchError::system("ps", error.to_string()))?;
    pids.sort_unstable();
    match format.as_str() {
        "json" => print_json(&pids)?,
        "table" => {
            let titles = ["UID", "PID", "PPID", "CMD"].map(str::to_owned);
            let rows: Vec<_> = std::iter::once(titles).chain(pids.into_iter().filter_map(row)).collect();
            print(&columns(&rows))?;
        }
        other => return Err(LaunchError::invalid(format!("invalid format option {other:?}"))),
    }
    Ok(0)
}

/// A line of the table; nothing for a process that has just ended.
fn row(pid: i32) -> Option<[String; 4]> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_ascii_whitespace().next().map(str::to_owned)
    };
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let command = String::from_utf8_lossy(&command).trim_end_matches('\0').replace('\0', " ");
    let command = if command.is_empty() { format!("[{}]", field("Name")?) } else { command };
    Some([field("Uid")?, pid.to_string(), field("PPid")?, command])
}
