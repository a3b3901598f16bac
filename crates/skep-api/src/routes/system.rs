//! The engine about itself: ping, version, info.

use std::collections::BTreeMap;

use http::header::{CACHE_CONTROL, HeaderName, PRAGMA};
use http::{Method, StatusCode};
use skep_wire::{Version, VersionComponent, VersionPlatform};

use crate::http::router::{Route, route};
use crate::http::version::ApiVersion;
use crate::http::{Answer, ApiError, Request};
use crate::{API_VERSION, MIN_API_VERSION};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route(Method::GET, "/_ping", |request| ping(request, "OK")),
        route(Method::HEAD, "/_ping", |request| ping(request, "")),
        route(Method::GET, "/version", version),
        route(Method::GET, "/info", info),
    ]
}

async fn ping(_: Request, text: &'static str) -> Result<Answer, ApiError> {
    // 2 makes `docker build` speak BuildKit's protocol.
    Ok(Answer::bytes(StatusCode::OK, "text/plain; charset=utf-8", text)
        .header(CACHE_CONTROL, "no-cache, no-store, must-revalidate")
        .header(PRAGMA, "no-cache")
        .header(HeaderName::from_static("builder-version"), "2")
        .header(HeaderName::from_static("swarm"), "inactive"))
}

async fn version(_request: Request) -> Result<Answer, ApiError> {
    let own = env!("CARGO_PKG_VERSION").to_owned();
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let arch = skep_types::Platform::host().architecture;
    let details = [
        ("ApiVersion", API_VERSION),
        ("Arch", arch.as_str()),
        ("Experimental", "false"),
        ("KernelVersion", kernel.as_str()),
        ("MinAPIVersion", MIN_API_VERSION),
        ("Os", "linux"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()));
    Answer::json(&Version {
        platform: VersionPlatform { name: "skep".to_owned() },
        components: vec![
            VersionComponent { name: "Engine".to_owned(), version: own.clone(), details: details.into() },
            VersionComponent { name: "skep-runtime".to_owned(), version: own.clone(), details: BTreeMap::new() },
        ],
        version: own,
        api_version: API_VERSION.to_owned(),
        min_api_version: MIN_API_VERSION.to_owned(),
        os: "linux".to_owned(),
        arch,
        kernel_version: kernel,
        ..Version::default()
    })
}

async fn info(request: Request) -> Result<Answer, ApiError> {
    let facts = request.engine.info().await?;
    let mut info = crate::convert::info::info(facts, request.engine.config());
    if request.version < ApiVersion::minor(49) {
        info.firewall_backend = None;
    }
    Answer::json(&info)
}
