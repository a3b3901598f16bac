//! Archives of images: what `docker save`, `skopeo`, `podman` and `buildx` write.
//!
//! | module | what it owns |
//! |---|---|
//! | [`tarball`] | the tar file as a directory that is never unpacked |
//! | [`docker`] | `manifest.json` |
//! | [`oci`] | `oci-layout` and `index.json` |
//! | [`write`] | both at once, as Docker writes them |
//!
//! Reading gives [`ArchivedImage`]s: configurations whose digests were checked, and where the layers' bytes are.

mod docker;
mod oci;
mod tarball;
pub(super) mod write;

use std::fs::File;
use std::io::{self, Read, Seek};

use skep_fs::apply::Limits;
use skep_fs::decode::Bounded;
use skep_policy::Source;
use skep_types::{Digest, Platform, Reference};

use self::tarball::Tarball;
use super::config::ConfigFile;
use super::{ImageError, Result};

pub(super) use self::tarball::Slice;

/// The most images that an archive may hold.
const MAX_IMAGES: usize = 10_000;

/// One image of an archive.
#[derive(Debug)]
pub(super) struct ArchivedImage {
    /// The configuration, as it is in the archive. Its digest is the image's id.
    pub(super) config: Vec<u8>,
    /// The configuration, read.
    pub(super) parsed: ConfigFile,
    /// The layers' archives, base first, compressed or not; as many as the configuration has.
    pub(super) layers: Vec<Slice>,
    /// The tags it is to get.
    pub(super) tags: Vec<Reference>,
    /// Its manifest, where the archive has one.
    pub(super) manifest: Option<(Digest, Vec<u8>)>,
}

impl ArchivedImage {
    fn new(config: Vec<u8>, layers: Vec<Slice>, tags: Vec<Reference>) -> Result<Self> {
        let parsed = ConfigFile::parse(&config)?;
        let (wanted, found) = (parsed.rootfs.diff_ids.len(), layers.len());
        if wanted != found {
            return Err(ImageError::Invalid(format!(
                "invalid archive: layers do not match: the configuration has {wanted}, the manifest {found}"
            )));
        }
        Ok(ArchivedImage { config, parsed, layers, tags, manifest: None })
    }
}

/// Writes a stream, decompressed, into `file`.
pub(super) fn spool(source: impl Read, mut file: File, limits: Limits) -> Result<File> {
    io::copy(&mut Bounded::new(source, limits)?, &mut file)?;
    file.rewind()?;
    Ok(file)
}

/// The images in an archive, which is not compressed. Of images for several platforms the one that suits `platform`, or the host.
/// `admit` is asked, before anything of an image is read, whether an archive of this kind may come in.
pub(super) fn read(
    file: File,
    platform: Option<&Platform>,
    admit: &dyn Fn(Source<'_>) -> Result<()>,
) -> Result<Vec<ArchivedImage>> {
    let tarball = Tarball::index(file)?;
    if tarball.find("manifest.json").is_some() {
        admit(Source::DockerArchive)?;
        docker::read(&tarball)
    } else if tarball.find("index.json").is_some() {
        admit(Source::OciArchive)?;
        oci::read(&tarball, platform)
    } else {
        Err(ImageError::Invalid("invalid archive: does not contain a manifest.json or an index.json".to_owned()))
    }
}
