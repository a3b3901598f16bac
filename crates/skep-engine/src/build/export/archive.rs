//! OCI layouts and archives of `docker load`: one file, or the blobs themselves.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use skep_build::BuildError;
use skep_build::request::ExportKind;
use skep_registry::{Descriptor, digest_of};
use skep_store::ChainId;
use skep_types::Digest;
use tokio::io::AsyncWriteExt;

use super::super::error::{engine as engine_error, failed};
use super::{Exported, Exporting, Images};
use crate::images::built::{Coding, Content, Documents, Layout, Made, legacy, lines};

/// The client's store that a layout goes to.
const STORE: &str = "export";

impl Exporting<'_> {
    pub(super) async fn archive(&self) -> Result<Exported, BuildError> {
        let options = self.options;
        let Images { made, _guards } = self.images(options.inline == Some(true)).await?;
        let coding = self.coding();
        let describe = async {
            let mut all = Vec::with_capacity(made.len());
            for one in &made {
                let layers = self.engine.images.describe_layers(&one.diff_ids, coding).await;
                all.push(layers.map_err(|error| engine_error(error.into()))?);
            }
            Ok(all)
        };
        let layers = self.parts.during("exporting layers", describe).await?;
        let parts: Vec<_> = made.iter().zip(&layers).map(|(made, layers)| made.part(layers.clone())).collect();
        let documents = Documents::write(&parts, &self.terms()).map_err(|error| engine_error(error.into()))?;
        self.tell_documents(&documents, &made).await;
        let top = documents.top.descriptor.clone();
        let layout = Layout {
            blobs: blobs(&documents, &made, &layers, coding),
            index: lines(&top, &options.names, &self.created()),
            legacy: made
                .first()
                .zip(layers.first())
                .filter(|_| self.kind == ExportKind::Docker)
                .map(|(made, layers)| legacy(&digest_of(&made.config), layers, &options.names)),
        };
        // As it stands in the index, without names.
        let shown = lines(&top, &[], &self.created());
        match options.archive {
            true => self.parts.during("sending tarball", self.send(layout)).await?,
            false => self.parts.during("sending layout", self.send_blobs(layout)).await?,
        }
        Ok(Exported::with(self.metadata(&made, shown.first())?, &documents))
    }

    async fn send(&self, layout: Layout) -> Result<(), BuildError> {
        let mut stream = self.engine.images.write_layout(layout);
        let mut out = self.job.services.send_file(self.number, None).await?;
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(|error| engine_error(error.into()))?;
            out.write_all(&piece).await.map_err(failed("send the archive"))?;
        }
        out.shutdown().await.map_err(failed("send the archive"))
    }

    /// The blobs; the client writes the index.
    async fn send_blobs(&self, layout: Layout) -> Result<(), BuildError> {
        for (digest, content) in layout.blobs {
            let size = content.size();
            let from = self.engine.images.read_content(digest, content);
            self.job.services.put_blob(STORE, &digest, size, from).await?;
        }
        Ok(())
    }
}

/// All blobs of a result.
fn blobs(
    documents: &Documents,
    made: &[Made],
    layers: &[Vec<Descriptor>],
    coding: Coding,
) -> BTreeMap<Digest, Content> {
    let bytes = documents.all().into_iter().map(|(digest, bytes)| (digest, Content::Bytes(bytes)));
    let mut blobs: BTreeMap<Digest, Content> = bytes.collect();
    for (made, layers) in made.iter().zip(layers) {
        blobs.insert(digest_of(&made.config), Content::Bytes(made.config.clone().into()));
        for (chain, layer) in ChainId::chain(&made.diff_ids).into_iter().zip(layers) {
            blobs.insert(layer.digest, Content::Layer { chain, coding, size: layer.size });
        }
    }
    blobs
}
