//! One layer of a stage, called with all that it is to know.

use super::call::Call;
use super::program::{GradientTo, LayerProgram};
use super::promised::Promised;
use crate::ids::{MicroBatchId, StepId};
use crate::schedule::Work;
use brigade_layer::{
    AnyLayer, Ctx, LayerError, LayerState, ParamAccess, Pool, Shape, Slot, Tensor, Tensors,
};
use std::time::Instant;

/// A layer on its node.
pub(super) struct StageLayer {
    pub(super) program: LayerProgram,
    pub(super) key: String,
    pub(super) layer: Box<dyn AnyLayer>,
    pub(super) state: LayerState,
    pub(super) promised: Promised,
    /// Of a piece of a sequence it sees the last position only.
    pub(super) sees_last: bool,
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
        // The pieces of a sequence are micro-batches for the schedule only.
        (cx.micro_batch, cx.first_row) = match call.pass.along {
            Some(_) => (MicroBatchId::new(0), 0),
            None => (call.micro_batch, call.first_row),
        };
        cx.sequence_length = call.pass.along.map_or(0, |along| along.length);
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
        let layer = self.program.layer;
        let spec = &call.pass.network.layers()[layer.index()].spec;
        (self.promised.given(&inputs, spec.as_ref()))
            .map_err(|error| error.in_layer(layer, &self.key))?;
        let begun = self.begun();
        let mut cx = Self::ctx(&self.program, &mut self.state, call);
        let outputs = match slot.filter(|_| self.program.trains) {
            Some(slot) => self.layer.f(inputs, slot, &mut cx),
            None => self.layer.f_only(inputs, &mut cx),
        };
        self.ended(Work::F, call, begun);
        let outputs = outputs.and_then(|made| self.promised.check_outputs(&made).map(|()| made));
        outputs.map_err(|error| error.in_layer(layer, &self.key))
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
        let checked = gradients.and_then(|it| self.promised.check_gradients(&it).map(|()| it));
        checked.map_err(|error| error.in_layer(self.program.layer, &self.key))
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

    /// The step ends with an update.
    pub(super) fn commit(
        &mut self,
        (pool, threads): (&Pool, usize),
        step: StepId,
    ) -> Result<(), LayerError> {
        let mut cx = Ctx::new(pool, &mut self.state);
        (cx.layer, cx.step, cx.threads) = (self.program.layer, step, threads);
        let done = self.layer.end_step(&mut cx);
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
    /// What the layer sees of these inputs.
    pub(super) fn seen(&self, inputs: Tensors, call: Call<'_>) -> Result<Tensors, LayerError> {
        if !self.sees_last || call.pass.along.is_none() {
            return Ok(inputs);
        }
        let mut last = Tensors::none();
        for input in inputs.iter() {
            let input = input.ok_or(LayerError::Missing { index: last.len() })?;
            last.push(Some(last_position(input, call.pass.pool)?))?;
        }
        Ok(last)
    }

    fn begun(&self) -> Option<Instant> {
        self.calls.as_ref().map(|_| Instant::now())
    }

    fn ended(&mut self, work: Work, call: Call<'_>, begun: Option<Instant>) {
        if let (Some(calls), Some(begun)) = (&mut self.calls, begun) {
            calls.push(((work, call.micro_batch), (begun, Instant::now())));
        }
    }
}

/// The last position of a piece [1, positions, ...], as a piece of one.
fn last_position(piece: &Tensor, pool: &Pool) -> Result<Tensor, LayerError> {
    let shape = piece.shape();
    let [1, length, rest @ ..] = shape.axes() else {
        let expected = "[1, positions, ...]";
        return Err(LayerError::shape("piece of a sequence", expected, shape));
    };
    if *length == 1 {
        return Ok(piece.clone());
    }
    let size = rest.iter().product::<usize>();
    let mut last = pool.f32(Shape::new(&[&[1, 1], rest].concat())?)?;
    last.data()
        .copy_from_slice(&piece.f32()?[(length - 1) * size..]);
    Ok(last.freeze())
}
