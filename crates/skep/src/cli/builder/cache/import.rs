//! `builder cache import`.

use std::path::Path;

use skep_client::Method;

use super::request;
use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::image::load::Archive;
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome};
use crate::ui;

flags! {
    pub(crate) struct ImportFlags {
        gid: u32 => "gid", "Group of the mounts that a new one is for";
        mode: String => "mode", "Permissions of the mounts that a new one is for, in octal (default 0755)";
        uid: u32 => "uid", "Owner of the mounts that a new one is for";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["builder cache import", "buildx cache import"],
    usage: "[OPTIONS] FILE|- CACHE",
    about: "Fill a cache mount with the files of a tar archive\n\nWhat it held goes. One that is not there is made, for mounts with that id and these owners and permissions.",
    args: Args::Exactly(2),
    completion: Completion::Nothing,
    flags: ImportFlags::specs,
    run: runner!(ImportFlags, run),
};

async fn run(cli: &Cli, flags: ImportFlags, words: Vec<String>) -> Outcome {
    let [source, name] = words.as_slice() else { return Ok(()) };
    let mode = match flags.mode.as_str() {
        "" => None,
        text => {
            let invalid = |_| Failure::usage(format!("invalid argument {text:?} for \"--mode\" flag: not octal"));
            Some(u32::from_str_radix(text, 8).map_err(invalid)? & 0o7777)
        }
    };
    let archive = match source.as_str() {
        "-" => Archive::stdin(),
        path => Archive::file(Path::new(path)).await?,
    };
    let mut request = request(cli.client().await?, Method::PUT, "/skep/build/caches/archive", name)
        .query("uid", flags.uid.to_string())
        .query("gid", flags.gid.to_string());
    if let Some(mode) = mode {
        request = request.query("mode", mode.to_string());
    }
    request.stream("application/x-tar", archive.into_stream()).send().await?;
    ui::line(name);
    Ok(())
}
