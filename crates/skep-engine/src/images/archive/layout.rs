//! An OCI layout as one archive, with blobs that were described before: layers are compressed while they are written, and have to come
//! out as it was said.

use std::collections::BTreeMap;
use std::io::{self, Write};

use bytes::Bytes;
use serde_json::{Value, json};
use skep_registry::{Descriptor, media_type};
use skep_store::{ChainId, Layers, Sha256};
use skep_types::{Digest, Reference};

use super::super::Result;
use super::super::built::Coding;
use super::oci::{NAME_ANNOTATION, REF_ANNOTATION};
use super::write::{directory, file, header, json_bytes};

/// When it was made (OCI image spec, `annotations.md`).
const CREATED: &str = "org.opencontainers.image.created";

/// What a layout holds.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Bytes(Bytes),
    /// A layer of the store.
    Layer {
        chain: ChainId,
        coding: Coding,
        size: u64,
    },
}

impl Content {
    /// Bytes.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Layer { size, .. } => *size,
        }
    }

    /// Writes it; fails if it is not what its digest says.
    pub(in crate::images) fn write(&self, digest: &Digest, layers: &Layers, out: impl Write) -> Result<()> {
        let (chain, coding, size) = match self {
            Content::Bytes(bytes) => {
                let mut out = out;
                return Ok(out.write_all(bytes)?);
            }
            Content::Layer { chain, coding, size } => (chain, coding, *size),
        };
        let mut exact = Exact { out, left: size, hasher: Sha256::default() };
        coding.encode(layers.tar_stream(chain)?, &mut exact)?;
        if exact.left > 0 || exact.hasher.finish() != *digest {
            let text = format!("the layer {digest} came out as another one");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text).into());
        }
        Ok(())
    }
}

/// A layout.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layout {
    pub(crate) blobs: BTreeMap<Digest, Content>,
    /// The lines of its index.
    pub(crate) index: Vec<Descriptor>,
    /// Docker's `manifest.json`, in an archive for `docker load`.
    pub(crate) legacy: Option<Value>,
}

/// The lines of an index that lead to `top`: one for each name, or one without.
pub(crate) fn lines(top: &Descriptor, names: &[Reference], created: &str) -> Vec<Descriptor> {
    let line = |name: Option<&Reference>| {
        let mut line = top.clone();
        line.annotations.insert(CREATED.to_owned(), created.to_owned());
        if let Some(name) = name.map(Reference::or_latest) {
            line.annotations.insert(NAME_ANNOTATION.to_owned(), name.to_string());
            line.annotations.insert(REF_ANNOTATION.to_owned(), name.tag().unwrap_or_default().to_owned());
        }
        line
    };
    match names {
        [] => vec![line(None)],
        names => names.iter().map(|name| line(Some(name))).collect(),
    }
}

/// The entry of `manifest.json`.
pub(crate) fn legacy(config: &Digest, layers: &[Descriptor], names: &[Reference]) -> Value {
    let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    let names: Vec<String> = names.iter().map(|name| name.or_latest().familiar()).collect();
    json!([{
        "Config": path(config),
        "RepoTags": if names.is_empty() { None } else { Some(names) },
        "Layers": layers.iter().map(|layer| path(&layer.digest)).collect::<Vec<_>>(),
    }])
}

/// Writes the archive.
pub(in crate::images) fn write(layout: &Layout, layers: &Layers, out: impl Write) -> Result<()> {
    let mut tar = tar::Builder::new(out);
    directory(&mut tar, "blobs/")?;
    directory(&mut tar, "blobs/sha256/")?;
    for (digest, content) in &layout.blobs {
        let size = content.size();
        let mut header = header(tar::EntryType::Regular, 0o644, size);
        if size >= 8 << 30 {
            // GNU's header holds larger sizes.
            header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(size);
        }
        header.set_path(format!("blobs/sha256/{}", digest.hex()))?;
        header.set_cksum();
        let out = tar.get_mut();
        out.write_all(header.as_bytes())?;
        content.write(digest, layers, &mut *out)?;
        let rest = usize::try_from(size % 512).unwrap_or_default();
        out.write_all(&[0; 512][..(512 - rest) % 512])?;
    }
    let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": layout.index});
    file(&mut tar, "index.json", &json_bytes(&index)?)?;
    if let Some(legacy) = &layout.legacy {
        file(&mut tar, "manifest.json", &json_bytes(legacy)?)?;
    }
    file(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    tar.into_inner()?.flush()?;
    Ok(())
}

/// Takes no more than was announced.
struct Exact<W> {
    out: W,
    left: u64,
    hasher: Sha256,
}

impl<W: Write> Write for Exact<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the layer came out longer than before"));
        }
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.left -= count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
