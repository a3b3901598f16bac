//! `push`.

use skep_client::Method;
use skep_types::Reference;

use super::load::platform_query;
use super::pull::{REGISTRY_AUTH, must_verify};
use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::reference::image;
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome, credentials};
use crate::ui::{self, progress};

flags! {
    struct PushFlags {
        all_tags: bool => "all-tags" 'a', "Push all tags of an image to the repository";
        compression: Option<String> => "compression", "How layers are compressed that the registry does not have: gzip, zstd, none";
        skip_trust: Option<bool> => "disable-content-trust", "Skip image signing (default true)";
        platform: Option<String> => "platform", "Push a platform-specific manifest as a single-platform image to the registry. Image index won't be pushed, meaning that other manifests, including attestations won't be preserved. 'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)";
        quiet: bool => "quiet" 'q', "Suppress verbose output";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["push", "image push"],
    usage: "[OPTIONS] NAME[:TAG]",
    about: "Upload an image to a registry",
    args: Args::Exactly(1),
    completion: Completion::Images,
    flags: PushFlags::specs,
    run: runner!(PushFlags, run),
};

async fn run(cli: &Cli, flags: PushFlags, words: Vec<String>) -> Outcome {
    let name = words.first().map(String::as_str).unwrap_or_default();
    let wanted: Reference = name.parse().map_err(|e: skep_types::ReferenceError| e.to_string())?;
    let name_only = wanted.tag().is_none() && wanted.digest().is_none();
    if flags.all_tags && !name_only {
        return Err(Failure::message("tag can't be used with --all-tags/-a"));
    }
    if must_verify(flags.skip_trust) {
        return Err(Failure::message("content trust is not supported: sign images with a tool of its own"));
    }
    let wanted = if flags.all_tags { wanted } else { wanted.or_latest() };
    if name_only && !flags.all_tags && !flags.quiet {
        ui::line("Using default tag: latest");
    }
    if wanted.digest().is_some() {
        return Err(Failure::message("cannot push a digest reference"));
    }
    let client = cli.client().await?;
    let request = client
        .request(Method::POST, image(&wanted.familiar_name(), "/push")?)
        .query_opt("tag", wanted.tag())
        .query_opt("platform", platform_query(flags.platform.as_deref().unwrap_or_default())?)
        .query_opt("compression", flags.compression.as_deref())
        .header(REGISTRY_AUTH, credentials::registry_auth(cli, wanted.registry()));
    let target = if flags.quiet { progress::Target::Nowhere } else { progress::Target::Stdout };
    let notes = progress::show_with_aux(request.send().await?, target).await?;
    match flags.quiet {
        true => ui::line(&wanted.to_string()),
        false => notes.iter().filter_map(only_one).for_each(|text| ui::line(&text)),
    }
    Ok(())
}

/// The note that a name stood for more images than were pushed.
fn only_one(aux: &serde_json::Value) -> Option<String> {
    if aux["manifestPushedInsteadOfIndex"] != true {
        return None;
    }
    let digest = |key: &str| aux[key]["digest"].as_str().unwrap_or_default().to_owned();
    Some(format!(
        "\n Info -> Not all multiplatform-content is present and only the available single-platform image was pushed\n         {} -> {}",
        digest("originalIndex"),
        digest("selectedManifest")
    ))
}
