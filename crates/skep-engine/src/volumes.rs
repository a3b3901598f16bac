//! Volumes of the `local` driver: directories below the data root, their records in the database.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::Utc;
use parking_lot::RwLock;
use skep_types::VolumeName;

use crate::model::volume::{CreateVolume, Volume};
use crate::storage::{Storage, make_dir};
use crate::{Error, Result};

pub(crate) struct Volumes {
    root: PathBuf,
    storage: Arc<Storage>,
    known: RwLock<BTreeMap<VolumeName, Volume>>,
}

impl Volumes {
    pub(crate) fn open(root: PathBuf, storage: Arc<Storage>) -> Result<Self> {
        make_dir(&root, 0o701)?;
        let known = storage.volumes()?.into_iter().map(|volume| (volume.name.clone(), volume)).collect();
        Ok(Volumes { root, storage, known: RwLock::new(known) })
    }

    pub(crate) fn all(&self) -> Vec<Volume> {
        self.known.read().values().cloned().collect()
    }

    pub(crate) fn find(&self, name: &str) -> Result<Volume> {
        let missing = || Error::NoSuchVolume(name.to_owned());
        let name: VolumeName = name.parse().map_err(|_| missing())?;
        self.known.read().get(&name).cloned().ok_or_else(missing)
    }

    /// Finds the volume, or makes it. Tells whether it was made. Blocking.
    pub(crate) fn create(&self, request: &CreateVolume, anonymous: bool) -> Result<(Volume, bool)> {
        if !request.driver.is_empty() && request.driver != "local" {
            return Err(Error::NotImplemented(format!("volume driver \"{}\" is not supported", request.driver)));
        }
        if let Some(option) = request.options.keys().next() {
            return Err(Error::NotImplemented(format!(
                "option \"{option}\" of the local volume driver is not supported"
            )));
        }
        let name = match &request.name {
            Some(name) => name.clone(),
            None => {
                let random = skep_types::ContainerId::from_bytes(crate::random::bytes()).to_string();
                random.parse().map_err(|e: skep_types::NameError| Error::Invalid(e.to_string()))?
            }
        };
        if let Some(volume) = self.known.read().get(&name) {
            return Ok((volume.clone(), false));
        }
        let data = self.root.join(name.as_str()).join("_data");
        make_dir(&self.root.join(name.as_str()), 0o701)?;
        make_dir(&data, 0o755)?;
        let volume = Volume {
            name: name.clone(),
            created: Utc::now(),
            mountpoint: data.display().to_string(),
            labels: request.labels.clone(),
            options: BTreeMap::new(),
            anonymous: anonymous || request.name.is_none(),
        };
        let mut known = self.known.write();
        if let Some(volume) = known.get(&name) {
            return Ok((volume.clone(), false));
        }
        self.storage.put_volume(&volume)?;
        known.insert(name, volume.clone());
        Ok((volume, true))
    }

    /// Names of directories among the volumes that are no known volume's. Blocking.
    pub(crate) fn strays(&self) -> Result<Vec<PathBuf>> {
        let failed = |e| Error::system(format!("listing {}", self.root.display()), e);
        let mut strays = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            if name.is_none_or(|name: VolumeName| !self.known.read().contains_key(&name)) {
                strays.push(path);
            }
        }
        Ok(strays)
    }

    /// Makes a directory that is there known as a volume; returns its name. Blocking.
    pub(crate) fn adopt(&self, path: &Path) -> Result<VolumeName> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let name: VolumeName =
            name.parse().map_err(|_| Error::Invalid(format!("{name:?} can't be a volume's name")))?;
        if !path.join("_data").is_dir() {
            return Err(Error::Invalid(format!("{} holds no volume's data", path.display())));
        }
        let request = CreateVolume { name: Some(name.clone()), ..CreateVolume::default() };
        let _ = self.create(&request, false)?;
        Ok(name)
    }

    /// Forgets the volume, then deletes its files. The caller has made sure that nothing uses it. Blocking.
    pub(crate) fn remove(&self, name: &VolumeName) -> Result<()> {
        self.storage.delete_volume(name)?;
        self.known.write().remove(name);
        self.storage
            .trash(&self.root.join(name.as_str()))
            .map_err(|e| Error::system(format!("deleting the files of volume {name}"), e))
    }
}

/// Whether the directory holds nothing.
pub(crate) fn is_empty(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}
