//! What Docker's API has no words for in the cache of builds, below `/skep/build`: directories of cache mounts by name, and what a prune
//! would take.

use futures_util::TryStreamExt;
use http::{Method, StatusCode};
use skep_engine::build::NewCacheMount;
use skep_engine::model::request::ByteStream;
use skep_wire::CacheMount;

use super::usage::cache_row;
use crate::http::answer::{BodyError, body_stream};
use crate::http::router::{Route, route};
use crate::http::{Answer, ApiError, Request};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route(Method::GET, "/skep/build/prune", preview),
        route(Method::GET, "/skep/build/caches", list),
        route(Method::DELETE, "/skep/build/caches", remove),
        route(Method::GET, "/skep/build/caches/archive", export),
        route(Method::PUT, "/skep/build/caches/archive", import),
    ]
}

/// What `POST /build/prune` with the same parameters would delete.
async fn preview(request: Request) -> Result<Answer, ApiError> {
    let found = request.engine.preview_build_prune(crate::classic::prune(&request.query)?).await?;
    Answer::json(&found.into_iter().map(cache_row).collect::<Vec<_>>())
}

async fn list(request: Request) -> Result<Answer, ApiError> {
    let row = |mount: skep_engine::build::CacheMount| CacheMount {
        id: mount.id,
        name: mount.name,
        size: i64::try_from(mount.size).unwrap_or(i64::MAX),
        in_use: mount.in_use,
        created_at: mount.created.into(),
        last_used_at: mount.last_used.into(),
        usage_count: i64::try_from(mount.uses).unwrap_or(i64::MAX),
    };
    Answer::json(&request.engine.cache_mounts().await?.into_iter().map(row).collect::<Vec<_>>())
}

fn wanted(request: &Request) -> Result<&str, ApiError> {
    request.query.filled("name").ok_or_else(|| ApiError::invalid("bad parameter: name cannot be empty"))
}

async fn remove(request: Request) -> Result<Answer, ApiError> {
    request.engine.remove_cache_mount(wanted(&request)?).await?;
    Ok(Answer::no_content())
}

async fn export(request: Request) -> Result<Answer, ApiError> {
    let pieces = request.engine.export_cache_mount(wanted(&request)?).await?;
    Ok(Answer::stream("application/x-tar", pieces.map_err(|error| BodyError::from(error.to_string()))))
}

async fn import(request: Request) -> Result<Answer, ApiError> {
    let number = |key: &str, default: u32| -> Result<u32, ApiError> {
        match request.query.number(key)? {
            None => Ok(default),
            Some(number) => u32::try_from(number).map_err(|_| ApiError::invalid(format!("invalid {key}: {number}"))),
        }
    };
    let NewCacheMount { mode, uid, gid } = NewCacheMount::default();
    let new = NewCacheMount { mode: number("mode", mode)?, uid: number("uid", uid)?, gid: number("gid", gid)? };
    let name = wanted(&request)?.to_owned();
    let pieces: ByteStream = Box::pin(body_stream(request.body).map_err(|source| skep_engine::Error::System {
        context: "reading the archive from the client".to_owned(),
        source: source.into(),
    }));
    request.engine.import_cache_mount(&name, new, pieces).await?;
    Ok(Answer::empty(StatusCode::OK))
}
