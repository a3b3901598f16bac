//! `buildx du`: what builds keep, and what of it may go.

use std::fmt::Write as _;

use skep_client::Method;
use skep_wire::{BuildCache, DiskUsage};

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome};
use crate::ui::{self, human, table};

flags! {
    pub(crate) struct UsageFlags {
        format: String = "table" => "format", "Format the output: \"table\", \"json\" or \"pretty\"";
        verbose: bool => "verbose", "Shorthand for \"--format=pretty\"";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["builder du", "buildx du"],
    usage: "[OPTIONS]",
    about: "Disk usage of the build cache",
    args: Args::None,
    completion: Completion::Nothing,
    flags: UsageFlags::specs,
    run: runner!(UsageFlags, run),
};

async fn run(cli: &Cli, flags: UsageFlags, _: Vec<String>) -> Outcome {
    let request = cli.client().await?.request(Method::GET, "/system/df").query("type", "build-cache");
    let usage: DiskUsage = request.send().await?.json().await?;
    let mut caches = usage.build_cache.unwrap_or_default();
    caches.sort_by_key(|cache| (std::cmp::Reverse(cache.size), cache.id.clone()));
    ui::print(&match (flags.verbose, flags.format.as_str()) {
        (true, _) | (_, "pretty") => details(&caches),
        (_, "table" | "") => listing(&caches),
        (_, "json") => lines_of_json(&caches)?,
        (_, other) => {
            return Err(Failure::message(format!("unsupported format {other:?}: it is one of table, json, pretty")));
        }
    });
    Ok(())
}

fn last_used(cache: &BuildCache) -> String {
    cache.last_used_at.and_then(skep_wire::Timestamp::time).map_or_else(String::new, |at| human::ago(at.timestamp()))
}

fn listing(caches: &[BuildCache]) -> String {
    let mut text = String::from("ID\tRECLAIMABLE\tSIZE\tLAST ACCESSED\n");
    for cache in caches {
        let star = |yes: bool| if yes { "*" } else { "" };
        let (id, size) = (&cache.id, human::size(cache.size));
        let (used, shared) = (star(cache.in_use), star(cache.shared));
        let _ = writeln!(text, "{id}{used}\t{}\t{size}{shared}\t{}", !cache.in_use, last_used(cache));
    }
    table::align(&text) + &totals(caches)
}

fn totals(caches: &[BuildCache]) -> String {
    let sum = |wanted: &dyn Fn(&&BuildCache) -> bool| caches.iter().filter(wanted).map(|cache| cache.size).sum::<i64>();
    let mut text = String::new();
    let shared = sum(&|cache| cache.shared);
    if shared > 0 {
        let _ = writeln!(
            text,
            "Shared:\t\t{}\nPrivate:\t{}",
            human::size(shared),
            human::size(sum(&|cache| !cache.shared))
        );
    }
    let _ = writeln!(text, "Reclaimable:\t{}", human::size(sum(&|cache| !cache.in_use)));
    let _ = writeln!(text, "Total:\t\t{}", human::size(sum(&|_| true)));
    text
}

fn details(caches: &[BuildCache]) -> String {
    let mut text = String::new();
    for cache in caches {
        let fields = [
            ("ID", cache.id.clone()),
            ("Parents", cache.parents.join(", ")),
            ("Created at", cache.created_at.to_string()),
            ("Mutable", (cache.kind == "exec.cachemount" || cache.kind == "source.local").to_string()),
            ("Reclaimable", (!cache.in_use).to_string()),
            ("Shared", cache.shared.to_string()),
            ("Size", human::size(cache.size)),
            ("Description", cache.description.clone()),
            ("Usage count", cache.usage_count.to_string()),
            ("Last used", last_used(cache)),
            ("Type", cache.kind.clone()),
        ];
        for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
            let _ = writeln!(text, "{:<14}{value}", format!("{name}:"));
        }
        text.push('\n');
    }
    text + &totals(caches)
}

fn lines_of_json(caches: &[BuildCache]) -> Result<String, Failure> {
    let mut text = String::new();
    for cache in caches {
        text.push_str(&serde_json::to_string(cache)?);
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_below_the_list() {
        let cache = |id: &str, size, shared| BuildCache {
            id: id.to_owned(),
            kind: "regular".to_owned(),
            size,
            shared,
            ..BuildCache::default()
        };
        insta::assert_snapshot!(listing(&[cache("aa", 2000, false), cache("b", 500, true)]), @r"
        ID        RECLAIMABLE   SIZE      LAST ACCESSED
        aa        true          2kB       
        b         true          500B*     
        Shared:		500B
        Private:	2kB
        Reclaimable:	2.5kB
        Total:		2.5kB
        ");
    }
}
