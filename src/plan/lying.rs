//! What lies ready in a stage while one of its layers is at work: values that it or a later layer
//! reads, and gradients that it or an earlier layer takes.
//!
//! ```text
//! F   made or arrived ──► lies ──► read last       I   read last ──► its gradient lies ──► made
//!                            └─ or leaves at the end         └─ or leaves at the end
//! ```

use super::memory::Prediction;
use super::recompute::Segment;
use crate::ids::LayerIndex;
use brigade_layer::{Edge, Source};
use std::collections::BTreeMap;
use std::ops::Range;

/// A value in one of the stages that see it: the one that makes it, or one that it arrives at.
#[derive(Clone, Debug)]
struct Value {
    bytes: u64,
    /// The layer of this stage that makes it; none where it arrives.
    made: Option<usize>,
    /// The layers of this stage that read it, ascending.
    readers: Vec<usize>,
    /// The last of them that brings a gradient back.
    last_gradient: Option<usize>,
    /// Whether it goes to another stage, and whether a gradient comes back from one.
    leaves: bool,
    returns: bool,
}

/// The values of one stage.
#[derive(Clone, Debug)]
pub(super) struct Lying {
    layers: Range<usize>,
    values: BTreeMap<(LayerIndex, usize), Value>,
    /// Gradients that are there once a layer has done its I, by its place; at the end those that
    /// are there before the first.
    gradients: Vec<u64>,
}

/// Sums over places of what is there between two of them.
struct Stretches(Vec<i128>);

impl Stretches {
    fn new(places: usize) -> Self {
        Self(vec![0; places + 1])
    }

    /// There at the places of this range.
    fn add(&mut self, places: Range<usize>, bytes: u64) {
        if places.start < places.end {
            self.0[places.start] += i128::from(bytes);
            self.0[places.end] -= i128::from(bytes);
        }
    }

    fn sums(mut self) -> Vec<u64> {
        self.0.pop();
        let mut there = 0;
        let sum = |change: &i128| {
            there += change;
            u64::try_from(there).unwrap_or(u64::MAX)
        };
        self.0.iter().map(sum).collect()
    }
}

impl Lying {
    /// Of every stage.
    pub(super) fn of_all(prediction: &Prediction<'_>) -> Vec<Self> {
        let (network, partition) = (prediction.network, prediction.partition);
        let new = |stage| Self::new(prediction, partition.layers_of(stage));
        let mut all: Vec<Self> = partition.stages().iter().map(new).collect();
        for edge in network.edges() {
            let [from, to] = [edge.from, edge.to].map(|layer| partition.stage_of(layer));
            if from != to {
                let made = all[from.index()].value(prediction, edge);
                (made.leaves, made.returns) = (true, made.returns | edge.gradient);
            }
            let read = all[to.index()].value(prediction, edge);
            if read.readers.last() != Some(&edge.to.index()) {
                read.readers.push(edge.to.index());
            }
            if edge.gradient {
                read.last_gradient = Some(edge.to.index());
            }
        }
        for stage in &mut all {
            stage.gradients = stage.gradients_after(prediction);
        }
        all
    }

    fn new(prediction: &Prediction<'_>, layers: Range<usize>) -> Self {
        let mut values = BTreeMap::new();
        for made in layers.clone() {
            let layer = LayerIndex::new(made as u32);
            for output in 0..prediction.shapes[made].outputs.len() {
                let bytes = prediction.value_bytes((layer, output));
                values.insert((layer, output), Value::new(bytes, Some(made)));
            }
        }
        Self {
            layers,
            values,
            gradients: Vec::new(),
        }
    }

    fn value(&mut self, prediction: &Prediction<'_>, edge: &Edge) -> &mut Value {
        let key = (edge.from, edge.output);
        let arrives = || Value::new(prediction.value_bytes(key), None);
        self.values.entry(key).or_insert_with(arrives)
    }

    /// What lies there while each layer does its F, its inputs included. `held_from` says of
    /// a value and its readers from which layer on it is kept and counted elsewhere.
    pub(super) fn forward(
        &self,
        prediction: &Prediction<'_>,
        held_from: impl Fn((LayerIndex, usize), &[usize]) -> usize,
    ) -> Vec<u64> {
        let mut there = Stretches::new(self.layers.len());
        for (key, value) in &self.values {
            let from = value.made.map_or(self.layers.start, |made| made + 1);
            let to = match value.readers.last() {
                Some(last) if !value.leaves => last + 1,
                _ => self.layers.end,
            };
            there.add(
                self.places(from..to.min(held_from(*key, &value.readers))),
                value.bytes,
            );
        }
        let mut there = there.sums();
        for (layer, there) in self.layers.clone().zip(&mut there) {
            *there = there.saturating_add(feed_bytes(prediction, layer));
        }
        there
    }

    /// As [`forward`](Self::forward), while a segment is computed again: of what its layers make
    /// for each other. By place in the segment.
    pub(super) fn again(
        &self,
        prediction: &Prediction<'_>,
        segment: &Segment,
        held_from: impl Fn((LayerIndex, usize), &[usize]) -> usize,
    ) -> Vec<u64> {
        let start = segment.layers.start;
        let mut there = Stretches::new(segment.layers.len());
        let first = LayerIndex::new(start as u32);
        let after = LayerIndex::new(segment.layers.end as u32);
        for (key, value) in self.values.range((first, 0)..(after, 0)) {
            let inner = |reader: &&usize| segment.runs(**reader);
            let last = value.readers.iter().rev().find(inner);
            if let Some(last) = last.filter(|_| segment.runs(key.0.index())) {
                let to = (last + 1).min(held_from(*key, &value.readers)).max(start);
                there.add(key.0.index() + 1 - start..to - start, value.bytes);
            }
        }
        let mut there = there.sums();
        for (layer, there) in segment.layers.clone().zip(&mut there) {
            *there = there.saturating_add(feed_bytes(prediction, layer));
        }
        there
    }

    /// The layers of the stage that read a value, ascending.
    pub(super) fn readers(&self, value: (LayerIndex, usize)) -> &[usize] {
        self.values.get(&value).map_or(&[], |value| &value.readers)
    }

    /// Whether a layer of a segment behind this one reads a value when it runs again.
    pub(super) fn reads_after(
        &self,
        value: (LayerIndex, usize),
        layer: usize,
        segment: &Segment,
    ) -> bool {
        let mut readers = self.readers(value).iter();
        readers.any(|reader| *reader > layer && segment.runs(*reader))
    }

    /// Gradients that are there before a layer does its I: those of its outputs among them.
    pub(super) fn gradients_before(&self, layer: usize) -> u64 {
        self.gradients[layer + 1 - self.layers.start]
    }

    /// Gradients that are there after it: those that it made among them.
    pub(super) fn gradients_behind(&self, layer: usize) -> u64 {
        self.gradients[layer - self.layers.start]
    }

    /// Gradients that are there when a layer has done its I, none added to another yet: those that
    /// wait, and for each of its inputs a tensor, even where the layer gave the same for several.
    /// The first that is added to one from another stage is added into a copy, as others may hold
    /// that as well.
    pub(super) fn gradients_made(&self, prediction: &Prediction<'_>, layer: usize) -> u64 {
        let index = LayerIndex::new(layer as u32);
        let outputs = self.values.range((index, 0)..=(index, usize::MAX));
        let outputs = outputs.filter(|(_, it)| it.returns || it.last_gradient.is_some());
        let taken: u64 = outputs.map(|(_, value)| value.bytes).sum();
        let edges = { prediction.network }.edges_into(index);
        let (mut made, mut copied) = (0, 0);
        for edge in edges.filter(|edge| edge.gradient) {
            let key = (edge.from, edge.output);
            let bytes = prediction.value_bytes(key);
            made += bytes;
            let first = |it: &Value| it.returns && it.last_gradient == Some(layer);
            if self.values.get(&key).is_some_and(first) {
                copied = bytes.max(copied);
            }
        }
        self.gradients_before(layer) - taken + made + copied
    }

    /// A gradient is there from the last reader on, wherever that is, until the layer that made
    /// the value; what goes to another stage leaves at the end, each edge for itself.
    fn gradients_after(&self, prediction: &Prediction<'_>) -> Vec<u64> {
        let mut there = Stretches::new(self.layers.len() + 1);
        let before_all = self.layers.end + 1;
        for value in self.values.values() {
            let Some(made) = value.made else { continue };
            let from = match value.last_gradient {
                _ if value.returns => before_all,
                Some(last) => last + 1,
                None => continue,
            };
            there.add(self.places(made + 1..from), value.bytes);
        }
        for layer in self.layers.clone() {
            let edges = { prediction.network }.edges_into(LayerIndex::new(layer as u32));
            for edge in edges.filter(|edge| edge.gradient) {
                if edge.from.index() < self.layers.start {
                    let bytes = prediction.value_bytes((edge.from, edge.output));
                    there.add(self.places(self.layers.start..layer + 1), bytes);
                }
            }
        }
        there.sums()
    }

    fn places(&self, layers: Range<usize>) -> Range<usize> {
        let place = |layer: usize| layer.saturating_sub(self.layers.start);
        place(layers.start)..place(layers.end)
    }
}

impl Value {
    fn new(bytes: u64, made: Option<usize>) -> Self {
        Self {
            bytes,
            made,
            readers: Vec::new(),
            last_gradient: None,
            leaves: false,
            returns: false,
        }
    }
}

/// What a layer is given that no layer makes.
fn feed_bytes(prediction: &Prediction<'_>, layer: usize) -> u64 {
    let sources = prediction.network.layers()[layer].inputs.iter();
    let inputs = sources.zip(&prediction.shapes[layer].inputs);
    let feeds = inputs.filter(|(source, _)| matches!(source, Source::Feed(_)));
    let bytes = feeds.map(|(_, feed)| feed.bytes());
    bytes.fold(0, u64::saturating_add)
}
