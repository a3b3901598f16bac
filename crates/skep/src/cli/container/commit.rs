//! `commit`.

use skep_client::Method;
use skep_types::Reference;
use skep_wire::IdResponse;

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome, reference};
use crate::ui;

flags! {
    pub(crate) struct CommitFlags {
        author: String => "author" 'a', "Author (e.g., \"John Hannibal Smith <hannibal@a-team.com>\")";
        changes: Vec<String> => "change" 'c', "Apply Dockerfile instruction to the created image";
        message: String => "message" 'm', "Commit message";
        pause: bool = true => "pause" 'p', "Pause container during commit";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["commit", "container commit"],
    usage: "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    about: "Create a new image from a container's changes",
    args: Args::Between(1, 2),
    completion: Completion::Containers,
    flags: CommitFlags::specs,
    run: runner!(CommitFlags, run),
};

async fn run(cli: &Cli, flags: CommitFlags, words: Vec<String>) -> Outcome {
    let container = words.first().map(String::as_str).unwrap_or_default();
    let target = words.get(1).map(String::as_str).filter(|name| !name.is_empty()).map(read_target).transpose()?;
    let mut request = cli
        .client()
        .await?
        .request(Method::POST, "/commit")
        .query("container", container)
        .query_opt("author", Some(&flags.author))
        .query_opt("comment", Some(&flags.message))
        .query("pause", if flags.pause { "1" } else { "0" });
    if let Some(target) = target {
        let (repository, tag) = reference::repository_and_tag(&target);
        request = request.query("repo", repository).query("tag", tag);
    }
    for change in &flags.changes {
        request = request.query("changes", change);
    }
    let made: IdResponse = request.send().await?.json().await?;
    ui::line(&made.id);
    Ok(())
}

fn read_target(text: &str) -> Result<Reference, Failure> {
    let target: Reference = text.parse().map_err(|error: skep_types::ReferenceError| error.to_string())?;
    if target.digest().is_some() {
        return Err(Failure::message("refusing to create a tag with a digest reference"));
    }
    Ok(target.or_latest())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_can_move_are_taken() {
        assert_eq!(read_target("my/img").expect("a name").familiar(), "my/img:latest");
        assert_eq!(read_target("a:b:c").expect_err("two tags").text, "invalid reference format");
        let digest = format!("b@sha256:{}", "1".repeat(64));
        assert_eq!(read_target(&digest).expect_err("digest").text, "refusing to create a tag with a digest reference");
    }
}
