//! What every node is predicted to hold, by kind.

use super::recompute::Segment;
use super::working::Effects;
use crate::ids::{NodeId, StageId};
use crate::partition::Partition;
use crate::schedule::{Layout, SharedSum};
use brigade_layer::{Cost, LayerIndex, LayerShapes, Network, ParamSpec, Precision};
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
    /// What a training step holds beside at its worst moment: what its stages keep for their
    /// backward passes, and what the layer at work takes.
    pub working_bytes: u64,
    /// Tensors on their way to it at that moment: what may have come by then and is not yet used,
    /// and the gradients of shared parameters that are summed here. Between processes also those
    /// on their way from it.
    pub slot_bytes: u64,
    /// The most that an evaluation or prediction holds beside parameters, gradients and state.
    pub forward_bytes: u64,
    /// What layers keep along a sequence, in a plan [for
    /// inference](crate::Plan::for_inference): then `forward_bytes` is what the pieces of a
    /// sequence take beside.
    pub sequence_bytes: u64,
    /// Copies while the weights are saved: the largest parameter, and pieces of it on their way.
    pub saving_bytes: u64,
    /// Copies while a checkpoint is written next to training, if that is wanted.
    pub checkpoint_bytes: u64,
}

/// Of a parameter that is saved so many bytes are on their way at once.
const PIECE_BYTES: u64 = 16 << 20;

impl NodeMemory {
    /// Altogether, at the worst moment.
    pub fn peak_bytes(&self) -> u64 {
        let training = self.working_bytes.saturating_add(self.slot_bytes);
        let forward = self.forward_bytes.saturating_add(self.sequence_bytes);
        [
            self.parameter_bytes,
            self.gradient_bytes,
            self.optimizer_bytes,
            self.checkpoint_bytes,
        ]
        .into_iter()
        .fold(
            training.max(forward).max(self.saving_bytes),
            u64::saturating_add,
        )
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
    /// What copies may take while a checkpoint is written next to training.
    pub(super) saving_bytes: u64,
}

impl Prediction<'_> {
    /// What a node holds that walks through its lists with these effects.
    pub(super) fn of(
        &self,
        node: NodeId,
        training: &Effects<'_>,
        forward: &Effects<'_>,
    ) -> NodeMemory {
        let parameter_bytes: u64 = self.parameters_of(node).map(|param| param.bytes()).sum();
        let gradient_bytes = self.gradient_bytes(node);
        let optimizer_bytes = gradient_bytes.saturating_mul(self.states as u64);
        let sums = self.layout.shared.iter();
        let shared: u64 = sums.map(|sum| self.shared_bytes(node, sum)).sum();
        let prepared = self.prepared_bytes(node);
        let [training, forward] = [training, forward].map(|effects| effects.worst(node));
        let largest = self.parameters_of(node).map(|param| param.bytes()).max();
        let largest = largest.unwrap_or(0);
        NodeMemory {
            parameter_bytes,
            gradient_bytes,
            optimizer_bytes,
            working_bytes: prepared.saturating_add(training.working_bytes),
            slot_bytes: training.slot_bytes.saturating_add(shared),
            forward_bytes: (prepared.saturating_add(forward.working_bytes))
                .saturating_add(forward.slot_bytes),
            sequence_bytes: 0,
            saving_bytes: largest + 2 * largest.min(PIECE_BYTES),
            checkpoint_bytes: match self.saving_bytes {
                0 => 0,
                most => (most.max(largest)).min(parameter_bytes.saturating_add(optimizer_bytes)),
            },
        }
    }

    /// What a node holds that goes through pieces of sequences with these effects, whether it trains
    /// otherwise or not.
    pub(super) fn generating(
        &self,
        node: NodeId,
        effects: &Effects<'_>,
        trains: bool,
    ) -> NodeMemory {
        let forward = self.of(node, effects, effects);
        let stages = self.layout.placement.stages_on(node);
        let layers = stages.flat_map(|stage| self.partition.layers_of(stage));
        let kept = layers.map(|layer| self.shapes[layer].cost.sequence_bytes);
        let sequence_bytes = kept.fold(0, u64::saturating_add);
        let of_training = |bytes| if trains { bytes } else { 0 };
        NodeMemory {
            gradient_bytes: of_training(forward.gradient_bytes),
            optimizer_bytes: of_training(forward.optimizer_bytes),
            checkpoint_bytes: of_training(forward.checkpoint_bytes),
            working_bytes: 0,
            slot_bytes: 0,
            saving_bytes: 0,
            sequence_bytes,
            ..forward
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

    /// What a stage takes and keeps for a micro-batch: of its layers that train. A layer that is
    /// computed again keeps the inputs of its segment instead of its own, and its I takes its F.
    pub(super) fn stage_cost(&self, stage: StageId, segments: &[Segment]) -> Cost {
        let mut sum = Cost::default();
        for layer in self.partition.layers_of(stage) {
            let cost = self.shapes[layer].cost;
            let trains = self.network.needs_gradient(LayerIndex::new(layer as u32));
            let forward_only = Cost {
                forward_flops: cost.forward_flops,
                ..Cost::default()
            };
            sum = sum + if trains { cost } else { forward_only };
            if segments
                .iter()
                .any(|segment| segment.layers.contains(&layer))
                && trains
            {
                sum.stash_bytes -= cost.stash_bytes;
            }
        }
        for segment in segments {
            sum.input_flops = sum.input_flops.saturating_add(segment.flops(self.shapes));
            let kept = segment.kept.iter();
            sum.stash_bytes += kept.map(|value| self.value_bytes(*value)).sum::<u64>();
        }
        sum
    }

    /// Bytes of an output of a layer.
    pub(super) fn value_bytes(&self, (layer, output): (LayerIndex, usize)) -> u64 {
        self.shapes[layer.index()].outputs[output].bytes()
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
