//! The contiguous partition with the smallest bottleneck, whatever the costs and the placement.
//!
//! The bottleneck is the largest load of a node, which is the sum of the loads of its stages, or
//! the busiest link. With one stage a node, dynamic programming finds the optimum ([`single`]).
//! With several, their sums couple the cuts: a good partition is found first, made better by
//! moving cuts, and then better ones are searched for until there are none ([`several`]).

use super::Partition;
use crate::ids::{LayerIndex, NodeId, StageId};
use crate::placement::Placement;
use std::ops::Range;

mod local;
mod search;
mod several;
mod single;
mod steps;
mod work;

/// What it takes to put layers on a stage. Times are for one micro-batch, in any one unit.
///
/// Nothing is below 0, and nothing but [`limit`](Self::limit) is infinite. What never falls when a
/// layer is added at either end is asked for on its own, since it says where a search may stop.
pub trait StageCosts {
    /// How many layers there are.
    fn layers(&self) -> usize;

    /// Which node computes which stage.
    fn placement(&self) -> &Placement;

    /// What a stage of these layers adds to the load of its node: computing at the node's speed,
    /// and transfers that keep both ends busy.
    fn load(&self, stage: StageId, layers: Range<usize>) -> f64;

    /// Computing alone: at most the load. It never falls when a layer is added at either end, and
    /// layers together take at least what they take apart.
    fn least_load(&self, stage: StageId, layers: Range<usize>) -> f64;

    /// What the stage adds to the bytes that its node holds.
    fn bytes(&self, stage: StageId, layers: Range<usize>) -> f64;

    /// The part of the bytes that never falls when a layer is added at either end.
    fn least_bytes(&self, stage: StageId, layers: Range<usize>) -> f64;

    /// The most bytes that a node may hold; infinite where there is no limit.
    fn limit(&self, node: NodeId) -> f64;

    /// How long the cut before layer `cut`, between `stage` and the next one, keeps a link of its
    /// own busy; 0 where transfers are part of the loads or cost nothing.
    fn link(&self, stage: StageId, cut: usize) -> f64;
}

/// The best partition that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimum {
    /// The layers of every stage.
    pub partition: Partition,
    /// The largest load of a node, or the busiest link.
    pub bottleneck: f64,
    /// Whether there is none with a smaller bottleneck; otherwise the search gave up looking.
    pub proven: bool,
}

/// No partition fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", match .proven {
    true => "no partition gives every stage a layer and fits the memory of every node",
    false => "no partition was found that fits the memory of every node",
})]
pub struct NoPartition {
    /// Whether there is none; otherwise the search gave up looking.
    pub proven: bool,
}

/// The partition with the smallest bottleneck of those that give every stage a layer and every
/// node no more bytes than it may hold. The same costs give the same partition.
///
/// With one stage a node it is always the optimum. With several it is where there are few layers or
/// few stages; otherwise the search gives up after about a second.
///
/// # Errors
/// When none fits, or none was found.
///
/// # Example
/// ```
/// use brigade::ids::NodeCount;
/// use brigade::partition::{ChainCosts, optimum};
/// use brigade::placement::Placement;
/// let placement = Placement::v_shaped(NodeCount::new(2));
/// let best = optimum(&ChainCosts::new(&[1.0, 2.0, 3.0, 3.0, 1.0, 4.0], &placement))?;
/// assert_eq!((best.bottleneck, best.proven), (7.0, true));
/// assert_eq!(best.partition.cuts(), [2, 3, 5]);
/// # Ok::<(), brigade::partition::NoPartition>(())
/// ```
pub fn optimum(costs: &impl StageCosts) -> Result<Optimum, NoPartition> {
    let stages = costs.placement().stages().index();
    if stages == 0 || stages > costs.layers() {
        return Err(NoPartition { proven: true });
    }
    let (cuts, proven) = match stages == costs.placement().nodes().index() {
        true => (
            single::solve(costs).ok_or(NoPartition { proven: true })?,
            true,
        ),
        false => several::solve(costs)?,
    };
    debug_assert!(excess(costs, &cuts) <= 0.0, "it fits");
    let ends = cuts[1..].iter().map(|end| LayerIndex::new(*end as u32));
    Ok(Optimum {
        bottleneck: bottleneck(costs, &cuts),
        partition: Partition {
            ends: ends.collect(),
        },
        proven,
    })
}

/// The layers of a stage. `cuts` holds where every stage starts, and the number of layers.
fn layers_of(cuts: &[usize], stage: usize) -> Range<usize> {
    cuts[stage]..cuts[stage + 1]
}

fn stage_id(stage: usize) -> StageId {
    StageId::new(stage as u32)
}

/// The load of a node. Always summed in the same order, so that equal partitions are equal.
fn node_load(costs: &impl StageCosts, cuts: &[usize], node: NodeId) -> f64 {
    let stages = costs.placement().stages_on(node);
    stages
        .map(|stage| costs.load(stage, layers_of(cuts, stage.index())))
        .sum()
}

fn node_bytes(costs: &impl StageCosts, cuts: &[usize], node: NodeId) -> f64 {
    let stages = costs.placement().stages_on(node);
    stages
        .map(|stage| costs.bytes(stage, layers_of(cuts, stage.index())))
        .sum()
}

/// How far a node is above its limit.
fn node_excess(costs: &impl StageCosts, cuts: &[usize], node: NodeId) -> f64 {
    match costs.limit(node) {
        limit if limit < f64::INFINITY => (node_bytes(costs, cuts, node) - limit).max(0.0),
        _ => 0.0,
    }
}

fn excess(costs: &impl StageCosts, cuts: &[usize]) -> f64 {
    let nodes = costs.placement().nodes().iter();
    nodes.map(|node| node_excess(costs, cuts, node)).sum()
}

fn bottleneck(costs: &impl StageCosts, cuts: &[usize]) -> f64 {
    let nodes = costs.placement().nodes().iter();
    let loads = nodes.map(|node| node_load(costs, cuts, node));
    let links = (1..cuts.len() - 1).map(|cut| costs.link(stage_id(cut - 1), cuts[cut]));
    loads.chain(links).fold(0.0, f64::max)
}
