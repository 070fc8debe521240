//! One stage: its layers, run in the order of its program.

use super::feeds::{Feeds, Fetched};
use super::mailbox::Mailbox;
use super::program::{GradientTo, Input, LayerProgram, Program};
use super::stash::Stash;
use crate::error::Cause;
use crate::ids::{MicroBatchId, StepId};
use crate::schedule::Work;
use crate::trace::Recorder;
use crate::wire::halves;
use brigade_layer::{
    AnyLayer, Ctx, DType, LayerError, LayerIndex, LayerState, Measure, Mode, Network, ParamAccess,
    Pool, Precision, Slot, Tensor, Tensors,
};
use std::time::Instant;

/// What does not change during one pass.
#[derive(Clone, Copy)]
pub(super) struct PassCtx<'a> {
    pub(super) mode: Mode,
    pub(super) predicts: bool,
    pub(super) seed: u64,
    pub(super) step: StepId,
    pub(super) precision: Precision,
    /// Whether what goes from one layer to another is rounded as if it travelled in bf16.
    pub(super) rounds: bool,
    pub(super) threads: usize,
    pub(super) pool: &'a Pool,
    pub(super) network: &'a Network,
}

impl PassCtx<'_> {
    /// What a layer gives to another, as that gets it, wherever the network is cut.
    fn crossed(&self, value: Tensor, stays: bool) -> Result<Tensor, LayerError> {
        match self.rounds && !stays && value.dtype() == DType::F32 {
            true => halves::round(value, self.pool),
            false => Ok(value),
        }
    }
}

/// One micro-batch of a pass.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) pass: PassCtx<'a>,
    pub(super) micro_batch: MicroBatchId,
    pub(super) first_row: usize,
}

/// What a forward pass says beside the values it makes.
#[derive(Debug, Default)]
pub(super) struct Forwarded {
    pub(super) loss: Option<f32>,
    pub(super) metrics: Vec<Measure>,
    pub(super) prediction: Option<Tensor>,
}

struct StageLayer {
    program: LayerProgram,
    key: String,
    layer: Box<dyn AnyLayer>,
    state: LayerState,
    /// Its calls in this pass, while they are traced.
    calls: Option<Vec<TracedCall>>,
}

/// What was called for which micro-batch, from when to when.
type TracedCall = ((Work, MicroBatchId), (Instant, Instant));

/// A stage on its node.
pub(super) struct Stage {
    program: Program,
    layers: Vec<StageLayer>,
    stash: Stash,
    values: Vec<Option<Tensor>>,
}

impl Stage {
    /// Builds the stage's layers, and no others.
    pub(super) fn build(
        program: Program,
        network: &Network,
        pool: &Pool,
        seed: u64,
    ) -> Result<Self, Cause> {
        let mut layers = Vec::with_capacity(program.layers.len());
        for wiring in &program.layers {
            let node = &network.layers()[wiring.layer.index()];
            let layer = (node
                .spec
                .build_any(&network.build_ctx(wiring.layer, pool, seed)))
            .map_err(|error| error.in_layer(wiring.layer, &node.key))?;
            let (program, key, state) = (wiring.clone(), node.key.clone(), LayerState::default());
            layers.push(StageLayer {
                program,
                key,
                layer,
                state,
                calls: None,
            });
        }
        let values = vec![None; program.places];
        Ok(Self {
            program,
            layers,
            stash: Stash::default(),
            values,
        })
    }

    pub(super) fn begin(&mut self, stash_limit: usize, traced: bool) {
        self.stash.limit(stash_limit);
        for layer in &mut self.layers {
            layer.calls = traced.then(Vec::new);
            if traced {
                layer.state.kernels.start();
            }
        }
    }

    /// F of one micro-batch: takes what arrived, leaves what departs.
    pub(super) fn forward(
        &mut self,
        call: Call<'_>,
        mail: &mut Mailbox,
        feeds: &Feeds,
    ) -> Result<Forwarded, Cause> {
        for (lane, place) in &self.program.arrivals {
            self.values[*place] = Some(mail.take(*lane, call.micro_batch)?);
        }
        let keeps = call.pass.mode == Mode::Train;
        let layers = &self.layers;
        let mut frame = match keeps {
            true => Some(self.stash.open(call.micro_batch, || {
                layers.iter().map(|l| l.layer.slot()).collect()
            })?),
            false => None,
        };
        let mut forwarded = Forwarded::default();
        let mut fetched = Fetched::default();
        for (at, layer) in self.layers.iter_mut().enumerate() {
            let mut inputs = Tensors::none();
            for input in &layer.program.inputs {
                let tensor = match *input {
                    Input::Feed(_) if call.pass.predicts && layer.program.is_loss => None,
                    Input::Feed(feed) => {
                        Some(feeds.get(feed, call.micro_batch, call.pass.network, &mut fetched)?)
                    }
                    Input::Value { place, last: true } => self.values[place].take(),
                    Input::Value { place, last: false } => self.values[place].clone(),
                };
                inputs.push(tensor)?;
            }
            if layer.program.is_loss && call.pass.predicts {
                // The caller's from here on: it leaves the node's memory.
                forwarded.prediction = inputs
                    .remove(0)
                    .map(|output| detached(&output))
                    .transpose()?;
                break;
            }
            if layer.program.is_loss && call.pass.mode == Mode::Evaluate {
                for metric in call.pass.network.metrics() {
                    forwarded.metrics.push(metric.measure(&inputs)?);
                }
            }
            let slot = frame.as_mut().map(|frame| &mut frame[at]);
            let mut outputs = layer.forward(inputs, slot, call)?;
            if layer.program.is_loss {
                let loss = outputs
                    .get(0)
                    .ok_or(LayerError::Missing { index: 0 })?
                    .f32()?[0];
                if keeps && !loss.is_finite() {
                    return Err(Cause::NonFiniteLoss { loss });
                }
                forwarded.loss = Some(loss);
            }
            for (output, place) in layer.program.outputs.iter().enumerate() {
                self.values[*place] = outputs
                    .remove(output)
                    .map(|value| call.pass.crossed(value, layer.program.is_loss))
                    .transpose()?;
            }
        }
        self.depart(call.micro_batch, mail)?;
        self.values.fill(None);
        Ok(forwarded)
    }

    fn depart(&mut self, micro_batch: MicroBatchId, mail: &mut Mailbox) -> Result<(), Cause> {
        for &(lane, place, last) in &self.program.departures {
            let value = if last {
                self.values[place].take()
            } else {
                self.values[place].clone()
            };
            let value = value.ok_or_else(|| Cause::Bug(format!("nothing to send on {lane:?}")))?;
            mail.put(lane, micro_batch, value);
        }
        Ok(())
    }

    /// I of one micro-batch, and W of each layer right after it when `weights` is said: the same
    /// bits as one after the other, with fewer buffers alive. `seed` is the gradient of the
    /// loss.
    pub(super) fn backward_input(
        &mut self,
        call: Call<'_>,
        mail: &mut Mailbox,
        seed: f32,
        weights: bool,
    ) -> Result<(), Cause> {
        for (lane, place) in &self.program.gradient_arrivals {
            let gradient = mail.take(*lane, call.micro_batch)?;
            accumulate(&mut self.values[*place], gradient, call.pass.pool)?;
        }
        let frame = self.stash.get(call.micro_batch)?;
        for (layer, slot) in self.layers.iter_mut().zip(frame).rev() {
            if !layer.program.trains {
                continue;
            }
            let mut gradients = Tensors::none();
            for place in &layer.program.outputs {
                let gradient = self.values[*place].take();
                gradients.push(match layer.program.is_loss {
                    true => Some(call.pass.pool.adopt(Tensor::from_vec([1], vec![seed])?)?),
                    false => gradient,
                })?;
            }
            let mut gradients = layer.backward_input(gradients, slot, call)?;
            for input in (0..layer.program.gradients.len()).rev() {
                let to = layer.program.gradients[input];
                if to == GradientTo::Nowhere {
                    continue;
                }
                let gradient = gradients.remove(input).ok_or_else(|| Cause::NoGradient {
                    layer: layer.program.layer,
                    key: layer.key.clone(),
                    input,
                })?;
                let gradient = call.pass.crossed(gradient, false)?;
                match to {
                    GradientTo::Nowhere => {}
                    GradientTo::Value(place) => {
                        accumulate(&mut self.values[place], gradient, call.pass.pool)?
                    }
                    GradientTo::Lane(lane) => mail.put(lane, call.micro_batch, gradient),
                }
            }
            if weights {
                layer.backward_weight(slot, call)?;
            }
        }
        self.values.fill(None);
        if weights {
            self.stash.close(call.micro_batch);
        }
        Ok(())
    }

    /// W of one micro-batch.
    pub(super) fn backward_weight(&mut self, call: Call<'_>) -> Result<(), Cause> {
        let frame = self.stash.get(call.micro_batch)?;
        for (layer, slot) in self.layers.iter_mut().zip(frame).rev() {
            if layer.program.trains {
                layer.backward_weight(slot, call)?;
            }
        }
        self.stash.close(call.micro_batch);
        Ok(())
    }

    /// The pass is over: state along the step is forgotten, what was traced is handed over.
    pub(super) fn end(&mut self, mut recorder: Option<&mut Recorder>) {
        for layer in &mut self.layers {
            layer.state.step.clear();
            let Some(recorder) = &mut recorder else {
                continue;
            };
            let index = layer.program.layer;
            for (call, times) in layer.calls.take().into_iter().flatten() {
                recorder.call(index, call, times);
            }
            recorder.kernels(index, layer.state.kernels.take());
        }
    }

    /// Calls `visit` with every parameter of every layer, in layer order.
    pub(super) fn visit_params(
        &mut self,
        visit: &mut dyn FnMut(LayerIndex, &mut dyn ParamAccess) -> Result<(), LayerError>,
    ) -> Result<(), LayerError> {
        for layer in &mut self.layers {
            let index = layer.program.layer;
            let mut result = Ok(());
            layer.layer.visit_params(&mut |param| {
                if result.is_ok() {
                    result = visit(index, param);
                }
            });
            result.map_err(|error| error.in_layer(index, &layer.key))?;
        }
        Ok(())
    }

    /// The layers' numbers, in order.
    pub(super) fn layers(&self) -> impl Iterator<Item = LayerIndex> + '_ {
        self.layers.iter().map(|layer| layer.program.layer)
    }
}

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

    fn forward(
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

    fn backward_input(
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

    fn backward_weight(&mut self, slot: &mut Slot, call: Call<'_>) -> Result<(), LayerError> {
        let begun = self.begun();
        let mut cx = Self::ctx(&self.program, &mut self.state, call);
        let done = self.layer.w(slot, &mut cx);
        self.ended(Work::W, call, begun);
        done.map_err(|error| error.in_layer(self.program.layer, &self.key))
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

/// A copy that belongs to no node.
fn detached(tensor: &Tensor) -> Result<Tensor, LayerError> {
    Tensor::from_vec(tensor.shape(), tensor.f32()?.to_vec())
}

/// Adds a gradient to those of the same value that came before it.
fn accumulate(sum: &mut Option<Tensor>, gradient: Tensor, pool: &Pool) -> Result<(), LayerError> {
    let Some(so_far) = sum.take() else {
        *sum = Some(gradient);
        return Ok(());
    };
    let mut total = pool.writable::<f32>(so_far)?;
    for (total, gradient) in total.data().iter_mut().zip(gradient.f32()?) {
        *total += gradient;
    }
    *sum = Some(total.freeze());
    Ok(())
}
