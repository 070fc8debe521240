//! One stage: its layers, run in the order of its program.

use super::call::Call;
use super::called::StageLayer;
use super::feeds::{Feeds, Fetched};
use super::mailbox::Mailbox;
use super::program::{GradientTo, Input, Program};
use super::promised::{Promised, check_params};
use super::stash::{Frame, Stash};
use crate::config::OnNonFinite;
use crate::error::{Cause, NonFinite};
use crate::ids::{MicroBatchId, StepId};
use crate::trace::Recorder;
use brigade_layer::{
    Feed, LayerError, LayerIndex, LayerState, Measure, Mode, Network, ParamAccess, Pool, Tensor,
    Tensors,
};

/// What a forward pass says beside the values it makes.
#[derive(Debug, Default)]
pub(super) struct Forwarded {
    pub(super) loss: Option<f32>,
    pub(super) metrics: Vec<Measure>,
    pub(super) prediction: Option<Tensor>,
}

/// A stage on its node.
pub(super) struct Stage {
    program: Program,
    layers: Vec<StageLayer>,
    stash: Stash,
    /// Values of the micro-batch at work, or their gradients.
    values: Vec<Option<Tensor>>,
    /// Values that are computed again while gradients are among the others.
    again: Vec<Option<Tensor>>,
}

impl Stage {
    /// Builds the stage's layers, and no others.
    pub(super) fn build(
        program: Program,
        network: &Network,
        (pool, seed): (&Pool, u64),
        sees_last: Option<LayerIndex>,
    ) -> Result<Self, Cause> {
        let mut layers = Vec::with_capacity(program.layers.len());
        for wiring in &program.layers {
            let node = &network.layers()[wiring.layer.index()];
            let built = (node.spec).build_any(&network.build_ctx(wiring.layer, pool, seed));
            let layer = built
                .and_then(|mut layer| {
                    check_params(layer.as_mut(), node.spec.as_ref()).map(|()| layer)
                })
                .map_err(|error| error.in_layer(wiring.layer, &node.key))?;
            let (program, key, state) = (wiring.clone(), node.key.clone(), LayerState::default());
            layers.push(StageLayer {
                program,
                key,
                layer,
                state,
                promised: Promised::default(),
                sees_last: sees_last == Some(wiring.layer),
                calls: None,
            });
        }
        let values = vec![None; program.places];
        Ok(Self {
            program,
            layers,
            stash: Stash::default(),
            again: values.clone(),
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

    /// Forgets what is kept along a sequence.
    pub(super) fn forget(&mut self) {
        for layer in &mut self.layers {
            layer.state.sequence.clear();
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
        let (layers, segments) = (&self.layers, &self.program.segments);
        let mut frame = match keeps {
            true => Some(self.stash.open(call.micro_batch, || Frame {
                slots: layers.iter().map(|layer| layer.layer.slot()).collect(),
                kept: vec![Vec::new(); segments.len()],
            })?),
            false => None,
        };
        let mut forwarded = Forwarded::default();
        let mut fetched = Fetched::default();
        for (at, layer) in self.layers.iter_mut().enumerate() {
            let segment = self.program.segment_of(at).filter(|_| keeps);
            if let (Some((number, segment)), Some(frame)) = (segment, &mut frame)
                && segment.layers.start == at
            {
                segment.keep(&self.values, &mut frame.kept[number])?;
            }
            let predicts = call.pass.predicts && layer.program.is_loss;
            let inputs = &layer.program.inputs;
            let feed = |feed| match predicts {
                true => Ok(None),
                false => feeds
                    .get(feed, call.micro_batch, call.pass.network, &mut fetched)
                    .map(Some),
            };
            let mut inputs = gather(inputs, &mut self.values, feed)?;
            if predicts {
                // The caller's from here on: it leaves the node's memory.
                let output = inputs.remove(0).filter(|_| call.answers());
                let detached = |output| detached(&output, call.pass.along.is_some());
                forwarded.prediction = output.map(detached).transpose()?;
                break;
            }
            let inputs = layer.seen(inputs, call)?;
            if layer.program.is_loss && call.pass.mode == Mode::Evaluate {
                for metric in call.pass.network.metrics() {
                    forwarded.metrics.push(metric.measure(&inputs)?);
                }
            }
            let slot = frame.as_mut().filter(|_| segment.is_none());
            let slot = slot.map(|frame| &mut frame.slots[at]);
            let mut outputs = layer.forward(inputs, slot, call)?;
            if layer.program.is_loss {
                let loss = outputs
                    .get(0)
                    .ok_or(LayerError::Missing { index: 0 })?
                    .f32()?[0];
                if keeps && !loss.is_finite() && call.pass.on_nonfinite == OnNonFinite::Stop {
                    return Err(Cause::NonFinite(NonFinite {
                        loss: Some(loss.into()),
                        layer: layer.program.layer,
                        key: layer.key.clone(),
                        stage: call.stage,
                    }));
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
    /// bits as one after the other, with fewer buffers alive. A segment that was not kept is
    /// computed again first. `seed` is the gradient of the loss.
    pub(super) fn backward_input(
        &mut self,
        call: Call<'_>,
        (mail, feeds): (&mut Mailbox, &Feeds),
        seed: f32,
        weights: bool,
    ) -> Result<(), Cause> {
        for (lane, place) in &self.program.gradient_arrivals {
            let gradient = mail.take(*lane, call.micro_batch)?;
            accumulate(&mut self.values[*place], gradient, call.pass.pool)?;
        }
        let frame = self.stash.get(call.micro_batch)?;
        for at in (0..self.layers.len()).rev() {
            if let Some((number, segment)) = self.program.segment_of(at)
                && segment.layers.end == at + 1
            {
                let kept = (&mut *frame.slots, &mut frame.kept[number]);
                segment.run(&mut self.layers, kept, &mut self.again, (call, feeds))?;
            }
            let (layer, slot) = (&mut self.layers[at], &mut frame.slots[at]);
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
            if weights && !layer.program.frozen {
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
        for (layer, slot) in self.layers.iter_mut().zip(&mut frame.slots).rev() {
            if layer.program.trains && !layer.program.frozen {
                layer.backward_weight(slot, call)?;
            }
        }
        self.stash.close(call.micro_batch);
        Ok(())
    }

    /// The step ends with an update: layers take over what they have gathered along it.
    pub(super) fn commit(
        &mut self,
        (pool, threads): (&Pool, usize),
        step: StepId,
    ) -> Result<(), LayerError> {
        let mut layers = self.layers.iter_mut();
        layers.try_for_each(|layer| layer.commit((pool, threads), step))
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
            layer.visit_params(&mut |param| visit(index, param))?;
        }
        Ok(())
    }

    /// As [`visit_params`](Self::visit_params), of the layers that have some that train. The others
    /// keep what they have prepared from theirs.
    pub(super) fn visit_trained(
        &mut self,
        visit: &mut dyn FnMut(LayerIndex, &mut dyn ParamAccess) -> Result<(), LayerError>,
    ) -> Result<(), LayerError> {
        for layer in self.layers.iter_mut().filter(|it| it.program.changes) {
            let index = layer.program.layer;
            layer.visit_params(&mut |param| visit(index, param))?;
        }
        Ok(())
    }

    /// Calls `visit` with every parameter of one layer, if it is here. The others keep what they
    /// have prepared from theirs.
    pub(super) fn visit_params_of(
        &mut self,
        wanted: LayerIndex,
        visit: &mut dyn FnMut(&mut dyn ParamAccess) -> Result<(), LayerError>,
    ) -> Result<(), LayerError> {
        let mut layers = self.layers.iter_mut();
        match layers.find(|layer| layer.program.layer == wanted) {
            Some(layer) => layer.visit_params(visit),
            None => Ok(()),
        }
    }

    /// The layers' numbers, in order.
    pub(super) fn layers(&self) -> impl Iterator<Item = LayerIndex> + '_ {
        self.layers.iter().map(|layer| layer.program.layer)
    }
}

/// A layer's inputs; what is read for the last time is taken.
pub(super) fn gather(
    inputs: &[Input],
    values: &mut [Option<Tensor>],
    mut feed: impl FnMut(Feed) -> Result<Option<Tensor>, Cause>,
) -> Result<Tensors, Cause> {
    let mut all = Tensors::none();
    for input in inputs {
        all.push(match *input {
            Input::Feed(number) => feed(number)?,
            Input::Value { place, last: true } => values[place].take(),
            Input::Value { place, last: false } => values[place].clone(),
        })?;
    }
    Ok(all)
}

/// A copy that belongs to no node, of all or of the last row of numbers.
fn detached(tensor: &Tensor, last: bool) -> Result<Tensor, LayerError> {
    let (shape, numbers) = (tensor.shape(), tensor.f32()?);
    match last {
        false => Tensor::from_vec(shape, numbers.to_vec()),
        true => {
            let start = numbers.len().saturating_sub(shape.last());
            Tensor::from_vec([shape.last()], numbers[start..].to_vec())
        }
    }
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
