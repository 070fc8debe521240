//! Checks that an implementor of a layer calls in a test: `conformance::check(&MyLayer { .. },
//! &inputs)?`, and [`check_loss`] for a loss.
//!
//! They hold the laws of [`Layer`](crate::Layer): gradients against finite differences, I and W
//! that add up in any order, determinism, and honest costs.

use crate::{
    AnyLayer, AnySpec, BuildCtx, Ctx, LayerError, LayerSpec, LayerState, Mode, Part, Pool, Slot,
    Tensor, TensorSpec, Tensors,
};

mod compare;
mod loss;
mod violation;

pub use loss::check_loss;
pub use violation::Violation;

use compare::{
    agree, bits_equal, difference, dot, gradients_of, is_f32, random_like, same_bits, shifted,
    with_param,
};

/// What one pass of F, I and W gave.
struct Pass {
    outputs: Tensors,
    input_gradients: Tensors,
    param_gradients: Vec<(String, Vec<f32>)>,
}

struct Bench<'a> {
    spec: &'a dyn AnySpec,
    inputs: &'a Tensors,
    /// By input.
    wanted: Vec<bool>,
    pool: Pool,
}

/// Checks a layer on inputs of its author's choice. Inputs of type `f32` get gradients; others must
/// not.
///
/// Inputs of magnitude around 1 are best: difference quotients in single precision are coarse. Keep
/// away from places where the layer has no derivative.
///
/// # Errors
/// The first law that is broken.
pub fn check<S: LayerSpec>(spec: &S, inputs: &Tensors) -> Result<(), Violation> {
    let differentiable = inputs.iter().map(|x| x.is_some_and(is_f32));
    Bench::new(spec, inputs, differentiable.collect()).check()
}

impl<'a> Bench<'a> {
    fn new(spec: &'a dyn AnySpec, inputs: &'a Tensors, wanted: Vec<bool>) -> Self {
        Self {
            spec,
            inputs,
            wanted,
            pool: Pool::default(),
        }
    }

    fn check(&self) -> Result<(), Violation> {
        // What the description refuses never reaches a layer.
        self.spec.output_specs(&self.specs())?;
        let mut layer = self.build()?;
        self.check_description(layer.as_mut())?;
        let once = self.pass(self.build()?.as_mut())?;
        let again = self.pass(self.build()?.as_mut())?;
        same_bits(&once, &again)?;
        self.check_working(self.build()?.as_mut())?;
        self.check_separable(&once)?;
        self.check_gradients(layer.as_mut(), &once)
    }

    fn build(&self) -> Result<Box<dyn AnyLayer>, LayerError> {
        self.spec.build_any(&BuildCtx::new(&self.pool, 11, "layer"))
    }

    fn specs(&self) -> Vec<TensorSpec> {
        self.inputs.iter().flatten().map(Tensor::spec).collect()
    }

    fn forward(
        &self,
        layer: &mut dyn AnyLayer,
        inputs: &Tensors,
        slot: &mut Slot,
    ) -> Result<Tensors, LayerError> {
        let mut state = LayerState::default();
        layer.f(inputs.clone(), slot, &mut self.ctx(&mut state))
    }

    /// The inputs as tensors of the node.
    fn held_inputs(&self) -> Result<Tensors, LayerError> {
        let mut held = Tensors::none();
        for input in self.inputs.iter() {
            let input = input.map(|input| self.pool.adopt(input.clone()));
            held.push(input.transpose()?)?;
        }
        Ok(held)
    }

    /// Bytes that one F leaves along the step.
    fn gathered(&self, layer: &mut dyn AnyLayer, mode: Mode) -> Result<u64, LayerError> {
        let mut state = LayerState::default();
        let mut cx = self.ctx(&mut state);
        cx.mode = mode;
        layer.f_only(self.inputs.clone(), &mut cx)?;
        Ok(state.step.bytes())
    }

    fn ctx<'b>(&'b self, state: &'b mut LayerState) -> Ctx<'b> {
        Ctx::new(&self.pool, state).wanting(self.wanted.iter().copied())
    }

    /// A fixed upstream gradient for every output.
    fn upstream(&self, outputs: &Tensors) -> Result<Tensors, LayerError> {
        let mut gradients = Tensors::none();
        for (number, output) in outputs.iter().enumerate() {
            let gradient = match output {
                Some(output) if is_f32(output) => {
                    Some(random_like(output, &format!("dy{number}"))?)
                }
                _ => None,
            };
            gradients.push(gradient)?;
        }
        Ok(gradients)
    }

    fn pass(&self, layer: &mut dyn AnyLayer) -> Result<Pass, LayerError> {
        let mut slot = layer.slot();
        let mut state = LayerState::default();
        let outputs = self.forward(layer, self.inputs, &mut slot)?;
        let gradients = self.upstream(&outputs)?;
        let input_gradients = layer.i(gradients, &mut slot, &mut self.ctx(&mut state))?;
        layer.w(&mut slot, &mut self.ctx(&mut state))?;
        Ok(Pass {
            outputs,
            input_gradients,
            param_gradients: gradients_of(layer)?,
        })
    }

    fn check_description(&self, layer: &mut dyn AnyLayer) -> Result<(), Violation> {
        let specs = self.specs();
        let cost = self.spec.cost_of(&specs);
        let honest = |what: &str, said: String, found: String| {
            if said == found {
                Ok(())
            } else {
                Err(Violation::Dishonest {
                    what: what.into(),
                    said,
                    found,
                })
            }
        };
        let said: Vec<_> = (self.spec.param_specs().iter())
            .map(|param| format!("layer.{} {} ({:?})", param.name, param.shape, param.role))
            .collect();
        let mut found = Vec::new();
        layer.visit_params(&mut |param| {
            let info = param.info();
            found.push(format!("{} {} ({:?})", info.key, info.shape, info.role));
        });
        honest(
            "the list of parameters",
            listed(said.iter()),
            listed(found.iter()),
        )?;

        let mut slot = layer.slot();
        let mut state = LayerState::default();
        let inputs = self.held_inputs()?;
        let before = self.pool.report().held_bytes;
        let outputs = self.forward(layer, &inputs, &mut slot)?;
        let found: Vec<_> = outputs.iter().flatten().map(Tensor::spec).collect();
        honest(
            "what comes out",
            listed(self.spec.output_specs(&specs)?.iter()),
            listed(found.iter()),
        )?;
        honest(
            "stash_bytes",
            cost.stash_bytes.to_string(),
            slot.bytes().to_string(),
        )?;
        let upstream = self.upstream(&outputs)?;
        drop(outputs);
        let own = (0..specs.len()).filter(|input| cost.stashes_input(*input));
        let own: u64 = own.map(|input| specs[input].bytes()).sum();
        let (said, found) = (
            cost.stash_bytes.saturating_sub(own),
            self.pool.report().held_bytes.saturating_sub(before),
        );
        if found > said {
            let (said, found) = (said.to_string(), found.to_string());
            let what = "what the stash holds beside its stashed_inputs".into();
            return Err(Violation::Dishonest { what, said, found });
        }
        drop(inputs);
        let gathered = self.gathered(layer, Mode::Train)?.to_string();
        honest("step_bytes", cost.step_bytes.to_string(), gathered)?;
        for mode in [Mode::Recompute, Mode::Evaluate] {
            let gathered = self.gathered(layer, mode)?.to_string();
            let what = format!("what F leaves for the step's end in mode {mode:?}");
            honest(&what, 0.to_string(), gathered)?;
        }
        layer.i(upstream, &mut slot, &mut self.ctx(&mut state))?;
        honest(
            "kept_bytes",
            cost.kept_bytes.to_string(),
            slot.bytes().to_string(),
        )?;
        layer.w(&mut slot, &mut self.ctx(&mut state))?;
        layer.visit_params(&mut |param| param.clear_gradient());
        Ok(())
    }

    /// What the calls take from the pool is no more than the description says. The second pass
    /// counts: by then gradients of parameters exist.
    fn check_working(&self, layer: &mut dyn AnyLayer) -> Result<(), Violation> {
        let cost = self.spec.cost_of(&self.specs());
        let bounded = |what: &str, said: u64, before: u64| {
            let found = self.pool.report().peak_bytes.saturating_sub(before);
            if found <= said {
                return Ok(());
            }
            let (what, said, found) = (what.into(), said.to_string(), found.to_string());
            Err(Violation::Dishonest { what, said, found })
        };
        let start = || {
            self.pool.reset_peak();
            self.pool.report().held_bytes
        };
        self.pass(layer)?;
        let mut slot = layer.slot();
        let mut state = LayerState::default();
        let before = start();
        let outputs = self.forward(layer, self.inputs, &mut slot)?;
        bounded("forward_working_bytes", cost.forward_working_bytes, before)?;
        let gradients = self.upstream(&outputs)?;
        drop(outputs);
        let before = start();
        let results = layer.i(gradients, &mut slot, &mut self.ctx(&mut state))?;
        bounded(
            "backward_working_bytes",
            cost.backward_working_bytes,
            before,
        )?;
        drop(results);
        let before = start();
        layer.w(&mut slot, &mut self.ctx(&mut state))?;
        bounded(
            "backward_working_bytes",
            cost.backward_working_bytes,
            before,
        )
    }

    /// Three micro-batches in flight, with I and W interleaved, sum to what the three sum to one
    /// after the other.
    fn check_separable(&self, once: &Pass) -> Result<(), Violation> {
        let mut in_turn = self.build()?;
        for _ in 0..3 {
            self.pass(in_turn.as_mut())?;
        }
        let mut mixed = self.build()?;
        let mut slots: Vec<_> = (0..3).map(|_| mixed.slot()).collect();
        for slot in &mut slots {
            self.forward(mixed.as_mut(), self.inputs, slot)?;
        }
        let mut state = LayerState::default();
        for slot in slots.iter_mut().rev() {
            mixed.i(
                self.upstream(&once.outputs)?,
                slot,
                &mut self.ctx(&mut state),
            )?;
        }
        for slot in &mut slots {
            mixed.w(slot, &mut self.ctx(&mut state))?;
        }
        let (in_turn, mixed) = (
            gradients_of(in_turn.as_mut())?,
            gradients_of(mixed.as_mut())?,
        );
        for ((key, one), (_, other)) in in_turn.into_iter().zip(mixed) {
            if !bits_equal(&one, &other) {
                return Err(Violation::NotSeparable(key));
            }
        }
        Ok(())
    }

    /// Slope of `sum(outputs * upstream)`, in double precision.
    fn objective(
        &self,
        layer: &mut dyn AnyLayer,
        inputs: &Tensors,
        upstream: &Tensors,
    ) -> Result<f64, LayerError> {
        let mut slot = layer.slot();
        let outputs = self.forward(layer, inputs, &mut slot)?;
        let mut total = 0.0;
        for (output, gradient) in outputs.iter().zip(upstream.iter()) {
            if let (Some(output), Some(gradient)) = (output, gradient) {
                total += dot(output.f32()?, gradient.f32()?);
            }
        }
        Ok(total)
    }

    fn check_gradients(&self, layer: &mut dyn AnyLayer, once: &Pass) -> Result<(), Violation> {
        let upstream = self.upstream(&once.outputs)?;
        for (number, input) in self.inputs.iter().enumerate() {
            let Some(input) = input.filter(|_| self.wanted[number]) else {
                continue;
            };
            let of = format!("input {number}");
            let gradient = once.input_gradients.get(number);
            let gradient = gradient.ok_or(Violation::NoGradient { input: number })?;
            if gradient.shape() != input.shape() {
                let (what, expected) = (format!("gradient of {of}"), input.shape().to_string());
                return Err(LayerError::shape(what, expected, gradient.shape()).into());
            }
            let direction = random_like(input, &of)?;
            let claimed = dot(gradient.f32()?, direction.f32()?);
            let moved = |step: f32| -> Result<Tensors, LayerError> {
                let mut all = Tensors::none();
                for (at, tensor) in self.inputs.iter().enumerate() {
                    let tensor = tensor.cloned();
                    all.push(if at == number {
                        tensor.map(|t| shifted(&t, &direction, step)).transpose()?
                    } else {
                        tensor
                    })?;
                }
                Ok(all)
            };
            let slopes = difference(|step| self.objective(layer, &moved(step)?, &upstream))?;
            agree(of, claimed, slopes)?;
        }
        let params = self.spec.param_specs();
        for (number, (key, gradient)) in once.param_gradients.iter().enumerate() {
            // One that is not trained may matter, and has no gradient.
            if !params[number].trains {
                continue;
            }
            let mut before = vec![0.0; gradient.len()];
            with_param(layer, number, |param| param.read(Part::Value, &mut before))?;
            let direction = random_like(&Tensor::from_vec([before.len()], before.clone())?, key)?;
            let claimed = dot(gradient, direction.f32()?);
            let slopes = difference(|step| {
                let shifted: Vec<f32> = before
                    .iter()
                    .zip(direction.f32()?)
                    .map(|(v, d)| v + step * d)
                    .collect();
                with_param(layer, number, |param| {
                    param.write(Part::Value, &shifted, &self.pool)
                })?;
                self.objective(layer, self.inputs, &upstream)
            })?;
            with_param(layer, number, |param| {
                param.write(Part::Value, &before, &self.pool)
            })?;
            agree(key.clone(), claimed, slopes)?;
        }
        Ok(())
    }
}

/// One after the other, or that there are none.
fn listed(list: impl Iterator<Item = impl ToString>) -> String {
    let list: Vec<_> = list.map(|one| one.to_string()).collect();
    match list.is_empty() {
        true => "nothing".into(),
        false => list.join(", "),
    }
}
