//! `registry gc`: collecting a registry's garbage now.

use std::path::{Path, absolute};

use skep_registryd::{Clients, Collection, Mode, Report, Untagged, control};
use skep_types::format_decimal;

use super::serve::{duration, retention};
use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome};
use crate::ui;

flags! {
    pub(crate) struct GcFlags {
        dry_run: bool => "dry-run", "Only tell what would be removed";
        grace: String = "1h" => "grace", "What is younger is never garbage";
        retention: Option<String> => "retention", "File of rules that say which tags stay";
        root: String = "/var/lib/skep-registry" => "root", "Folder of the registry";
        untagged: bool => "untagged", "Manifests that never had a tag are garbage, too";
        upload_age: String = "24h" => "upload-age", "Uploads that nobody goes on with for so long are given up";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["registry gc"],
    usage: "[OPTIONS]",
    about: "Collect the garbage of a registry now

A registry that runs on --root does it itself and goes on serving meanwhile,
pushes too; it uses its own retention rules unless --retention names others.
Without one that runs, this command does it. With --grace 0 nothing waits for
clients that are in the middle of a push or a pull.",
    args: Args::None,
    completion: Completion::Nothing,
    flags: GcFlags::specs,
    run: runner!(GcFlags, run),
};

async fn run(_: &Cli, flags: GcFlags, _: Vec<String>) -> Outcome {
    let how = Collection {
        grace: duration("grace", &flags.grace)?,
        upload_age: duration("upload-age", &flags.upload_age)?,
        untagged: if flags.untagged { Untagged::Remove } else { Untagged::Keep },
        mode: if flags.dry_run { Mode::DryRun } else { Mode::Remove },
    };
    let root = Path::new(&flags.root);
    // Before anything is asked for: the rules have to be good, and the registry reads them from wherever it runs.
    let rules = retention(flags.retention.as_deref())?;
    let file = flags.retention.as_ref().map(absolute).transpose()?;
    let asked = control::collect(root, &how, file.as_deref()).await;
    let report = match asked.map_err(|error| Failure::message(error.to_string()))? {
        Some(report) => report,
        None => {
            if !root.join("registry.redb").exists() {
                return Err(Failure::message(format!("there is no registry in {}", root.display())));
            }
            let content =
                skep_registryd::open(root, None, Clients::None).map_err(|error| Failure::message(error.to_string()))?;
            content.collect(&how, &rules).await.map_err(|error| Failure::message(error.to_string()))?
        }
    };
    tell(&report, how.mode)
}

fn tell(report: &Report, mode: Mode) -> Outcome {
    let lists = [("tag", &report.tags), ("manifest", &report.manifests), ("blob", &report.blobs)];
    for (what, names) in lists {
        for name in names {
            ui::line(&format!("{what} {name}"));
        }
    }
    let done = if mode == Mode::DryRun { "Would be reclaimed" } else { "Total reclaimed space" };
    ui::line(&format!("{done}: {}", format_decimal(report.bytes)));
    // Damage is what somebody who looks after a registry has to know, whatever was freed.
    Failure::all(report.missing.iter().map(|digest| format!("{digest} is gone from the storage")).collect())
}
