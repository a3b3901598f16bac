//! `update`.

use std::io::Read;

use skep_runtime::container::{LaunchError, Result};
use skep_runtime::spec::{BlockIo, Cpu, Memory, Pids, Resources};

use super::args::{Args, Item, only};
use super::store::Entry;
use super::{Global, help};

/// Runs the command.
pub(crate) fn run(global: &Global, mut args: Args) -> Result<u8> {
    let mut limits = Resources::default();
    let mut words = Vec::new();
    while let Some(item) = args.next()? {
        match item {
            Item::Word(word) => words.push(word),
            Item::Option(name) => option(&name, &mut args, &mut limits)?,
        }
    }
    let entry = Entry::open(&global.root, &only(words, "the container's id")?)?;
    let record = entry.made()?;
    let cgroup = record.cgroup().ok_or_else(|| LaunchError::wrong_state("container not running"))?;
    let warnings = cgroup.update(&limits).map_err(|error| LaunchError::system("update", error.to_string()))?;
    for warning in warnings {
        global.log.warn(&warning.to_string());
    }
    Ok(0)
}

fn option(name: &str, args: &mut Args, limits: &mut Resources) -> Result<()> {
    fn cpu(limits: &mut Resources) -> &mut Cpu {
        limits.cpu.get_or_insert_default()
    }
    fn memory(limits: &mut Resources) -> &mut Memory {
        limits.memory.get_or_insert_default()
    }
    match name {
        "r" | "resources" => *limits = read(&args.value()?)?,
        "memory" => memory(limits).limit = Some(args.parsed()?),
        "memory-reservation" => memory(limits).reservation = Some(args.parsed()?),
        "memory-swap" => memory(limits).swap = Some(args.parsed()?),
        "cpu-share" => cpu(limits).shares = Some(args.parsed()?),
        "cpu-period" => cpu(limits).period = Some(args.parsed()?),
        "cpu-quota" => cpu(limits).quota = Some(args.parsed()?),
        "cpu-burst" => cpu(limits).burst = Some(args.parsed()?),
        "cpu-idle" => cpu(limits).idle = Some(args.parsed()?),
        "cpuset-cpus" => cpu(limits).cpus = Some(args.value()?),
        "cpuset-mems" => cpu(limits).mems = Some(args.value()?),
        "pids-limit" => limits.pids = Some(Pids { limit: args.parsed()? }),
        "blkio-weight" => limits.block_io = Some(BlockIo { weight: Some(args.parsed()?), ..BlockIo::default() }),
        other => return Err(help::or_unknown(other, args)),
    }
    Ok(())
}

fn read(path: &str) -> Result<Resources> {
    let mut text = Vec::new();
    let read = match path {
        "-" => std::io::stdin().read_to_end(&mut text),
        path => std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut text)),
    };
    read.map_err(|error| LaunchError::os(format!("read {path}"), error))?;
    serde_json::from_slice(&text).map_err(|error| LaunchError::invalid(format!("{path}: {error}")))
}
