//! `buildx history inspect attachment`: a document that is kept with a build, as it is.

use serde_json::Value;

use super::attachments::{self, Attachment};
use super::record;
use crate::cli::builder::worker;
use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome};
use crate::ui;

flags! {
    pub(crate) struct AttachmentFlags {
        platform: String => "platform", "Platform of attachment";
        kind: String => "type", "Type of attachment: index, manifest, image, provenance, sbom, or as it is listed";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["buildx history inspect attachment"],
    usage: "[OPTIONS] [REF [DIGEST]]",
    about: "Inspect a build record attachment",
    args: Args::AtMost(2),
    completion: Completion::Nothing,
    flags: AttachmentFlags::specs,
    run: runner!(AttachmentFlags, run),
};

async fn run(cli: &Cli, flags: AttachmentFlags, words: Vec<String>) -> Outcome {
    let digest = words.get(1).map(String::as_str).unwrap_or_default();
    if flags.kind.is_empty() && flags.platform.is_empty() && digest.is_empty() {
        return Err(Failure::message("ERROR: at least one of --type, --platform or DIGEST must be specified"));
    }
    let mut control = worker::control(cli).await?;
    let records = record::all(&mut control, Vec::new()).await?;
    let given = words.first().map(String::as_str).filter(|given| !given.is_empty());
    let record = record::find(&records, given)?;
    let channel = worker::channel(cli).await?;
    let all = attachments::all(&channel, record).await.map_err(|status| worker::failed(&status))?;
    let found = all.iter().find(|one| {
        (digest.is_empty() || one.digest == digest)
            && (flags.kind.is_empty() || is(one, &flags.kind))
            && (flags.platform.is_empty() || one.platform == flags.platform)
    });
    let missing =
        || Failure::message(format!("ERROR: no matching attachment found for ref {:?}", given.unwrap_or_default()));
    let found = found.ok_or_else(missing)?;
    let bytes = attachments::read(&channel, &found.digest).await.map_err(|status| worker::failed(&status))?;
    match serde_json::from_slice::<Value>(&bytes) {
        Ok(_) => ui::print(&format!("{}\n", String::from_utf8_lossy(&ui::json::indent_with(&bytes, "", "  ")))),
        Err(_) => ui::write_stdout(&bytes),
    }
    Ok(())
}

/// Whether an attachment is of that type, also by its short name.
fn is(one: &Attachment, kind: &str) -> bool {
    let ends = |endings: &[&str]| endings.iter().any(|ending| one.kind.ends_with(ending));
    match kind {
        "index" => ends(&["image.index.v1+json", "manifest.list.v2+json"]),
        "manifest" | "image" => ends(&["image.manifest.v1+json", "manifest.v2+json"]),
        "provenance" => one.kind.starts_with("https://slsa.dev/provenance/"),
        "sbom" => one.kind == "https://spdx.dev/Document",
        kind => one.kind == kind,
    }
}
