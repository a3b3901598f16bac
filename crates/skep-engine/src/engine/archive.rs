//! Files of a container: cp, diff, export.

use crate::model::request::{ByteStream, ExtractOptions, PathChange, PathStat};
use crate::{Engine, Result};

impl Engine {
    /// What is at a path.
    pub async fn stat_path(&self, _container: &str, _path: &str) -> Result<PathStat> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
    /// A tar archive of a path, its entries named from the path's base name on.
    pub async fn read_archive(&self, _container: &str, _path: &str) -> Result<(PathStat, ByteStream)> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
    /// Unpacks a tar archive (plain, gzip, zstd) into a directory.
    pub async fn write_archive(
        &self,
        _container: &str,
        _path: &str,
        _options: ExtractOptions,
        _archive: ByteStream,
    ) -> Result<()> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
    /// Paths that differ from the image.
    pub async fn container_changes(&self, _container: &str) -> Result<Vec<PathChange>> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
    /// The whole root file system as a tar archive.
    pub async fn export_container(&self, _container: &str) -> Result<ByteStream> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
}
