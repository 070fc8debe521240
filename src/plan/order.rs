//! A schedule is asked for its order, with what is known of the costs; and asked again with tighter
//! limits while a node would hold more than it may.

use super::memory::Prediction;
use super::{NodeMemory, PassKind, Walk, forward_rows};
use crate::batch::MiniBatch;
use crate::error::PlanError;
use crate::ids::{NodeId, StageId};
use crate::schedule::{Costs, Definition, Schedule, Task, Times, Work};

/// So often a schedule may try again.
const ROUNDS: usize = 8;

/// An order, and what it takes.
pub(super) struct Ordered {
    pub(super) definition: Definition,
    pub(super) training: Walk,
    pub(super) memory: Vec<NodeMemory>,
}

pub(super) fn order(
    schedule: &dyn Schedule,
    prediction: &Prediction<'_>,
    batch: MiniBatch,
    limit_of: &dyn Fn(NodeId) -> Option<u64>,
) -> Result<Ordered, PlanError> {
    let layout = prediction.layout;
    let forward_batch = batch.with_rows(forward_rows(batch, layout.nodes().index()));
    let forward = Walk::forward(PassKind::Evaluate, layout, forward_batch)?;
    let mut costs = costs(prediction);
    // What does not even fit one micro-batch is ordered all the same, so that it can be said how
    // much it needs.
    let least: Vec<f64> = (layout.nodes().iter())
        .map(|node| {
            let stages = layout.placement.stages_on(node);
            let kept = stages.map(|stage| costs.kept[stage.index()]);
            kept.map(|[whole, rest]| whole.max(rest)).sum()
        })
        .collect();
    if layout.nodes().iter().any(|node| limit_of(node).is_some()) {
        let free = |node| {
            let most = limit_of(node).unwrap_or(u64::MAX);
            most.saturating_sub(prediction.stays_bytes(node)) as f64
        };
        let free = layout.nodes().iter().map(free);
        costs.limits = free
            .zip(&least)
            .map(|(free, least)| free.max(*least))
            .collect();
    }
    let mut best: Option<Ordered> = None;
    for _ in 0..ROUNDS {
        let task = Task::new(layout.placement.clone(), batch.micro_batches());
        let definition = schedule.define(&task.with_costs(costs.clone()))?;
        if (best.as_ref()).is_some_and(|before| before.definition == definition) {
            break;
        }
        let training = Walk::new(PassKind::Train, &definition, layout, batch)?;
        let nodes = layout.nodes().iter();
        let memory: Vec<_> = nodes
            .map(|node| prediction.of(node, &training, &forward))
            .collect();
        let mut fits = true;
        for (node, memory) in layout.nodes().iter().zip(&memory) {
            let most = limit_of(node);
            let over = most.map_or(0, |most| memory.peak_bytes().saturating_sub(most));
            if over > 0 {
                fits = false;
                let limit = &mut costs.limits[node.index()];
                let used = most_kept(&definition, node, &costs.kept);
                *limit = (limit.min(used) - over as f64).max(least[node.index()]);
            }
        }
        best = Some(Ordered {
            definition,
            training,
            memory,
        });
        if fits {
            break;
        }
    }
    Ok(best.expect("the first round ends in an order or an error"))
}

/// By operations and bytes, as the layers count them.
fn costs(prediction: &Prediction<'_>) -> Costs {
    let stages = prediction.partition.stages();
    let mut times = Times::equal(stages.index(), 0.0, 0.0, 0.0);
    let mut kept = vec![[0.0; 2]; stages.index()];
    for stage in stages.iter() {
        let (at, cost) = (stage.index(), prediction.stage_cost(stage));
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
