//! What a check of the data root finds, and what became of it.

use std::path::PathBuf;

use skep_store::ChainId;
use skep_types::{ContainerId, Digest, VolumeName};

/// What a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    /// The metadata database.
    Database,
    /// A configuration, manifest or index.
    Blob(Digest),
    /// An unpacked layer.
    Layer(ChainId),
    /// A stored reference that leads to no image.
    Reference(String),
    /// A container's directory.
    Container(ContainerId),
    /// A volume's directory.
    Volume(VolumeName),
    /// A blob that nothing needs.
    UnneededBlob(Digest),
    /// A layer that nothing needs.
    UnneededLayer(ChainId),
    /// A file or directory among the blobs or layers that nothing knows.
    Stray(PathBuf),
    /// A container's directory without a record.
    StrayContainer(PathBuf),
    /// A volume's directory without a record.
    StrayVolume(PathBuf),
}

/// What became of a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was done; what `--repair` would do.
    Found(String),
    /// It is as it should be; what was done.
    Mended(String),
    /// It can't be mended; what is lost, and what to do.
    Lost(String),
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub object: Object,
    /// What is wrong with it.
    pub damage: String,
    /// Images and containers that need it.
    pub needed_by: Vec<String>,
    /// What became of it.
    pub outcome: Outcome,
}

/// How much was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    /// Images.
    pub images: usize,
    /// Configurations, manifests and indexes, by their digests.
    pub blobs: usize,
    /// Layers, by their archives.
    pub layers: usize,
    /// Containers.
    pub containers: usize,
    /// Volumes.
    pub volumes: usize,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// How much was looked at.
    pub checked: Checked,
    /// What is not as it should be.
    pub findings: Vec<Finding>,
}

impl Object {
    /// Its kind, in a word or two.
    pub fn kind(&self) -> &'static str {
        match self {
            Object::Database => "database",
            Object::Blob(_) => "blob",
            Object::Layer(_) => "layer",
            Object::Reference(_) => "reference",
            Object::Container(_) => "container",
            Object::Volume(_) => "volume",
            Object::UnneededBlob(_) => "unneeded blob",
            Object::UnneededLayer(_) => "unneeded layer",
            Object::Stray(_) => "stray file",
            Object::StrayContainer(_) => "stray container",
            Object::StrayVolume(_) => "stray volume",
        }
    }

    /// Which one: digest, id, name or path.
    pub fn name(&self) -> String {
        match self {
            Object::Database => String::new(),
            Object::Blob(digest) | Object::UnneededBlob(digest) => digest.to_string(),
            Object::Layer(chain) | Object::UnneededLayer(chain) => chain.to_string(),
            Object::Reference(text) => text.clone(),
            Object::Container(id) => id.to_string(),
            Object::Volume(name) => name.to_string(),
            Object::Stray(path) | Object::StrayContainer(path) | Object::StrayVolume(path) => {
                path.display().to_string()
            }
        }
    }

    /// What a repair does about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Object::Database => "none: stop the daemon and put back a copy of the file",
            Object::Blob(_) | Object::Layer(_) => "fetch it again from the registry that it came from",
            Object::Reference(_) => "forget the reference",
            Object::Container(_) => "make an empty writable layer, so that the container can be removed",
            Object::Volume(_) => "make an empty directory, so that the volume can be used or removed",
            Object::UnneededBlob(_) | Object::UnneededLayer(_) | Object::Stray(_) => "delete it",
            Object::StrayContainer(_) => "delete it if nothing was written there, else keep it in recovered/",
            Object::StrayVolume(_) => "make it known again as a volume",
        }
    }
}

impl Finding {
    /// Something found, about which nothing was done.
    pub(crate) fn new(object: Object, damage: impl Into<String>, needed_by: Vec<String>) -> Self {
        let outcome = Outcome::Found(object.remedy().to_owned());
        Finding { object, damage: damage.into(), needed_by, outcome }
    }
}

impl CheckReport {
    /// Whether all is as it should be, now.
    pub fn is_clean(&self) -> bool {
        self.findings.iter().all(|finding| matches!(finding.outcome, Outcome::Mended(_)))
    }
}
