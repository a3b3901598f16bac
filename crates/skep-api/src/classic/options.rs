//! Parameters of `POST /build` and `POST /build/prune`.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use skep_build::BuildRequest;
use skep_build::cache::{Filter, Limits, Prune};
use skep_build::graph::{Names, Network};
use skep_build::request::{CacheRef, Context, Dockerfile, Export, ExportKind, NoCache, PullMode};
use skep_build::services::RegistryLogin;
use skep_types::Reference;
use skep_wire::AuthConfig;

use crate::buildkit::is_git;
use crate::http::query::Query;
use crate::http::{ApiError, Request};

/// What `remote` is if the context is a directory of the client's session.
const CLIENT: &str = "client-session";

/// What is asked for.
pub(super) struct Options {
    pub(super) request: BuildRequest,
    /// Names of the image, whole.
    pub(super) names: Vec<String>,
    pub(super) quiet: bool,
    /// Say of a step that fails, too, that its container is gone.
    pub(super) force_remove: bool,
    /// The body is the context.
    pub(super) has_archive: bool,
    /// The client's session, of which BuildKit's builder asks.
    pub(super) session: String,
    /// The client's name of the build, for `POST /build/cancel`.
    pub(super) id: String,
}

pub(super) fn read(request: &Request) -> Result<Options, ApiError> {
    let query = &request.query;
    let classic = query.text("version") != "2";
    if !matches!(query.text("isolation"), "" | "default") {
        return Err(ApiError::invalid("isolation is only supported on Windows"));
    }
    let names =
        query.all("t").iter().filter(|name| !name.is_empty()).map(|name| whole(name)).collect::<Result<Vec<_>, _>>()?;
    let dockerfile = query.filled("dockerfile").unwrap_or("Dockerfile").to_owned();
    let context = match query.filled("remote") {
        Some(CLIENT) if !classic => Context::Local("context".to_owned()),
        None => Context::Local("context".to_owned()),
        Some(url) if is_git(url) => Context::Git(url.to_owned()),
        Some(url) => Context::Http(url.to_owned()),
    };
    let has_archive = query.filled("remote").is_none();
    let mut build = BuildRequest {
        context,
        dockerfile: Dockerfile::InContext(dockerfile),
        target: query.filled("target").map(str::to_owned),
        args: arguments(query)?,
        labels: json::<Option<Names>>(query, "labels")?.flatten().unwrap_or_default(),
        no_cache: if query.flag("nocache") { NoCache::All } else { NoCache::No },
        pull: if query.flag("pull") { PullMode::Always } else { PullMode::Missing },
        network: network(query.text("networkmode"))?,
        squash: query.flag("squash"),
        classic,
        credentials_in_request: classic,
        exports: vec![Export { kind: ExportKind::Image, attributes: [("name".to_owned(), names.join(","))].into() }],
        cache_from: cache_from(query)?,
        ..BuildRequest::default()
    };
    build.platforms.extend(crate::routes::platform(request)?);
    limits(query, &mut build)?;
    if build.network == Network::Host {
        build.allow.network_host = true; // the classic builder knows no entitlements
    }
    let (quiet, force_remove) = (query.flag("q"), query.flag("forcerm"));
    let (id, session) = (query.text("buildid").to_owned(), query.text("session").to_owned());
    Ok(Options { request: build, names, quiet, force_remove, has_archive, session, id })
}

/// A name with its tag, as it is said to the client.
fn whole(name: &str) -> Result<String, ApiError> {
    let invalid = |error| ApiError::invalid(format!("invalid reference format: {error}"));
    let reference: Reference = name.parse().map_err(|error: skep_types::ReferenceError| invalid(error.to_string()))?;
    if reference.digest().is_some() {
        return Err(ApiError::invalid("build tag cannot contain a digest"));
    }
    Ok(reference.or_latest().familiar())
}

fn json<T: DeserializeOwned>(query: &Query, key: &str) -> Result<Option<T>, ApiError> {
    let Some(text) = query.filled(key) else { return Ok(None) };
    let invalid = |error| ApiError::invalid(format!("error reading {key}: {error}"));
    serde_json::from_str(text).map(Some).map_err(invalid)
}

/// Build arguments; those without a value are left to the Dockerfile.
fn arguments(query: &Query) -> Result<Names, ApiError> {
    let given = json::<Option<BTreeMap<String, Option<String>>>>(query, "buildargs")?.flatten().unwrap_or_default();
    Ok(given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
}

fn cache_from(query: &Query) -> Result<Vec<CacheRef>, ApiError> {
    let names = json::<Option<Vec<String>>>(query, "cachefrom")?.flatten().unwrap_or_default();
    let cache = |name: String| CacheRef { kind: "registry".to_owned(), attributes: [("ref".to_owned(), name)].into() };
    Ok(names.into_iter().map(cache).collect())
}

fn network(mode: &str) -> Result<Network, ApiError> {
    match mode {
        "" | "default" | "bridge" => Ok(Network::Default),
        "none" => Ok(Network::None),
        "host" => Ok(Network::Host),
        other => Err(ApiError::unsupported(format!("networkmode={other} of a build"))),
    }
}

/// A limit of processes, in the wire's spelling.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Ulimit {
    name: String,
    #[serde(default)]
    soft: i64,
    #[serde(default)]
    hard: i64,
}

fn limits(query: &Query, build: &mut BuildRequest) -> Result<(), ApiError> {
    let number = |key| query.number(key).map(Option::unwrap_or_default);
    let unsigned = |key| number(key).map(|number| u64::try_from(number).unwrap_or(0));
    let limits = &mut build.limits;
    limits.memory = number("memory")?;
    limits.memory_swap = number("memswap")?;
    limits.cpu_shares = unsigned("cpushares")?;
    limits.cpu_period = unsigned("cpuperiod")?;
    limits.cpu_quota = number("cpuquota")?;
    limits.shm_size = unsigned("shmsize")?;
    query.text("cpusetcpus").clone_into(&mut limits.cpuset_cpus);
    query.text("cpusetmems").clone_into(&mut limits.cpuset_mems);
    query.text("cgroupparent").clone_into(&mut limits.cgroup_parent);
    let ulimits = json::<Option<Vec<Ulimit>>>(query, "ulimits")?.flatten().unwrap_or_default();
    limits.ulimits = ulimits.into_iter().map(|one| (one.name, one.soft, one.hard)).collect();
    for host in query.all("extrahosts") {
        let invalid = || ApiError::invalid(format!("bad format for add-host: {host:?}"));
        let (name, address) = host.split_once([':', '=']).ok_or_else(invalid)?;
        limits.extra_hosts.push((name.to_owned(), address.to_owned()));
    }
    Ok(())
}

/// The header `X-Registry-Config`: logins by registry, as JSON in base64.
pub(super) fn logins(header: &str) -> Result<BTreeMap<String, RegistryLogin>, ApiError> {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    // As in dockerd, a header that can't be read is as none.
    let bytes = URL_SAFE.decode(header).or_else(|_| STANDARD.decode(header)).unwrap_or_default();
    let given: BTreeMap<String, AuthConfig> = skep_wire::from_slice(&bytes).unwrap_or_default();
    let login = |auth: AuthConfig| match auth.identitytoken.is_empty() {
        true => RegistryLogin { username: auth.username, secret: auth.password },
        false => RegistryLogin { username: String::new(), secret: auth.identitytoken },
    };
    Ok(given.into_iter().map(|(host, auth)| (host, login(auth))).collect())
}

/// What to delete of the cache.
pub(crate) fn prune(query: &Query) -> Result<Prune, ApiError> {
    let bytes = |keys: &[&str]| -> Result<u64, ApiError> {
        for key in keys {
            if let Some(number) = query.number(key)? {
                return u64::try_from(number).map_err(|_| ApiError::invalid(format!("{key} is negative")));
            }
        }
        Ok(0)
    };
    let limits = Limits {
        reserved: bytes(&["reserved-space", "keep-storage"])?,
        max_used: bytes(&["max-used-space"])?,
        min_free: bytes(&["min-free-space"])?,
    };
    let mut unused_for = Duration::ZERO;
    let mut filter = Filter::default();
    let mut filtered = false;
    for (key, values) in query.filters()? {
        for value in values {
            if key == "until" || key == "unused-for" {
                unused_for = age(&value)?;
                continue;
            }
            filter = filter.and(&key, &value).map_err(|error| ApiError::invalid(error.to_string()))?;
            filtered = true;
        }
    }
    let filters = if filtered { vec![filter] } else { Vec::new() };
    Ok(Prune { all: query.flag("all"), unused_for, filters, limits })
}

/// How long ago: a duration, or a point in time.
fn age(value: &str) -> Result<Duration, ApiError> {
    let invalid = || ApiError::invalid(format!("invalid filter 'until={value}'"));
    if let Ok(age) = skep_types::parse_go_duration(value) {
        return Ok(age);
    }
    let time = crate::http::query::time_or_age(value).ok_or_else(invalid)?;
    (chrono::Utc::now() - time).to_std().map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_without_a_value_are_left_out() {
        let query = Query::parse("buildargs=%7B%22A%22%3A%221%22%2C%22B%22%3Anull%7D&cachefrom=%5B%22x%3A1%22%5D");
        assert_eq!(arguments(&query).expect("arguments"), [("A".to_owned(), "1".to_owned())].into());
        assert_eq!(cache_from(&query).expect("caches")[0].attributes["ref"], "x:1");
        assert!(arguments(&Query::parse("buildargs=x")).is_err());
    }

    #[test]
    fn logins_come_by_registry() {
        use base64::engine::general_purpose::STANDARD;
        let header = STANDARD.encode(r#"{"r:5000":{"username":"u","password":"p"},"x":{"identitytoken":"t"}}"#);
        let logins = logins(&header).expect("logins");
        assert_eq!(logins["r:5000"].username, "u");
        assert_eq!((logins["x"].username.as_str(), logins["x"].secret.as_str()), ("", "t"));
    }

    #[test]
    fn what_is_pruned() {
        let filters = "%7B%22until%22%3A%7B%2224h%22%3Atrue%7D%2C%22type%22%3A%7B%22regular%22%3Atrue%7D%7D";
        let prune = prune(&Query::parse(&format!("all=1&keep-storage=10&filters={filters}"))).expect("a request");
        assert!(prune.all);
        assert_eq!((prune.unused_for.as_secs(), prune.limits.reserved, prune.filters.len()), (86_400, 10, 1));
        assert!(super::prune(&Query::parse("filters=%7B%22nothing%22%3A%5B%22x%22%5D%7D")).is_err());
    }
}
