//! `rmi`.

use skep_client::Method;
use skep_wire::ImageDeleted;

use super::load::platform_query;
use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome, reference};
use crate::ui;

flags! {
    pub(crate) struct RemoveFlags {
        force: bool => "force" 'f', "Force removal of the image";
        no_prune: bool => "no-prune", "Do not delete untagged parents";
        platforms: Vec<String> => "platform",
            "Remove only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["rmi", "image rm", "image remove"],
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Remove one or more images",
    args: Args::AtLeast(1),
    completion: Completion::Images,
    flags: RemoveFlags::specs,
    run: runner!(RemoveFlags, run),
};

async fn run(cli: &Cli, flags: RemoveFlags, names: Vec<String>) -> Outcome {
    // One flag may name several, as a list with commas.
    let platforms = flags.platforms.iter().flat_map(|text| text.split(',')).map(platform_query);
    let platforms: Vec<String> = platforms.filter_map(Result::transpose).collect::<Result<_, _>>()?;
    let client = cli.client().await?;
    let mut failed = Vec::new();
    let mut only_absent = true;
    for name in &names {
        let removed = async {
            let mut request = client
                .request(Method::DELETE, reference::image(name, "")?)
                .query_flag("force", flags.force)
                .query_flag("noprune", flags.no_prune);
            for platform in &platforms {
                request = request.query("platforms", platform);
            }
            request.send().await.map_err(RemoveError::Api)?.json::<Vec<ImageDeleted>>().await.map_err(RemoveError::Api)
        };
        match removed.await {
            Ok(removed) => ui::print(&lines(&removed)),
            Err(RemoveError::Api(error)) => {
                only_absent &= error.is_not_found();
                failed.push(error.to_string());
            }
            Err(RemoveError::Name(failure)) => {
                only_absent = false;
                failed.push(failure.text);
            }
        }
    }
    // With -f it is the absence that counts.
    if flags.force && only_absent {
        failed.iter().for_each(|text| ui::error_line(text));
        return Ok(());
    }
    Failure::all(failed)
}

enum RemoveError {
    Api(skep_client::Error),
    Name(Failure),
}

impl From<Failure> for RemoveError {
    fn from(failure: Failure) -> Self {
        RemoveError::Name(failure)
    }
}

fn lines(removed: &[ImageDeleted]) -> String {
    removed
        .iter()
        .map(|item| match item.deleted.as_str() {
            "" => format!("Untagged: {}\n", item.untagged),
            id => format!("Deleted: {id}\n"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_a_line() {
        let removed: Vec<ImageDeleted> =
            skep_wire::from_str(r#"[{"Untagged":"a:1"},{"Deleted":"sha256:1"}]"#).expect("json");
        assert_eq!(lines(&removed), "Untagged: a:1\nDeleted: sha256:1\n");
    }
}
