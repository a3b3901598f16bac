//! Attributes of BuildKit's Dockerfile frontend and of its exporters, as a request to the builder.
//!
//! Attributes that say how a client displays or names things (`cmdline`, `vcs:…`, `frontend.caps`) change nothing in an image and are left
//! alone, as are unknown ones, as in BuildKit.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::DateTime;
use serde::Deserialize;
use skep_build::graph::{Names, Network};
use skep_build::request::{CacheRef, Context, Dockerfile, Export, ExportKind, NamedContext, NoCache, PullMode};
use skep_build::{BuildError, BuildRequest, Built};
use skep_buildkit::proto::moby::buildkit::v1 as wire;
use skep_types::Reference;

use super::{entitlements, options};

/// What the client calls its directories if it doesn't say.
const CONTEXT: &str = "context";
const DOCKERFILE: &str = "dockerfile";

/// Attributes as they come over the wire.
pub(crate) type Attributes = HashMap<String, String>;

/// Results of other builds, by the name that the request has for them.
pub(crate) type Inputs = BTreeMap<String, Arc<Built>>;

/// The request of a frontend call. `solve` is the call of `Control.Solve` that it belongs to.
pub(crate) fn build(
    attributes: &Attributes,
    solve: &wire::SolveRequest,
    inputs: &Inputs,
) -> Result<BuildRequest, BuildError> {
    let mut request = BuildRequest {
        allow: entitlements::granted(&solve.entitlements)?,
        exports: exports(solve)?,
        cache_to: cache_to(solve),
        ..BuildRequest::default()
    };
    (request.context, request.dockerfile) = sources(attributes, inputs);
    let sorted: BTreeMap<&String, &String> = attributes.iter().collect();
    for (name, value) in sorted {
        attribute(&mut request, name, value, inputs)?;
    }
    if request.cache_from.is_empty() {
        let given = solve.cache.iter().flat_map(|cache| &cache.imports);
        request.cache_from = given.map(|one| cache_ref(&one.r#type, &one.attrs)).collect();
    }
    Ok(request)
}

/// One attribute that stands for itself.
fn attribute(request: &mut BuildRequest, name: &str, value: &str, inputs: &Inputs) -> Result<(), BuildError> {
    let limits = &mut request.limits;
    match name {
        "target" => request.target = Some(value.to_owned()).filter(|target| !target.is_empty()),
        "platform" => {
            let platform = |text: &str| text.parse().map_err(|error| BuildError::invalid(format!("{error}")));
            request.platforms =
                value.split(',').filter(|text| !text.is_empty()).map(platform).collect::<Result<_, _>>()?;
        }
        "no-cache" if value.is_empty() => request.no_cache = NoCache::All,
        "no-cache" => request.no_cache = NoCache::Stages(value.split(',').map(str::to_owned).collect()),
        "image-resolve-mode" => {
            request.pull = match value {
                "pull" => PullMode::Always,
                "" | "default" | "local" => PullMode::Missing,
                _ => return Err(BuildError::invalid(format!("invalid image-resolve-mode: {value}"))),
            }
        }
        "add-hosts" => limits.extra_hosts = options::hosts(value)?,
        "shm-size" => limits.shm_size = options::number(name, value)?,
        "ulimit" => limits.ulimits = options::ulimits(value)?,
        "cgroup-parent" => value.clone_into(&mut limits.cgroup_parent),
        "force-network-mode" => {
            request.network = match value {
                "host" => Network::Host,
                "none" => Network::None,
                "" | "sandbox" | "default" => Network::Default,
                _ => return Err(BuildError::invalid(format!("invalid network mode {value:?}"))),
            }
        }
        "hostname" => request.hostname = Some(value.to_owned()),
        "cache-imports" => request.cache_from = cache_imports(value)?,
        "skep.squash" => request.squash = options::switch(name, value)?,
        "skep.memory" => limits.memory = options::number(name, value)?,
        "skep.memory-swap" => limits.memory_swap = options::number(name, value)?,
        "skep.cpu-shares" => limits.cpu_shares = options::number(name, value)?,
        "skep.cpu-quota" => limits.cpu_quota = options::number(name, value)?,
        "skep.cpu-period" => limits.cpu_period = options::number(name, value)?,
        "skep.cpuset-cpus" => value.clone_into(&mut limits.cpuset_cpus),
        "skep.cpuset-mems" => value.clone_into(&mut limits.cpuset_mems),
        _ => prefixed(request, name, value, inputs)?,
    }
    Ok(())
}

/// Attributes with a name in them.
fn prefixed(request: &mut BuildRequest, name: &str, value: &str, inputs: &Inputs) -> Result<(), BuildError> {
    let Some((family, name)) = name.split_once(':') else { return Ok(()) };
    match family {
        "build-arg" => {
            if name == "SOURCE_DATE_EPOCH" && !value.is_empty() {
                let invalid = || BuildError::invalid(format!("invalid SOURCE_DATE_EPOCH: {value}"));
                let seconds = value.parse().map_err(|_| invalid())?;
                request.source_date_epoch = Some(DateTime::from_timestamp(seconds, 0).ok_or_else(invalid)?);
            }
            request.args.insert(name.to_owned(), value.to_owned());
        }
        "label" => {
            request.labels.insert(name.to_owned(), value.to_owned());
        }
        "attest" => {
            let attributes = options::pairs(value);
            let off = attributes.get("disabled").is_some_and(|value| value == "true");
            if !off && value != "false" {
                request.attestations.insert(name.to_owned(), attributes);
            }
        }
        CONTEXT => {
            if let Some(context) = named_context(value, inputs)? {
                // A result that was built for several platforms comes once for each; it knows them itself.
                let name = name.split_once("::").map_or(name, |(name, _)| name);
                request.contexts.insert(name.to_owned(), context);
            }
        }
        _ => {}
    }
    Ok(())
}

/// Where context and Dockerfile are.
fn sources(attributes: &Attributes, inputs: &Inputs) -> (Context, Dockerfile) {
    let get = |name: &str| attributes.get(name).filter(|value| !value.is_empty());
    let path = get("filename").cloned().unwrap_or_else(|| "Dockerfile".to_owned());
    let context_name = get("contextkey").map_or(CONTEXT, String::as_str);
    let dockerfile_name = get("dockerfilekey");
    let (context, remote) = match get(CONTEXT) {
        Some(url) if is_git(url) => (Context::Git(url.clone()), true),
        Some(url) if url.starts_with("http://") || url.starts_with("https://") => (Context::Http(url.clone()), true),
        _ if inputs.contains_key(CONTEXT) => (Context::Result(CONTEXT.to_owned()), false),
        _ => (Context::Local(context_name.to_owned()), false),
    };
    let dockerfile = match dockerfile_name {
        None if !remote && inputs.contains_key(DOCKERFILE) => Dockerfile::Result { name: DOCKERFILE.to_owned(), path },
        None if remote => Dockerfile::InContext(path),
        None => Dockerfile::Local { name: DOCKERFILE.to_owned(), path },
        Some(name) => Dockerfile::Local { name: name.clone(), path },
    };
    (context, dockerfile)
}

/// Whether a URL is that of a repository, by BuildKit's rules: a git scheme, `git@`, `github.com/`, or a path that ends with `.git`.
pub(crate) fn is_git(url: &str) -> bool {
    let rest = match url.split_once("://") {
        Some(("http" | "https", rest)) => rest,
        Some(("git" | "ssh" | "git+ssh" | "git+https" | "git+http", _)) => return true,
        Some(_) => return false,
        None => return url.starts_with("git@") || url.starts_with("github.com/"),
    };
    let end = rest.find(['#', '?']).unwrap_or(rest.len());
    rest[..end].ends_with(".git")
}

fn named_context(value: &str, inputs: &Inputs) -> Result<Option<NamedContext>, BuildError> {
    let reference = |text: &str| {
        text.parse::<Reference>().map_err(|error| BuildError::invalid(format!("invalid context {value:?}: {error}")))
    };
    Ok(Some(match value.split_once(':') {
        Some(("docker-image", rest)) => NamedContext::Image(reference(rest.trim_start_matches("//"))?),
        Some(("local", name)) => NamedContext::Local(name.to_owned()),
        Some(("oci-layout", rest)) => {
            let rest = rest.trim_start_matches("//");
            let store = rest.split([':', '@']).next().unwrap_or_default();
            NamedContext::OciLayout { store: store.to_owned(), reference: rest.to_owned() }
        }
        Some(("input", name)) => match inputs.contains_key(name) {
            true => NamedContext::Result(name.to_owned()),
            false => return Err(BuildError::invalid(format!("invalid input {name}"))),
        },
        _ if is_git(value) => NamedContext::Git(value.to_owned()),
        Some(("http" | "https", _)) => NamedContext::Http(value.to_owned()),
        _ => return Err(BuildError::invalid(format!("unsupported context source {value:?}"))),
    }))
}

fn exports(solve: &wire::SolveRequest) -> Result<Vec<Export>, BuildError> {
    let old =
        wire::Exporter { r#type: solve.exporter_deprecated.clone(), attrs: solve.exporter_attrs_deprecated.clone() };
    let given = match solve.exporters.as_slice() {
        [] if old.r#type.is_empty() => &[],
        [] => std::slice::from_ref(&old),
        given => given,
    };
    given.iter().map(export).collect()
}

fn export(exporter: &wire::Exporter) -> Result<Export, BuildError> {
    let kind = match exporter.r#type.as_str() {
        "image" | "moby" => ExportKind::Image,
        "docker" => ExportKind::Docker,
        "oci" => ExportKind::Oci,
        "local" => ExportKind::Local,
        "tar" => ExportKind::Tar,
        "cacheonly" => ExportKind::CacheOnly,
        other => return Err(BuildError::invalid(format!("exporter {other:?} could not be found"))),
    };
    Ok(Export { kind, attributes: names(&exporter.attrs) })
}

fn names(given: &HashMap<String, String>) -> Names {
    given.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn cache_to(solve: &wire::SolveRequest) -> Vec<CacheRef> {
    let given = solve.cache.iter().flat_map(|cache| &cache.exports);
    given.map(|one| cache_ref(&one.r#type, &one.attrs)).collect()
}

fn cache_ref(kind: &str, attributes: &HashMap<String, String>) -> CacheRef {
    CacheRef { kind: kind.to_owned(), attributes: names(attributes) }
}

/// `cache-imports` is JSON in Go's spelling.
fn cache_imports(text: &str) -> Result<Vec<CacheRef>, BuildError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Entry {
        r#type: String,
        #[serde(default)]
        attrs: Option<HashMap<String, String>>,
    }
    let entries: Vec<Entry> = serde_json::from_str(text)
        .map_err(|error| BuildError::invalid(format!("failed to unmarshal cache-imports ({text:?}): {error}")))?;
    Ok(entries.into_iter().map(|entry| cache_ref(&entry.r#type, &entry.attrs.unwrap_or_default())).collect())
}
