//! One layer of a stage, called with all that it is to know.

use super::call::Call;
use super::program::{GradientTo, LayerProgram};
use crate::ids::MicroBatchId;
use crate::schedule::Work;
use brigade_layer::{AnyLayer, Ctx, LayerError, LayerState, ParamAccess, Slot, Tensors};
use std::time::Instant;

/// A layer on its node.
pub(super) struct StageLayer {
    pub(super) program: LayerProgram,
    pub(super) key: String,
    pub(super) layer: Box<dyn AnyLayer>,
    pub(super) state: LayerState,
    /// Its calls in this pass, while they are traced.
    pub(super) calls: Option<Vec<TracedCall>>,
}

/// What was called for which micro-batch, from when to when.
pub(super) type TracedCall = ((Work, MicroBatchId), (Instant, Instant));

impl StageLayer {
    fn ctx<'a>(program: &LayerProgram, state: &'a mut LayerState, call: Call<'a>) -> Ctx<'a> {
        let mut cx = Ctx::new(call.pass.pool, state);
        cx.mode = call.pass.mode;
        cx.seed = call.pass.seed;
        cx.step = call.pass.step;
        cx.micro_batch = call.micro_batch;
        cx.first_row = call.first_row;
        cx.layer = program.layer;
        cx.precision = call.pass.precision;
        cx.threads = call.pass.threads;
        cx.wanting(
            program
                .gradients
                .iter()
                .map(|to| *to != GradientTo::Nowhere),
        )
    }

    /// F, and what it leaves to the backward pass where a slot is given and the layer takes part.
    pub(super) fn forward(
        &mut self,
        inputs: Tensors,
        slot: Option<&mut Slot>,
        call: Call<'_>,
    ) -> Result<Tensors, LayerError> {
        let begun = self.begun();
        let mut cx = Self::ctx(&self.program, &mut self.state, call);
        let outputs = match slot.filter(|_| self.program.trains) {
            Some(slot) => self.layer.f(inputs, slot, &mut cx),
            None => self.layer.f_only(inputs, &mut cx),
        };
        self.ended(Work::F, call, begun);
        outputs.map_err(|error| error.in_layer(self.program.layer, &self.key))
    }

    pub(super) fn backward_input(
        &mut self,
        gradients: Tensors,
        slot: &mut Slot,
        call: Call<'_>,
    ) -> Result<Tensors, LayerError> {
        let begun = self.begun();
        let mut cx = Self::ctx(&self.program, &mut self.state, call);
        let gradients = self.layer.i(gradients, slot, &mut cx);
        self.ended(Work::I, call, begun);
        gradients.map_err(|error| error.in_layer(self.program.layer, &self.key))
    }

    pub(super) fn backward_weight(
        &mut self,
        slot: &mut Slot,
        call: Call<'_>,
    ) -> Result<(), LayerError> {
        let begun = self.begun();
        let mut cx = Self::ctx(&self.program, &mut self.state, call);
        let done = self.layer.w(slot, &mut cx);
        self.ended(Work::W, call, begun);
        done.map_err(|error| error.in_layer(self.program.layer, &self.key))
    }

    /// Calls `visit` with every parameter.
    pub(super) fn visit_params(
        &mut self,
        visit: &mut dyn FnMut(&mut dyn ParamAccess) -> Result<(), LayerError>,
    ) -> Result<(), LayerError> {
        let mut result = Ok(());
        self.layer.visit_params(&mut |param| {
            if result.is_ok() {
                result = visit(param);
            }
        });
        result.map_err(|error| error.in_layer(self.program.layer, &self.key))
    }
}

impl StageLayer {
    fn begun(&self) -> Option<Instant> {
        self.calls.as_ref().map(|_| Instant::now())
    }

    fn ended(&mut self, work: Work, call: Call<'_>, begun: Option<Instant>) {
        if let (Some(calls), Some(begun)) = (&mut self.calls, begun) {
            calls.push(((work, call.micro_batch), (begun, Instant::now())));
        }
    }
}
