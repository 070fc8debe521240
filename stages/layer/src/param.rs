//! Parameters. They are reached through operations, so that they may live elsewhere: in another
//! framework, on another device. [`Param`](crate::Param) is the implementation in host memory.

use crate::{LayerError, Optimizer, Pool, Shape, SharedId, StepId, Tensor, TensorMut};
use serde::{Deserialize, Serialize};

/// Initial values of a parameter. They depend on (seed, key) alone.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Init {
    /// All 0.
    Zeros,
    /// All 1.
    Ones,
    /// Normal with mean 0 and this standard deviation.
    Normal(f32),
    /// Uniform between minus and plus this bound.
    Uniform(f32),
}

/// What a parameter is for. Optimizers treat roles differently (weight decay).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ParamRole {
    /// A matrix that inputs are multiplied with.
    Weight,
    /// A table of vectors.
    Embedding,
    /// Added after a product.
    Bias,
    /// Scale or offset of a normalisation.
    Norm,
    /// Gathered while training and not trained itself: a running mean or variance. It changes when
    /// a step ends ([`Layer::commit`](crate::Layer::commit)), never before.
    Statistic,
}

/// Description of a parameter.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ParamSpec {
    /// Its name within its layer (`c_attn.weight`).
    pub name: String,
    /// Its shape.
    pub shape: Shape,
    /// Its initial values.
    pub init: Init,
    /// What it is for.
    pub role: ParamRole,
    /// The shared parameter that it is, if it is one.
    pub shared: Option<SharedId>,
    /// Whether it is trained. One that is not has no gradient, and no update changes it.
    pub trains: bool,
}

impl ParamSpec {
    /// A parameter that no other layer holds.
    pub fn new(name: &str, shape: impl Into<Shape>, role: ParamRole, init: Init) -> Self {
        Self {
            name: name.to_owned(),
            shape: shape.into(),
            init,
            role,
            shared: None,
            trains: true,
        }
    }

    /// The same parameter, held by every layer that names this id.
    #[must_use]
    pub fn shared(mut self, shared: Option<SharedId>) -> Self {
        self.shared = shared;
        self
    }

    /// The same parameter, not trained: frozen, or state that the layer keeps by itself.
    #[must_use]
    pub fn untrained(mut self) -> Self {
        self.trains = false;
        self
    }

    /// The same parameter under a longer name: `part.name`.
    #[must_use]
    pub fn within(mut self, part: &str) -> Self {
        if !part.is_empty() {
            self.name = format!("{part}.{}", self.name);
        }
        self
    }

    /// Bytes of its values.
    pub fn bytes(&self) -> u64 {
        (self.shape.elements() as u64).saturating_mul(4)
    }
}

/// What everyone may know of a parameter.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ParamInfo {
    /// Names it for people and checkpoints (`h.3.attn.c_attn.weight`). A shared parameter has the
    /// key of its first holder, wherever it is held.
    pub key: String,
    /// Its shape.
    pub shape: Shape,
    /// What it is for.
    pub role: ParamRole,
    /// The shared parameter that it is, if it is one.
    pub shared: Option<SharedId>,
    /// Whether this holder speaks for the parameter: it counts in norms, is hashed and saved. True
    /// unless the parameter is shared and another layer holds it first.
    pub primary: bool,
    /// Whether it is trained: an engine neither counts, sums nor updates one that is not.
    pub trains: bool,
}

impl ParamInfo {
    /// So many elements from `start` on, of all of them.
    pub(crate) fn place<'a>(
        &self,
        start: usize,
        count: usize,
        all: &'a mut [f32],
    ) -> Result<&'a mut [f32], LayerError> {
        let end = start.saturating_add(count);
        all.get_mut(start..end).ok_or_else(|| {
            let (key, shape) = (&self.key, self.shape);
            LayerError::Value(format!(
                "{key}: numbers {start} to {end} of a parameter of shape {shape}"
            ))
        })
    }
}

/// Bytes that a parameter holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParamBytes {
    /// Its values.
    pub value: u64,
    /// Its gradient: 0 until the first backward pass.
    pub gradient: u64,
    /// The optimizer's state: 0 until the first update.
    pub state: u64,
}

/// One of the tensors that belong to a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// Its values.
    Value,
    /// The gradient summed so far in this step.
    Gradient,
    /// The optimizer's state with this number.
    State(usize),
}

/// A parameter, reached through operations.
pub trait ParamAccess: Send {
    /// What everyone may know of it.
    fn info(&self) -> &ParamInfo;

    /// Bytes that it holds.
    fn bytes(&self) -> ParamBytes;

    /// Sum of the squares of its gradient in `f64`, in an order that depends on its shape alone. 0
    /// without one.
    ///
    /// # Errors
    /// When the gradient cannot be reached.
    fn sum_of_squares(&self) -> Result<f64, LayerError>;

    /// Copies one of its tensors out. A gradient or state that does not exist yet reads as zeros.
    ///
    /// # Errors
    /// When `into` has another length, or the tensor cannot be reached.
    fn read(&self, part: Part, into: &mut [f32]) -> Result<(), LayerError>;

    /// Copies one of its tensors in.
    ///
    /// # Errors
    /// When `from` has another length, or the tensor cannot be reached.
    fn write(&mut self, part: Part, from: &[f32], pool: &Pool) -> Result<(), LayerError>;

    /// Copies numbers into one of its tensors, from this element on.
    ///
    /// # Errors
    /// When they reach beyond its end, or the tensor cannot be reached.
    fn write_at(
        &mut self,
        part: Part,
        start: usize,
        from: &[f32],
        pool: &Pool,
    ) -> Result<(), LayerError> {
        let mut all = vec![0.0; self.info().shape.elements()];
        self.read(part, &mut all)?;
        self.info()
            .place(start, from.len(), &mut all)?
            .copy_from_slice(from);
        self.write(part, &all, pool)
    }

    /// Moves the gradient out, zeros if there is none, to be summed with other holders'.
    ///
    /// # Errors
    /// When the node's memory does not allow it.
    fn take_gradient(&mut self, pool: &Pool) -> Result<TensorMut, LayerError>;

    /// Moves a gradient in, in place of what was there.
    ///
    /// # Errors
    /// When it has another shape.
    fn put_gradient(&mut self, gradient: Tensor, pool: &Pool) -> Result<(), LayerError>;

    /// Lets the optimizer change the values, and starts the gradient anew. Without a gradient it is
    /// one of zeros.
    ///
    /// # Errors
    /// When the node's memory does not allow the optimizer's state.
    fn update(
        &mut self,
        optimizer: &dyn Optimizer,
        with: &UpdateWith<'_>,
    ) -> Result<(), LayerError>;

    /// Forgets the gradient summed so far.
    fn clear_gradient(&mut self);
}

/// What an update needs beside the parameter itself.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct UpdateWith<'a> {
    /// The step that ends with this update.
    pub step: StepId,
    /// What every gradient is multiplied with first (clipping).
    pub gradient_scale: f32,
    /// The node's threads.
    pub threads: usize,
    /// The node's buffers.
    pub pool: &'a Pool,
}

impl<'a> UpdateWith<'a> {
    /// An update of this step with one thread and gradients as they are.
    pub fn new(step: StepId, pool: &'a Pool) -> Self {
        Self {
            step,
            gradient_scale: 1.0,
            threads: 1,
            pool,
        }
    }

    /// Multiplies every gradient first.
    #[must_use]
    pub fn scaled(mut self, gradient_scale: f32) -> Self {
        self.gradient_scale = gradient_scale;
        self
    }

    /// Uses this many threads of the node.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }
}
