//! `import`.

use std::path::Path;

use skep_client::Method;
use skep_types::Reference;

use super::load::Archive;
use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Outcome};
use crate::ui::progress;

flags! {
    pub(crate) struct ImportFlags {
        changes: Vec<String> => "change" 'c', "Apply Dockerfile instruction to the created image";
        message: String => "message" 'm', "Set commit message for imported image";
        platform: String => "platform", "Set platform if server is multi-platform capable";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["import", "image import"],
    usage: "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    about: "Import the contents from a tarball to create a filesystem image",
    args: Args::Between(1, 2),
    completion: Completion::Nothing,
    flags: ImportFlags::specs,
    run: runner!(ImportFlags, run),
};

async fn run(cli: &Cli, flags: ImportFlags, words: Vec<String>) -> Outcome {
    let source = words.first().map(String::as_str).unwrap_or_default();
    let name = words.get(1).map(String::as_str).unwrap_or_default();
    let is_url = source.starts_with("http://") || source.starts_with("https://");
    if !name.is_empty() {
        name.parse::<Reference>().map_err(|error| error.to_string())?;
    }
    let archive = match source {
        _ if is_url => None,
        "-" => Some(Archive::stdin()),
        path => Some(Archive::file(Path::new(path)).await?),
    };
    let mut request = cli
        .client()
        .await?
        .request(Method::POST, "/images/create")
        .query("fromSrc", if is_url { source } else { "-" })
        .query_opt("repo", Some(name))
        .query_opt("message", Some(&flags.message))
        .query_opt("platform", Some(flags.platform.to_lowercase()));
    for change in &flags.changes {
        request = request.query("changes", change);
    }
    let request = match archive {
        Some(archive) => request.stream("application/x-tar", archive.into_stream()),
        // The engine fetches it.
        None => request,
    };
    let response = request.send().await?;
    progress::show(response, progress::Target::Stdout).await
}
