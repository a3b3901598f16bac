//! What is asked of registries without anything coming here: logins, searches, what a reference stands for.

use skep_registry::{Credentials, Descriptor, FetchedManifest, Found, Manifest, Repository};
use skep_types::{Platform, Reference};

use super::config::{ConfigFile, MAX_CONFIG_SIZE};
use super::{Images, Result};

/// What a registry has under a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteImage {
    /// The manifest or index.
    pub descriptor: Descriptor,
    /// What it is made for.
    pub platforms: Vec<Platform>,
}

impl Images {
    /// Asks a registry whether it takes the credentials. Returns the token to be kept instead of the password, if it gave one.
    pub async fn login(&self, server: &str, credentials: Credentials) -> Result<Option<String>> {
        Ok(skep_registry::login(&self.inner.registry, server, credentials).await?)
    }

    /// Searches a registry, or Docker Hub. `limit` 0 stands for the registry's default.
    pub async fn search(&self, term: &str, limit: u32, credentials: &Credentials) -> Result<Vec<Found>> {
        Ok(skep_registry::search(&self.inner.registry, term, limit, credentials).await?)
    }

    /// What a registry has under a reference, without its layers.
    pub async fn remote(&self, reference: &Reference, credentials: Option<&Credentials>) -> Result<RemoteImage> {
        let repository = Repository::connect(&self.inner.registry, reference, credentials).await?;
        let FetchedManifest { digest, media_type, raw, manifest } = repository.manifest(&reference.selector()).await?;
        let platforms = match manifest {
            Manifest::Index(index) => index.manifests.into_iter().filter_map(|m| m.platform).collect(),
            Manifest::Artifact(_) => Vec::new(),
            Manifest::Image(image) => {
                let config = repository.small_blob(&image.config, MAX_CONFIG_SIZE).await?;
                vec![ConfigFile::parse(&config)?.platform()]
            }
        };
        let size = raw.len() as u64;
        let descriptor = Descriptor { media_type, digest, size, platform: None, annotations: Default::default() };
        Ok(RemoteImage { descriptor, platforms })
    }
}
