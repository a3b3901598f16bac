//! One step: its key, the look into the cache, the work.

use std::sync::Arc;

use skep_dockerfile::ignore::Matcher;
use skep_store::ChainId;
use skep_types::{Digest, ErrorKind};
use tokio::sync::mpsc;

use crate::cache::Record;
use crate::error::{BuildError, FailedStep, Result};
use crate::event::{BuildEvent, Status, VertexId};
use crate::graph::{Op, Run, Step, StepId};
use crate::worker::{Context, Held, Layer, Selection, Stack, Tree, Worker};

use super::flight::{Heard, Joined, Landed, Runner, Waiter};
use super::key::{Canon, reads, selection_key, step_key};
use super::report::Report;
use super::value::{Guard, Image, LayerMade, Value};
use super::{Solve, Solver};

/// How many events of a step may wait for being passed on.
const EVENTS: usize = 64;

/// A step whose inputs are known.
pub(super) struct Ready<'s, W> {
    pub(super) solver: &'s Solver<W>,
    pub(super) solve: &'s Solve<'s>,
    pub(super) id: StepId,
    /// Results of its inputs, its base first.
    pub(super) inputs: Vec<(StepId, Value)>,
    pub(super) report: Report,
}

impl<W: Worker> Ready<'_, W> {
    /// Does it, or finds that it was done.
    pub(super) async fn run(mut self) -> Result<Value> {
        let result = self.result().await;
        match &result {
            Ok(_) => {}
            Err(error) => self.report.fail(error).await,
        }
        result.map_err(|error| self.place(error))
    }

    /// Whether its layer is known. What can't be found out is not.
    pub(super) async fn is_known(&self) -> Result<bool> {
        let context = self.solve.context(self.report.id(), &self.step().platform);
        let linked = matches!(&self.step().op, Op::Files(files) if files.link);
        let base = if linked { None } else { self.inputs[0].1.stack()? };
        match self.key(base, &context).await {
            Ok(key) => Ok(self.lookup(&key).await?.is_some()),
            Err(_) => Ok(false), // doing it says why
        }
    }

    pub(super) fn step(&self) -> &Step {
        &self.solve.graph.steps[self.id.0]
    }

    fn place(&self, error: BuildError) -> BuildError {
        let error = BuildError { vertex: error.vertex.or(Some(self.report.id())), ..error };
        match (&self.solve.graph.source, &self.step().lines) {
            (Some(source), Some(lines)) => error.at(crate::error::Location {
                file: source.name.clone(),
                text: Arc::clone(&source.text),
                lines: lines.clone(),
            }),
            _ => error,
        }
    }

    async fn result(&mut self) -> Result<Value> {
        let context = self.solve.context(self.report.id(), &self.step().platform);
        let worker = &*self.solver.worker;
        match &self.solve.graph.steps[self.id.0].op {
            Op::Scratch => Ok(Value::scratch()),
            Op::Given(given) => {
                let held = worker.hold(given.stack).await?;
                let held = held.ok_or_else(|| BuildError::invalid("the result of the other build was removed"))?;
                let layers =
                    given.diff_ids.iter().map(|diff_id| LayerMade { diff_id: *diff_id, created: None }).collect();
                Ok(Value { tree: Tree::Layers(given.stack), layers, guards: vec![held.into()], ..Value::scratch() })
            }
            Op::Image(source) => {
                let resolved = self.solve.resolve(worker, source, &context).await?;
                let value = image_value(&resolved)?;
                self.report.complete().await;
                Ok(value)
            }
            Op::Local(source) => {
                let tree = self.report.during(worker.local(source, &context)).await?;
                Ok(directory(tree))
            }
            Op::Http(source) => {
                let fetch = self.solve.memo.fetch(worker, source, &context);
                Ok(directory(self.report.during(fetch).await?))
            }
            Op::Git(source) => Ok(directory(self.report.during(worker.git(source, &context)).await?)),
            Op::Run(_) => self.layer_step(&context).await,
            Op::Files(files) => match files.link {
                true => self.linked(&context).await,
                false => self.layer_step(&context).await,
            },
            Op::Merge(_) => self.merged(&context).await,
            Op::Diff { .. } => self.difference(&context).await,
        }
    }

    /// A step that makes a layer on top of its base.
    async fn layer_step(&mut self, context: &Context) -> Result<Value> {
        let base = self.inputs[0].1.stack()?;
        let key = self.key(base, context).await?;
        if let Some(value) = self.elsewhere(&key, base).await? {
            self.report.cached().await;
            return Ok(value);
        }
        let (layer, cached, guard) = self.layer(key, base, context).await?;
        Ok(self.value(key, &layer, cached, vec![guard]))
    }

    /// The result as a layer of an image elsewhere, which is fetched only when it is needed. The layers below have to be the same.
    async fn elsewhere(&self, key: &Digest, base: Stack) -> Result<Option<Value>> {
        let found = self.solve.memo.elsewhere.lock().get(key).cloned();
        let Some((image, result)) = found.filter(|_| !self.step().ignore_cache) else { return Ok(None) };
        if self.lookup(key).await?.is_some() {
            return Ok(None); // it is here, too
        }
        let diff_ids = crate::image::diff_ids(&image.resolved.config)?;
        let chain = ChainId::chain(&diff_ids[..result.layers.min(diff_ids.len())]);
        let [.., stack] = chain.as_slice() else { return Ok(None) };
        if chain.len().checked_sub(2).map(|below| chain[below]) != base {
            return Ok(None);
        }
        let layer = Layer { stack: *stack, diff_id: diff_ids[chain.len() - 1], size: 0, held: Held::default() };
        let parents = base.map(|_| self.inputs[0].1.records.clone()).unwrap_or_default();
        let record = Record::of_layer(*key, description(self.step()), &layer, parents);
        let created = result.created.unwrap_or(record.created);
        self.solve.memo.taken.lock().push(Record { created, ..record });
        let made = LayerMade { diff_id: layer.diff_id, created: Some(created) };
        let layers = self.inputs[0].1.layers.iter().copied().chain([made]).collect();
        let (tree, records) = (Tree::Layers(Some(layer.stack)), vec![*key]);
        Ok(Some(Value { tree, layers, records, image: Some(image), guards: Vec::new(), cached: true }))
    }

    /// A layer on nothing that a cache elsewhere has, brought here.
    async fn elsewhere_here(&mut self, key: &Digest, context: &Context) -> Result<Option<(Layer, bool, Guard)>> {
        let Some(value) = self.elsewhere(key, None).await? else { return Ok(None) };
        let (Some(stack), Some(made)) = (value.stack()?, value.layers.last()) else { return Ok(None) };
        value.ensure(&*self.solver.worker, context, &self.step().name).await?;
        let layer = Layer { stack, diff_id: made.diff_id, size: 0, held: Held::default() };
        let guard = self.guard(key, &layer).await?;
        self.report.cached().await;
        Ok(Some((layer, true, guard)))
    }

    /// `COPY --link`: a layer made on nothing, then put on the base.
    async fn linked(&mut self, context: &Context) -> Result<Value> {
        let base = self.inputs[0].1.stack()?;
        let key = self.key(None, context).await?;
        let (layer, cached, guard) = match self.elsewhere_here(&key, context).await? {
            Some(found) => found,
            None => self.layer(key, None, context).await?,
        };
        let mut guards = vec![guard];
        if base.is_none() {
            return Ok(self.value(key, &layer, cached, guards));
        }
        let mut parents = self.inputs[0].1.records.clone();
        parents.push(key);
        let created = self.solver.cache.get(&key).map(|made| made.created);
        let (layer, held, rebased) = self.rebased(&layer, base, (parents, created), Some(context)).await?;
        guards.push(held);
        Ok(self.value(rebased, &layer, cached, guards))
    }

    fn value(&self, key: Digest, layer: &Layer, cached: bool, guards: Vec<Guard>) -> Value {
        let created = self.solver.cache.get(&key).map(|record| record.created);
        let below = &self.inputs[0].1;
        let layers = below.layers.iter().copied().chain([LayerMade { diff_id: layer.diff_id, created }]).collect();
        Value { tree: Tree::Layers(Some(layer.stack)), layers, records: vec![key], image: None, guards, cached }
    }

    /// The key: all contents that are read have to be known for it, not all have to be here.
    async fn key(&self, base: Stack, context: &Context) -> Result<Digest> {
        let mut contents = Vec::new();
        for (index, selection) in reads(&self.step().op).iter().enumerate() {
            contents.push(self.content(index + 1, selection, context).await?);
        }
        Ok(step_key(self.step(), base, &contents))
    }

    async fn content(&self, index: usize, selection: &Selection, context: &Context) -> Result<Digest> {
        let (id, input) = &self.inputs[index];
        let memo = input.identity().map(|identity| selection_key(&identity, selection));
        if let Some(known) = memo.and_then(|memo| self.solver.cache.selection(&memo)) {
            return Ok(known);
        }
        self.ensure(*id, index, context).await?;
        let digest = self.solver.worker.digest(&input.tree, selection).await.map_err(|error| {
            let reference = reference_of(input, &self.solve.vertices[id.0]);
            let message = match self.excluded(*id, selection) {
                Some(path) => format!("{} ({path} is excluded by .dockerignore)", error.message),
                None => error.message,
            };
            let message =
                format!("failed to compute cache key: failed to calculate checksum of ref {reference}: {message}");
            BuildError { message, ..error }
        })?;
        if let Some(memo) = memo {
            self.solver.cache.put_selection(memo, digest);
        }
        Ok(digest)
    }

    /// A path that is wanted of a client's directory, but is not sent.
    fn excluded<'p>(&self, id: StepId, selection: &'p Selection) -> Option<&'p str> {
        let Op::Local(local) = &self.solve.graph.steps[id.0].op else { return None };
        let matcher = Matcher::new(&local.exclude).ok()?;
        let relative = |path: &'p String| path.trim_start_matches('/');
        selection.paths.iter().map(relative).find(|path| !path.is_empty() && matcher.matches(path))
    }

    /// Brings an input here, with the progress shown where it comes from.
    pub(super) async fn ensure(&self, id: StepId, index: usize, context: &Context) -> Result<()> {
        let input = &self.inputs[index].1;
        let source = self.solve.origin(id);
        let source = if self.solve.is_shown(source) { source } else { id };
        let context = Context { vertex: self.solve.vertices[source.0], ..context.clone() };
        input.ensure(&*self.solver.worker, &context, &self.solve.graph.steps[source.0].name).await
    }

    /// A layer of the cache, if the worker still has it.
    pub(super) async fn lookup(&self, key: &Digest) -> Result<Option<(Layer, Guard)>> {
        let Some(layer) = self.solver.cache.get(key).and_then(|record| record.layer()) else { return Ok(None) };
        let in_use = self.solver.cache.touch(key);
        match self.solver.worker.hold(Some(layer.stack)).await? {
            Some(held) => Ok(Some((layer, Arc::new((in_use, held))))),
            None => {
                drop(in_use);
                self.solver.cache.remove(&[*key]);
                Ok(None)
            }
        }
    }

    pub(super) async fn guard(&self, key: &Digest, layer: &Layer) -> Result<Guard> {
        let in_use = self.solver.cache.hold(key);
        let held = self.solver.worker.hold(Some(layer.stack)).await?;
        let held = held.ok_or_else(|| BuildError::new(ErrorKind::System, format!("layer {} is gone", layer.stack)))?;
        Ok(Arc::new((in_use, held)))
    }

    /// The layer of this key: from the cache, from whoever is making it, or made now.
    async fn layer(&mut self, key: Digest, base: Stack, context: &Context) -> Result<(Layer, bool, Guard)> {
        let ignore_cache = self.step().ignore_cache;
        let flight = if ignore_cache { self.solve.own(key) } else { key };
        loop {
            if !ignore_cache && let Some((layer, guard)) = self.lookup(&key).await? {
                self.finished().await;
                return Ok((layer, true, guard));
            }
            if let Some((layer, guard)) = self.solve.made(&flight) {
                self.finished().await;
                return Ok((layer, true, guard));
            }
            match self.solver.flights.join(flight) {
                Joined::Run(runner) => {
                    // Somebody may have landed since the look into the cache.
                    if !ignore_cache && let Some((layer, guard)) = self.lookup(&key).await? {
                        runner.land(Landed::Layer(layer.clone()));
                        self.finished().await;
                        return Ok((layer, true, guard));
                    }
                    // Its record is not pruned before it is held below.
                    let _in_use = self.solver.cache.hold(&key);
                    let layer = self.work(runner, key, base, context).await?;
                    let guard = self.guard(&key, &layer).await?;
                    self.solve.remember(flight, layer.clone(), Arc::clone(&guard));
                    self.report.complete().await;
                    return Ok((layer, false, guard));
                }
                Joined::Wait(waiter) => {
                    if let Some(layer) = self.wait(waiter).await? {
                        let guard = self.guard(&key, &layer).await?;
                        self.report.complete().await;
                        return Ok((layer, false, guard));
                    }
                }
            }
        }
    }

    /// Found, not made; unless it has begun to run here.
    async fn finished(&mut self) {
        match self.report.has_started() {
            true => self.report.complete().await,
            false => self.report.cached().await,
        }
    }

    /// Does the work, telling those who wait for the same.
    async fn work(&mut self, runner: Runner, key: Digest, base: Stack, context: &Context) -> Result<Layer> {
        let (events, mut told) = mpsc::channel(EVENTS);
        let inner = Context { events, ..context.clone() };
        let pass_on = async {
            while let Some(event) = told.recv().await {
                runner.tell(event.clone());
                // Nobody has to listen.
                let _ = context.events.send(event).await;
            }
        };
        let done = async {
            let result = self.execute(key, base, &inner).await;
            drop(inner);
            result
        };
        let (result, ()) = futures_util::future::join(done, pass_on).await;
        match &result {
            Ok(layer) => runner.land(Landed::Layer(layer.clone())),
            // What a program does, it does for everyone; secrets, contexts and connections are one client's own.
            Err(error) if error.exit_code.is_some() => runner.land(Landed::Failed(error.clone())),
            Err(_) => runner.land(Landed::Abandoned),
        }
        result
    }

    async fn execute(&mut self, key: Digest, base: Stack, context: &Context) -> Result<Layer> {
        for (index, (id, _)) in self.inputs.iter().enumerate() {
            if index > 0 || base.is_some() {
                self.ensure(*id, index, context).await?;
            }
        }
        let _slot = self.solver.slots.acquire().await.map_err(|_| cancelled())?;
        self.report.start().await;
        let trees: Vec<Tree> = self.inputs.iter().skip(1).map(|(_, value)| value.tree.clone()).collect();
        let worker = &self.solver.worker;
        let layer = match &self.step().op {
            Op::Run(run) => {
                worker.run(run, base, &trees, context).await.map_err(|error| self.enterable(run, base, trees, error))?
            }
            Op::Files(files) => worker.files(files, base, &trees, context).await?,
            Op::Scratch
            | Op::Image(_)
            | Op::Local(_)
            | Op::Http(_)
            | Op::Git(_)
            | Op::Given(_)
            | Op::Merge(_)
            | Op::Diff { .. } => {
                return Err(BuildError::new(ErrorKind::System, "a source makes no layer"));
            }
        };
        let parents = match base {
            Some(_) => self.inputs[0].1.records.clone(),
            None => Vec::new(),
        };
        self.solver.cache.put(Record::of_layer(key, description(self.step()), &layer, parents));
        Ok(layer)
    }

    /// A program that failed can be looked at where it failed (`--on-error=shell`).
    fn enterable(&self, run: &Run, base: Stack, inputs: Vec<Tree>, mut error: BuildError) -> BuildError {
        if error.exit_code.is_none() {
            return error;
        }
        let guards = self.inputs.iter().flat_map(|(_, value)| value.held()).collect();
        let platform = self.step().platform.clone();
        let written = error.written.take();
        let failed = FailedStep { run: run.clone(), base, written, inputs, platform, guards };
        BuildError { failed: Some(Arc::new(failed)), ..error }
    }

    /// Waits for somebody else's work; none if it has to be done here after all.
    async fn wait(&mut self, mut waiter: Waiter) -> Result<Option<Layer>> {
        self.report.start().await;
        loop {
            match waiter.next().await {
                Heard::Events(events) => {
                    for event in events {
                        // Nobody has to listen.
                        let _ = self.solve.job.events.send(relabelled(event, self.report.id())).await;
                    }
                }
                Heard::Landed(Landed::Layer(layer)) => return Ok(Some(layer)),
                Heard::Landed(Landed::Failed(error)) => {
                    return Err(BuildError { vertex: None, location: None, ..error });
                }
                Heard::Landed(Landed::Abandoned) => return Ok(None),
            }
        }
    }
}

pub(super) fn cancelled() -> BuildError {
    BuildError::new(ErrorKind::Cancelled, "context canceled")
}

fn directory(tree: Tree) -> Value {
    Value { tree, cached: false, ..Value::scratch() }
}

fn image_value(image: &Arc<Image>) -> Result<Value> {
    let diff_ids = crate::image::diff_ids(&image.resolved.config)?;
    let layers = diff_ids.into_iter().map(|diff_id| LayerMade { diff_id, created: None }).collect();
    let tree = Tree::Layers(image.resolved.stack);
    Ok(Value { tree, layers, image: Some(Arc::clone(image)), ..Value::scratch() })
}

/// What `docker buildx du` shows of a step.
fn description(step: &Step) -> String {
    match &step.op {
        Op::Run(run) => format!("mount / from exec {}", run.argv.join(" ")),
        _ => step.name.clone(),
    }
}

/// What stands for the input in an error: BuildKit names its own references there.
fn reference_of(input: &Value, vertex: &VertexId) -> String {
    let mut canon = Canon::new("reference");
    canon.digest(&vertex.0);
    if let Tree::Layers(Some(chain)) = &input.tree {
        canon.digest(ChainId::digest(chain));
    }
    let id = crate::cache::record_id(&vertex.0);
    format!("{id}::{}", crate::cache::record_id(&canon.finish()))
}

fn relabelled(event: BuildEvent, vertex: VertexId) -> BuildEvent {
    match event {
        BuildEvent::Log { stream, data, at, .. } => BuildEvent::Log { vertex, stream, data, at },
        BuildEvent::Status(status) => BuildEvent::Status(Status { vertex, ..status }),
        other => other,
    }
}
