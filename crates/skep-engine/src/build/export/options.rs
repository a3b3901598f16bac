//! What may be said of an export: `--output type=…,NAME=VALUE`. Read before the build begins; what is not done is refused by its name.

use chrono::{DateTime, Utc};
use skep_build::BuildError;
use skep_build::request::{Export, ExportKind};
use skep_types::{ErrorKind, Reference};

use crate::images::built::{Annotations, Scope};
use crate::model::image::LayerCompression;

type Result<T> = std::result::Result<T, BuildError>;

/// An export's options.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub(super) names: Vec<Reference>,
    /// To the registry that the names say.
    pub(super) push: bool,
    /// There by digest only, without a tag.
    pub(super) by_digest: bool,
    /// A registry whose certificate nobody checks, or that has none.
    pub(super) insecure: bool,
    /// Whether the image stays here.
    pub(super) store: bool,
    /// `NAME@DIGEST` too.
    pub(super) canonical: bool,
    /// `PREFIX@DIGEST` for an image without a name.
    pub(super) dangling: Option<String>,
    pub(super) compression: Option<LayerCompression>,
    pub(super) level: Option<i32>,
    /// Also layers that a registry has in another form.
    pub(super) force: bool,
    pub(super) oci_types: Option<bool>,
    /// Attestations as artifacts with a subject.
    pub(super) artifact: bool,
    /// Whether statements that are wanted only inside images make an index of one.
    pub(super) inline: Option<bool>,
    /// No file of a new layer is younger than the epoch.
    pub(super) rewrite: bool,
    pub(super) epoch: Option<DateTime<Utc>>,
    pub(super) annotations: Annotations,
    /// One archive, not a directory of blobs.
    pub(super) archive: bool,
    /// A directory for each platform.
    pub(super) split: Option<bool>,
    /// In front of the names of files with attestations.
    pub(super) prefix: String,
}

impl Options {
    /// Reads the options of an export.
    ///
    /// # Errors
    /// One that there is not, is not for this kind, or has no such value.
    pub(super) fn read(export: &Export) -> Result<Self> {
        let mut options = Options { store: true, archive: true, ..Options::default() };
        for (name, value) in &export.attributes {
            let known = match export.kind {
                ExportKind::Image | ExportKind::Docker | ExportKind::Oci => {
                    options.of_image(export.kind, name, value)?
                }
                ExportKind::Local | ExportKind::Tar => options.of_files(export.kind, name, value)?,
                ExportKind::CacheOnly => false,
            };
            if !known {
                let kind = kind_name(export.kind);
                return Err(BuildError::invalid(format!("the {kind} exporter has no option {name:?}")));
            }
        }
        options.checked()
    }

    fn of_image(&mut self, kind: ExportKind, name: &str, value: &str) -> Result<bool> {
        let is_image = kind == ExportKind::Image;
        match name {
            "name" => self.names = names(value)?,
            "push" if is_image => self.push = switch(name, value)?,
            "push-by-digest" if is_image => self.by_digest = switch(name, value)?,
            "registry.insecure" if is_image => self.insecure = switch(name, value)?,
            "store" if is_image => self.store = switch(name, value)?,
            "name-canonical" if is_image => self.canonical = switch(name, value)?,
            "dangling-name-prefix" if is_image => self.dangling = Some(value.to_owned()).filter(|v| !v.is_empty()),
            // An image that is here is unpacked: there is nothing else to do, and nothing that could be left out.
            "unpack" if is_image => drop(switch(name, value)?),
            "tar" if !is_image => self.archive = switch(name, value)?,
            "compression" => self.compression = compression(value)?,
            "compression-level" => self.level = Some(level(value)?),
            "force-compression" => self.force = switch(name, value)?,
            "oci-mediatypes" => self.oci_types = Some(switch(name, value)?),
            "oci-artifact" => self.artifact = switch(name, value)?,
            "attestation-inline" => self.inline = Some(switch(name, value)?),
            "rewrite-timestamp" => self.rewrite = switch(name, value)?,
            "source-date-epoch" => self.epoch = epoch(value)?,
            "buildinfo" | "buildinfo-attrs" | "prefer-nondist-layers" => refuse_true(name, value)?,
            // Which of its own endpoints a client means; the one that this arrived at.
            "context" => {}
            _ => return self.annotations.read(name, value).map_err(BuildError::invalid),
        }
        Ok(true)
    }

    fn of_files(&mut self, kind: ExportKind, name: &str, value: &str) -> Result<bool> {
        match name {
            "platform-split" => self.split = Some(switch(name, value)?),
            "attestation-prefix" => value.clone_into(&mut self.prefix),
            "source-date-epoch" => self.epoch = epoch(value)?,
            "mode" if kind == ExportKind::Local => match value {
                "copy" => {}
                other => return Err(not_done(format!("mode={other} of the local exporter"))),
            },
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn checked(self) -> Result<Self> {
        let most = match self.compression {
            Some(LayerCompression::Zstd) => 22,
            Some(LayerCompression::Gzip) | None => 9,
            Some(LayerCompression::None) => 0,
        };
        if let Some(level) = self.level.filter(|level| !(0..=most).contains(level)) {
            return Err(BuildError::invalid(format!("compression-level {level} is not one from 0 to {most}")));
        }
        if self.prefix.contains('/') {
            return Err(BuildError::invalid(format!("invalid attestation-prefix {:?}: a file name", self.prefix)));
        }
        if self.push && self.names.is_empty() {
            return Err(BuildError::invalid("tag is needed when pushing to registry"));
        }
        if self.by_digest && self.names.iter().any(|name| name.tag().is_some()) {
            return Err(BuildError::invalid("can't push tagged ref by digest"));
        }
        Ok(self)
    }

    /// Whether something is wanted that only a manifest can hold.
    pub(super) fn needs_manifest(&self) -> bool {
        let named = self.canonical || self.names.is_empty() && self.dangling.is_some();
        named
            || self.compression.is_some()
            || self.level.is_some()
            || self.force
            || self.oci_types.is_some()
            || self.artifact
            || self.inline == Some(true)
            || !self.annotations.is_empty()
    }
}

/// As clients call it.
pub(super) fn kind_name(kind: ExportKind) -> &'static str {
    match kind {
        ExportKind::Image => "image",
        ExportKind::Docker => "docker",
        ExportKind::Oci => "oci",
        ExportKind::Local => "local",
        ExportKind::Tar => "tar",
        ExportKind::CacheOnly => "cacheonly",
    }
}

fn not_done(what: impl std::fmt::Display) -> BuildError {
    BuildError::new(ErrorKind::NotImplemented, format!("{what} is not supported by skep"))
}

fn names(text: &str) -> Result<Vec<Reference>> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    let parse = |name: &str| {
        name.parse::<Reference>().map_err(|error| BuildError::invalid(format!("failed to parse {name}: {error}")))
    };
    names.map(parse).collect()
}

/// A switch in Go's forms; nothing is yes.
pub(super) fn switch(name: &str, value: &str) -> Result<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" | "" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(BuildError::invalid(format!(
            "non-bool value specified for {name}: strconv.ParseBool: parsing {value:?}: invalid syntax"
        ))),
    }
}

fn refuse_true(name: &str, value: &str) -> Result<()> {
    match switch(name, value)? {
        true => Err(not_done(format!("the exporter option {name}"))),
        false => Ok(()),
    }
}

/// A compression by its name.
pub(super) fn compression(value: &str) -> Result<Option<LayerCompression>> {
    match value {
        "" => Ok(None),
        "uncompressed" => Ok(Some(LayerCompression::None)),
        "gzip" => Ok(Some(LayerCompression::Gzip)),
        "zstd" => Ok(Some(LayerCompression::Zstd)),
        "estargz" => Err(not_done("compression=estargz")),
        other => Err(BuildError::invalid(format!("unsupported layer compression type: {other:?}"))),
    }
}

/// A compression's level.
pub(super) fn level(value: &str) -> Result<i32> {
    value.parse().map_err(|_| BuildError::invalid(format!("non-int value {value:?} specified for compression-level")))
}

fn epoch(value: &str) -> Result<Option<DateTime<Utc>>> {
    if value.is_empty() {
        return Ok(None);
    }
    let time = value.parse().ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    time.map(Some).ok_or_else(|| BuildError::invalid(format!("invalid SOURCE_DATE_EPOCH: {value}")))
}

impl Annotations {
    /// Takes `annotation[-SCOPE][[PLATFORM]].KEY`; false if the option is none of these.
    fn read(&mut self, name: &str, value: &str) -> std::result::Result<bool, String> {
        let Some(rest) = name.strip_prefix("annotation") else { return Ok(false) };
        let invalid = || format!("unrecognized annotation type {name:?}");
        let (head, key) = rest.split_once('.').filter(|(_, key)| !key.is_empty()).ok_or_else(invalid)?;
        let (scope, platform) = match head.split_once('[') {
            Some((scope, platform)) => {
                let text = platform.strip_suffix(']').ok_or_else(invalid)?;
                let platform = text.parse().map_err(|error| format!("invalid platform of {name:?}: {error}"))?;
                (scope, Some(platform))
            }
            None => (head, None),
        };
        let scope = match scope {
            "" | "-manifest" => Scope::Manifest,
            "-manifest-descriptor" => Scope::ManifestDescriptor,
            "-index" => Scope::Index,
            "-index-descriptor" => Scope::IndexDescriptor,
            _ => return Err(invalid()),
        };
        if platform.is_some() && matches!(scope, Scope::Index | Scope::IndexDescriptor) {
            return Err(format!("{name:?}: an index has no platform"));
        }
        self.add(scope, platform, key, value);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: ExportKind, pairs: &[(&str, &str)]) -> std::result::Result<Options, String> {
        let attributes = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Options::read(&Export { kind, attributes }).map_err(|error| error.message)
    }

    #[test]
    fn what_is_said_is_read() {
        let pairs = [
            ("name", "a, localhost:5000/b:1"),
            ("push", ""),
            ("compression", "zstd"),
            ("compression-level", "19"),
            ("oci-mediatypes", "t"),
            ("annotation.a", "1"),
        ];
        let options = read(ExportKind::Image, &pairs).expect("options");
        assert_eq!(options.names.len(), 2);
        assert!(options.push && options.store && options.archive && options.oci_types == Some(true));
        assert_eq!((options.compression, options.level), (Some(LayerCompression::Zstd), Some(19)));
        assert!(options.needs_manifest());
        assert!(!read(ExportKind::Image, &[("name", "a"), ("unpack", "true")]).expect("options").needs_manifest());
    }

    #[test]
    fn what_is_not_done_is_refused_by_name() {
        for (kind, name, value, text) in [
            (ExportKind::Image, "compresion", "zstd", "the image exporter has no option \"compresion\""),
            (ExportKind::Oci, "push", "true", "the oci exporter has no option \"push\""),
            (ExportKind::Image, "compression", "estargz", "compression=estargz is not supported by skep"),
            (ExportKind::Image, "compression", "lzma", "unsupported layer compression type: \"lzma\""),
            (ExportKind::Image, "compression-level", "10", "compression-level 10 is not one from 0 to 9"),
            (ExportKind::Image, "compression-level", "x", "non-int value \"x\" specified for compression-level"),
            (ExportKind::Image, "buildinfo", "true", "the exporter option buildinfo is not supported by skep"),
            (ExportKind::Image, "annotation-x.a", "1", "unrecognized annotation type \"annotation-x.a\""),
            (
                ExportKind::Image,
                "annotation-index[linux/amd64].a",
                "1",
                "\"annotation-index[linux/amd64].a\": an index has no platform",
            ),
            (ExportKind::Local, "mode", "delete", "mode=delete of the local exporter is not supported by skep"),
            (ExportKind::Tar, "name", "x", "the tar exporter has no option \"name\""),
            (ExportKind::Local, "attestation-prefix", "a/b", "invalid attestation-prefix \"a/b\": a file name"),
            (ExportKind::Image, "push", "true", "tag is needed when pushing to registry"),
            (
                ExportKind::Image,
                "store",
                "no",
                "non-bool value specified for store: strconv.ParseBool: parsing \"no\": invalid syntax",
            ),
        ] {
            assert_eq!(read(kind, &[(name, value)]).err().as_deref(), Some(text));
        }
        let tagged = [("name", "localhost/x:1"), ("push", "true"), ("push-by-digest", "true")];
        assert_eq!(read(ExportKind::Image, &tagged).err().as_deref(), Some("can't push tagged ref by digest"));
        assert!(read(ExportKind::Image, &[("buildinfo", "false")]).is_ok());
    }
}
