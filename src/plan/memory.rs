//! What every node is predicted to hold, by walking through its list with the costs of its layers.

use super::Walk;
use super::edges::travelling;
use crate::ids::{NodeId, StageId};
use crate::partition::Partition;
use crate::schedule::{Action, Compute, Direction, Layout, SharedSum, Work};
use brigade_layer::{Cost, LayerIndex, LayerShapes, Network, ParamSpec, Precision, TensorSpec};
use serde::Serialize;

/// Bytes that a node is predicted to hold, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NodeMemory {
    /// Values of its parameters.
    pub parameter_bytes: u64,
    /// Their gradients.
    pub gradient_bytes: u64,
    /// The optimizer's state.
    pub optimizer_bytes: u64,
    /// The most that a training step holds beside: what its stages keep for their backward passes,
    /// and what the layer at work takes.
    pub working_bytes: u64,
    /// Tensors on their way to it in a training step: all slots of all lanes that lead to it, and
    /// the gradients of shared parameters that are summed here. Between processes also those on
    /// their way from it.
    pub slot_bytes: u64,
    /// The most that an evaluation or prediction holds beside parameters, gradients and state.
    pub forward_bytes: u64,
}

impl NodeMemory {
    /// Altogether, at the worst moment.
    pub fn peak_bytes(&self) -> u64 {
        let stays = [self.gradient_bytes, self.optimizer_bytes];
        let stays = stays
            .into_iter()
            .fold(self.parameter_bytes, u64::saturating_add);
        let step = self.working_bytes.saturating_add(self.slot_bytes);
        stays.saturating_add(step.max(self.forward_bytes))
    }
}

/// What prediction needs to know.
pub(super) struct Prediction<'a> {
    pub(super) network: &'a Network,
    pub(super) partition: &'a Partition,
    pub(super) layout: &'a Layout,
    pub(super) shapes: &'a [LayerShapes],
    /// States of the optimizer for each parameter.
    pub(super) states: usize,
    pub(super) threads: usize,
    /// Whether nodes are in several processes: what is sent stays with its sender until it has
    /// left.
    pub(super) across: bool,
    /// In which numbers tensors travel, and in which products are computed.
    pub(super) wire: Precision,
    pub(super) precision: Precision,
}

impl Prediction<'_> {
    pub(super) fn of(&self, node: NodeId, training: &Walk, forward: &Walk) -> NodeMemory {
        let parameter_bytes = self.parameters_of(node).map(|param| param.bytes()).sum();
        let gradient_bytes = self.gradient_bytes(node);
        let sums = self.layout.shared.iter();
        let shared: u64 = sums.map(|sum| self.shared_bytes(node, sum)).sum();
        NodeMemory {
            parameter_bytes,
            gradient_bytes,
            optimizer_bytes: gradient_bytes.saturating_mul(self.states as u64),
            working_bytes: self.working_bytes(node, training),
            slot_bytes: self.slot_bytes(node, training).saturating_add(shared),
            forward_bytes: (self.working_bytes(node, forward))
                .saturating_add(self.slot_bytes(node, forward)),
        }
    }

    fn parameters_of(&self, node: NodeId) -> impl Iterator<Item = ParamSpec> {
        let stages = self.layout.placement.stages_on(node);
        let layers = stages.flat_map(|stage| self.partition.layers_of(stage));
        layers.flat_map(|layer| self.network.layers()[layer].spec.param_specs())
    }

    fn gradient_bytes(&self, node: NodeId) -> u64 {
        let trained = self.parameters_of(node).filter(|param| param.trains);
        trained.map(|param| param.bytes()).sum()
    }

    /// Parameters, gradients and the optimizer's state: held whatever the order of work.
    pub(super) fn stays_bytes(&self, node: NodeId) -> u64 {
        let parameters: u64 = self.parameters_of(node).map(|param| param.bytes()).sum();
        let gradients = self.gradient_bytes(node);
        parameters.saturating_add(gradients.saturating_mul(1 + self.states as u64))
    }

    /// What a stage takes and keeps for a micro-batch: of its layers that train.
    pub(super) fn stage_cost(&self, stage: StageId) -> Cost {
        let mut sum = Cost::default();
        for layer in self.partition.layers_of(stage) {
            let cost = self.shapes[layer].cost;
            let trains = self.network.needs_gradient(LayerIndex::new(layer as u32));
            let forward_only = Cost {
                forward_flops: cost.forward_flops,
                ..Cost::default()
            };
            sum = sum + if trains { cost } else { forward_only };
        }
        sum
    }

    /// What a stage hands over to others on its node by this work, and what it takes from them:
    /// tensors that lie there in between.
    fn handed_over(&self, compute: Compute) -> (u64, u64) {
        let direction = match compute.work {
            Work::F => Direction::Forward,
            Work::I | Work::B => Direction::Backward,
            Work::W => return (0, 0),
        };
        let (mut given, mut taken) = (0, 0);
        for route in &self.layout.routes {
            if route.lane.direction == direction && !self.layout.crosses(route) {
                let edge = self.network.edges()[route.lane.edge.index()];
                let bytes = self.shapes[edge.from.index()].outputs[edge.output].bytes();
                given += if route.from == compute.stage {
                    bytes
                } else {
                    0
                };
                taken += if route.to == compute.stage { bytes } else { 0 };
            }
        }
        (given, taken)
    }

    /// The most that is kept and worked on at once.
    fn working_bytes(&self, node: NodeId, walk: &Walk) -> u64 {
        let trains = walk.lowered.nodes[node.index()].contains(&Action::Step);
        let mut held = self.prepared_bytes(node);
        let mut peak = held;
        for action in &walk.lowered.nodes[node.index()] {
            let Action::Compute(compute) = action else {
                continue;
            };
            let around = self.skipping_bytes(compute.stage);
            let layers = self.partition.layers_of(compute.stage);
            let forward = compute.work == Work::F;
            for at in 0..layers.len() {
                // Forward from the first layer to the last, backward the other way.
                let layer = if forward {
                    layers.start + at
                } else {
                    layers.end - 1 - at
                };
                let LayerShapes {
                    inputs,
                    outputs,
                    cost,
                } = &self.shapes[layer];
                let needs = self.network.needs_gradient(LayerIndex::new(layer as u32));
                if !forward && !needs {
                    continue;
                }
                let threads = cost.thread_bytes.saturating_mul(self.threads as u64 - 1);
                let (given, takes) = match compute.work {
                    Work::F => (inputs, cost.forward_working_bytes),
                    Work::I | Work::W | Work::B => (outputs, cost.backward_working_bytes),
                };
                let given: u64 = given.iter().map(TensorSpec::bytes).sum();
                let beside = around + given + takes;
                peak = peak.max(held.saturating_add(beside).saturating_add(threads));
                held = match compute.work {
                    Work::F if trains && needs => held.saturating_add(cost.stash_bytes),
                    Work::F => held,
                    Work::I => {
                        (held.saturating_add(cost.kept_bytes)).saturating_sub(cost.stash_bytes)
                    }
                    Work::W => held.saturating_sub(cost.kept_bytes),
                    Work::B => held.saturating_sub(cost.stash_bytes),
                };
            }
            let (given, taken) = self.handed_over(*compute);
            held = held.saturating_add(given).saturating_sub(taken);
            peak = peak.max(held);
        }
        peak
    }

    /// What layers prepare once for all micro-batches.
    fn prepared_bytes(&self, node: NodeId) -> u64 {
        if self.precision != Precision::Bf16 {
            return 0;
        }
        let stages = self.layout.placement.stages_on(node);
        let layers = stages.flat_map(|stage| self.partition.layers_of(stage));
        layers
            .map(|layer| self.shapes[layer].cost.prepared_bytes)
            .sum()
    }

    /// Values that lie ready for a later layer while others are at work, and their gradients.
    fn skipping_bytes(&self, stage: StageId) -> u64 {
        let layers = self.partition.layers_of(stage);
        let skips = self.network.edges().iter().filter(|edge| {
            let (from, to) = (edge.from.index(), edge.to.index());
            to > from + 1 && (layers.contains(&from) || layers.contains(&to))
        });
        skips
            .map(|edge| self.shapes[edge.from.index()].outputs[edge.output].bytes())
            .sum()
    }

    fn slot_bytes(&self, node: NodeId, walk: &Walk) -> u64 {
        let crossing = self.layout.routes.iter().filter(|route| {
            let placement = &self.layout.placement;
            let (from, to) = (placement.node_of(route.from), placement.node_of(route.to));
            self.layout.crosses(route) && (to == node || self.across && from == node)
        });
        crossing
            .map(|route| {
                let edge = self.network.edges()[route.lane.edge.index()];
                let tensor = self.shapes[edge.from.index()].outputs[edge.output];
                let tensor = travelling(tensor, self.wire);
                u64::from(walk.lowered.slots.of(route.lane)).saturating_mul(tensor.bytes())
            })
            .fold(0, u64::saturating_add)
    }

    /// Gradients of other nodes' holders, on the node that sums them.
    fn shared_bytes(&self, node: NodeId, sum: &SharedSum) -> u64 {
        let placed = |(_, stage): &(LayerIndex, StageId)| self.layout.placement.node_of(*stage);
        let Some(first) = sum.holders.first() else {
            return 0;
        };
        let holders = |here: bool| {
            let holders = sum.holders.iter();
            { holders }
                .filter(|holder| (placed(holder) == node) == here)
                .count() as u64
        };
        let extra = match placed(first) == node {
            true => holders(false),
            // What comes back while the own gradients are still on their way.
            false if self.across => holders(true),
            false => 0,
        };
        extra * shared_size(self.network, first.0, sum)
    }
}

/// Bytes of a shared parameter.
pub(super) fn shared_size(network: &Network, holder: LayerIndex, sum: &SharedSum) -> u64 {
    let specs = network.layers()[holder.index()].spec.param_specs();
    let shared = specs.iter().find(|param| param.shared == Some(sum.shared));
    shared.map_or(0, |param| param.bytes())
}
