//! `system check`: whether everything in the data root is as it should be, and mending what is not.

use std::path::{Path, PathBuf};
use std::time::Duration;

use skep_registry::Keyring;
use skep_store::ChainId;
use skep_types::ContainerId;

use super::blocking;
use crate::images::ContainerTop;
use crate::model::check::{CheckReport, Checked, Finding, Object, Outcome};
use crate::model::view::MountKind;
use crate::{Engine, Error, Result};

/// A directory that is younger may be one of something that is being made.
const SETTLED: Duration = Duration::from_secs(60);

impl Engine {
    /// Checks everything.
    pub async fn check(&self) -> Result<CheckReport> {
        let engine = self.clone();
        blocking(move || engine.find_damage()).await
    }

    /// Checks everything and mends what it can, with these credentials for registries: nothing that a container or a user wrote is
    /// ever deleted.
    pub async fn repair(&self, keyring: &Keyring) -> Result<CheckReport> {
        let mut report = self.check().await?;
        let storage = self.inner.storage.clone();
        let running = move || storage.running_layers().map_err(|e| Error::system("reading the database", e));
        let running = blocking(running).await?;
        for finding in &mut report.findings {
            let images = self.inner.images.mend(finding, &running, keyring).await;
            let (engine, asked) = (self.clone(), Finding { outcome: images, ..finding.clone() });
            finding.outcome = blocking(move || Ok(engine.mend_directories(asked))).await?;
            let (object, damage, outcome) = (finding.object.kind(), &finding.damage, &finding.outcome);
            tracing::info!(object, name = finding.object.name(), damage, ?outcome, "repaired, or tried to");
        }
        Ok(report)
    }

    fn find_damage(&self) -> Result<CheckReport> {
        let store = self.inner.storage.store();
        let mut findings = Vec::new();
        let mut checked = Checked::default();
        if !store.db().is_sound().map_err(|e| Error::system("checking the database", e))? {
            findings.push(Finding::new(Object::Database, "checksums in it are wrong", Vec::new()));
        }
        findings.extend(self.inner.images.check(&self.container_tops()?, &mut checked)?);
        self.find_in_containers(&mut findings, &mut checked)?;
        self.find_in_volumes(&mut findings, &mut checked)?;
        Ok(CheckReport { checked, findings })
    }

    /// The topmost layer of each container, by the container's name.
    fn container_tops(&self) -> Result<Vec<ContainerTop>> {
        let records = self.inner.storage.containers()?;
        let top = |digest: skep_types::Digest| digest.to_string().parse::<ChainId>().ok();
        Ok(records
            .into_iter()
            .filter_map(|record| Some((record.name.to_string(), record.chain_id.and_then(top)?)))
            .collect())
    }

    fn find_in_containers(&self, findings: &mut Vec<Finding>, checked: &mut Checked) -> Result<()> {
        let containers = self.inner.storage.store().containers();
        let listed = containers.list().map_err(|e| Error::system("listing the containers' directories", e))?;
        for record in self.inner.storage.containers()? {
            checked.containers += 1;
            let here = containers.upper(&record.id).is_dir() && containers.work(&record.id).is_dir();
            // It may have been removed since.
            if !here && self.inner.storage.container(record.id)?.is_some() {
                let object = Object::Container(record.id);
                findings.push(Finding::new(object, "its writable layer is missing", vec![record.name.to_string()]));
            }
        }
        for id in listed {
            let path = containers.dir(&id);
            if is_settled(&path) && self.inner.storage.container(id)?.is_none() {
                findings.push(Finding::new(Object::StrayContainer(path), "no container is known by it", Vec::new()));
            }
        }
        Ok(())
    }

    fn find_in_volumes(&self, findings: &mut Vec<Finding>, checked: &mut Checked) -> Result<()> {
        for volume in self.inner.volumes.all() {
            checked.volumes += 1;
            if !Path::new(&volume.mountpoint).is_dir() && self.inner.volumes.find(volume.name.as_str()).is_ok() {
                let users = self.volume_user_names(volume.name.as_str());
                findings.push(Finding::new(Object::Volume(volume.name), "its directory is missing", users));
            }
        }
        for path in self.inner.volumes.strays()?.into_iter().filter(|path| is_settled(path)) {
            findings.push(Finding::new(Object::StrayVolume(path), "no volume is known by it", Vec::new()));
        }
        Ok(())
    }

    fn volume_user_names(&self, volume: &str) -> Vec<String> {
        let views = self.views();
        let uses = views
            .iter()
            .filter(|view| view.mounts.iter().any(|mount| mount.kind == MountKind::Volume && mount.name == volume));
        uses.map(|view| format!("container {}", view.name)).collect()
    }

    /// Mends what concerns containers' and volumes' directories. Blocking.
    fn mend_directories(&self, finding: Finding) -> Outcome {
        let mended = match &finding.object {
            Object::Container(id) => self.mend_container(*id),
            Object::Volume(name) => crate::storage::make_dir(
                &self.inner.config.data_root.join("volumes").join(name.as_str()).join("_data"),
                0o755,
            )
            .map(|()| Outcome::Lost("what was in it is lost; an empty directory was made".to_owned())),
            Object::StrayContainer(path) => self.keep_stray_container(path),
            Object::StrayVolume(path) => {
                self.inner.volumes.adopt(path).map(|name| Outcome::Mended(format!("known again as volume {name}")))
            }
            Object::Database
            | Object::Blob(_)
            | Object::Layer(_)
            | Object::Reference(_)
            | Object::UnneededBlob(_)
            | Object::UnneededLayer(_)
            | Object::Stray(_) => return finding.outcome,
        };
        mended.unwrap_or_else(|error| Outcome::Lost(error.to_string()))
    }

    fn mend_container(&self, id: ContainerId) -> Result<Outcome> {
        let record = self.inner.storage.container(id)?.ok_or_else(|| Error::NoSuchContainer(id.to_string()))?;
        self.inner.storage.make_container_dir(id, record.chain_id.as_ref())?;
        Ok(Outcome::Lost("what it had written is lost; it has an empty writable layer now".to_owned()))
    }

    /// A directory without a container: what was written there belongs to the user.
    fn keep_stray_container(&self, path: &Path) -> Result<Outcome> {
        if crate::volumes::is_empty(&path.join("rw/upper")) || !path.join("rw/upper").exists() {
            self.inner.storage.trash(path).map_err(|e| Error::system("deleting a container's directory", e))?;
            return Ok(Outcome::Mended("deleted: nothing had been written there".to_owned()));
        }
        let kept: PathBuf = self.inner.config.data_root.join("recovered");
        crate::storage::make_dir(&kept, 0o700)?;
        let kept = kept.join(path.file_name().unwrap_or_default());
        std::fs::rename(path, &kept).map_err(|e| Error::system("keeping a container's directory", e))?;
        Ok(Outcome::Mended(format!("what was written there is kept in {}", kept.display())))
    }
}

/// Whether nothing was made or removed in the directory lately.
fn is_settled(path: &Path) -> bool {
    let modified = std::fs::symlink_metadata(path).and_then(|found| found.modified());
    modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > SETTLED))
}
