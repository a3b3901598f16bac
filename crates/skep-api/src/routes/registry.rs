//! Registries: logins, searches, what a reference stands for.

use http::Method;
use skep_registry::{Credentials, Found, Keyring};
use skep_types::Reference;
use skep_wire::{
    AuthConfig, AuthConfigs, AuthResponse, Descriptor, DescriptorPlatform, DistributionInspect, SearchResult,
};

use crate::http::router::{Route, route};
use crate::http::{Answer, ApiError, Request};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route(Method::POST, "/auth", log_in).cancellable(),
        route(Method::GET, "/images/search", search),
        route(Method::GET, "/distribution/{name}/json", inspect),
    ]
}

/// The credentials in the header that a client takes from its own configuration.
pub(crate) fn credentials(request: &Request) -> Option<Credentials> {
    let header = request.header("x-registry-auth");
    // dockerd takes a broken header for "no credentials": old clients send one.
    let auth = AuthConfig::from_header(header).unwrap_or_default();
    let credentials = into_credentials(auth);
    let texts = [&credentials.username, &credentials.identity_token, &credentials.registry_token];
    let given = texts.iter().any(|text| !text.is_empty());
    given.then_some(credentials)
}

/// The credentials for several registries in the header `X-Registry-Config`.
pub(crate) fn keyring(request: &Request) -> Result<Keyring, ApiError> {
    let configs = AuthConfigs::from_header(request.header("x-registry-config"))
        .map_err(|error| ApiError::invalid(error.to_string().replace("X-Registry-Auth", "X-Registry-Config")))?;
    let mut keyring = Keyring::default();
    for (server, auth) in configs.0 {
        keyring.add(&server, into_credentials(auth));
    }
    Ok(keyring)
}

fn into_credentials(auth: AuthConfig) -> Credentials {
    Credentials {
        username: auth.username,
        password: auth.password,
        identity_token: auth.identitytoken,
        registry_token: auth.registrytoken,
    }
}

async fn log_in(mut request: Request) -> Result<Answer, ApiError> {
    let auth: AuthConfig = request.json().await?;
    let server = auth.serveraddress.clone();
    let token = request.engine.images().login(&server, into_credentials(auth)).await?;
    Answer::json(&AuthResponse { status: "Login Succeeded".to_owned(), identity_token: token.unwrap_or_default() })
}

/// What search results have to be.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    official: Option<bool>,
    stars: i64,
    /// No result is any more.
    automated: bool,
}

async fn search(request: Request) -> Result<Answer, ApiError> {
    let query = &request.query;
    let mut wanted = Wanted::default();
    for (key, values) in query.filters()? {
        match key.as_str() {
            "is-official" => wanted.official = super::images::flag(&key, &values)?,
            "is-automated" => wanted.automated = super::images::flag(&key, &values)? == Some(true),
            "stars" => {
                for value in &values {
                    let stars = value.parse::<i64>();
                    let invalid = || ApiError::invalid(format!("invalid filter 'stars=[{value}]'"));
                    wanted.stars = wanted.stars.max(stars.map_err(|_| invalid())?);
                }
            }
            _ => return Err(ApiError::invalid(format!("invalid filter '{key}'"))),
        }
    }
    let limit = query.number("limit")?.unwrap_or(0);
    let limit = u32::try_from(limit)
        .map_err(|_| ApiError::invalid(format!("limit {limit} is outside the range of [1, 100]")))?;
    let credentials = credentials(&request).unwrap_or_default();
    let found = request.engine.images().search(query.text("term"), limit, &credentials).await?;
    Answer::json(&matching(found, &wanted))
}

fn matching(found: Vec<Found>, wanted: &Wanted) -> Vec<SearchResult> {
    let fits = |result: &Found| {
        !wanted.automated
            && wanted.official.is_none_or(|official| official == result.is_official)
            && result.star_count >= wanted.stars
    };
    let row = |result: Found| SearchResult {
        star_count: result.star_count,
        is_official: result.is_official,
        name: result.name,
        is_automated: false,
        description: result.description,
    };
    found.into_iter().filter(fits).map(row).collect()
}

async fn inspect(request: Request) -> Result<Answer, ApiError> {
    let reference: Reference = request.name().parse()?;
    let credentials = credentials(&request);
    let remote = request.engine.images().remote(&reference.or_latest(), credentials.as_ref()).await?;
    let platforms = remote.platforms.into_iter().map(|platform| DescriptorPlatform {
        architecture: platform.architecture,
        os: platform.os,
        variant: platform.variant,
        ..DescriptorPlatform::default()
    });
    let skep_registry::Descriptor { media_type, digest, size, .. } = remote.descriptor;
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    Answer::json(&DistributionInspect {
        descriptor: Descriptor { media_type, digest: digest.to_string(), size, ..Descriptor::default() },
        platforms: platforms.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_choose_results() {
        let found = |name: &str, star_count, is_official| Found {
            name: name.to_owned(),
            star_count,
            is_official,
            ..Found::default()
        };
        let all = || vec![found("a", 5, true), found("b", 50, false)];
        let names = |wanted: Wanted| matching(all(), &wanted).into_iter().map(|r| r.name).collect::<String>();
        assert_eq!(names(Wanted::default()), "ab");
        assert_eq!(names(Wanted { official: Some(true), ..Wanted::default() }), "a");
        assert_eq!(names(Wanted { official: Some(false), ..Wanted::default() }), "b");
        assert_eq!(names(Wanted { stars: 6, ..Wanted::default() }), "b");
        assert_eq!(names(Wanted { automated: true, ..Wanted::default() }), "");
    }
}
