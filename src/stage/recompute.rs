//! Segments of layers whose forward pass is run again in the backward pass.
//!
//! ```text
//! F   inputs ──► layers ──► outputs                I   inputs, given away ──► layers ──► states
//!        └─ a handle is kept, nothing else             then backward, as if they had been kept
//! ```

use super::call::Call;
use super::called::StageLayer;
use super::feeds::{Feeds, Fetched};
use super::program::{Input, LayerProgram, Place};
use super::runner::gather;
use crate::error::Cause;
use brigade_layer::{Slot, Tensor};
use std::collections::BTreeSet;
use std::ops::Range;

/// One segment's wiring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Again {
    /// Its layers, by their place in the stage.
    pub(super) layers: Range<usize>,
    /// Values from outside, kept from F to I.
    kept: Vec<Place>,
    calls: Vec<LayerAgain>,
}

/// A layer that runs again: where its inputs come from, and which of its outputs somebody in the
/// segment reads.
#[derive(Clone, Debug, PartialEq, Eq)]
struct LayerAgain {
    at: usize,
    inputs: Vec<Input>,
    outputs: Vec<Option<Place>>,
}

impl Again {
    /// Layers of a stage of which those at `again` run again, with the places of values from
    /// outside.
    pub(super) fn new(
        layers: Range<usize>,
        again: impl DoubleEndedIterator<Item = usize>,
        kept: Vec<Place>,
        program: &[LayerProgram],
    ) -> Self {
        let mut read = BTreeSet::new();
        let mut calls = Vec::new();
        for at in again.rev() {
            let outputs = program[at].outputs.iter();
            let outputs = outputs.map(|place| read.contains(place).then_some(*place));
            let outputs = outputs.collect();
            let mut inputs = program[at].inputs.clone();
            for input in inputs.iter_mut().rev() {
                if let Input::Value { place, last } = input {
                    *last = read.insert(*place);
                }
            }
            calls.push(LayerAgain {
                at,
                inputs,
                outputs,
            });
        }
        calls.reverse();
        Self {
            layers,
            kept,
            calls,
        }
    }

    /// F: another handle to everything that comes from outside.
    pub(super) fn keep(
        &self,
        values: &[Option<Tensor>],
        kept: &mut Vec<Tensor>,
    ) -> Result<(), Cause> {
        for place in &self.kept {
            let value = values[*place].clone();
            kept.push(value.ok_or_else(|| Cause::Bug("nothing to keep for I".into()))?);
        }
        Ok(())
    }

    /// I: the forward pass once more, for what it leaves in the slots. Nothing is left in `values`.
    pub(super) fn run(
        &self,
        layers: &mut [StageLayer],
        (slots, kept): (&mut [Slot], &mut Vec<Tensor>),
        values: &mut [Option<Tensor>],
        (call, feeds): (Call<'_>, &Feeds),
    ) -> Result<(), Cause> {
        let call = call.again();
        for (place, value) in self.kept.iter().zip(kept.drain(..)) {
            values[*place] = Some(value);
        }
        let mut fetched = Fetched::default();
        for LayerAgain {
            at,
            inputs,
            outputs,
        } in &self.calls
        {
            let inputs = gather(inputs, values, |feed| {
                let tensor = feeds.get(feed, call.micro_batch, call.pass.network, &mut fetched);
                tensor.map(Some)
            })?;
            let layer = &mut layers[*at];
            let mut made = layer.forward(inputs, Some(&mut slots[*at]), call)?;
            let is_loss = layer.program.is_loss;
            for (output, place) in outputs.iter().enumerate() {
                let value = made.remove(output);
                if let (Some(place), Some(value)) = (place, value) {
                    values[*place] = Some(call.pass.crossed(value, is_loss)?);
                }
            }
        }
        Ok(())
    }
}
