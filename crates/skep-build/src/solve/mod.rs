//! Walks the steps of a graph that are needed, as many at once as can be.
//!
//! ```text
//! needed steps ──▶ inputs known ──▶ key ──▶ cache? ──▶ flight of the same key? ──▶ worker ──▶ record
//! ```
//! All of it happens in one future without tasks of its own: dropping it, or the first error, ends what is under way, and what was
//! finished stays in the cache. Layers of images are fetched when a step really runs on them or reads them.

mod combine;
mod flight;
mod key;
mod report;
mod step;
mod value;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use skep_types::{Digest, Platform};
use tokio::sync::{OnceCell, Semaphore};

use crate::builder::Job;
use crate::cache::{Cache, Elsewhere, Record};
use crate::error::Result;
use crate::event::VertexId;
use crate::graph::{Graph, HttpSource, ImageSource, Op, Step, StepId};
use crate::worker::{Context, Layer, Tree, Worker};

pub(crate) use flight::Flights;
pub(crate) use key::{Canon, internal_vertex, sha256, step_identity};
pub use report::{Parts, Report};
pub(crate) use value::{Image, LayerMade, Value};

use value::Guard;

/// What all builds of a daemon share.
#[derive(Debug)]
pub(crate) struct Solver<W> {
    pub(crate) worker: Arc<W>,
    pub(crate) cache: Cache,
    pub(crate) flights: Flights,
    /// Steps that may run at once.
    pub(crate) slots: Semaphore,
}

/// An image of one build, found once.
type Found = Arc<OnceCell<Arc<Image>>>;

/// What all graphs of one build share.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    images: Mutex<BTreeMap<(ImageSource, String), Found>>,
    /// Files that were fetched: the server is asked once, and what a client sends is sent once.
    fetched: Mutex<HashMap<HttpSource, Arc<OnceCell<Tree>>>>,
    made: Mutex<HashMap<Digest, (Layer, Guard)>>,
    /// Results that images elsewhere have, by key.
    elsewhere: Mutex<HashMap<Digest, (Arc<Image>, Elsewhere)>>,
    /// Those of them that were of use.
    taken: Mutex<Vec<Record>>,
}

/// One walk over a graph.
pub(crate) struct Solve<'s> {
    pub(crate) graph: &'s Graph,
    pub(crate) job: &'s Job,
    pub(crate) memo: &'s Memo,
    number: u64,
    vertices: Vec<VertexId>,
    /// What is known already: a graph may be walked in several goes.
    values: Mutex<Vec<Option<Value>>>,
}

impl Memo {
    /// Takes note of what an image elsewhere has.
    pub(crate) fn import(&self, image: &Arc<Image>, results: Vec<Elsewhere>) {
        let mut elsewhere = self.elsewhere.lock();
        for result in results {
            elsewhere.entry(result.key).or_insert((Arc::clone(image), result));
        }
    }

    /// The records of imported results that were of use. They may be kept once their layers are here.
    pub(crate) fn taken(&self) -> Vec<Record> {
        std::mem::take(&mut *self.taken.lock())
    }

    /// An image that was found.
    pub(crate) fn image(&self, source: &ImageSource, platform: &Platform) -> Option<Arc<Image>> {
        let images = self.images.lock();
        images.get(&(source.clone(), platform.to_string()))?.get().cloned()
    }

    /// Finds an image, once for a build.
    pub(crate) async fn resolve<W: Worker>(
        &self,
        worker: &W,
        source: &ImageSource,
        context: &Context,
    ) -> Result<Arc<Image>> {
        let key = (source.clone(), context.platform.to_string());
        let cell = Arc::clone(self.images.lock().entry(key).or_default());
        let resolve = || async { Ok(Arc::new(Image::new(worker.resolve(source, context).await?))) };
        cell.get_or_try_init(resolve).await.map(Arc::clone)
    }

    /// Fetches a file, once for a build.
    async fn fetch<W: Worker>(&self, worker: &W, source: &HttpSource, context: &Context) -> Result<Tree> {
        let cell = Arc::clone(self.fetched.lock().entry(source.clone()).or_default());
        cell.get_or_try_init(|| worker.http(source, context)).await.cloned()
    }
}

impl<'s> Solve<'s> {
    pub(crate) fn new(graph: &'s Graph, job: &'s Job, memo: &'s Memo) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let (number, values) = (NEXT.fetch_add(1, Ordering::Relaxed), vec![None; graph.steps.len()]);
        Solve { graph, job, memo, number, vertices: key::vertex_ids(graph), values: Mutex::new(values) }
    }

    /// The result of a step, if it was made in an earlier go.
    pub(crate) fn value(&self, id: StepId) -> Option<Value> {
        self.values.lock()[id.0].clone()
    }

    /// All results that were made.
    pub(crate) fn values(&self) -> Vec<(StepId, Value)> {
        let values = self.values.lock();
        let made = values.iter().enumerate().filter_map(|(index, value)| Some((StepId(index), value.clone()?)));
        made.collect()
    }

    /// Puts something else in the place of a result.
    pub(crate) fn put(&self, id: StepId, value: Value) {
        self.values.lock()[id.0] = Some(value);
    }

    fn context(&self, vertex: VertexId, platform: &Platform) -> Context {
        self.job.context(vertex, platform)
    }

    async fn resolve<W: Worker>(&self, worker: &W, source: &ImageSource, context: &Context) -> Result<Arc<Image>> {
        self.memo.resolve(worker, source, context).await
    }

    /// A key that only this walk has: of steps that run although their result is known.
    fn own(&self, key: Digest) -> Digest {
        let mut canon = Canon::new("own");
        canon.digest(&key).number(self.number);
        canon.finish()
    }

    /// What this build has made already, which counts even if the cache does not.
    fn made(&self, key: &Digest) -> Option<(Layer, Guard)> {
        self.memo.made.lock().get(key).cloned()
    }

    fn remember(&self, key: Digest, layer: Layer, guard: Guard) {
        self.memo.made.lock().insert(key, (layer, guard));
    }

    /// The source that the lowest layers of a step come from.
    fn origin(&self, mut id: StepId) -> StepId {
        while let Op::Run(_) | Op::Files(_) = &self.graph.steps[id.0].op {
            id = self.graph.steps[id.0].op.inputs()[0];
        }
        id
    }

    /// Which steps `targets` need, besides those that are known.
    fn needed(&self, targets: &[StepId]) -> Vec<bool> {
        let mut needed = vec![false; self.graph.steps.len()];
        let mut open = targets.to_vec();
        while let Some(id) = open.pop() {
            let known = self.values.lock()[id.0].is_some();
            if !known && !std::mem::replace(&mut needed[id.0], true) {
                open.extend(self.graph.steps[id.0].op.inputs());
            }
        }
        needed
    }

    fn report(&self, id: StepId) -> Report {
        let step: &Step = &self.graph.steps[id.0];
        let inputs = step.op.inputs().into_iter().filter(|input| self.is_shown(*input));
        let inputs = inputs.map(|input| self.vertices[input.0]).collect();
        Report::new(self.job.events.clone(), self.vertices[id.0], step.name.clone(), inputs)
    }

    /// Trees without files are no vertices.
    fn is_shown(&self, id: StepId) -> bool {
        !matches!(self.graph.steps[id.0].op, Op::Scratch | Op::Given(_))
    }
}

impl<W: Worker> Solver<W> {
    /// Makes what `targets` are, in their order.
    pub(crate) async fn solve(&self, solve: &Solve<'_>, targets: &[StepId]) -> Result<Vec<Value>> {
        tokio::select! {
            biased;
            () = solve.job.cancel.cancelled() => Err(step::cancelled()),
            result = self.walk(solve, targets) => result,
        }
    }

    async fn walk(&self, solve: &Solve<'_>, targets: &[StepId]) -> Result<Vec<Value>> {
        let needed = solve.needed(targets);
        let ids: Vec<StepId> = (0..needed.len()).filter(|index| needed[*index]).map(StepId).collect();
        for id in ids.iter().filter(|id| solve.is_shown(**id)) {
            solve.report(*id).announce().await;
        }
        // For each step, how many of its inputs are missing, and who waits for it.
        let mut missing = vec![0_usize; needed.len()];
        let mut waiting: Vec<Vec<StepId>> = vec![Vec::new(); needed.len()];
        for id in &ids {
            for input in solve.graph.steps[id.0].op.inputs().into_iter().filter(|input| needed[input.0]) {
                missing[id.0] += 1;
                waiting[input.0].push(*id);
            }
        }
        let mut running = FuturesUnordered::new();
        let mut begin: Vec<StepId> = ids.into_iter().filter(|id| missing[id.0] == 0).collect();
        loop {
            for ready in begin.drain(..).filter_map(|id| self.ready(solve, id)) {
                running.push(async move { (ready.id, ready.run().await) });
            }
            let Some((id, value)) = running.next().await else { break };
            solve.put(id, value?);
            for next in &waiting[id.0] {
                missing[next.0] -= 1;
                if missing[next.0] == 0 {
                    begin.push(*next);
                }
            }
        }
        Ok(targets.iter().filter_map(|id| solve.value(*id)).collect())
    }

    /// Brings the layers of a result here, if they are not.
    pub(crate) async fn ensure(&self, solve: &Solve<'_>, id: StepId, value: &Value) -> Result<()> {
        let source = solve.origin(id);
        // A result that stands on nothing, of a cache elsewhere, is fetched where it would have been made.
        let source = if solve.is_shown(source) { source } else { id };
        let step = &solve.graph.steps[source.0];
        let context = solve.context(solve.vertices[source.0], &step.platform);
        value.ensure(&*self.worker, &context, &step.name).await
    }

    /// Whether the cache has the result of a step whose inputs besides sources are known.
    pub(crate) async fn is_known(&self, solve: &Solve<'_>, id: StepId) -> Result<bool> {
        let step = &solve.graph.steps[id.0];
        if step.ignore_cache {
            return Ok(false);
        }
        let inputs = step.op.inputs();
        self.solve(solve, &inputs).await?;
        match self.ready(solve, id) {
            Some(ready) => ready.is_known().await,
            None => Ok(false),
        }
    }

    /// The step, if its inputs are known.
    fn ready<'s>(&'s self, solve: &'s Solve<'s>, id: StepId) -> Option<step::Ready<'s, W>> {
        let known = |input: StepId| solve.value(input).map(|value| (input, value));
        let inputs = solve.graph.steps[id.0].op.inputs().into_iter().map(known).collect::<Option<Vec<_>>>()?;
        Some(step::Ready { solver: self, solve, id, inputs, report: solve.report(id) })
    }
}

#[cfg(test)]
pub(crate) mod tests;
