//! `load`, and the way archives travel to the engine.

use std::path::Path;

use futures_util::{Stream, TryStreamExt};
use skep_client::{Bytes, Method};
use tokio::io::AsyncRead;
use tokio_util::io::ReaderStream;

use crate::cli::command::runner;
use crate::cli::failure::go_path_error;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome};
use crate::ui::{progress, tty};

/// Read at once from an archive on its way to the engine.
const CHUNK: usize = 256 * 1024;

flags! {
    pub(crate) struct LoadFlags {
        input: String => "input" 'i', "Read from tar archive file, instead of STDIN";
        platform: String => "platform",
            "Load only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")";
        quiet: bool => "quiet" 'q', "Suppress the load output";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["load", "image load"],
    usage: "[OPTIONS]",
    about: "Load an image from a tar archive or STDIN",
    args: Args::None,
    completion: Completion::Nothing,
    flags: LoadFlags::specs,
    run: runner!(LoadFlags, run),
};

async fn run(cli: &Cli, flags: LoadFlags, _: Vec<String>) -> Outcome {
    let platform = platform_query(&flags.platform)?;
    // Bars are of no use in a file, and without them the engine need not report every layer.
    let quiet = flags.quiet || !tty::is_terminal(std::io::stdout());
    let archive = match flags.input.as_str() {
        "" if tty::is_terminal(std::io::stdin()) => {
            return Err(Failure::message("requested load from stdin, but stdin is empty"));
        }
        "" => Archive::stdin(),
        path => Archive::file(Path::new(path)).await?,
    };
    let response = cli
        .client()
        .await?
        .request(Method::POST, "/images/load")
        .query("quiet", if quiet { "1" } else { "0" })
        .query_opt("platform", platform)
        .stream("application/x-tar", archive.into_stream())
        .send()
        .await?;
    progress::show(response, progress::Target::Stdout).await
}

/// `--platform` as the API takes it since v1.48: the JSON of an OCI platform.
pub(crate) fn platform_query(text: &str) -> Result<Option<String>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    let platform: skep_types::Platform =
        text.parse().map_err(|error: skep_types::PlatformError| format!("invalid platform: {error}"))?;
    Ok(Some(serde_json::to_string(&platform)?))
}

/// An archive that is sent to the engine while it is read.
pub(crate) struct Archive(Box<dyn AsyncRead + Send + Sync + Unpin>);

impl Archive {
    pub(crate) fn stdin() -> Self {
        Archive(Box::new(tokio::io::stdin()))
    }

    pub(crate) async fn file(path: &Path) -> Result<Self, Failure> {
        match tokio::fs::File::open(path).await {
            Ok(file) => Ok(Archive(Box::new(file))),
            Err(error) => Err(Failure::message(go_path_error("open", path, &error))),
        }
    }

    pub(crate) fn into_stream(self) -> impl Stream<Item = std::io::Result<Bytes>> + Send + Sync + 'static {
        ReaderStream::with_capacity(self.0, CHUNK).into_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_travel_as_json() {
        assert_eq!(platform_query("").expect("none"), None);
        let json = platform_query("linux/arm64/v8").expect("good").expect("some");
        let platform: serde_json::Value = serde_json::from_str(&json).expect("json");
        assert_eq!((&platform["os"], &platform["architecture"]), (&"linux".into(), &"arm64".into()));
        assert!(platform_query("a/b/c/d").is_err());
    }
}
