//! Graphs of several platforms become one, so that what they have in common is done once.

use std::collections::HashMap;

use crate::graph::{Graph, Op, StepId};
use crate::solve::step_identity;

/// Adds the steps of `more` to `graph`, except for those that are there already. Returns where each step is now.
pub(crate) fn merge(graph: &mut Graph, more: Graph) -> Vec<StepId> {
    let mut known: HashMap<_, StepId> =
        graph.steps.iter().enumerate().map(|(index, step)| (step_identity(step), StepId(index))).collect();
    let mut places: Vec<StepId> = Vec::with_capacity(more.steps.len());
    for mut step in more.steps {
        step.op.map_inputs(|input| places[input.0]);
        let identity = step_identity(&step);
        let place = match known.get(&identity) {
            Some(place) => {
                let there = &mut graph.steps[place.0];
                // What is fetched for several is called after the last of them, as BuildKit has it.
                if matches!(there.op, Op::Http(_) | Op::Git(_)) {
                    there.name = step.name;
                    there.lines = step.lines;
                }
                *place
            }
            None => {
                graph.steps.push(step);
                let place = StepId(graph.steps.len() - 1);
                known.insert(identity, place);
                place
            }
        };
        places.push(place);
    }
    graph.source = graph.source.take().or(more.source);
    places
}
