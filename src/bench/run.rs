//! One layer, built alone, called again and again.

use super::kinds::wanted;
use crate::trace::LayerTime;
use brigade_layer::{
    AnyLayer, Ctx, DType, LayerError, LayerIndex, LayerShapes, LayerState, Network, Optimizer,
    ParamAccess, Pool, Precision, Slot, StepId, Tensor, TensorSpec, Tensors, UpdateWith,
};
use rayon::ThreadPool;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a layer is run with, as a node has it.
#[derive(Clone)]
pub(crate) struct Machinery {
    pub(crate) pool: Pool,
    pub(crate) threads: Option<Arc<ThreadPool>>,
    pub(crate) precision: Precision,
}

/// A layer with inputs and gradients of its own, to be measured. Each call gets fresh copies, made
/// while the clock stands still: a layer may work in place.
pub struct LayerRun {
    key: String,
    index: LayerIndex,
    layer: Box<dyn AnyLayer>,
    slot: Slot,
    state: LayerState,
    machinery: Machinery,
    inputs: Tensors,
    gradients: Tensors,
    wanted: Vec<bool>,
    /// Whether it takes part in the backward pass.
    trains: bool,
    /// Whether it has a W, and whether an update changes anything.
    weighs: bool,
    changes: bool,
}

impl LayerRun {
    /// Builds a layer of a network, to be run with these inputs.
    pub(crate) fn build(
        network: &Network,
        index: LayerIndex,
        shapes: &LayerShapes,
        inputs: Tensors,
        machinery: &Machinery,
    ) -> Result<Self, LayerError> {
        let (node, pool) = (&network.layers()[index.index()], &machinery.pool);
        let layer = (node.spec).build_any(&network.build_ctx(index, pool, 1))?;
        let mut gradients = Tensors::none();
        for output in &shapes.outputs {
            gradients.push(Some(some_gradient(*output, pool)?))?;
        }
        Ok(Self {
            key: node.key.clone(),
            index,
            slot: layer.slot(),
            layer,
            state: LayerState::default(),
            machinery: machinery.clone(),
            inputs,
            gradients,
            wanted: wanted(network, index),
            trains: network.needs_gradient(index),
            weighs: network.needs_gradient(index) && !network.is_frozen(index),
            changes: network.trains(index),
        })
    }

    /// The layer's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The layer's number.
    pub fn index(&self) -> LayerIndex {
        self.index
    }

    /// F, this many times: how long all of them took.
    ///
    /// # Errors
    /// The layer's.
    pub fn forward(&mut self, count: u64) -> Result<Duration, LayerError> {
        self.repeat(count, |run| {
            let (taken, outputs) = run.f()?;
            drop(outputs);
            run.slot.clear();
            Ok(taken)
        })
    }

    /// I, this many times: how long all of them took, the F before each not counted. Nothing for a
    /// layer that takes no part in the backward pass.
    ///
    /// # Errors
    /// The layer's.
    pub fn backward_input(&mut self, count: u64) -> Result<Duration, LayerError> {
        self.repeat(count, |run| {
            run.f()?;
            let taken = run.i()?;
            run.slot.clear();
            Ok(taken)
        })
    }

    /// W, this many times: how long all of them took, the F and I before each not counted.
    ///
    /// # Errors
    /// The layer's.
    pub fn backward_weight(&mut self, count: u64) -> Result<Duration, LayerError> {
        self.repeat(count, |run| {
            run.f()?;
            run.i()?;
            run.w()
        })
    }

    /// F, I and W once.
    ///
    /// # Errors
    /// The layer's.
    pub fn once(&mut self) -> Result<LayerTime, LayerError> {
        Ok(LayerTime {
            forward: self.f()?.0,
            input: self.i()?,
            weight: self.w()?,
        })
    }

    /// One update of the layer's parameters: nothing where none trains.
    ///
    /// # Errors
    /// When memory does not allow the optimizer's state.
    pub fn update(&mut self, optimizer: &dyn Optimizer) -> Result<Duration, LayerError> {
        if !self.changes {
            return Ok(Duration::ZERO);
        }
        let threads = self.thread_count();
        let with = UpdateWith::new(StepId::new(0), &self.machinery.pool).threads(threads);
        let (layer, mut result) = (&mut self.layer, Ok(()));
        let started = Instant::now();
        layer.visit_params(&mut |param| {
            if result.is_ok() {
                result = param.update(optimizer, &with);
            }
        });
        let taken = started.elapsed();
        result.map_err(|error| error.in_layer(self.index, &self.key))?;
        Ok(taken)
    }

    /// Bytes of the values of its parameters.
    pub(crate) fn parameter_bytes(&mut self) -> u64 {
        let mut bytes = 0;
        let visit = &mut |param: &mut dyn ParamAccess| bytes += param.bytes().value;
        self.layer.visit_params(visit);
        bytes
    }

    /// Bytes kept for the backward pass; nothing for a layer that takes no part in it.
    pub(crate) fn kept_bytes(&self) -> u64 {
        if self.trains { self.slot.bytes() } else { 0 }
    }

    /// F: how long it took, and the outputs.
    pub(crate) fn f(&mut self) -> Result<(Duration, Tensors), LayerError> {
        let inputs = copies(&self.inputs, &self.machinery.pool)?;
        self.timed(|layer, slot, cx| layer.f(inputs, slot, cx))
    }

    /// I, after F.
    pub(crate) fn i(&mut self) -> Result<Duration, LayerError> {
        if !self.trains {
            return Ok(Duration::ZERO);
        }
        let gradients = copies(&self.gradients, &self.machinery.pool)?;
        Ok(self
            .timed(|layer, slot, cx| layer.i(gradients, slot, cx))?
            .0)
    }

    /// W, after I.
    pub(crate) fn w(&mut self) -> Result<Duration, LayerError> {
        if !self.weighs {
            return Ok(Duration::ZERO);
        }
        Ok(self.timed(|layer, slot, cx| layer.w(slot, cx))?.0)
    }

    /// Does something with the layer on its threads, and says how long it took.
    fn timed<R: Send>(&mut self, work: impl OnLayer<R>) -> Result<(Duration, R), LayerError> {
        let threads = self.thread_count();
        let mut cx =
            Ctx::new(&self.machinery.pool, &mut self.state).wanting(self.wanted.iter().copied());
        (cx.layer, cx.threads, cx.precision) = (self.index, threads, self.machinery.precision);
        let (layer, slot) = (self.layer.as_mut(), &mut self.slot);
        let on_clock = || {
            let started = Instant::now();
            let result = work(layer, slot, &mut cx);
            (started.elapsed(), result)
        };
        let (taken, result) = match &self.machinery.threads {
            Some(pool) => pool.install(on_clock),
            None => on_clock(),
        };
        let result = result.map_err(|error| error.in_layer(self.index, &self.key))?;
        Ok((taken, result))
    }

    fn thread_count(&self) -> usize {
        (self.machinery.threads.as_ref()).map_or(1, |pool| pool.current_num_threads())
    }

    fn repeat(
        &mut self,
        count: u64,
        mut once: impl FnMut(&mut Self) -> Result<Duration, LayerError>,
    ) -> Result<Duration, LayerError> {
        (0..count).try_fold(Duration::ZERO, |sum, _| Ok(sum + once(self)?))
    }
}

/// Something done with a layer.
trait OnLayer<R>:
    FnOnce(&mut dyn AnyLayer, &mut Slot, &mut Ctx<'_>) -> Result<R, LayerError> + Send
{
}

impl<R, W> OnLayer<R> for W where
    W: FnOnce(&mut dyn AnyLayer, &mut Slot, &mut Ctx<'_>) -> Result<R, LayerError> + Send
{
}

/// Tensors that nobody else holds.
fn copies(tensors: &Tensors, pool: &Pool) -> Result<Tensors, LayerError> {
    let mut copies = Tensors::none();
    for tensor in tensors.iter() {
        copies.push(tensor.map(|tensor| copy(tensor, pool)).transpose()?)?;
    }
    Ok(copies)
}

/// A gradient whose values are neither all the same nor denormal.
pub(crate) fn some_gradient(spec: TensorSpec, pool: &Pool) -> Result<Tensor, LayerError> {
    let mut gradient = pool.f32(spec.shape)?;
    for (at, value) in gradient.data().iter_mut().enumerate() {
        *value = ((at % 17) as f32 - 8.0) * 1e-3;
    }
    Ok(gradient.freeze())
}

pub(crate) fn copy(tensor: &Tensor, pool: &Pool) -> Result<Tensor, LayerError> {
    Ok(match tensor.dtype() {
        DType::F32 => pool.writable::<f32>(tensor.clone())?.freeze(),
        DType::I32 => pool.writable::<i32>(tensor.clone())?.freeze(),
        other => {
            let problem = format!("cannot copy a tensor of {other}");
            return Err(LayerError::Value(problem));
        }
    })
}
