//! The costs of layers one after the other, on nodes of their own speeds with links between them.

use super::StageCosts;
use crate::ids::{NodeId, StageId};
use crate::placement::Placement;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// How the transfers at a cut count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CutCost {
    /// They are added to the loads of both stages.
    Both,
    /// They overlap with computing: a link of its own.
    #[default]
    Link,
}

/// What a chain of layers takes: computing adds up, transfers depend on the cut and the two nodes.
/// A cut between two stages of one node costs nothing.
pub struct ChainCosts<'a, T = fn(usize, NodeId, NodeId) -> f64> {
    placement: &'a Placement,
    /// Times of the first layers together, at speed 1.
    times: Vec<f64>,
    /// Of every node.
    speeds: Vec<f64>,
    transfer: T,
    cut_cost: CutCost,
    memory: Option<Sums>,
}

/// The bytes that a chain of layers takes. Every list has a number for each of what it is for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChainMemory {
    /// For every layer: what is there once, such as weights, gradients and optimizer state.
    pub once: Vec<f64>,
    /// For every layer: what it keeps of each micro-batch that is under way.
    pub each: Vec<f64>,
    /// For every stage: of how many micro-batches it keeps that.
    pub kept: Vec<f64>,
    /// For every layer: what it takes while it is at work. Of a stage's layers the largest counts;
    /// the stages of a node are summed.
    pub working: Vec<f64>,
    /// For every layer: what crosses a cut before it, in one slot. The first is never asked for.
    pub slot: Vec<f64>,
    /// For every stage: how many slots it has at each of its two cuts, where another node is on the
    /// other side.
    pub slots: Vec<f64>,
    /// For every node: the most that it may hold; infinite where there is no limit.
    pub limits: Vec<f64>,
}

/// The same, ready to be asked for ranges.
struct Sums {
    memory: ChainMemory,
    once: Vec<f64>,
    each: Vec<f64>,
    /// The largest of each power of two layers, from every layer on.
    working: Vec<Vec<f64>>,
}

impl<'a> ChainCosts<'a> {
    /// Layers of these times on nodes that are all as fast, with transfers and memory for nothing.
    pub fn new(times: &[f64], placement: &'a Placement) -> Self {
        ChainCosts {
            placement,
            times: sums(times),
            speeds: vec![1.0; placement.nodes().index()],
            transfer: |_, _, _| 0.0,
            cut_cost: CutCost::Link,
            memory: None,
        }
    }
}

impl<'a, T> ChainCosts<'a, T> {
    /// The speed of every node, above 0: a layer takes its time over the speed.
    #[must_use]
    pub fn speeds(mut self, speeds: &[f64]) -> Self {
        debug_assert_eq!(speeds.len(), self.placement.nodes().index());
        self.speeds = speeds.to_vec();
        self
    }

    /// What the transfers at a cut take: `transfer(cut, from, to)` is the time for the cut before
    /// layer `cut`, between the node of the stage before and the node of the stage after.
    #[must_use]
    pub fn transfers<F>(self, cut_cost: CutCost, transfer: F) -> ChainCosts<'a, F>
    where
        F: Fn(usize, NodeId, NodeId) -> f64,
    {
        ChainCosts {
            placement: self.placement,
            times: self.times,
            speeds: self.speeds,
            transfer,
            cut_cost,
            memory: self.memory,
        }
    }

    /// What the layers take of the nodes' memory.
    #[must_use]
    pub fn memory(mut self, memory: ChainMemory) -> Self {
        let mut working = vec![memory.working.clone()];
        let mut width = 1;
        while width * 2 <= memory.working.len() {
            let last = &working[working.len() - 1];
            let pairs = last.iter().zip(&last[width..]);
            working.push(pairs.map(|(a, b)| a.max(*b)).collect());
            width *= 2;
        }
        self.memory = Some(Sums {
            once: sums(&memory.once),
            each: sums(&memory.each),
            working,
            memory,
        });
        self
    }

    /// The nodes on both sides of the cut between a stage and the next, if they are two.
    fn ends(&self, stage: usize) -> Option<(NodeId, NodeId)> {
        if stage + 1 >= self.placement.stages().index() {
            return None;
        }
        let node = |stage: usize| self.placement.node_of(StageId::new(stage as u32));
        let (from, to) = (node(stage), node(stage + 1));
        (from != to).then_some((from, to))
    }

    /// The sum over both cuts of a stage, where another node is on the other side.
    fn at_cuts(
        &self,
        stage: StageId,
        layers: &Range<usize>,
        cost: impl Fn(usize, NodeId, NodeId) -> f64,
    ) -> f64 {
        let before = stage.index().checked_sub(1);
        let before = before.and_then(|before| self.ends(before));
        let [before, after] = [
            (before, layers.start),
            (self.ends(stage.index()), layers.end),
        ]
        .map(|(ends, cut)| ends.map_or(0.0, |(from, to)| cost(cut, from, to)));
        before + after
    }
}

impl<T: Fn(usize, NodeId, NodeId) -> f64> StageCosts for ChainCosts<'_, T> {
    fn layers(&self) -> usize {
        self.times.len() - 1
    }

    fn placement(&self) -> &Placement {
        self.placement
    }

    fn load(&self, stage: StageId, layers: Range<usize>) -> f64 {
        let transfers = match self.cut_cost {
            CutCost::Both => self.at_cuts(stage, &layers, &self.transfer),
            CutCost::Link => 0.0,
        };
        self.least_load(stage, layers) + transfers
    }

    fn least_load(&self, stage: StageId, layers: Range<usize>) -> f64 {
        let node = self.placement.node_of(stage);
        (self.times[layers.end] - self.times[layers.start]) / self.speeds[node.index()]
    }

    fn bytes(&self, stage: StageId, layers: Range<usize>) -> f64 {
        let Some(sums) = &self.memory else { return 0.0 };
        let slot = |cut: usize, _, _| sums.memory.slot[cut];
        let slots = sums.memory.slots[stage.index()] * self.at_cuts(stage, &layers, slot);
        self.least_bytes(stage, layers) + slots
    }

    fn least_bytes(&self, stage: StageId, layers: Range<usize>) -> f64 {
        self.memory.as_ref().map_or(0.0, |sums| {
            let between = |sums: &[f64]| sums[layers.end] - sums[layers.start];
            let kept = sums.memory.kept[stage.index()];
            between(&sums.once) + kept * between(&sums.each) + sums.working(&layers)
        })
    }

    fn limit(&self, node: NodeId) -> f64 {
        let memory = self.memory.as_ref();
        memory.map_or(f64::INFINITY, |sums| sums.memory.limits[node.index()])
    }

    fn link(&self, stage: StageId, cut: usize) -> f64 {
        match (self.cut_cost, self.ends(stage.index())) {
            (CutCost::Link, Some((from, to))) => (self.transfer)(cut, from, to),
            _ => 0.0,
        }
    }
}

impl Sums {
    /// The largest working bytes of some layers.
    fn working(&self, layers: &Range<usize>) -> f64 {
        let Some(power) = layers.len().checked_ilog2() else {
            return 0.0;
        };
        let largest = &self.working[power as usize];
        largest[layers.start].max(largest[layers.end - (1 << power)])
    }
}

/// The sums of the first values, from none to all.
fn sums(values: &[f64]) -> Vec<f64> {
    let mut sum = 0.0;
    let later = values.iter().map(|value| {
        sum += value;
        sum
    });
    std::iter::once(0.0).chain(later).collect()
}
