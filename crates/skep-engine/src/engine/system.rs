//! The engine about itself, and the way to its images.

use crate::model::system::SystemInfo;
use crate::{Engine, Result};

impl Engine {
    /// Facts for `info`.
    pub async fn info(&self) -> Result<SystemInfo> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
    /// Containers that run or wait for their restart.
    pub fn running_count(&self) -> usize {
        0
    }
}
