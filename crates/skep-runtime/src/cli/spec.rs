//! `spec`.

use std::io::Write;
use std::path::PathBuf;

use skep_runtime::container::{LaunchError, Result};
use skep_runtime::spec::Spec;

use super::args::{Args, Item};
use super::help;

/// Runs the command.
pub(crate) fn run(mut args: Args) -> Result<u8> {
    let (mut directory, mut rootless) = (PathBuf::from("."), false);
    while let Some(item) = args.next()? {
        match item {
            Item::Word(word) => return Err(LaunchError::invalid(format!("unexpected argument {word:?}: see --help"))),
            Item::Option(name) => match name.as_str() {
                "b" | "bundle" => directory = args.value()?.into(),
                "rootless" => rootless = args.flag()?,
                other => return Err(help::or_unknown(other, &args)),
            },
        }
    }
    let mut spec = Spec::example();
    if rootless {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        spec.make_rootless(uid.as_raw(), gid.as_raw());
    }
    let text = serde_json::to_string_pretty(&spec).map_err(|error| LaunchError::system("json", error.to_string()))?;
    let path = directory.join("config.json");
    let step = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            LaunchError::invalid(format!("file {} exists. Remove it first", path.display()))
        }
        _ => LaunchError::os(format!("write {}", path.display()), error),
    };
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path).map_err(step)?;
    file.write_all((text + "\n").as_bytes()).map_err(step)?;
    Ok(0)
}
