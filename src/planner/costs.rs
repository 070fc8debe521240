//! What it takes to put layers on a stage: of the layers of a network, for one schedule.

use super::NodeSpec;
use super::crossing::{Crossing, Traffic};
use crate::ids::{NodeId, StageId};
use crate::partition::{CutCost, Partition, StageCosts};
use crate::placement::Placement;
use crate::profile::SizeProfile;
use crate::schedule::{Action, Lowered, Work};
use brigade_layer::{LayerIndex, Network};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

/// Sums over the first layers of a list.
struct Sums(Vec<f64>);

impl Sums {
    fn new(each: impl Iterator<Item = f64>) -> Self {
        let mut sums = vec![0.0];
        for one in each {
            sums.push(sums[sums.len() - 1] + one);
        }
        Self(sums)
    }

    fn of(&self, range: &Range<usize>) -> f64 {
        self.0[range.end] - self.0[range.start]
    }
}

/// What every layer takes and holds.
pub(super) struct LayerCosts {
    time: Sums,
    /// F alone, where it is done again.
    forward: Sums,
    /// Parameters, gradients, the optimizer's state.
    stays: Sums,
    /// For every micro-batch from F to I, and from I to W.
    stash: Sums,
    kept: Sums,
    crossing: Arc<Crossing>,
}

impl LayerCosts {
    /// `again` are layers that are recomputed whatever their stage.
    pub(super) fn new(
        network: &Network,
        size: &SizeProfile,
        states: usize,
        crossing: Arc<Crossing>,
        again: &dyn Fn(usize) -> bool,
    ) -> Self {
        let layers = || size.layers.iter().enumerate();
        // What takes no part in the backward pass is not done again.
        let trains = |layer: usize| network.needs_gradient(LayerIndex::new(layer as u32));
        let again = |layer: usize| trains(layer) && again(layer);
        let time = layers().map(|(layer, _)| {
            let [forward, input, weight, _] = size.seconds(layer);
            forward + input + weight + if again(layer) { forward } else { 0.0 }
        });
        let stays = network.layers().iter().map(|layer| {
            let params = layer.spec.param_specs().into_iter();
            let bytes = params.map(|param| {
                let copies = if param.trains { 2 + states } else { 1 };
                param.bytes() as f64 * copies as f64
            });
            bytes.sum::<f64>()
        });
        let forward = |layer: usize| match trains(layer) {
            true => size.seconds(layer)[0],
            false => 0.0,
        };
        let held = |bytes: u64, layer| if again(layer) { 0.0 } else { bytes as f64 };
        Self {
            forward: Sums::new((0..size.layers.len()).map(forward)),
            time: Sums::new(time),
            stays: Sums::new(stays),
            stash: Sums::new(layers().map(|(layer, costs)| held(costs.stash_bytes, layer))),
            kept: Sums::new(layers().map(|(_, costs)| costs.kept_bytes as f64)),
            crossing,
        }
    }

    fn layers(&self) -> usize {
        self.time.0.len() - 1
    }

    /// F, I and W of all layers for one micro-batch, F twice where all are done again.
    pub(super) fn total(&self, again: bool) -> f64 {
        let all = 0..self.layers();
        self.time.of(&all) + if again { self.forward.of(&all) } else { 0.0 }
    }

    /// The dearest layer.
    pub(super) fn largest(&self) -> f64 {
        let each = self.time.0.windows(2).map(|pair| pair[1] - pair[0]);
        each.fold(0.0, f64::max)
    }
}

/// How many micro-batches a stage keeps at its node's worst moment: from F to I, and from I to W.
pub(super) type Keeps = Vec<[f64; 2]>;

/// What every stage of some lists keeps when its node keeps most, where I frees this share of what
/// F kept.
pub(super) fn keeps(lowered: &Lowered, placement: &Placement, freed: f64) -> Keeps {
    let mut worst = vec![[0.0; 2]; placement.stages().index()];
    for (node, row) in placement.nodes().iter().zip(&lowered.nodes) {
        let stages: Vec<StageId> = placement.stages_on(node).collect();
        let mut now = vec![[0.0f64; 2]; stages.len()];
        let (mut held, mut most) = (0.0, -1.0);
        for action in row {
            let Action::Compute(compute) = action else {
                continue;
            };
            let Some(at) = stages.iter().position(|stage| *stage == compute.stage) else {
                continue;
            };
            let [whole, rest] = match compute.work {
                Work::F => [1.0, 0.0],
                Work::I => [-1.0, 1.0],
                Work::W => [0.0, -1.0],
                Work::B => [-1.0, 0.0],
            };
            now[at] = [now[at][0] + whole, now[at][1] + rest];
            held += whole + (1.0 - freed) * rest;
            if held > most {
                most = held;
                for (stage, now) in stages.iter().zip(&now) {
                    worst[stage.index()] = *now;
                }
            }
        }
    }
    worst
}

/// Layers on stages on nodes.
pub(super) struct Staging<'a> {
    pub(super) layers: &'a LayerCosts,
    pub(super) placement: &'a Placement,
    pub(super) nodes: &'a [NodeSpec],
    pub(super) cut_cost: CutCost,
    pub(super) keeps: &'a Keeps,
    /// The stages that are recomputed whole.
    pub(super) again: &'a [bool],
    /// The most that every node may hold, as far as it is counted here.
    pub(super) limits: Vec<f64>,
    /// What turned out to be too much for a stage, whatever was counted.
    pub(super) too_much: Vec<(StageId, Range<usize>)>,
}

impl Staging<'_> {
    /// What messages take from one stage to another.
    fn transfer(&self, from: StageId, to: StageId, traffic: Traffic) -> f64 {
        let nodes = [from, to].map(|stage| self.placement.node_of(stage).index());
        if nodes[0] == nodes[1] {
            return 0.0;
        }
        let link = self.nodes[nodes[0]].link(&self.nodes[nodes[1]]);
        traffic.messages * link.latency + traffic.bytes * link.per_byte
    }

    /// What every stage of a cut network waits for messages to and from other nodes: each value
    /// once for every stage that reads it.
    pub(super) fn transfers(&self, network: &Network, partition: &Partition) -> Vec<f64> {
        let mut takes = vec![0.0; self.placement.stages().index()];
        let mut sent = BTreeSet::new();
        for edge in network.edges() {
            let [from, to] = [edge.from, edge.to].map(|layer| partition.stage_of(layer));
            if from != to && sent.insert((edge.from, edge.output, to)) {
                let traffic = self.layers.crossing.of(edge.id);
                let transfer = self.transfer(from, to, traffic);
                takes[from.index()] += transfer;
                takes[to.index()] += transfer;
            }
        }
        takes
    }

    fn counted_bytes(&self, stage: StageId, layers: &Range<usize>) -> f64 {
        let [whole, rest] = self.keeps.get(stage.index()).copied().unwrap_or_default();
        let of = &self.layers;
        let whole = if self.is_again(stage) { 0.0 } else { whole };
        of.stays.of(layers) + whole * of.stash.of(layers) + rest * of.kept.of(layers)
    }

    fn computing(&self, stage: StageId, layers: &Range<usize>) -> f64 {
        let node = self.placement.node_of(stage);
        let second = match self.is_again(stage) {
            true => self.layers.forward.of(layers),
            false => 0.0,
        };
        (self.layers.time.of(layers) + second) / self.nodes[node.index()].speed
    }

    fn is_again(&self, stage: StageId) -> bool {
        self.again.get(stage.index()).copied().unwrap_or(false)
    }
}

impl StageCosts for Staging<'_> {
    fn layers(&self) -> usize {
        self.layers.layers()
    }

    fn placement(&self) -> &Placement {
        self.placement
    }

    fn load(&self, stage: StageId, layers: Range<usize>) -> f64 {
        let computing = self.computing(stage, &layers);
        if self.cut_cost == CutCost::Link {
            return computing;
        }
        // Where a skip comes from and goes to depends on other cuts: as if from and to neighbours.
        let (before, after) = (stage.index().checked_sub(1), stage.index() + 1);
        let crossing = &self.layers.crossing;
        let into = before.map_or(0.0, |before| {
            self.transfer(StageId::new(before as u32), stage, crossing.comes(&layers))
        });
        let out = match after < self.placement.stages().index() {
            true => self.transfer(stage, StageId::new(after as u32), crossing.goes(&layers)),
            false => 0.0,
        };
        computing + into + out
    }

    fn least_load(&self, stage: StageId, layers: Range<usize>) -> f64 {
        self.computing(stage, &layers)
    }

    fn bytes(&self, stage: StageId, layers: Range<usize>) -> f64 {
        // Where all is kept, more layers need more; where a stage is recomputed, maybe less.
        let within = |known: &Range<usize>| match self.is_again(stage) {
            true => *known == layers,
            false => layers.start <= known.start && known.end <= layers.end,
        };
        if (self.too_much.iter()).any(|(of, known)| *of == stage && within(known)) {
            return f64::INFINITY;
        }
        self.counted_bytes(stage, &layers)
    }

    fn least_bytes(&self, stage: StageId, layers: Range<usize>) -> f64 {
        self.counted_bytes(stage, &layers)
    }

    fn limit(&self, node: NodeId) -> f64 {
        self.limits
            .get(node.index())
            .copied()
            .unwrap_or(f64::INFINITY)
    }

    fn link(&self, stage: StageId, cut: usize) -> f64 {
        match self.cut_cost {
            CutCost::Both => 0.0,
            CutCost::Link => {
                let surely = self.layers.crossing.surely(cut);
                self.transfer(stage, StageId::new(stage.get() + 1), surely)
            }
        }
    }
}
