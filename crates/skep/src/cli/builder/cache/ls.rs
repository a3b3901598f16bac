//! `builder cache ls`.

use serde_json::{Value, json};
use skep_wire::{CacheMount, Timestamp};

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Outcome};
use crate::ui::listing::{self, Columns};
use crate::ui::{self, human};

flags! {
    pub(crate) struct ListFlags {
        format: String => "format", "Format output: 'table', 'table TEMPLATE', 'json' or a Go template";
        quiet: bool => "quiet" 'q', "Only display names";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["builder cache ls", "builder cache list", "buildx cache ls"],
    usage: "[OPTIONS]",
    about: "List cache mounts",
    args: Args::None,
    completion: Completion::Nothing,
    flags: ListFlags::specs,
    run: runner!(ListFlags, run),
};

const COLUMNS: Columns = Columns {
    type_name: "*skep.cacheMount",
    titles: &[
        ("CreatedSince", "CREATED"),
        ("ID", "CACHE ID"),
        ("InUse", "IN USE"),
        ("LastUsedSince", "LAST USED"),
        ("Name", "NAME"),
        ("Size", "SIZE"),
        ("UsageCount", "USAGE"),
    ],
    default_table: "{{.Name}}\t{{.ID}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.InUse}}",
};

async fn run(cli: &Cli, flags: ListFlags, _: Vec<String>) -> Outcome {
    let mounts: Vec<CacheMount> = cli.client().await?.get("/skep/build/caches").await?;
    if flags.quiet && flags.format.is_empty() {
        mounts.iter().for_each(|mount| ui::line(&mount.name));
        return Ok(());
    }
    let rows: Vec<Value> = mounts.iter().map(row).collect();
    ui::print(&listing::render(&COLUMNS, &flags.format, &rows)?);
    Ok(())
}

fn row(mount: &CacheMount) -> Value {
    let ago = |at: Timestamp| at.time().map_or_else(String::new, |at| human::ago(at.timestamp()));
    json!({
        "CreatedSince": ago(mount.created_at),
        "ID": mount.id,
        "InUse": mount.in_use,
        "LastUsedSince": ago(mount.last_used_at),
        "Name": mount.name,
        "Size": human::fine_size(mount.size),
        "UsageCount": mount.usage_count,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each() {
        let mount = CacheMount { id: "abc".into(), name: "/root/.cache".into(), size: 1500, ..CacheMount::default() };
        let text = listing::render(&COLUMNS, "{{.Name}} {{.ID}} {{.Size}} {{.InUse}}", &[row(&mount)]);
        assert_eq!(text.as_deref(), Ok("/root/.cache abc 1.5kB false\n"));
    }
}
