//! Steps that make no files: layers of results put on one another, and taken apart.
//!
//! A layer that stands on others than it was made on is the same layer: its files get second names, and it has a record of its own,
//! as that of `COPY --link` has.

use chrono::{DateTime, Utc};
use skep_store::ChainId;
use skep_types::{Digest, ErrorKind};

use crate::cache::Record;
use crate::error::{BuildError, Result};
use crate::worker::{Context, Held, Layer, Stack, Tree, Worker};

use super::key::rebase_key;
use super::step::Ready;
use super::value::{Guard, Value};

impl<W: Worker> Ready<'_, W> {
    /// The layers of all inputs, each input's on top of those before.
    pub(super) async fn merged(&mut self, context: &Context) -> Result<Value> {
        let mut merged = Value::scratch();
        for index in 0..self.inputs.len() {
            let value = self.inputs[index].1.clone();
            if self.inputs.len() > 1 {
                self.ensure(self.inputs[index].0, index, context).await?;
            }
            merged = match merged.stack()? {
                None => value,
                Some(_) => self.stacked(merged, &value, 0).await?,
            };
        }
        self.report.cached().await;
        Ok(merged)
    }

    /// The layers of the first input above those of the second.
    pub(super) async fn difference(&mut self, context: &Context) -> Result<Value> {
        let (id, upper) = self.inputs[0].clone();
        let below = self.inputs.get(1).map_or(&[][..], |(_, lower)| &lower.layers);
        let same = upper.layers.iter().zip(below).filter(|(one, other)| one.diff_id == other.diff_id).count();
        if same < below.len() {
            let text = "a diff of two results of which one does not stand on the other is not made by skep";
            return Err(BuildError::new(ErrorKind::NotImplemented, text));
        }
        let made = match below.len() {
            0 => upper,
            skip => {
                self.ensure(id, 0, context).await?;
                self.stacked(Value::scratch(), &upper, skip).await?
            }
        };
        self.report.cached().await;
        Ok(made)
    }

    /// The layers of a result, but for the lowest `skip`, on top of what there is. All of them are here.
    async fn stacked(&self, onto: Value, value: &Value, skip: usize) -> Result<Value> {
        let diff_ids: Vec<Digest> = value.layers.iter().map(|layer| layer.diff_id).collect();
        let mut guards = onto.held();
        guards.extend(value.held());
        let (mut stack, mut layers) = (onto.stack()?, onto.layers.to_vec());
        let mut records = onto.records;
        records.extend(&value.records);
        for (made, chain) in value.layers.iter().zip(ChainId::chain(&diff_ids)).skip(skip) {
            let layer = Layer { stack: chain, diff_id: made.diff_id, size: 0, held: Held::default() };
            let (layer, guard, key) = self.rebased(&layer, stack, (records, made.created), None).await?;
            stack = Some(layer.stack);
            layers.push(*made);
            records = vec![key];
            guards.push(guard);
        }
        let (tree, cached) = (Tree::Layers(stack), value.cached && onto.cached);
        Ok(Value { tree, layers: layers.into(), records, image: None, guards, cached })
    }

    /// A layer on top of others than it was made on, with the key of its record. Those others are here, or are the first input's and
    /// brought here if need be, for which `context` is.
    pub(super) async fn rebased(
        &self,
        layer: &Layer,
        base: Stack,
        (parents, created): (Vec<Digest>, Option<DateTime<Utc>>),
        context: Option<&Context>,
    ) -> Result<(Layer, Guard, Digest)> {
        let key = rebase_key(&layer.diff_id, base);
        if let Some((known, guard)) = self.lookup(&key).await? {
            return Ok((known, guard, key));
        }
        if let Some(context) = context {
            self.ensure(self.inputs[0].0, 0, context).await?;
        }
        let layer = self.solver.worker.rebase(layer, base).await?;
        let _in_use = self.solver.cache.hold(&key);
        let record = Record::of_layer(key, self.step().name.clone(), &layer, parents);
        let created = created.unwrap_or(record.created);
        self.solver.cache.put(Record { created, ..record });
        let guard = self.guard(&key, &layer).await?;
        Ok((layer, guard, key))
    }
}
