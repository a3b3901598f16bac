//! Whether what is stored is what it should be: blobs by their digests, layers by their diff ids, names in the data root that
//! nothing knows. Reads everything and changes nothing; what is to be done about damage is the engine's to decide.

use std::io::{self, Read};
use std::path::PathBuf;

use skep_types::Digest;

use crate::Store;
use crate::blobs::Blobs;
use crate::chain::{ChainId, digest_context, finished};
use crate::error::StoreError;
use crate::layers::Layers;
use crate::trash::children;

/// Bytes read at a time.
const PIECE: usize = 128 * 1024;

/// What a stored thing turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As it was when it was stored.
    Good,
    /// Not there, or not in full.
    Missing(String),
    /// There, but with another content.
    Damaged(String),
}

/// A file or directory of the data root that nothing knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stray {
    /// Among the layers.
    Layer(PathBuf),
    /// Among the blobs, under a name that is no digest.
    Blob(PathBuf),
}

impl Stray {
    /// Where it is.
    pub fn path(&self) -> &PathBuf {
        let (Stray::Layer(path) | Stray::Blob(path)) = self;
        path
    }
}

impl Store {
    /// All strays at this moment. Blobs that no image needs are none: only the engine knows those.
    pub fn strays(&self) -> Result<Vec<Stray>, StoreError> {
        let mut found: Vec<Stray> = self.layers().strays()?.into_iter().map(Stray::Layer).collect();
        for path in children(self.blobs().dir())? {
            let name = path.file_name().and_then(|name| name.to_str());
            if name.is_none_or(|name| Digest::from_hex(name).is_err()) {
                found.push(Stray::Blob(path));
            }
        }
        Ok(found)
    }
}

impl Blobs {
    /// Reads a blob and compares its digest.
    pub fn verify(&self, digest: &Digest) -> Verdict {
        let hashed = self.open(digest).and_then(|mut file| {
            let mut context = digest_context();
            read_through(&mut file, |piece| context.update(piece))
                .map_err(|source| StoreError::io("read", self.dir(), source))?;
            Ok(finished(context))
        });
        match hashed {
            Ok(got) if got == *digest => Verdict::Good,
            Ok(got) => Verdict::Damaged(format!("its content has the digest {got}")),
            Err(StoreError::NoBlob(_)) => Verdict::Missing("the file is missing".to_owned()),
            Err(error) => Verdict::Damaged(error.to_string()),
        }
    }
}

impl Layers {
    /// Makes a layer's archive again from its files and compares the digest. Hold a lease on the layer: one that is
    /// removed meanwhile looks damaged.
    pub fn verify(&self, chain: &ChainId) -> Result<Verdict, StoreError> {
        let info = self.get(chain)?.ok_or(StoreError::NoLayer(*chain))?;
        if !self.fs_dir(&info).is_dir() {
            return Ok(Verdict::Missing("its directory is missing".to_owned()));
        }
        let mut stream = match self.tar_stream(chain) {
            Ok(stream) => stream,
            Err(StoreError::Db(error)) => return Err(error.into()),
            Err(error) => return Ok(Verdict::Damaged(error.to_string())),
        };
        Ok(match read_through(&mut stream, |_| {}) {
            Ok(()) => Verdict::Good,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Verdict::Missing(format!("a file of it is missing: {error}"))
            }
            Err(error) => Verdict::Damaged(error.to_string()),
        })
    }
}

fn read_through(from: &mut impl Read, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            count => each(&buffer[..count]),
        }
    }
}
