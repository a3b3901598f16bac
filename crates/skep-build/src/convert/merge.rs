//! Graphs of several platforms become one, so that what they have in common is done once.

use crate::graph::{Graph, Op, Step, StepId};
use crate::solve::same;

/// Adds the steps of `more` to `graph`, except for those that are there already. Returns where each step is now.
pub(crate) fn merge(graph: &mut Graph, more: Graph) -> Vec<StepId> {
    let mut places: Vec<StepId> = Vec::with_capacity(more.steps.len());
    for mut step in more.steps {
        step.op.map_inputs(|input| places[input.0]);
        let known = graph.steps.iter().position(|other| is_same(other, &step));
        places.push(known.map(StepId).unwrap_or_else(|| {
            graph.steps.push(step);
            StepId(graph.steps.len() - 1)
        }));
    }
    graph.source = graph.source.take().or(more.source);
    places
}

fn is_same(one: &Step, other: &Step) -> bool {
    let anywhere = matches!(other.op, Op::Local(_) | Op::Http(_) | Op::Git(_));
    (anywhere || one.platform == other.platform)
        && one.ignore_cache == other.ignore_cache
        && one.op.inputs() == other.op.inputs()
        && same(&one.op, &other.op)
}
