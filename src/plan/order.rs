//! A schedule is asked for its order, with what is known of the costs; and asked again with tighter
//! limits while a node would hold more than it may.

use super::memory::Prediction;
use super::recompute::{self, Segment};
use super::uncarried::explained;
use super::working::Surroundings;
use super::{NodeMemory, PassKind, Walk, forward_rows};
use crate::batch::MiniBatch;
use crate::config::Recompute;
use crate::error::PlanError;
use crate::ids::{NodeId, StageId};
use crate::schedule::{Costs, Definition, Layout, Lowered, Schedule, Task, Times, Work};
use std::ops::Range;

/// So often a schedule may try again.
const ROUNDS: usize = 8;

/// An order, and what it takes.
pub(super) struct Ordered {
    pub(super) definition: Definition,
    pub(super) training: Walk,
    pub(super) recomputed: Vec<Range<usize>>,
    pub(super) memory: Vec<NodeMemory>,
}

pub(super) fn order(
    schedule: &dyn Schedule,
    prediction: &Prediction<'_>,
    (batch, recompute): (MiniBatch, &Recompute),
    limit_of: &dyn Fn(NodeId) -> Option<u64>,
) -> Result<Ordered, PlanError> {
    let layout = prediction.layout;
    let forward_batch = batch.with_rows(forward_rows(batch, layout.nodes().index()));
    let forward = Walk::forward(PassKind::Evaluate, layout, forward_batch)?;
    let surroundings = Surroundings::new(prediction);
    let evaluating = surroundings.effects(&forward, &[]);
    let segments_of = |lowered: Option<&Lowered>| {
        let (network, partition) = (prediction.network, prediction.partition);
        let recomputed = recompute::segments(recompute, network, partition, lowered)?;
        let segments = recompute::by_stage(network, partition, &recomputed);
        Ok::<_, PlanError>((recomputed, segments))
    };
    let (_, mut segments) = segments_of(None)?;
    let free = |node| {
        let most = limit_of(node).unwrap_or(u64::MAX);
        most.saturating_sub(prediction.stays_bytes(node)) as f64
    };
    let mut limits = match layout.nodes().iter().any(|node| limit_of(node).is_some()) {
        true => layout.nodes().iter().map(free).collect(),
        false => Vec::new(),
    };
    let mut best: Option<Ordered> = None;
    for _ in 0..ROUNDS {
        let mut costs = costs(prediction, &segments);
        raise(&mut limits, &costs.kept, layout);
        costs.limits.clone_from(&limits);
        let task = Task::new(layout.placement.clone(), batch.micro_batches());
        let definition = schedule.define(&task.with_costs(costs.clone()))?;
        if (best.as_ref()).is_some_and(|before| before.definition == definition) {
            break;
        }
        let training = Walk::new(PassKind::Train, &definition, layout, batch)
            .map_err(|error| explained(error, prediction.network, prediction.partition))?;
        let recomputed;
        (recomputed, segments) = segments_of(Some(&training.lowered))?;
        let effects = surroundings.effects(&training, &segments);
        let nodes = layout.nodes().iter();
        let memory: Vec<_> = nodes
            .map(|node| prediction.of(node, &effects, &evaluating))
            .collect();
        let mut fits = true;
        for (node, memory) in layout.nodes().iter().zip(&memory) {
            let most = limit_of(node);
            let over = most.map_or(0, |most| memory.peak_bytes().saturating_sub(most));
            if over > 0 {
                fits = false;
                let limit = &mut limits[node.index()];
                let used = most_kept(&definition, node, &costs.kept);
                *limit = limit.min(used) - over as f64;
            }
        }
        best = Some(Ordered {
            definition,
            training,
            recomputed,
            memory,
        });
        if fits {
            break;
        }
    }
    Ok(best.expect("the first round ends in an order or an error"))
}

/// What does not even fit one micro-batch is ordered all the same, so that it can be said how much
/// it needs.
fn raise(limits: &mut [f64], kept: &[[f64; 2]], layout: &Layout) {
    for (node, limit) in layout.nodes().iter().zip(limits) {
        let stages = layout.placement.stages_on(node);
        let kept = stages.map(|stage| kept[stage.index()]);
        let least = kept.map(|[whole, rest]| whole.max(rest)).sum();
        *limit = limit.max(least);
    }
}

/// By operations and bytes, as the layers count them.
fn costs(prediction: &Prediction<'_>, segments: &[Vec<Segment>]) -> Costs {
    let stages = prediction.partition.stages();
    let mut times = Times::equal(stages.index(), 0.0, 0.0, 0.0);
    let mut kept = vec![[0.0; 2]; stages.index()];
    for (stage, segments) in stages.iter().zip(segments) {
        let (at, cost) = (stage.index(), prediction.stage_cost(stage, segments));
        times.forward[at] = cost.forward_flops as f64;
        times.input[at] = cost.input_flops as f64;
        times.weight[at] = cost.weight_flops as f64;
        kept[at] = [cost.stash_bytes as f64, cost.kept_bytes as f64];
    }
    Costs {
        times,
        kept,
        limits: Vec::new(),
    }
}

/// The most that a node's stages keep at once.
fn most_kept(definition: &Definition, node: NodeId, kept: &[[f64; 2]]) -> f64 {
    let of = |stage: StageId| kept[stage.index()];
    let (mut held, mut most) = (0.0, 0.0f64);
    for compute in &definition.nodes[node.index()] {
        let [whole, rest] = of(compute.stage);
        held += match compute.work {
            Work::F => whole,
            Work::I => rest - whole,
            Work::W => -rest,
            Work::B => -whole,
        };
        most = most.max(held);
    }
    most
}
