//! What is known of a source before anything is built from it: clients with policies of their own ask (`ResolveSourceMeta`).

use skep_build::BuildError;
use skep_buildkit::proto::google::protobuf::Timestamp;
use skep_buildkit::proto::moby::buildkit::v1::frontend as wire;
use skep_buildkit::proto::moby::buildkit::v1::frontend::checksum_request::ChecksumAlgo;
use skep_buildkit::proto::pb;
use skep_engine::build::{Algorithm, Checksum, GitFacts, HttpFacts};
use tonic::Status;

use super::builds::Build;
use super::look::IMAGE;
use super::{BuildKit, error, llb};

impl BuildKit {
    /// Finds a source; answers with what there is to know of its kind.
    pub(crate) async fn source(
        &self,
        build: &Build,
        request: wire::ResolveSourceMetaRequest,
    ) -> Result<wire::ResolveSourceMetaResponse, Status> {
        if !request.source_policies.is_empty() {
            return Err(Status::unimplemented("source policies of a client are not supported by skep"));
        }
        let source = request.source.clone().unwrap_or_default();
        let scheme = source.identifier.split_once("://").map_or("", |(scheme, _)| scheme);
        match scheme {
            "docker-image" => self.image_facts(build, source, &request).await,
            "git" => {
                let name = source.identifier.strip_prefix("git://").unwrap_or_default();
                let wanted = llb::git(name, &source.attrs).map_err(|error| error::status(&error))?;
                let objects = request.git.is_some_and(|git| git.return_object);
                let found = self.builder.look_at_git(&wanted, objects, &self.aside(build)).await;
                let git = Some(git(found.map_err(|error| error::status(&error))?));
                Ok(wire::ResolveSourceMetaResponse { source: Some(source), git, ..Default::default() })
            }
            "http" | "https" => {
                let wanted = llb::http(&source.identifier, &source.attrs).map_err(|error| error::status(&error))?;
                let asked = request.http.and_then(|http| http.checksum_request);
                let checksum = asked.as_ref().map(checksum).transpose().map_err(|error| error::status(&error))?;
                let found = self.builder.look_at_http(&wanted, checksum, &self.aside(build)).await;
                let found = found.map_err(|error| error::status(&error))?;
                let http = Some(http(found, asked.map(|asked| asked.suffix).unwrap_or_default()));
                Ok(wire::ResolveSourceMetaResponse { source: Some(source), http, ..Default::default() })
            }
            _ => Err(Status::unimplemented(format!(
                "{:?} is not looked up before it is built: only images, repositories and files of web servers are",
                source.identifier
            ))),
        }
    }

    async fn image_facts(
        &self,
        build: &Build,
        source: pb::SourceOp,
        request: &wire::ResolveSourceMetaRequest,
    ) -> Result<wire::ResolveSourceMetaResponse, Status> {
        let wanted = request.image.clone().unwrap_or_default();
        if wanted.attestation_chain || !wanted.resolve_attestations.is_empty() {
            return Err(Status::unimplemented("attestations of images are not looked up by skep"));
        }
        let asked = (request.platform.as_ref(), request.resolve_mode.as_str());
        let (pinned, digest, config) = self.image(build, &source.identifier, asked.0, asked.1).await?;
        let config = if wanted.no_config { Vec::new() } else { config };
        let image = wire::ResolveSourceImageResponse { digest, config, ..Default::default() };
        let source = pb::SourceOp { identifier: format!("{IMAGE}{pinned}"), ..source };
        Ok(wire::ResolveSourceMetaResponse { source: Some(source), image: Some(image), ..Default::default() })
    }
}

fn git(found: GitFacts) -> wire::ResolveSourceGitResponse {
    let (commit_object, tag_object) = found.objects.unwrap_or_default();
    wire::ResolveSourceGitResponse {
        checksum: found.object,
        r#ref: found.reference,
        commit_checksum: found.commit.unwrap_or_default(),
        commit_object,
        tag_object: tag_object.unwrap_or_default(),
    }
}

fn checksum(asked: &wire::ChecksumRequest) -> Result<Checksum, BuildError> {
    let algorithm = match ChecksumAlgo::try_from(asked.algo) {
        Ok(ChecksumAlgo::Sha256) => Algorithm::Sha256,
        Ok(ChecksumAlgo::Sha384) => Algorithm::Sha384,
        Ok(ChecksumAlgo::Sha512) => Algorithm::Sha512,
        Err(_) => return Err(BuildError::invalid(format!("unknown checksum algorithm {}", asked.algo))),
    };
    Ok(Checksum { algorithm, suffix: asked.suffix.clone() })
}

fn http(found: HttpFacts, suffix: Vec<u8>) -> wire::ResolveSourceHttpResponse {
    let seconds = found.modified.and_then(|time| i64::try_from(time).ok());
    wire::ResolveSourceHttpResponse {
        checksum: found.digest.to_string(),
        filename: found.name,
        last_modified: seconds.map(|seconds| Timestamp { seconds, nanos: 0 }),
        checksum_response: found.checksum.map(|digest| wire::ChecksumResponse { digest, suffix }),
    }
}
