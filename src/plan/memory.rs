//! What every node is predicted to hold.

use super::Walk;
use crate::ids::{NodeId, StageId};
use crate::partition::Partition;
use crate::schedule::{Action, Direction, Layout, Lowered, Work};
use brigade_layer::{LayerShapes, Network};
use serde::{Deserialize, Serialize};

/// Bytes that a node is predicted to hold, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeMemory {
    /// Values of its parameters.
    pub parameter_bytes: u64,
    /// Their gradients.
    pub gradient_bytes: u64,
    /// The optimizer's state.
    pub optimizer_bytes: u64,
    /// The most that its stages keep for their backward passes at once.
    pub stash_bytes: u64,
    /// Tensors on their way to it: all slots of all lanes that lead to it.
    pub slot_bytes: u64,
    /// What its largest layer works on: inputs, outputs and their gradients.
    pub working_bytes: u64,
}

impl NodeMemory {
    /// Altogether.
    pub fn peak_bytes(&self) -> u64 {
        self.parameter_bytes
            + self.gradient_bytes
            + self.optimizer_bytes
            + self.stash_bytes
            + self.slot_bytes
            + self.working_bytes
    }
}

/// The most micro-batches that each stage keeps at once: from its F to the end of its W.
pub(super) fn stash_peaks(lowered: &Lowered, layout: &Layout) -> Vec<usize> {
    let mut peaks = vec![0usize; layout.placement.stages().index()];
    let mut kept = peaks.clone();
    for action in lowered.nodes.iter().flatten() {
        let Action::Compute(compute) = action else {
            continue;
        };
        let kept = &mut kept[compute.stage.index()];
        match compute.work {
            Work::F => *kept += 1,
            Work::W | Work::B => *kept = kept.saturating_sub(1),
            Work::I => {}
        }
        peaks[compute.stage.index()] = peaks[compute.stage.index()].max(*kept);
    }
    peaks
}

pub(super) fn predict(
    network: &Network,
    partition: &Partition,
    layout: &Layout,
    training: &Walk,
    shapes: &[LayerShapes],
    states: usize,
) -> Vec<NodeMemory> {
    let of_node = |node: NodeId| {
        let layers = || {
            layout
                .placement
                .stages_on(node)
                .flat_map(|stage| partition.layers_of(stage))
        };
        let parameter_bytes = layers()
            .flat_map(|layer| network.layers()[layer].spec.param_specs())
            .map(|param| param.bytes())
            .sum::<u64>();
        let working_bytes = layers()
            .map(|layer| {
                let inputs: u64 = shapes[layer].inputs.iter().map(|input| input.bytes()).sum();
                2 * (inputs + shapes[layer].output_bytes())
            })
            .max()
            .unwrap_or(0);
        NodeMemory {
            parameter_bytes,
            gradient_bytes: parameter_bytes,
            optimizer_bytes: parameter_bytes * states as u64,
            stash_bytes: stash_bytes(node, partition, training, shapes),
            slot_bytes: slot_bytes(node, network, layout, training, shapes),
            working_bytes,
        }
    };
    layout.nodes().iter().map(of_node).collect()
}

/// The most that is kept at once, by walking through the node's list.
fn stash_bytes(
    node: NodeId,
    partition: &Partition,
    training: &Walk,
    shapes: &[LayerShapes],
) -> u64 {
    let sum = |stage: StageId, bytes: fn(&LayerShapes) -> u64| {
        shapes[partition.layers_of(stage)]
            .iter()
            .map(bytes)
            .sum::<u64>()
    };
    let (mut held, mut peak) = (0u64, 0);
    for action in &training.lowered.nodes[node.index()] {
        let Action::Compute(compute) = action else {
            continue;
        };
        let stash = sum(compute.stage, |layer| layer.cost.stash_bytes);
        let kept = sum(compute.stage, |layer| layer.cost.kept_bytes);
        match compute.work {
            Work::F => held += stash,
            Work::I => held = (held + kept).saturating_sub(stash),
            Work::W => held = held.saturating_sub(kept),
            Work::B => held = held.saturating_sub(stash),
        }
        peak = peak.max(held);
    }
    peak
}

fn slot_bytes(
    node: NodeId,
    network: &Network,
    layout: &Layout,
    training: &Walk,
    shapes: &[LayerShapes],
) -> u64 {
    let incoming = layout
        .routes
        .iter()
        .filter(|route| layout.crosses(route) && layout.placement.node_of(route.to) == node);
    incoming
        .map(|route| {
            let edge = network.edges()[route.lane.edge.index()];
            let tensor = shapes[edge.from.index()].outputs[edge.output];
            debug_assert!(matches!(route.lane.direction, Direction::Forward) || edge.gradient);
            u64::from(training.lowered.slots.of(route.lane)) * tensor.bytes()
        })
        .sum()
}
