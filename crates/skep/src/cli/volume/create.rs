//! `volume create`.

use skep_wire::{Volume, VolumeCreateRequest};

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::value::KeyValues;
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome};
use crate::ui;

flags! {
    pub(crate) struct CreateFlags {
        driver: String = "local" => "driver" 'd', "Specify volume driver name";
        label: Vec<String> => "label", "Set metadata for a volume";
        name: Option<String> => "name", "Specify volume name";
        opt: KeyValues => "opt" 'o', "Set driver specific options";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["volume create"],
    usage: "[OPTIONS] [VOLUME]",
    about: "Create a volume",
    args: Args::AtMost(1),
    completion: Completion::Nothing,
    flags: CreateFlags::specs,
    run: runner!(CreateFlags, run),
};

async fn run(cli: &Cli, flags: CreateFlags, words: Vec<String>) -> Outcome {
    let name = match (flags.name, words.into_iter().next()) {
        (Some(_), Some(_)) => {
            return Err(Failure::message(
                "conflicting options: cannot specify a volume name through both --name and as a positional arg",
            ));
        }
        (name, word) => name.or(word).unwrap_or_default(),
    };
    let labels = flags.label.iter().map(|label| {
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        (key.to_owned(), value.to_owned())
    });
    let request = VolumeCreateRequest {
        name,
        driver: flags.driver,
        driver_opts: flags.opt.0,
        labels: labels.collect(),
        ..VolumeCreateRequest::default()
    };
    let volume: Volume = cli.client().await?.post("/volumes/create", &request).await?;
    ui::line(&volume.name);
    Ok(())
}
