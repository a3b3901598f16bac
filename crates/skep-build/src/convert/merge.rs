//! Graphs of several platforms become one, so that what they have in common is done once.

use std::collections::HashMap;

use crate::graph::{Graph, StepId};
use crate::solve::step_identity;

/// Adds the steps of `more` to `graph`, except for those that are there already. Returns where each step is now.
pub(crate) fn merge(graph: &mut Graph, more: Graph) -> Vec<StepId> {
    let mut known: HashMap<_, StepId> =
        graph.steps.iter().enumerate().map(|(index, step)| (step_identity(step), StepId(index))).collect();
    let mut places: Vec<StepId> = Vec::with_capacity(more.steps.len());
    for mut step in more.steps {
        step.op.map_inputs(|input| places[input.0]);
        let place = *known.entry(step_identity(&step)).or_insert_with(|| {
            graph.steps.push(step);
            StepId(graph.steps.len() - 1)
        });
        places.push(place);
    }
    graph.source = graph.source.take().or(more.source);
    places
}
