//! An order made to measure: after ZB-1P and ZB-2P (Qi, Wan, Huang, Lin: "Zero Bubble Pipeline
//! Parallelism", ICLR 2024, arXiv 2401.10241), for stages that need not be equal.

mod greedy;
mod pipeline;
mod replay;
mod search;
mod tune;

use super::{Compute, Definition, Task, Work};
use crate::error::PlanError;
use crate::ids::{MicroBatchId, NodeId, StageCount, StageId};
use crate::schedule::{Costs, Times};
use pipeline::{Order, Pipeline};

/// How much is tried, in actions ordered: what keeps big schedules quick.
const TUNED_ACTIONS: usize = 10_000_000;
const SEARCHED_ACTIONS: usize = 4_000_000;
/// More is no use.
const TUNED: usize = 200;
const SEARCHED: usize = 2_000;
/// Fewer would not get far.
const TUNED_AT_LEAST: usize = 40;

/// Orders F, I and W so that a step takes the shortest time within the limits, for the given times
/// of every stage and of the links; and as shortest goes, so that no node is at work for long.
/// Without costs, everything takes the same, and a node may keep 2 P micro-batches, as in ZB-2P.
///
/// # How
/// Many orders, of which the best one counts: 1F1B and ZB-H1 as far as the limits allow, and what
/// nodes do that follow rules of thumb. A node prefers I to F to W; the rules say how far it runs
/// ahead, how many Ws it puts off and how long others may wait for it. They are tuned one at a
/// time. Small changes to the best order come last.
///
/// Never slower than 1F1B under the same limits. Depends on nothing but the task: no clock, no
/// chance.
///
/// # Memory
/// At no moment does a node keep more than its limit. With a limit of P micro-batches this is
/// ZB-1P, as fast as ZB-H1. With 2 P it is ZB-2P: given enough micro-batches, nodes hardly wait
/// from their first F to their last W, and a step takes hardly longer than the last node must.
///
/// # Takes
/// In the order of P M log P for each order tried; fewer are tried the longer they are.
///
/// # Errors
/// When a limit is too small for one micro-batch, or a node has several stages.
pub(super) fn zb_auto(task: &Task) -> Result<Definition, PlanError> {
    if task.placement.chunks() != Some(1) {
        return Err(illegal(
            "several stages on a node: it orders one on each".into(),
            "1 chunk".into(),
        ));
    }
    let pipeline = pipeline(task)?;
    let order = best(&pipeline);
    let mut nodes = vec![Vec::new(); task.nodes().index()];
    for (stage, parts) in task.placement.stages().iter().zip(&order) {
        nodes[task.placement.node_of(stage).index()] = row(stage, parts);
    }
    Ok(nodes.into())
}

fn best(pipeline: &Pipeline) -> Order {
    let actions = (3 * pipeline.stages() * pipeline.micro_batches).max(1);
    let tuned = (TUNED_ACTIONS / actions).clamp(TUNED_AT_LEAST, TUNED);
    let searched = (SEARCHED_ACTIONS / actions).min(SEARCHED);
    search::search(pipeline, tune::tune(pipeline, tuned), searched)
}

fn row(stage: StageId, parts: &[Work]) -> Vec<Compute> {
    let mut next = pipeline::Done::default();
    let compute = |work: &Work| {
        let micro_batch = match work {
            Work::F => next.forward,
            Work::I => next.input,
            Work::W | Work::B => next.weight,
        };
        next.count(*work);
        Compute::new(stage, *work, MicroBatchId::new(micro_batch as u32))
    };
    parts.iter().map(compute).collect()
}

fn pipeline(task: &Task) -> Result<Pipeline, PlanError> {
    let stages = task.placement.stages();
    let costs = task.costs.clone().unwrap_or_default();
    let equal = Times::equal(stages.index(), 1.0, 1.0, 1.0);
    let known = [
        &costs.times.forward,
        &costs.times.input,
        &costs.times.weight,
    ];
    // Where nothing takes time, every order is as good as any.
    let known = known
        .into_iter()
        .flatten()
        .any(|time| sane(Some(time)) > 0.0);
    let times = if known { &costs.times } else { &equal };
    let mut pipeline = Pipeline {
        micro_batches: task.micro_batches.index(),
        times: Vec::new(),
        link: sane(Some(&times.links.slowest())),
        kept: Vec::new(),
        limits: Vec::new(),
    };
    for stage in stages.iter() {
        let parts = [&times.forward, &times.input, &times.weight];
        let (kept, limit) = room(&costs, stage, task.placement.node_of(stage), stages)?;
        pipeline
            .times
            .push(parts.map(|part| sane(part.get(stage.index()))));
        pipeline.kept.push(kept);
        pipeline.limits.push(limit);
    }
    Ok(pipeline)
}

/// What a stage keeps of a micro-batch, and the most that its node may keep.
fn room(
    costs: &Costs,
    stage: StageId,
    node: NodeId,
    stages: StageCount,
) -> Result<([f64; 2], f64), PlanError> {
    let kept = costs.kept.get(stage.index()).unwrap_or(&[1.0; 2]);
    let kept = kept.map(|kept| kept.max(0.0));
    let needs = kept[0].max(kept[1]);
    let limit = costs.limits.get(node.index()).copied();
    let limit = limit.unwrap_or(2.0 * stages.index() as f64 * needs);
    let fits = needs.is_finite() && needs <= limit;
    fits.then_some((kept, limit)).ok_or_else(|| {
        illegal(
            format!("a limit of {limit} on node {node}: one micro-batch needs {needs}"),
            format!("a limit of {needs}"),
        )
    })
}

/// What nobody knows, or nobody can have measured, takes no time.
fn sane(time: Option<&f64>) -> f64 {
    let time = time.copied().filter(|time| time.is_finite());
    time.unwrap_or(0.0).max(0.0)
}

fn illegal(reason: String, nearest: String) -> PlanError {
    PlanError::Illegal {
        schedule: "zb-auto".into(),
        reason,
        nearest,
    }
}
