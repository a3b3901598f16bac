//! What a client's gateway may look at: files of results and of its containers, images and other sources by name.

use skep_build::Job;
use skep_build::graph::ImageSource;
use skep_build::request::PullMode;
use skep_buildkit::filesync::{Stat, go_mode};
use skep_buildkit::proto::moby::buildkit::v1::frontend as wire;
use skep_buildkit::proto::pb;
use skep_engine::build::{FileStat, Files};
use skep_types::Platform;
use tokio::sync::mpsc;
use tonic::Status;

use super::builds::Build;
use super::services::Client;
use super::{BuildKit, error};

/// The scheme of images among the sources.
pub(crate) const IMAGE: &str = "docker-image://";

impl Build {
    /// The files that a ref stands for.
    pub(crate) fn files(&self, id: &str) -> Result<Files, Status> {
        self.ground(id)?.files().ok_or_else(|| Status::unknown(format!("{id} stands for no files")))
    }

    /// The files of a mount of a container.
    pub(crate) fn container_files(&self, id: &str, index: i32) -> Result<Files, Status> {
        let made = self.container(id)?;
        let ground = usize::try_from(index).ok().and_then(|index| made.grounds.get(index)?.as_ref());
        let files = ground.and_then(super::failed::Ground::files);
        files.ok_or_else(|| Status::unknown(format!("mount {index} of container {id} is not of files")))
    }
}

impl BuildKit {
    pub(crate) async fn read(
        &self,
        files: &Files,
        request: &wire::ReadFileRequest,
    ) -> Result<wire::ReadFileResponse, Status> {
        let mut data = self.builder.read(files, &request.file_path).await.map_err(|error| error::status(&error))?;
        if let Some(range) = request.range {
            let at = usize::try_from(range.offset).unwrap_or(0).min(data.len());
            data.drain(..at);
            data.truncate(usize::try_from(range.length).unwrap_or(0));
        }
        Ok(wire::ReadFileResponse { data })
    }

    pub(crate) async fn list(
        &self,
        files: &Files,
        request: &wire::ReadDirRequest,
    ) -> Result<wire::ReadDirResponse, Status> {
        let listed = self.builder.list(files, &request.dir_path, &request.include_pattern).await;
        let listed = listed.map_err(|error| error::status(&error))?;
        Ok(wire::ReadDirResponse { entries: listed.into_iter().map(stat).collect() })
    }

    pub(crate) async fn stat(
        &self,
        files: &Files,
        request: &wire::StatFileRequest,
    ) -> Result<wire::StatFileResponse, Status> {
        let found = self.builder.stat(files, &request.path).await.map_err(|error| error::status(&error))?;
        Ok(wire::StatFileResponse { stat: Some(stat(found)) })
    }

    /// Finds an image: its name with digest, the digest, its configuration.
    pub(crate) async fn image(
        &self,
        build: &Build,
        name: &str,
        platform: Option<&pb::Platform>,
        mode: &str,
    ) -> Result<(String, String, Vec<u8>), Status> {
        let reference = name.strip_prefix(IMAGE).unwrap_or(name);
        let reference: skep_types::Reference = reference
            .parse()
            .map_err(|error| Status::unknown(format!("could not parse reference {reference:?}: {error}")))?;
        let pull = if mode == "pull" { PullMode::Always } else { PullMode::Missing };
        let source = ImageSource { reference: reference.or_latest(), layout: None, pull };
        let job = self.aside(build);
        let platform = platform.map_or_else(Platform::host, |given| Platform {
            os: given.os.clone(),
            architecture: given.architecture.clone(),
            variant: given.variant.clone(),
        });
        let found = self.builder.resolve(&source, &platform, &job).await.map_err(|error| error::status(&error))?;
        let digest = found.digest.map(|digest| digest.to_string()).unwrap_or_default();
        let name = source.reference.to_string();
        let pinned = if digest.is_empty() || name.contains('@') { name } else { format!("{name}@{digest}") };
        Ok((pinned, digest, found.config.to_vec()))
    }

    /// What belongs to a build and to no step of it.
    pub(crate) fn aside(&self, build: &Build) -> Job {
        let (events, _) = mpsc::channel(1);
        let services = Client::new(self.sessions.clone(), build.request.session.clone());
        Job { services, events, cancel: build.cancel.child_token(), inputs: Default::default() }
    }
}

fn stat(file: FileStat) -> Stat {
    Stat {
        path: file.name,
        mode: go_mode(file.mode),
        uid: file.uid,
        gid: file.gid,
        size: i64::try_from(file.size).unwrap_or(i64::MAX),
        mod_time: file.modified,
        linkname: file.target,
        devmajor: i64::from(file.device.0),
        devminor: i64::from(file.device.1),
        xattrs: file.attributes.into_iter().collect(),
    }
}
