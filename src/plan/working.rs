//! What the actions of a list take and leave, worked out once for every stage, so that a walk
//! through the list is a sum.

use super::Walk;
use super::arriving::{Arriving, Needs};
use super::edges::travelling;
use super::memory::Prediction;
use super::recompute::Segment;
use crate::ids::{LayerIndex, NodeId, StageId};
use crate::schedule::{Action, Direction, Lane, Transfer, Work};
use brigade_layer::{LayerShapes, Source, TensorSpec};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// What lies around a stage and its node, whatever the order.
pub(super) struct Surroundings<'a> {
    prediction: &'a Prediction<'a>,
    /// Values that lie ready for a later layer while others of the stage are at work, and their
    /// gradients.
    skipping: Vec<u64>,
    /// What a stage hands over to others on its node, and what it takes from them: tensors that
    /// lie there in between. Forward and backward.
    handed: Vec<[(u64, u64); 2]>,
    /// Bytes of a message, by lane.
    messages: BTreeMap<Lane, u64>,
    /// Bytes that come to a stage from other nodes before a forward and before a backward, and that
    /// leave for them after it, as layers see them.
    crossing: Vec<[(u64, u64); 2]>,
    /// What has to be done on every node before messages can come.
    needs: Vec<Needs>,
    /// Lanes that leave a node, where what is sent stays until it has left.
    leaving: Vec<Vec<Lane>>,
}

/// What a compute action does to its node's memory.
#[derive(Clone, Copy, Default)]
struct Effect {
    /// The most that it takes beyond what is held before.
    most: i128,
    /// What it leaves there, or frees.
    rest: i128,
}

/// A list with what its actions do.
pub(super) struct Effects<'a> {
    surroundings: &'a Surroundings<'a>,
    walk: &'a Walk,
    stages: Vec<[Effect; 4]>,
}

fn at(work: Work) -> usize {
    match work {
        Work::F => 0,
        Work::I => 1,
        Work::W => 2,
        Work::B => 3,
    }
}

impl<'a> Surroundings<'a> {
    pub(super) fn new(prediction: &'a Prediction<'a>) -> Self {
        let (partition, layout) = (prediction.partition, prediction.layout);
        let stages = partition.stages().index();
        // A value lies once on a stage, however many layers read it, and so does its gradient.
        let mut skipping = vec![0; stages];
        let mut counted = BTreeSet::new();
        for edge in prediction.network.edges() {
            if edge.to.index() > edge.from.index() + 1 {
                let value = (edge.from, edge.output);
                for stage in [edge.from, edge.to].map(|layer| partition.stage_of(layer)) {
                    if counted.insert((stage, value)) {
                        skipping[stage.index()] += prediction.value_bytes(value);
                    }
                }
            }
        }
        let mut handed = vec![[(0, 0); 2]; stages];
        let mut messages = BTreeMap::new();
        let mut crossing = vec![[(0, 0); 2]; stages];
        let mut leaving = vec![Vec::new(); layout.nodes().index()];
        for route in &layout.routes {
            let edge = prediction.network.edges()[route.lane.edge.index()];
            let tensor = prediction.shapes[edge.from.index()].outputs[edge.output];
            let side = usize::from(route.lane.direction == Direction::Backward);
            if layout.crosses(route) {
                crossing[route.to.index()][side].0 += tensor.bytes();
                crossing[route.from.index()][side].1 += tensor.bytes();
                messages.insert(route.lane, travelling(tensor, prediction.wire).bytes());
                if prediction.across {
                    let from = layout.placement.node_of(route.from);
                    leaving[from.index()].push(route.lane);
                }
            } else {
                handed[route.from.index()][side].0 += tensor.bytes();
                handed[route.to.index()][side].1 += tensor.bytes();
            }
        }
        Self {
            prediction,
            skipping,
            handed,
            messages,
            crossing,
            needs: Needs::of_all(layout),
            leaving,
        }
    }

    /// What comes to the stage of a message from other nodes, and what leaves.
    fn crossing(&self, transfer: &Transfer) -> (u64, u64) {
        let side = usize::from(transfer.lane.direction == Direction::Backward);
        self.crossing[transfer.stage.index()][side]
    }

    /// What the actions of a list do where these segments are computed again.
    pub(super) fn effects(&'a self, walk: &'a Walk, segments: &[Vec<Segment>]) -> Effects<'a> {
        let trains = walk.kind == super::PassKind::Train;
        let partition = self.prediction.partition;
        let stage = |stage: StageId| {
            let segments = segments.get(stage.index()).map_or(&[][..], Vec::as_slice);
            let of = |work| {
                let mut tally = Tally::new(self, stage, segments);
                match work {
                    Work::F => tally.forward(trains),
                    Work::I | Work::W | Work::B => tally.backward(work),
                }
                tally.effect
            };
            [Work::F, Work::I, Work::W, Work::B].map(of)
        };
        Effects {
            surroundings: self,
            walk,
            stages: partition.stages().iter().map(stage).collect(),
        }
    }
}

/// The worst moment of a node's list.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Worst {
    /// What is kept and worked on.
    pub(super) working_bytes: u64,
    /// Tensors on their way: a receive that was posted may have come. Between processes also what
    /// is on its way from the node.
    pub(super) slot_bytes: u64,
}

impl Effects<'_> {
    /// The moment at which most is held.
    pub(super) fn worst(&self, node: NodeId) -> Worst {
        let around = self.surroundings;
        let bytes = |lane: Lane| around.messages.get(&lane).copied().unwrap_or(0);
        let slots = &self.walk.lowered.slots;
        let leaving = around.leaving[node.index()].iter();
        let leaving = leaving.map(|lane| u64::from(slots.of(*lane)).saturating_mul(bytes(*lane)));
        let leaving = leaving.fold(0, u64::saturating_add);
        let mut arriving = Arriving::new(
            &around.needs[node.index()],
            self.walk.batch.micro_batches(),
            around.prediction.across,
        );
        let mut held = 0i128;
        let mut worst = (0, i128::from(leaving));
        let mut see = |working: i128, arriving: &Arriving<'_>| {
            let on_their_way = i128::from(arriving.bytes().saturating_add(leaving));
            if working + on_their_way > worst.0 + worst.1 {
                worst = (working, on_their_way);
            }
        };
        for action in &self.walk.lowered.nodes[node.index()] {
            match action {
                Action::Compute(compute) => {
                    let effect = self.stages[compute.stage.index()][at(compute.work)];
                    see(held + effect.most, &arriving);
                    held += effect.rest;
                    arriving.computed(*compute);
                }
                Action::Post(transfer) => {
                    arriving.post(transfer, bytes(transfer.lane));
                    see(held, &arriving);
                }
                // What travels in another form is there in both for a moment.
                Action::Wait(transfer) => {
                    let (comes, _) = around.crossing(transfer);
                    see(held + i128::from(comes), &arriving);
                    arriving.wait(transfer);
                }
                Action::Send(transfer) => {
                    let (_, leaves) = around.crossing(transfer);
                    see(held + i128::from(leaves + bytes(transfer.lane)), &arriving);
                }
                Action::SumShared(_) | Action::Exchange | Action::Step => {}
            }
        }
        let bytes = |part: i128| u64::try_from(part.max(0)).unwrap_or(u64::MAX);
        Worst {
            working_bytes: bytes(worst.0),
            slot_bytes: bytes(worst.1),
        }
    }
}

/// One action of a stage, layer after layer.
struct Tally<'a> {
    prediction: &'a Prediction<'a>,
    segments: &'a [Segment],
    layers: Range<usize>,
    skipping: u64,
    handed: [(u64, u64); 2],
    effect: Effect,
}

impl<'a> Tally<'a> {
    fn new(around: &'a Surroundings<'_>, stage: StageId, segments: &'a [Segment]) -> Self {
        Self {
            prediction: around.prediction,
            segments,
            layers: around.prediction.partition.layers_of(stage),
            skipping: around.skipping[stage.index()],
            handed: around.handed[stage.index()],
            effect: Effect::default(),
        }
    }

    fn forward(&mut self, trains: bool) {
        for layer in self.layers.clone() {
            let segment = self.segments.iter().find(|s| s.layers.contains(&layer));
            if let Some(segment) = segment.filter(|segment| segment.layers.start == layer) {
                self.keep(self.kept_bytes(segment));
            }
            let given = self.given_bytes(layer, segment);
            self.forward_of(layer, given);
            if trains && segment.is_none() && self.trains(layer) {
                self.keep(self.shapes(layer).cost.stash_bytes);
            }
            // Until the step ends, computed again or not.
            if trains {
                self.keep(self.shapes(layer).cost.step_bytes);
            }
        }
        self.hand_over(self.handed[0]);
    }

    fn backward(&mut self, work: Work) {
        for layer in self.layers.clone().rev() {
            let mut segments = self.segments.iter();
            let segment = segments.find(|segment| segment.layers.end == layer + 1);
            if let Some(segment) = segment.filter(|_| work != Work::W) {
                self.again(segment);
            }
            if !self.trains(layer) {
                continue;
            }
            let LayerShapes { outputs, cost, .. } = self.shapes(layer);
            let given: u64 = outputs.iter().map(TensorSpec::bytes).sum();
            let takes = cost.backward_working_bytes + self.threads_bytes(layer) + self.skipping;
            if work != Work::W {
                self.work(given + takes);
                self.keep(cost.kept_bytes);
                self.free(cost.stash_bytes);
            }
            if work != Work::I && !self.is_frozen(layer) {
                // The gradients of the inputs wait until the weights' are done.
                let made = if work == Work::B {
                    self.gradient_bytes(layer)
                } else {
                    0
                };
                self.work(made + takes);
                self.free(cost.kept_bytes);
            }
        }
        if work != Work::W {
            self.hand_over(self.handed[1]);
        }
    }

    /// The second forward pass of a segment, while the gradients of its outputs wait: what was kept
    /// goes, and what its layers keep comes.
    fn again(&mut self, segment: &Segment) {
        let waiting = self.shapes(segment.layers.end - 1).output_bytes() + self.inside(segment);
        let mut kept = segment.kept.clone();
        for layer in segment.again.iter().map(|layer| layer.index()) {
            let given = self.given_bytes(layer, Some(segment));
            self.forward_of(layer, given + waiting);
            if self.trains(layer) {
                self.keep(self.shapes(layer).cost.stash_bytes);
            }
            let later = segment.again.iter().filter(|later| later.index() > layer);
            let read = |value| later.clone().any(|later| self.reads(later.index(), value));
            let (stays, gone): (Vec<_>, _) = kept.into_iter().partition(|value| read(*value));
            self.free(
                gone.iter()
                    .map(|value| self.prediction.value_bytes(*value))
                    .sum(),
            );
            kept = stays;
        }
    }

    /// Values that skip layers within a segment.
    fn inside(&self, segment: &Segment) -> u64 {
        let mut bytes = 0;
        for layer in &segment.again {
            for edge in self.prediction.network.edges_into(*layer) {
                let skips = edge.to.index() > edge.from.index() + 1;
                if skips && segment.layers.contains(&edge.from.index()) {
                    bytes += self.prediction.value_bytes((edge.from, edge.output));
                }
            }
        }
        bytes
    }

    fn forward_of(&mut self, layer: usize, given: u64) {
        let takes = self.shapes(layer).cost.forward_working_bytes + self.threads_bytes(layer);
        self.work(self.skipping + given + takes);
    }

    /// A layer's inputs, but for those that its segment keeps.
    fn given_bytes(&self, layer: usize, segment: Option<&Segment>) -> u64 {
        let sources = self.prediction.network.layers()[layer].inputs.iter();
        let inputs = sources.zip(&self.shapes(layer).inputs);
        let given = inputs.filter(|(source, _)| match **source {
            Source::Feed(_) => true,
            Source::Output { layer, output } => {
                !segment.is_some_and(|segment| segment.kept.contains(&(layer, output)))
            }
        });
        given.map(|(_, input)| input.bytes()).sum()
    }

    /// Gradients of a layer's inputs.
    fn gradient_bytes(&self, layer: usize) -> u64 {
        let edges = self
            .prediction
            .network
            .edges_into(LayerIndex::new(layer as u32));
        let wanted = edges.filter(|edge| edge.gradient);
        wanted
            .map(|edge| self.prediction.value_bytes((edge.from, edge.output)))
            .sum()
    }

    fn reads(&self, reader: usize, (layer, output): (LayerIndex, usize)) -> bool {
        let value = Source::Output { layer, output };
        self.prediction.network.layers()[reader]
            .inputs
            .contains(&value)
    }

    fn kept_bytes(&self, segment: &Segment) -> u64 {
        let kept = segment.kept.iter();
        kept.map(|value| self.prediction.value_bytes(*value)).sum()
    }

    fn threads_bytes(&self, layer: usize) -> u64 {
        let others = self.prediction.threads as u64 - 1;
        self.shapes(layer).cost.thread_bytes.saturating_mul(others)
    }

    fn trains(&self, layer: usize) -> bool {
        let layer = LayerIndex::new(layer as u32);
        self.prediction.network.needs_gradient(layer)
    }

    fn is_frozen(&self, layer: usize) -> bool {
        let layer = LayerIndex::new(layer as u32);
        self.prediction.network.is_frozen(layer)
    }

    fn shapes(&self, layer: usize) -> &'a LayerShapes {
        &self.prediction.shapes[layer]
    }

    fn hand_over(&mut self, (given, taken): (u64, u64)) {
        self.keep(given);
        self.free(taken);
        self.work(0);
    }

    fn work(&mut self, bytes: u64) {
        self.effect.most = self.effect.most.max(self.effect.rest + i128::from(bytes));
    }

    fn keep(&mut self, bytes: u64) {
        self.effect.rest += i128::from(bytes);
    }

    fn free(&mut self, bytes: u64) {
        self.effect.rest -= i128::from(bytes);
    }
}
