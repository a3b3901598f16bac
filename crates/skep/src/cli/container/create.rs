//! `create`, and the making of a container that `run` shares with it.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;

use skep_client::Method;
use skep_types::{Platform, Reference, ReferenceError};
use skep_wire::{ContainerCreateRequest, ContainerCreateResponse};

use super::options::{ContainerFlags, request};
use crate::cli::command::runner;
use crate::cli::failure::{USAGE, go_path_error};
use crate::cli::flags::{FlagSet, Order};
use crate::cli::image::pull::{self, PullOutput};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome};
use crate::ui;

pub(crate) const COMMAND: Command = Command {
    paths: &["create", "container create"],
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    about: "Create a new container",
    args: Args::AtLeast(1),
    completion: Completion::Images,
    flags: ContainerFlags::specs,
    run: runner!(ContainerFlags, run, Order::FlagsFirst),
};

async fn run(cli: &Cli, flags: ContainerFlags, words: Vec<String>) -> Outcome {
    check_pull(&flags.pull).map_err(|e| with_hint(cli, "create", e.into()))?;
    let request = request::build(&flags, &words).map_err(|e| with_hint(cli, "create", e))?;
    let id = create(cli, &flags, request).await?;
    ui::line(&id);
    Ok(())
}

/// `docker: TEXT` and the hint at `--help`, with exit code 125: how `run` and `create` fail.
pub(crate) fn with_hint(cli: &Cli, command: &str, failure: Failure) -> Failure {
    let program = &cli.program;
    let text = format!("{program}: {}\n\nRun '{program} {command} --help' for more information", failure.text);
    Failure::new(USAGE, text)
}

/// Refuses a wrong `--pull`.
pub(crate) fn check_pull(pull: &str) -> Result<(), String> {
    match pull {
        "always" | "missing" | "never" => Ok(()),
        _ => Err(format!("invalid pull option: '{pull}': must be one of \"always\", \"missing\" or \"never\"")),
    }
}

/// Creates the container, pulling its image as `--pull` says; returns the id.
pub(crate) async fn create(
    cli: &Cli,
    flags: &ContainerFlags,
    request: ContainerCreateRequest,
) -> Result<String, Failure> {
    let image = &request.config.image;
    let reference = match image.parse::<Reference>() {
        Ok(reference) => Some(reference.or_latest()),
        // 64 digits are an id, not a name: nothing to pull.
        Err(ReferenceError::LooksLikeId(_)) => None,
        Err(_) if image.starts_with("sha256:") => None,
        Err(error) => return Err(Failure::message(error.to_string())),
    };
    if let Some(platform) = flags.platform.as_deref().filter(|text| !text.is_empty())
        && let Err(error) = platform.parse::<Platform>()
    {
        return Err(Failure::message(format!("error parsing specified platform: {error}")));
    }
    warn_of_local_servers(&flags.dns.0);
    let id_file = (!flags.cid_file.is_empty()).then(|| IdFile::create(Path::new(&flags.cid_file))).transpose()?;
    let output = if flags.quiet { PullOutput::Quiet } else { PullOutput::Stderr };
    if let (Some(reference), "always") = (&reference, flags.pull.as_str()) {
        pull::pull(cli, reference, flags.platform.as_deref(), output).await?;
    }
    let created = match post(cli, flags, &request).await {
        Err(error) if error.is_not_found() && flags.pull == "missing" && reference.is_some() => {
            let Some(reference) = &reference else { return Err(error.into()) };
            if !flags.quiet {
                ui::error_line(&format!("Unable to find image '{}' locally", reference.familiar()));
            }
            pull::pull(cli, reference, flags.platform.as_deref(), output).await?;
            post(cli, flags, &request).await?
        }
        other => other?,
    };
    for warning in &created.warnings {
        ui::error_line(&format!("WARNING: {warning}"));
    }
    if let Some(file) = id_file {
        file.write(&created.id)?;
    }
    Ok(created.id)
}

/// A loopback address given as name server is the container's own loopback, where nobody answers as a rule.
fn warn_of_local_servers(servers: &[String]) {
    let is_local = |server: &&String| server.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if let Some(server) = servers.iter().find(is_local) {
        ui::error_line(&format!("WARNING: Localhost DNS ({server}) may fail in containers."));
    }
}

async fn post(
    cli: &Cli,
    flags: &ContainerFlags,
    request: &ContainerCreateRequest,
) -> Result<ContainerCreateResponse, PostError> {
    let client = cli.client().await.map_err(PostError::Failed)?;
    let answer = client
        .request(Method::POST, "/containers/create")
        .query_opt("name", Some(&flags.name))
        .query_opt("platform", flags.platform.as_deref())
        .json(request)?
        .send()
        .await?;
    Ok(answer.json().await?)
}

enum PostError {
    Api(skep_client::Error),
    Failed(Failure),
}

impl PostError {
    fn is_not_found(&self) -> bool {
        matches!(self, PostError::Api(error) if error.is_not_found())
    }
}

impl From<skep_client::Error> for PostError {
    fn from(error: skep_client::Error) -> Self {
        PostError::Api(error)
    }
}

impl From<PostError> for Failure {
    fn from(error: PostError) -> Self {
        match error {
            PostError::Api(error) => error.into(),
            PostError::Failed(failure) => failure,
        }
    }
}

/// `--cidfile`: made before the container, so that a second start finds it; removed again if nothing was written.
struct IdFile<'a> {
    path: &'a Path,
    written: bool,
}

impl<'a> IdFile<'a> {
    fn create(path: &'a Path) -> Result<Self, Failure> {
        match OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(_) => Ok(IdFile { path, written: false }),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(Failure::message(format!(
                "container ID file found, make sure the other container isn't running or delete {}",
                path.display()
            ))),
            Err(error) => Err(Failure::message(format!(
                "failed to create the container ID file: {}",
                go_path_error("open", path, &error)
            ))),
        }
    }

    fn write(mut self, id: &str) -> Result<(), Failure> {
        let done = OpenOptions::new().write(true).open(self.path).and_then(|mut file| file.write_all(id.as_bytes()));
        self.written = done.is_ok();
        done.map_err(|e| {
            Failure::message(format!(
                "failed to write the container ID to the file: {}",
                go_path_error("write", self.path, &e)
            ))
        })
    }
}

impl Drop for IdFile<'_> {
    fn drop(&mut self) {
        if !self.written {
            // What cannot be removed will be reported by the next call that finds it.
            let _ = std::fs::remove_file(self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_file_exists_only_for_a_container_that_was_made() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("cid");
        drop(IdFile::create(&path).expect("made"));
        assert!(!path.exists());
        IdFile::create(&path).expect("made").write("abc").expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "abc");
        let failure = IdFile::create(&path).err().expect("in use");
        assert!(failure.text.starts_with("container ID file found, make sure"), "{}", failure.text);
    }
}
