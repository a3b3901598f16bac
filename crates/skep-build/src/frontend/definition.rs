//! Steps that a client wrote down itself (BuildKit's LLB), made without a Dockerfile.

use chrono::Utc;
use skep_types::Platform;

use crate::builder::Built;
use crate::error::{BuildError, Result};
use crate::graph::{Graph, StepId};
use crate::image::ImageConfig;
use crate::solve::{Solve, Value};
use crate::worker::Worker;

use super::Frontend;
use super::finish::Finished;
use super::import::check_caches;

/// Steps, and which of them is wanted.
#[derive(Debug, Clone)]
pub struct Definition {
    /// The steps.
    pub graph: Graph,
    /// The one whose result it is.
    pub target: StepId,
    /// What the result is for.
    pub platform: Platform,
}

impl<W: Worker> Frontend<'_, W> {
    /// Makes what a definition says: files, with the configuration of an empty image.
    pub(crate) async fn define(&self, definition: &Definition) -> Result<Built> {
        let Definition { graph, target, platform } = definition;
        if target.0 >= graph.steps.len() || !graph.is_ordered() {
            return Err(BuildError::invalid("the steps of the graph are not in order"));
        }
        let started = Utc::now();
        check_caches(&self.request.cache_to)?;
        self.import().await?;
        let solve = Solve::new(graph, self.job, &self.memo);
        let values = self.solver.solve(&solve, &[*target]).await?;
        let value = values.into_iter().next().ok_or_else(|| BuildError::invalid("there is no such step"))?;
        self.solver.ensure(&solve, *target, &value).await?;
        self.keep_imported().await?;
        let (_, provenance) = self.provenance(graph, started)?;
        let (cache, guards) = self.to_export(&solve, value.records.clone()).await?;
        let image = ImageConfig::empty(platform);
        let below = Value::scratch();
        let finished = Finished { platform: platform.clone(), image, base: None, value: &value, below: &below };
        let images = vec![self.finish(finished).await?];
        Ok(Built { images, multi: false, epoch: self.request.epoch()?, provenance: Some(provenance), cache, guards })
    }
}
