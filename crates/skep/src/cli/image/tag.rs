//! `tag`.

use skep_client::Method;
use skep_types::Reference;

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, NoFlags};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome, reference};

pub(crate) const COMMAND: Command = Command {
    paths: &["tag", "image tag"],
    usage: "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    about: "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    args: Args::Exactly(2),
    completion: Completion::Images,
    flags: NoFlags::specs,
    run: runner!(NoFlags, run),
};

async fn run(cli: &Cli, _: NoFlags, words: Vec<String>) -> Outcome {
    let [source, target] = words.as_slice() else { return Ok(()) };
    read_source(source)?;
    let target = read_target(target)?;
    let (repository, tag) = reference::repository_and_tag(&target);
    cli.client()
        .await?
        .request(Method::POST, reference::image(source, "/tag")?)
        .query("repo", repository)
        .query("tag", tag)
        .send()
        .await?
        .bytes()
        .await?;
    Ok(())
}

/// The source may be an id, too.
fn read_source(text: &str) -> Result<(), Failure> {
    let id = text.strip_prefix("sha256:").unwrap_or(text);
    if id.len() == 64 && id.bytes().all(|c| c.is_ascii_hexdigit()) {
        return Ok(());
    }
    let wrong = |error| format!("Error parsing reference: {text:?} is not a valid repository/tag: {error}");
    let parsed: Result<Reference, skep_types::ReferenceError> = text.parse();
    parsed.map(drop).map_err(|error| wrong(error).into())
}

fn read_target(text: &str) -> Result<Reference, Failure> {
    let target: Reference = text.parse().map_err(|error: skep_types::ReferenceError| {
        format!("Error parsing reference: {text:?} is not a valid repository/tag: {error}")
    })?;
    if target.digest().is_some() {
        return Err(Failure::message("refusing to create a tag with a digest reference"));
    }
    Ok(target.or_latest())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_needs_a_name_that_can_move() {
        assert_eq!(read_target("b").expect("a name").familiar(), "b:latest");
        assert!(read_source(&"a".repeat(64)).is_ok() && read_source("b").is_ok());
        let text = read_source("").expect_err("no name").text;
        assert!(text.starts_with("Error parsing reference: \"\" is not a valid repository/tag: invalid"), "{text}");
        let digest = format!("b@sha256:{}", "1".repeat(64));
        assert_eq!(read_target(&digest).expect_err("digest").text, "refusing to create a tag with a digest reference");
        let text = read_target("B").expect_err("upper case").text;
        assert!(text.starts_with("Error parsing reference: \"B\" is not a valid repository/tag: invalid"), "{text}");
    }
}
