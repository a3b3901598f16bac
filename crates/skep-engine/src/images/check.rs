//! Whether all that images and containers need of the store is there and undamaged, and whether there is more than that.
//!
//! It goes on beside everything else: layers are leased while they are read, and what looks unneeded is looked for while nothing
//! changes the catalog.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use skep_store::{ChainId, Verdict};
use skep_types::Digest;

use super::catalog::Catalog;
use super::{Images, Inner, Result, records};
use crate::model::check::{Checked, Finding, Object};

/// A container and the topmost layer that it needs.
pub(crate) type ContainerTop = (String, ChainId);

/// Who needs what, by name.
#[derive(Default)]
struct Needed {
    blobs: BTreeMap<Digest, Vec<String>>,
    layers: BTreeMap<ChainId, Vec<String>>,
}

impl Images {
    /// Checks. Blocks, and reads every byte.
    pub(crate) fn check(&self, containers: &[ContainerTop], checked: &mut Checked) -> Result<Vec<Finding>> {
        let inner = &self.inner;
        let mut findings = inner.unneeded()?;
        let catalog = inner.catalog();
        let needed = Needed::by(inner, &catalog, containers)?;
        checked.images = catalog.len();
        for (digest, users) in needed.blobs {
            checked.blobs += 1;
            if let Verdict::Missing(damage) | Verdict::Damaged(damage) = inner.store.blobs().verify(&digest)
                && inner.catalog().blobs_in_use().contains(&digest)
            {
                findings.push(Finding::new(Object::Blob(digest), damage, users));
            }
        }
        findings.extend(inner.check_layers(needed.layers, checked)?);
        Ok(findings)
    }
}

impl Inner {
    /// What nothing needs or knows.
    fn unneeded(&self) -> Result<Vec<Finding>> {
        // Blobs become needed in the commit that stores them; no commit goes on now.
        let _nobody_changes = self.writer.blocking_lock();
        let catalog = self.catalog();
        let needed = catalog.blobs_in_use();
        let blobs = self.store.blobs().list()?.into_iter().filter(|digest| !needed.contains(digest));
        let layers = self.store.layers().unused(&self.tops(&catalog)?)?;
        let strays = self.store.strays()?;
        let new = |object, damage: &str| Finding::new(object, damage, Vec::new());
        let mut findings: Vec<Finding> =
            blobs.map(|digest| new(Object::UnneededBlob(digest), "no image needs it")).collect();
        let lost = records::lost_references(self.store.db(), &catalog)?;
        findings.extend(lost.into_iter().map(|text| new(Object::Reference(text), "it leads to no image")));
        findings.extend(
            layers
                .into_iter()
                .map(|(chain, _)| new(Object::UnneededLayer(chain), "no image and no container needs it")),
        );
        findings.extend(
            strays
                .into_iter()
                .map(|stray| new(Object::Stray(stray.path().clone()), "it is in no record of the database")),
        );
        Ok(findings)
    }

    fn check_layers(
        self: &Arc<Self>,
        needed: BTreeMap<ChainId, Vec<String>>,
        checked: &mut Checked,
    ) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        let layers = self.store.layers();
        for (chain, users) in needed {
            checked.layers += 1;
            let lease = layers.lease();
            lease.hold(&chain);
            let damage = match layers.get(&chain)? {
                None => "it is in no record of the database".to_owned(),
                Some(_) => match layers.verify(&chain)? {
                    Verdict::Good => continue,
                    Verdict::Missing(damage) | Verdict::Damaged(damage) => damage,
                },
            };
            if self.is_needed(&chain)? {
                findings.push(Finding::new(Object::Layer(chain), damage, users));
            }
        }
        // What came to be unneeded while it was held goes now.
        self.collect_layers()?;
        Ok(findings)
    }

    /// Whether an image or a container still needs a layer.
    fn is_needed(&self, chain: &ChainId) -> Result<bool> {
        let catalog = self.catalog();
        Ok(catalog.layers().any(|(_, chains)| chains.contains(chain)) || self.below_containers()?.contains(chain))
    }

    fn below_containers(&self) -> Result<BTreeSet<ChainId>> {
        let mut all = BTreeSet::new();
        for top in (self.container_layers)()? {
            let mut next = Some(top);
            while let Some(chain) = next.filter(|chain| all.insert(*chain)) {
                next = self.store.layers().get(&chain)?.and_then(|info| info.parent);
            }
        }
        Ok(all)
    }
}

impl Needed {
    fn by(inner: &Inner, catalog: &Catalog, containers: &[ContainerTop]) -> Result<Self> {
        let mut needed = Needed::default();
        for digest in catalog.blobs_in_use() {
            needed.blobs.insert(digest, catalog.users_of_blob(&digest));
        }
        for (name, chains) in catalog.layers() {
            for chain in chains {
                needed.layers.entry(*chain).or_default().push(name.clone());
            }
        }
        for (container, top) in containers {
            let mut next = Some(*top);
            while let Some(chain) = next {
                needed.layers.entry(chain).or_default().push(format!("container {container}"));
                next = inner.store.layers().get(&chain)?.and_then(|info| info.parent);
            }
        }
        Ok(needed)
    }
}

impl Catalog {
    /// A name for each image, removed ones that containers use too, with its layers.
    fn layers(&self) -> impl Iterator<Item = (String, &Vec<ChainId>)> {
        let all = self.images.iter().chain(&self.detached);
        all.map(|(id, record)| (self.name_for(id), &record.chain_ids))
    }

    /// The images that need a blob, themselves or for the name that leads to them.
    fn users_of_blob(&self, digest: &Digest) -> Vec<String> {
        let all = self.images.iter().chain(&self.detached);
        let own = all.filter(|(id, record)| *id == digest || record.documents().any(|own| own == *digest));
        let mut names: Vec<String> = own.map(|(id, _)| self.name_for(id)).collect();
        let named = self.references.iter().filter(|(_, target)| target.blobs().any(|blob| blob == *digest));
        names.extend(named.map(|(reference, _)| reference.familiar()));
        names.sort();
        names.dedup();
        names
    }

    /// Its first tag, or else its short id.
    fn name_for(&self, id: &Digest) -> String {
        self.names_of(id).0.into_iter().next().unwrap_or_else(|| id.short())
    }
}
