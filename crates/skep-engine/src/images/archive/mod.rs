//! Archives of images: what `docker save`, `skopeo`, `podman` and `buildx` write.
//!
//! | module | what it owns |
//! |---|---|
//! | [`tarball`] | the tar file as a directory that is never unpacked |
//! | [`docker`] | `manifest.json` |
//! | [`oci`] | `oci-layout` and `index.json` |
//! | [`artifacts`] | what is no image in a layout |
//! | [`write`] | both at once, as Docker writes them |
//!
//! Reading gives [`Archived`]: images, that is, configurations whose digests were checked and where the layers' bytes are, and the names
//! that lead to them. An archive of Docker 25 and later has both forms at once: the layout knows all platforms, `manifest.json` may
//! know more names.

mod artifacts;
mod docker;
pub(super) mod layout;
mod oci;
mod tarball;
pub(super) mod write;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek};

use skep_fs::apply::Limits;
use skep_fs::decode::Bounded;
use skep_policy::Source;
use skep_types::{Digest, Platform, Reference};

use self::tarball::Tarball;
use super::config::ConfigFile;
use super::target::Target;
use super::{ImageError, Result, digest_of};
use crate::model::image::ImageId;

pub(super) use self::artifacts::ArchivedArtifact;
pub(super) use self::tarball::Slice;

/// The most images that an archive may hold.
const MAX_IMAGES: usize = 10_000;

/// What an archive holds.
#[derive(Debug, Default)]
pub(super) struct Archived {
    /// Its images, each once.
    pub(super) images: Vec<ArchivedImage>,
    /// What is no image.
    pub(super) artifacts: Vec<ArchivedArtifact>,
    /// What is to be named, in order; an image without a name has an entry, too.
    pub(super) entries: Vec<ArchivedEntry>,
}

/// One image of an archive.
#[derive(Debug)]
pub(super) struct ArchivedImage {
    /// Digest of the configuration.
    pub(super) id: ImageId,
    /// The configuration, as it is in the archive.
    pub(super) config: Vec<u8>,
    /// The configuration, read.
    pub(super) parsed: ConfigFile,
    /// The layers' archives, base first, compressed or not; as many as the configuration has.
    pub(super) layers: Vec<Slice>,
    /// Manifests and indexes that lead to it.
    pub(super) documents: BTreeMap<Digest, Vec<u8>>,
}

/// What a name stands for, or would if it had one.
#[derive(Debug)]
pub(super) struct ArchivedEntry {
    /// The tag to put on it.
    pub(super) tag: Option<Reference>,
    /// The document and the images.
    pub(super) target: Target,
}

impl Archived {
    /// Adds an image, or what is new of one that is here already: its documents.
    fn add(&mut self, image: ArchivedImage) -> Result<()> {
        let full = self.images.len() >= MAX_IMAGES;
        match self.images.iter_mut().find(|known| known.id == image.id) {
            Some(known) => known.documents.extend(image.documents),
            None if full => {
                return Err(ImageError::Invalid(format!("invalid archive: more than {MAX_IMAGES} images")));
            }
            None => self.images.push(image),
        }
        Ok(())
    }

    /// Adds what `manifest.json` knows beside the layout: names for the layout's images, and images that are not in the layout.
    fn extend(&mut self, other: Archived) -> Result<()> {
        for entry in other.entries {
            let known = |id: ImageId| self.entries.iter().any(|entry| entry.target.has(&id));
            let has_tag = |tag: &Reference| self.entries.iter().any(|entry| entry.tag.as_ref() == Some(tag));
            match &entry.tag {
                Some(tag) if has_tag(tag) => {}
                None if entry.target.first().is_some_and(known) => {}
                _ => self.entries.push(entry),
            }
        }
        other.images.into_iter().try_for_each(|image| self.add(image))
    }
}

impl ArchivedImage {
    fn new(config: Vec<u8>, layers: Vec<Slice>) -> Result<Self> {
        let parsed = ConfigFile::parse(&config)?;
        let (wanted, found) = (parsed.rootfs.diff_ids.len(), layers.len());
        if wanted != found {
            return Err(ImageError::Invalid(format!(
                "invalid archive: layers do not match: the configuration has {wanted}, the manifest {found}"
            )));
        }
        Ok(ArchivedImage { id: digest_of(&config), config, parsed, layers, documents: BTreeMap::new() })
    }
}

/// Writes a stream, decompressed, into `file`.
pub(super) fn spool(source: impl Read, mut file: File, limits: Limits) -> Result<File> {
    io::copy(&mut Bounded::new(source, limits)?, &mut file)?;
    file.rewind()?;
    Ok(file)
}

/// The images in an archive, which is not compressed; of those for several platforms only the one for `platform`, if there is one.
/// `admit` is asked, before anything of an image is read, whether an archive of this kind may come in.
pub(super) fn read(
    file: File,
    platform: Option<&Platform>,
    admit: &dyn Fn(Source<'_>) -> Result<()>,
) -> Result<Archived> {
    let tarball = Tarball::index(file)?;
    let is_docker = tarball.find("manifest.json").is_some();
    let is_layout = tarball.find("index.json").is_some() && (tarball.find("oci-layout").is_some() || !is_docker);
    // An archive that is both is read as what may come in of it.
    let (docker, layout) = match (is_docker, is_layout) {
        (true, true) => match (admit(Source::DockerArchive), admit(Source::OciArchive)) {
            (Err(error), Err(_)) => return Err(error),
            (docker, layout) => (docker.is_ok(), layout.is_ok()),
        },
        (true, false) => (admit(Source::DockerArchive).map(|()| true)?, false),
        (false, true) => (false, admit(Source::OciArchive).map(|()| true)?),
        (false, false) => {
            let text = "invalid archive: does not contain a manifest.json or an index.json";
            return Err(ImageError::Invalid(text.to_owned()));
        }
    };
    let mut archived = Archived::default();
    if layout {
        archived = oci::read(&tarball, platform)?;
    }
    if docker {
        archived.extend(docker::read(&tarball, platform)?)?;
    }
    Ok(archived)
}
