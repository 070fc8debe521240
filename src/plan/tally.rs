//! What one action of a stage takes and leaves, layer after layer.

use super::memory::Prediction;
use super::recompute::Segment;
use super::working::Surroundings;
use crate::ids::{LayerIndex, StageId};
use crate::schedule::Work;
use brigade_layer::{LayerShapes, Source};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// What a compute action does to its node's memory.
#[derive(Clone, Copy, Default)]
pub(super) struct Effect {
    /// The most that it takes beyond what is held before.
    pub(super) most: i128,
    /// What it leaves there, or frees.
    pub(super) rest: i128,
}

/// One action of a stage.
pub(super) struct Tally<'a> {
    around: &'a Surroundings<'a>,
    stage: StageId,
    segments: &'a [Segment],
    layers: Range<usize>,
    effect: Effect,
}

impl<'a> Tally<'a> {
    pub(super) fn of(
        around: &'a Surroundings<'a>,
        (stage, segments): (StageId, &'a [Segment]),
        (work, trains): (Work, bool),
    ) -> Effect {
        let mut tally = Self {
            around,
            stage,
            segments,
            layers: around.prediction.partition.layers_of(stage),
            effect: Effect::default(),
        };
        match work {
            Work::F => tally.forward(trains),
            Work::I | Work::W | Work::B => tally.backward(work),
        }
        tally.effect
    }

    fn forward(&mut self, trains: bool) {
        let [(given, taken), _] = self.around.handed[self.stage.index()];
        self.take_over(taken);
        let segments = if trains { self.segments } else { &[] };
        let kept = segments.iter().rev().flat_map(|segment| {
            let kept = segment.kept.iter();
            kept.map(|value| (*value, segment.layers.start))
        });
        // Of several segments that keep a value the first counts.
        let kept: BTreeMap<_, _> = kept.collect();
        let kept_from = |value| kept.get(&value).copied().unwrap_or(usize::MAX);
        let lying = &self.around.lying[self.stage.index()];
        let stashes = |layer: &usize| {
            let kept = segments.iter().any(|s| s.layers.contains(layer));
            trains && !kept && self.trains(*layer)
        };
        let there = lying.forward(self.prediction(), |value, readers| {
            let mut readers = readers.iter().copied().filter(stashes);
            let stashed = readers.find(|reader| self.stashes(*reader, value));
            kept_from(value).min(stashed.map_or(usize::MAX, |stashed| stashed + 1))
        });
        for (layer, there) in self.layers.clone().zip(there) {
            let segment = segments.iter().find(|s| s.layers.contains(&layer));
            if let Some(segment) = segment.filter(|segment| segment.layers.start == layer) {
                let new = { segment.kept.iter() }.filter(|value| kept_from(**value) == layer);
                self.keep(new.map(|value| self.prediction().value_bytes(*value)).sum());
            }
            self.forward_of(layer, there);
            if trains && segment.is_none() && self.trains(layer) {
                self.keep(self.stash_bytes(layer));
            }
            // Until the step ends, computed again or not.
            if trains {
                self.keep(self.shapes(layer).cost.step_bytes);
            }
        }
        self.hand_over(given);
    }

    fn backward(&mut self, work: Work) {
        let [_, (given, taken)] = self.around.handed[self.stage.index()];
        if work == Work::W {
            return self.weights();
        }
        self.take_over(taken);
        let lying = &self.around.lying[self.stage.index()];
        for layer in self.layers.clone().rev() {
            let mut segments = self.segments.iter();
            if let Some(segment) = segments.find(|segment| segment.layers.end == layer + 1) {
                self.again(segment);
            }
            if !self.trains(layer) {
                continue;
            }
            let LayerShapes { cost, .. } = self.shapes(layer);
            let takes = cost.backward_working_bytes + self.threads_bytes(layer);
            self.work(lying.gradients_before(layer) + self.seed_bytes(layer) + takes);
            self.keep(cost.kept_bytes);
            self.free(self.stash_bytes(layer));
            self.work(lying.gradients_made(self.prediction(), layer));
            if work == Work::B && !self.is_frozen(layer) {
                // The gradients of the inputs wait until the weights' are done.
                self.work(lying.gradients_behind(layer) + takes);
                self.free(cost.kept_bytes);
            }
        }
        self.hand_over(given);
    }

    fn weights(&mut self) {
        for layer in self.layers.clone().rev() {
            if self.trains(layer) && !self.is_frozen(layer) {
                let LayerShapes { cost, .. } = self.shapes(layer);
                self.work(cost.backward_working_bytes + self.threads_bytes(layer));
                self.free(cost.kept_bytes);
            }
        }
    }

    /// The second forward pass of a segment, while gradients wait: what was kept goes, and what its
    /// layers keep comes.
    fn again(&mut self, segment: &Segment) {
        let lying = &self.around.lying[self.stage.index()];
        let waiting = lying.gradients_before(segment.layers.end - 1);
        let there = lying.again(self.prediction(), segment, |value, readers| {
            let mut readers = { readers.iter().copied() }
                .filter(|reader| segment.runs(*reader) && self.trains(*reader));
            let stashed = readers.find(|reader| self.stashes(*reader, value));
            stashed.map_or(usize::MAX, |stashed| stashed + 1)
        });
        // An earlier segment that keeps the value too goes on keeping it.
        let segments = self.segments.iter();
        let earlier = segments.take_while(|earlier| earlier.layers.start < segment.layers.start);
        let mut kept = segment.kept.clone();
        kept.retain(|value| !earlier.clone().any(|earlier| earlier.keeps(*value)));
        for layer in segment.again.iter().map(|layer| layer.index()) {
            self.forward_of(layer, there[layer - segment.layers.start] + waiting);
            if self.trains(layer) {
                self.keep(self.shapes(layer).cost.stash_bytes);
            }
            let (stays, gone) = { kept.into_iter() }.partition::<Vec<_>, _>(|value| {
                let stashed = self.trains(layer) && self.stashes(layer, *value);
                !stashed && lying.reads_after(*value, layer, segment)
            });
            let gone = { gone.iter() }.map(|value| self.prediction().value_bytes(*value));
            self.free(gone.sum());
            kept = stays;
        }
    }

    fn forward_of(&mut self, layer: usize, there: u64) {
        let takes = self.shapes(layer).cost.forward_working_bytes + self.threads_bytes(layer);
        self.work(there + takes);
    }

    /// Whether what a layer keeps from F to I is this very value.
    fn stashes(&self, reader: usize, (layer, output): (LayerIndex, usize)) -> bool {
        let value = Source::Output { layer, output };
        let inputs = self.prediction().network.layers()[reader].inputs.iter();
        let cost = self.shapes(reader).cost;
        let mut read = inputs.enumerate().filter(|(_, source)| **source == value);
        read.any(|(input, _)| cost.stashes_input(input))
    }

    /// What a layer adds to what its stage keeps from F to I: a value that several layers keep
    /// counts with the first of them, which goes forward first and backward last.
    fn stash_bytes(&self, layer: usize) -> u64 {
        let cost = self.shapes(layer).cost;
        let again = |layer: usize| self.segments.iter().any(|s| s.layers.contains(&layer));
        if again(layer) {
            return cost.stash_bytes;
        }
        let mut values = BTreeSet::new();
        let inputs = self.prediction().network.layers()[layer].inputs.iter();
        for (input, source) in inputs.enumerate() {
            if let (Source::Output { layer, output }, true) = (source, cost.stashes_input(input)) {
                values.insert((*layer, *output));
            }
        }
        let keeps = |earlier: usize, value| {
            self.trains(earlier) && !again(earlier) && self.stashes(earlier, value)
        };
        let lying = &self.around.lying[self.stage.index()];
        values.retain(|value| {
            let mut earlier = lying.readers(*value).iter().take_while(|at| **at < layer);
            earlier.any(|earlier| keeps(*earlier, *value))
        });
        let counted = values
            .iter()
            .map(|value| self.prediction().value_bytes(*value));
        cost.stash_bytes.saturating_sub(counted.sum())
    }

    /// The gradient of the loss comes from nowhere.
    fn seed_bytes(&self, layer: usize) -> u64 {
        match self.prediction().network.loss().index() == layer {
            true => self.shapes(layer).output_bytes(),
            false => 0,
        }
    }

    fn threads_bytes(&self, layer: usize) -> u64 {
        let others = self.prediction().threads as u64 - 1;
        self.shapes(layer).cost.thread_bytes.saturating_mul(others)
    }

    fn trains(&self, layer: usize) -> bool {
        let layer = LayerIndex::new(layer as u32);
        self.prediction().network.needs_gradient(layer)
    }

    fn is_frozen(&self, layer: usize) -> bool {
        let layer = LayerIndex::new(layer as u32);
        self.prediction().network.is_frozen(layer)
    }

    fn prediction(&self) -> &'a Prediction<'a> {
        self.around.prediction
    }

    fn shapes(&self, layer: usize) -> &'a LayerShapes {
        &self.prediction().shapes[layer]
    }

    /// What other stages of the node handed over lies among the stage's values from here on.
    fn take_over(&mut self, taken: u64) {
        self.work(0);
        self.free(taken);
    }

    /// What stays on the node for others of its stages.
    fn hand_over(&mut self, given: u64) {
        self.keep(given);
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
