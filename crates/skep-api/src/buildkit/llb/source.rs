//! Sources: where files come from. An attribute that would make a difference and can't be heeded is refused by its name.

use skep_build::BuildError;
use skep_build::graph::{GitSource, HttpSource, ImageSource, LocalPart, LocalSource, Op};
use skep_build::request::PullMode;
use skep_buildkit::proto::pb;
use skep_types::{Digest, Reference};

use super::super::result;
use super::{Result, Surroundings, refused};

/// Attributes that say how to keep what is fetched, or how to show it.
const HINTS: [&str; 7] = [
    "image.recordtype",
    "local.sharedkeyhint",
    "local.unique",
    "local.differ",
    "git.fullurl",
    "http.header.accept",
    "http.header.useragent",
];

type Attributes = std::collections::BTreeMap<String, String>;

pub(super) fn read(source: &pb::SourceOp, around: &Surroundings<'_>) -> Result<Op> {
    let id = source.identifier.as_str();
    let (scheme, rest) = id.split_once("://").ok_or_else(|| BuildError::invalid(format!("invalid source {id:?}")))?;
    match scheme {
        "docker-image" => image(rest, &source.attrs).map(Op::Image),
        "oci-layout" => layout(rest, &source.attrs, around).map(Op::Image),
        "local" => local(rest, &source.attrs, around).map(Op::Local),
        "git" => git(rest, &source.attrs).map(Op::Git),
        "http" | "https" => http(id, &source.attrs).map(Op::Http),
        result::SCHEME => {
            let gone = || BuildError::invalid(format!("no such ref: {rest}"));
            (around.given)(rest).map(Op::Given).ok_or_else(gone)
        }
        _ => Err(refused(format_args!("a source {scheme}://"))),
    }
}

/// Looks at all attributes: `known` takes those that it heeds, and says so.
fn each(attributes: &Attributes, mut known: impl FnMut(&str, &str) -> Result<bool>) -> Result<()> {
    for (name, value) in attributes {
        if !HINTS.contains(&name.as_str()) && !known(name, value)? {
            return Err(refused(format_args!("the attribute {name} ({value}) of a source")));
        }
    }
    Ok(())
}

/// An image by its name.
fn image(name: &str, attributes: &Attributes) -> Result<ImageSource> {
    let mut pull = PullMode::Missing;
    each(attributes, |name, value| {
        if name != "image.resolvemode" {
            return Ok(false);
        }
        pull = match value {
            "pull" => PullMode::Always,
            "" | "default" | "local" => PullMode::Missing,
            _ => return Err(BuildError::invalid(format!("invalid resolve mode: {value}"))),
        };
        Ok(true)
    })?;
    Ok(ImageSource { reference: reference(name)?.or_latest(), layout: None, pull })
}

fn layout(name: &str, attributes: &Attributes, around: &Surroundings<'_>) -> Result<ImageSource> {
    let mut store = None;
    each(attributes, |name, value| {
        match name {
            "oci.store" => store = Some(value.to_owned()),
            "oci.session" => return Ok(value == around.session),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let reference = reference(name)?;
    if reference.digest().is_none() {
        return Err(BuildError::invalid(format!("oci-layout://{name} has no digest")));
    }
    let store = store.unwrap_or_else(|| name.split([':', '@']).next().unwrap_or_default().to_owned());
    Ok(ImageSource { reference, layout: Some(store), pull: PullMode::Missing })
}

fn reference(name: &str) -> Result<Reference> {
    name.parse().map_err(|error| BuildError::invalid(format!("could not parse reference {name:?}: {error}")))
}

fn local(name: &str, attributes: &Attributes, around: &Surroundings<'_>) -> Result<LocalSource> {
    let mut source = LocalSource {
        name: name.to_owned(),
        part: LocalPart::Files,
        include: Vec::new(),
        exclude: Vec::new(),
        follow: Vec::new(),
    };
    each(attributes, |name, value| {
        let list = || -> Result<Vec<String>> {
            serde_json::from_str(value).map_err(|error| BuildError::invalid(format!("invalid {name}: {error}")))
        };
        match name {
            "local.session" => return Ok(value == around.session),
            "local.includepattern" => source.include = list()?,
            "local.excludepatterns" => source.exclude = list()?,
            "local.followpaths" => source.follow = list()?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(source)
}

/// A repository: the address is an attribute, its branch and directory are in the name.
pub(crate) fn git(name: &str, attributes: &Attributes) -> Result<GitSource> {
    let (address, fragment) = name.split_once('#').unwrap_or((name, ""));
    let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let full = attributes.get("git.fullurl").filter(|url| !url.is_empty());
    let full = full.map(|url| url.split('#').next().unwrap_or_default().to_owned());
    let mut source = GitSource {
        remote: full.unwrap_or_else(|| format!("https://{address}")),
        reference: some(reference),
        subdir: some(subdir).filter(|subdir| !matches!(subdir.as_str(), "." | "/")),
        keep_git_dir: false,
        checksum: None,
    };
    each(attributes, |name, value| {
        match (name, value) {
            ("git.keepgitdir", value) => source.keep_git_dir = value == "true",
            ("git.checksum", value) => source.checksum = some(value),
            ("git.authtokensecret", "GIT_AUTH_TOKEN" | "")
            | ("git.authheadersecret", "GIT_AUTH_HEADER" | "")
            | ("git.mountsshsock", "default" | "")
            | ("git.skipsubmodules", "false" | "") => {}
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(source)
}

/// A file of a web server.
pub(crate) fn http(url: &str, attributes: &Attributes) -> Result<HttpSource> {
    let mut source = HttpSource { url: url.to_owned(), checksum: None, name: None };
    each(attributes, |name, value| {
        match (name, value) {
            ("http.checksum", value) => {
                let checksum = value.parse::<Digest>().map_err(|error| BuildError::invalid(error.to_string()))?;
                source.checksum = Some(checksum);
            }
            ("http.filename", value) => source.name = Some(file_name(value)?),
            ("http.perm", "0600" | "600" | "0o600") | ("http.uid" | "http.gid", "0") => {}
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(source)
}

/// A name, not a path.
fn file_name(text: &str) -> Result<String> {
    match text {
        "" | "." | ".." => Err(BuildError::invalid(format!("invalid http.filename {text:?}"))),
        _ if text.contains(['/', '\0']) => Err(BuildError::invalid(format!("invalid http.filename {text:?}"))),
        _ => Ok(text.to_owned()),
    }
}
