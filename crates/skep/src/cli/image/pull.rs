//! `pull`, and the pulling that `run` and `create` share with it.

use skep_client::{HeaderName, Method};
use skep_types::Reference;

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome, credentials, reference};
use crate::ui::{self, progress};

/// The header with credentials for a registry.
pub(crate) const REGISTRY_AUTH: HeaderName = HeaderName::from_static("x-registry-auth");

flags! {
    pub(crate) struct PullFlags {
        all_tags: bool => "all-tags" 'a', "Download all tagged images in the repository";
        skip_trust: Option<bool> => "disable-content-trust", "Skip image verification (default true)";
        platform: Option<String> => "platform", "Set platform if server is multi-platform capable";
        referrers: bool => "referrers", "Also download signatures, SBOMs and attestations of the image, to be pushed and saved with it";
        quiet: bool => "quiet" 'q', "Suppress verbose output";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["pull", "image pull"],
    usage: "[OPTIONS] NAME[:TAG|@DIGEST]",
    about: "Download an image from a registry",
    args: Args::Exactly(1),
    completion: Completion::Images,
    flags: PullFlags::specs,
    run: runner!(PullFlags, run),
};

/// Where a pull shows its progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PullOutput {
    Stdout,
    Stderr,
    Quiet,
}

async fn run(cli: &Cli, flags: PullFlags, words: Vec<String>) -> Outcome {
    let name = words.first().map(String::as_str).unwrap_or_default();
    let wanted: Reference = name.parse().map_err(|e: skep_types::ReferenceError| e.to_string())?;
    let name_only = wanted.tag().is_none() && wanted.digest().is_none();
    if flags.all_tags && !name_only {
        return Err(Failure::message("tag can't be used with --all-tags/-a"));
    }
    if must_verify(flags.skip_trust) {
        return Err(Failure::message(
            "content trust is not supported: pull by digest (NAME@sha256:...) to pin an image",
        ));
    }
    let output = if flags.quiet { PullOutput::Quiet } else { PullOutput::Stdout };
    let wanted = if flags.all_tags { wanted } else { wanted.or_latest() };
    if name_only && !flags.all_tags && !flags.quiet {
        ui::line("Using default tag: latest");
    }
    let platform = flags.platform.as_deref();
    let query = if flags.referrers { Some("1") } else { None };
    pull_with(cli, &wanted, platform, query, output).await?;
    ui::line(&wanted.to_string());
    Ok(())
}

/// Whether the user asks for signatures to be checked, by the flag or else by `DOCKER_CONTENT_TRUST`.
pub(super) fn must_verify(skip: Option<bool>) -> bool {
    let by_environment = || {
        let value = std::env::var("DOCKER_CONTENT_TRUST").unwrap_or_default();
        matches!(value.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True")
    };
    skip.map_or_else(by_environment, |skip| !skip)
}

/// Pulls one image, or all of a repository if `wanted` has neither tag nor digest.
pub(crate) async fn pull(cli: &Cli, wanted: &Reference, platform: Option<&str>, output: PullOutput) -> Outcome {
    pull_with(cli, wanted, platform, None, output).await
}

async fn pull_with(
    cli: &Cli,
    wanted: &Reference,
    platform: Option<&str>,
    referrers: Option<&str>,
    output: PullOutput,
) -> Outcome {
    let client = cli.client().await?;
    let (repository, tag) = reference::repository_and_tag(wanted);
    let request = client
        .request(Method::POST, "/images/create")
        .query("fromImage", repository)
        .query_opt("tag", Some(tag))
        .query_opt("platform", platform.map(str::to_lowercase))
        .query_opt("referrers", referrers)
        .header(REGISTRY_AUTH, credentials::registry_auth(cli, wanted.registry()));
    let target = match output {
        PullOutput::Stdout => progress::Target::Stdout,
        PullOutput::Stderr => progress::Target::Stderr,
        PullOutput::Quiet => progress::Target::Nowhere,
    };
    progress::show(request.send().await?, target).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_decides_before_the_environment() {
        assert!(!must_verify(Some(true)));
        assert!(must_verify(Some(false)));
    }
}
