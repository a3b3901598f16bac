//! Files of a container: cp, diff, export.

use futures_util::TryStreamExt;
use http::header::HeaderName;
use http::{Method, StatusCode};
use skep_engine::model::request::{ByteStream, ChangeKind, ExtractOptions, PathStat};
use skep_wire::FilesystemChange;

use crate::http::answer::{BodyError, body_stream};
use crate::http::router::{Route, route};
use crate::http::{Answer, ApiError, Request};

const STAT: HeaderName = HeaderName::from_static("x-docker-container-path-stat");

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route(Method::HEAD, "/containers/{id}/archive", stat),
        route(Method::GET, "/containers/{id}/archive", read),
        route(Method::PUT, "/containers/{id}/archive", write),
        route(Method::GET, "/containers/{id}/export", export),
        route(Method::GET, "/containers/{id}/changes", changes),
    ]
}

fn path(request: &Request) -> Result<&str, ApiError> {
    request.query.filled("path").ok_or_else(|| ApiError::invalid("bad parameter: path cannot be empty"))
}

fn header(stat: PathStat) -> String {
    skep_wire::PathStat {
        name: stat.name,
        size: i64::try_from(stat.size).unwrap_or(i64::MAX),
        mode: skep_wire::PathStat::go_mode(stat.mode),
        mtime: stat.mtime.into(),
        link_target: stat.link_target,
    }
    .to_header()
}

fn archive(content_type: &'static str, pieces: ByteStream) -> Answer {
    Answer::stream(content_type, pieces.map_err(|error| BodyError::from(error.to_string())))
}

async fn stat(request: Request) -> Result<Answer, ApiError> {
    let stat = request.engine.stat_path(request.name(), path(&request)?).await?;
    Ok(Answer::empty(StatusCode::OK).header(STAT, &header(stat)))
}

async fn read(request: Request) -> Result<Answer, ApiError> {
    let (stat, pieces) = request.engine.read_archive(request.name(), path(&request)?).await?;
    Ok(archive("application/x-tar", pieces).header(STAT, &header(stat)))
}

async fn write(request: Request) -> Result<Answer, ApiError> {
    let options = ExtractOptions {
        no_overwrite_dir_non_dir: request.query.flag("noOverwriteDirNonDir"),
        copy_uid_gid: request.query.flag("copyUIDGID"),
    };
    let path = path(&request)?.to_owned();
    let container = request.name().to_owned();
    let pieces: ByteStream = Box::pin(body_stream(request.body).map_err(|source| skep_engine::Error::System {
        context: "reading the archive from the client".to_owned(),
        source: source.into(),
    }));
    request.engine.write_archive(&container, &path, options, pieces).await?;
    Ok(Answer::empty(StatusCode::OK))
}

async fn export(request: Request) -> Result<Answer, ApiError> {
    Ok(archive("application/octet-stream", request.engine.export_container(request.name()).await?))
}

async fn changes(request: Request) -> Result<Answer, ApiError> {
    let changes = request.engine.container_changes(request.name()).await?;
    let changes: Vec<_> = changes
        .into_iter()
        .map(|change| FilesystemChange {
            kind: match change.kind {
                ChangeKind::Modified => 0,
                ChangeKind::Added => 1,
                ChangeKind::Deleted => 2,
            },
            path: change.path,
        })
        .collect();
    // dockerd answers null, not [], when nothing was changed; its clients take both.
    Answer::json(&Some(changes).filter(|changes| !changes.is_empty()))
}
