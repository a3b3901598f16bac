//! Images that stay here, and that go to registries.

use skep_build::BuildError;
use skep_types::Reference;

use super::super::error::engine as engine_error;
use super::super::sources;
use super::{Exported, Exporting, Images};
use crate::images::built::{Coding, Documents, Made, PushBuilt, Storing};
use crate::model::image::LayerCompression;

impl Exporting<'_> {
    pub(super) async fn image(&self) -> Result<Exported, BuildError> {
        let options = self.options;
        let inline = options.push || options.inline == Some(true);
        let Images { made, _guards } = self.images(inline).await?;
        let mut documents = None;
        // What goes to a registry gets its documents from there: they depend on which blobs it has.
        if !options.push && (options.needs_manifest() || made.iter().any(|made| !made.said.is_empty())) {
            documents = Some(self.documents(&made).await?);
        } else {
            self.parts.done("exporting layers").await;
        }
        if options.store {
            self.store(&made, documents.as_ref()).await?;
        }
        if options.push {
            documents = Some(self.push(&made).await?);
        }
        let metadata = self.metadata(&made, documents.as_ref().map(|all| &all.top.descriptor))?;
        Ok(match documents {
            Some(documents) => Exported::with(metadata, &documents),
            None => Exported::of(metadata),
        })
    }

    /// How layers are written if nobody says.
    pub(super) fn coding(&self) -> Coding {
        let compression = self.options.compression.unwrap_or(LayerCompression::Gzip);
        Coding { compression, level: self.options.level }
    }

    /// Manifests of images that stay here.
    async fn documents(&self, made: &[Made]) -> Result<Documents, BuildError> {
        let describe = async {
            let mut parts = Vec::with_capacity(made.len());
            for one in made {
                let layers = self.engine.images.describe_layers(&one.diff_ids, self.coding()).await;
                parts.push(one.part(layers.map_err(|error| engine_error(error.into()))?));
            }
            Ok(parts)
        };
        let parts = self.parts.during("exporting layers", describe).await?;
        let documents = Documents::write(&parts, &self.terms()).map_err(|error| engine_error(error.into()))?;
        self.tell_documents(&documents, made).await;
        Ok(documents)
    }

    async fn store(&self, made: &[Made], documents: Option<&Documents>) -> Result<(), BuildError> {
        let options = self.options;
        let mut names = options.names.clone();
        if let (true, Some(prefix), Some(documents)) = (names.is_empty(), &options.dangling, documents) {
            let name = prefix.parse::<Reference>();
            let name = name.map_err(|error| BuildError::invalid(format!("failed to parse {prefix}: {error}")))?;
            names.push(name.with_digest(documents.top.descriptor.digest));
        }
        let intermediate = self.built.images.iter().flat_map(|image| &image.intermediate);
        let parents = intermediate.map(|image| image.config.clone()).collect();
        let storing = Storing { names: &names, parents, documents, canonical: options.canonical };
        let stored = self.engine.images.store_built(made, storing).await;
        let ids = stored.map_err(|error| engine_error(error.into()))?;
        if let (None, Some(first)) = (documents, ids.first()) {
            self.parts.done(&format!("writing image {first}")).await;
        }
        for name in &names {
            self.parts.done(&format!("naming to {name}")).await;
        }
        Ok(())
    }

    /// Pushes under all names; what stays here then has the manifests that are there.
    async fn push(&self, made: &[Made]) -> Result<Documents, BuildError> {
        let (options, mut done) = (self.options, None::<Documents>);
        let terms = self.terms();
        let coding = options.compression.is_some() || options.level.is_some();
        for name in &options.names {
            let push = PushBuilt {
                name,
                images: made,
                terms: &terms,
                coding: coding.then(|| self.coding()),
                force: options.force,
                by_digest: options.by_digest,
                insecure: options.insecure,
                before: done.as_ref(),
            };
            let documents = self.parts.during("pushing layers", self.push_one(&push)).await?;
            let what = format!("{}@{}", name.or_latest(), documents.top.descriptor.digest);
            self.parts.done(&format!("pushing manifest for {what}")).await;
            if options.store {
                let names = std::slice::from_ref(name);
                let documents = Some(&documents);
                let storing = Storing { names, parents: Vec::new(), documents, canonical: true };
                let stored = self.engine.images.store_built(made, storing).await;
                stored.map_err(|error| engine_error(error.into()))?;
            }
            done.get_or_insert(documents);
        }
        done.ok_or_else(|| BuildError::invalid("tag is needed when pushing to registry"))
    }

    async fn push_one(&self, push: &PushBuilt<'_>) -> Result<Documents, BuildError> {
        let login = sources::image::login(&*self.job.services, push.name).await?;
        let (progress, mut told) = tokio::sync::mpsc::channel(16);
        let pushing = self.engine.images.push_built(push, login.as_ref(), progress);
        let listening = async { while told.recv().await.is_some() {} };
        let (pushed, ()) = tokio::join!(pushing, listening);
        pushed.map_err(|error| {
            let error = engine_error(error.into());
            BuildError { message: format!("failed to push {}: {}", push.name, error.message), ..error }
        })
    }
}
