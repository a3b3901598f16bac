//! What becomes of a build's result: an image here, an archive or files for the client, an image in a registry.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use futures_util::StreamExt;
use skep_build::request::{Export, ExportKind};
use skep_build::worker::Stack;
use skep_build::{BuildError, Built, BuiltImage, Job};
use skep_registry::digest_of;
use skep_types::{ErrorKind, Reference};
use tokio::io::AsyncWriteExt;
use tokio_util::io::SyncIoBridge;

use super::error::{blocking, cancelled, engine as engine_error, failed, store};
use super::{empty_directory, files, sources, tree};
use crate::engine::Inner;
use crate::model::image::PushImage;

/// Bytes that wait between making an archive and sending it.
const PIPE: usize = 256 * 1024;

/// Does what is asked for with a result. Returns what `--metadata-file` has.
pub(super) async fn export(
    engine: &Arc<Inner>,
    built: &Built,
    exports: &[Export],
    job: &Job,
) -> Result<BTreeMap<String, String>, BuildError> {
    let mut metadata = BTreeMap::new();
    for (number, export) in exports.iter().enumerate() {
        let exporting = Exporting { engine, built, export, number, job };
        let done = exporting.run();
        metadata.extend(tokio::select! {
            done = done => done?,
            () = job.cancel.cancelled() => return Err(cancelled()),
        });
    }
    Ok(metadata)
}

struct Exporting<'a> {
    engine: &'a Arc<Inner>,
    built: &'a Built,
    export: &'a Export,
    number: usize,
    job: &'a Job,
}

impl Exporting<'_> {
    async fn run(&self) -> Result<BTreeMap<String, String>, BuildError> {
        match self.export.kind {
            ExportKind::Image => self.image().await,
            ExportKind::Docker | ExportKind::Oci => self.archive().await,
            ExportKind::Local => self.local().await,
            ExportKind::Tar => self.tar().await,
            ExportKind::CacheOnly => Ok(BTreeMap::new()),
        }
    }

    fn configs(&self) -> Vec<Vec<u8>> {
        self.built.images.iter().map(|image| image.config.clone()).collect()
    }

    fn names(&self) -> Result<Vec<Reference>, BuildError> {
        let text = self.export.attributes.get("name").map(String::as_str).unwrap_or_default();
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        let parse = |name: &str| {
            let parsed = name.parse::<Reference>().map(|reference| reference.or_latest());
            parsed.map_err(|error| BuildError::invalid(format!("failed to parse {name}: {error}")))
        };
        names.map(parse).collect()
    }

    /// Digests and names, as clients expect them.
    fn metadata(&self, names: &[Reference]) -> BTreeMap<String, String> {
        let mut metadata = BTreeMap::new();
        if let Some(first) = self.built.images.first() {
            let digest = digest_of(&first.config).to_string();
            metadata.insert("containerimage.config.digest".to_owned(), digest.clone());
            metadata.insert("containerimage.digest".to_owned(), digest);
        }
        if !names.is_empty() {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            metadata.insert("image.name".to_owned(), names.join(","));
        }
        metadata
    }

    async fn image(&self) -> Result<BTreeMap<String, String>, BuildError> {
        let names = self.names()?;
        let intermediate = self.built.images.iter().flat_map(|image| &image.intermediate);
        let parents = intermediate.map(|image| image.config.clone()).collect();
        let stored = self.engine.images.store_built(self.configs(), &names, parents).await;
        stored.map_err(|error| engine_error(error.into()))?;
        if self.export.attributes.get("push").is_some_and(|value| value == "true") {
            for name in &names {
                self.push(name).await?;
            }
        }
        Ok(self.metadata(&names))
    }

    async fn push(&self, name: &Reference) -> Result<(), BuildError> {
        let login = sources::image::login(&*self.job.services, name).await?;
        let (progress, mut told) = tokio::sync::mpsc::channel(16);
        let options = PushImage { platform: None, compression: None };
        let pushing = self.engine.images.push(name, &options, login.as_ref(), progress);
        let listening = async { while told.recv().await.is_some() {} };
        let (pushed, ()) = tokio::join!(pushing, listening);
        pushed.map_err(|error| {
            let error = engine_error(error.into());
            BuildError { message: format!("failed to push {name}: {}", error.message), ..error }
        })
    }

    async fn archive(&self) -> Result<BTreeMap<String, String>, BuildError> {
        let names = self.names()?;
        let tags: BTreeSet<Reference> = names.iter().cloned().collect();
        let stream = self.engine.images.write_built(self.configs(), tags).await;
        let mut stream = stream.map_err(|error| engine_error(error.into()))?;
        let mut out = self.job.services.send_file(self.number, None).await?;
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(|error| engine_error(error.into()))?;
            out.write_all(&piece).await.map_err(failed("send the archive"))?;
        }
        out.shutdown().await.map_err(failed("send the archive"))?;
        Ok(self.metadata(&names))
    }

    /// The files of all platforms, each below a directory of its own if there are several.
    async fn local(&self) -> Result<BTreeMap<String, String>, BuildError> {
        let split = self.export.attributes.get("platform-split").is_none_or(|value| value == "true");
        let several = self.built.images.len() > 1 && split;
        let wanted: Vec<(Stack, Option<String>)> =
            self.built.images.iter().map(|image| (image.stack, several.then(|| directory_name(image)))).collect();
        let engine = Arc::clone(self.engine);
        let staged = blocking(move || {
            let upper = engine.storage.store().layers().stage_upper(None).map_err(store)?;
            for (stack, name) in wanted {
                let target = name.map_or_else(|| upper.path(), |name| upper.path().join(name));
                std::fs::create_dir_all(&target).map_err(failed("make a directory for the files"))?;
                let directories = tree::directories(engine.storage.store().layers(), stack)?;
                let root = tree::merged(&directories, &empty_directory(&engine)?)?;
                files::copy_directory(&root, Path::new("/"), &target)?;
            }
            Ok(upper)
        })
        .await?;
        self.job.services.send_tree(self.number, &staged.path()).await?;
        Ok(BTreeMap::new())
    }

    async fn tar(&self) -> Result<BTreeMap<String, String>, BuildError> {
        let [image] = self.built.images.as_slice() else {
            return Err(BuildError::new(ErrorKind::NotImplemented, "a tar export holds the files of one platform"));
        };
        let (engine, stack) = (Arc::clone(self.engine), image.stack);
        let (reader, writer) = tokio::io::duplex(PIPE);
        let mut writer = SyncIoBridge::new(writer);
        let packing = blocking(move || {
            let directories = tree::directories(engine.storage.store().layers(), stack)?;
            let root = tree::merged(&directories, &empty_directory(&engine)?)?;
            let mut buffered = std::io::BufWriter::with_capacity(PIPE / 4, &mut writer);
            let written = skep_fs::pack::write_tree(&root, Path::new("."), OsStr::new(""), &mut buffered);
            let written = written.and_then(|()| buffered.flush());
            drop(buffered);
            written.and_then(|()| writer.shutdown()).map_err(failed("pack the files"))
        });
        let mut out = self.job.services.send_file(self.number, None).await?;
        let sending = async {
            let mut reader = reader;
            tokio::io::copy(&mut reader, &mut out).await?;
            out.shutdown().await
        };
        let (packed, sent) = tokio::join!(packing, sending);
        packed?;
        sent.map_err(failed("send the archive"))?;
        Ok(BTreeMap::new())
    }
}

/// `linux_amd64`, `linux_arm_v7`.
fn directory_name(image: &BuiltImage) -> String {
    image.platform.to_string().replace('/', "_")
}
