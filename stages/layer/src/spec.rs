//! Descriptions of layers: what they cost and how to build them. Describing a network allocates
//! none of it.

use crate::{
    AnyLayer, Layer, LayerError, ParamInfo, ParamSpec, Pool, SharedId, TensorSpec, Tensors,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Add;

/// What a layer costs for one micro-batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Floating-point operations of F.
    pub forward_flops: u64,
    /// Floating-point operations of I.
    pub input_flops: u64,
    /// Floating-point operations of W.
    pub weight_flops: u64,
    /// Bytes kept from F to I (what I hands on to W included).
    pub stash_bytes: u64,
    /// Which inputs are kept from F to I as they came, one bit each, the lowest for the first:
    /// where others hold the same value it is there once. What is not named counts as a copy.
    #[serde(default)]
    pub stashed_inputs: u64,
    /// Bytes kept from I to W.
    pub kept_bytes: u64,
    /// The most that F takes from the pool at once, its outputs and its stash included.
    pub forward_working_bytes: u64,
    /// The most that I or W takes from the pool at once, results included; gradients of parameters
    /// are not counted.
    pub backward_working_bytes: u64,
    /// What each thread beyond the first takes in addition.
    pub thread_bytes: u64,
    /// With [`Precision::Bf16`](crate::Precision::Bf16), what stays with the layer from one
    /// micro-batch to the next: factors that are rounded once for all of them.
    pub prepared_bytes: u64,
    /// What is kept along a whole sequence of these inputs when generating: see
    /// [`Ctx::sequence_state`](crate::Ctx::sequence_state). A layer that keeps something may work
    /// on all of it for every piece: then it takes as much from the pool as for a whole sequence.
    /// One that keeps nothing computes every position from that position alone.
    #[serde(default)]
    pub sequence_bytes: u64,
    /// What F of a training step leaves in [`Ctx::step_state`](crate::Ctx::step_state) for every
    /// micro-batch, until the step ends.
    #[serde(default)]
    pub step_bytes: u64,
}

impl Cost {
    /// Floating-point operations of F, I and W.
    pub fn flops(&self) -> u64 {
        let backward = self.input_flops.saturating_add(self.weight_flops);
        self.forward_flops.saturating_add(backward)
    }

    /// Whether the stash holds this input as it came.
    pub fn stashes_input(&self, input: usize) -> bool {
        let bit = u32::try_from(input)
            .ok()
            .and_then(|bit| self.stashed_inputs.checked_shr(bit));
        bit.is_some_and(|bits| bits & 1 == 1)
    }

    /// The cost of a layer that takes no part in the backward pass.
    pub(crate) fn forward_only(self) -> Self {
        Self {
            input_flops: 0,
            weight_flops: 0,
            stash_bytes: 0,
            stashed_inputs: 0,
            kept_bytes: 0,
            backward_working_bytes: 0,
            ..self
        }
    }

    /// All bytes that it says.
    pub(crate) fn bytes(&self) -> u64 {
        [
            self.stash_bytes,
            self.kept_bytes,
            self.forward_working_bytes,
            self.backward_working_bytes,
            self.thread_bytes,
            self.prepared_bytes,
            self.sequence_bytes,
            self.step_bytes,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }
}

/// One layer after another, as parts of one: what each takes adds up, as far as it can be counted.
impl Add for Cost {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        let add = u64::saturating_add;
        Self {
            forward_flops: add(self.forward_flops, other.forward_flops),
            input_flops: add(self.input_flops, other.input_flops),
            weight_flops: add(self.weight_flops, other.weight_flops),
            stash_bytes: add(self.stash_bytes, other.stash_bytes),
            // What a part is given need not be what the whole was given.
            stashed_inputs: 0,
            kept_bytes: add(self.kept_bytes, other.kept_bytes),
            forward_working_bytes: add(self.forward_working_bytes, other.forward_working_bytes),
            backward_working_bytes: add(self.backward_working_bytes, other.backward_working_bytes),
            thread_bytes: self.thread_bytes.max(other.thread_bytes),
            prepared_bytes: add(self.prepared_bytes, other.prepared_bytes),
            sequence_bytes: add(self.sequence_bytes, other.sequence_bytes),
            step_bytes: add(self.step_bytes, other.step_bytes),
        }
    }
}

/// What a layer is built with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BuildCtx<'a> {
    /// The node's buffers.
    pub pool: &'a Pool,
    /// The run's seed.
    pub seed: u64,
    prefix: String,
    frozen: bool,
    first_keys: Option<&'a BTreeMap<SharedId, String>>,
}

impl<'a> BuildCtx<'a> {
    /// Builds the layer with this key.
    pub fn new(pool: &'a Pool, seed: u64, key: &str) -> Self {
        Self {
            pool,
            seed,
            prefix: key.to_owned(),
            frozen: false,
            first_keys: None,
        }
    }

    /// Says under which key each shared parameter is held first.
    #[must_use]
    pub fn sharing(mut self, first_keys: &'a BTreeMap<SharedId, String>) -> Self {
        self.first_keys = Some(first_keys);
        self
    }

    /// Builds a layer whose parameters do not train.
    pub(crate) fn frozen(&self) -> Self {
        Self {
            frozen: true,
            ..self.clone()
        }
    }

    /// Builds a part of the layer: its parameters' names start with `part`.
    #[must_use]
    pub fn within(&self, part: &str) -> Self {
        Self {
            prefix: join(&self.prefix, part),
            ..self.clone()
        }
    }

    /// What everyone may know of a parameter of the layer.
    pub fn info(&self, spec: &ParamSpec) -> ParamInfo {
        let own = join(&self.prefix, &spec.name);
        let first = spec.shared.and_then(|shared| self.first_keys?.get(&shared));
        ParamInfo {
            primary: first.is_none_or(|first| *first == own),
            key: first.cloned().unwrap_or(own),
            shape: spec.shape,
            role: spec.role,
            shared: spec.shared,
            trains: spec.trains && !self.frozen,
        }
    }
}

pub(crate) fn join(prefix: &str, name: &str) -> String {
    match (prefix.is_empty(), name.is_empty()) {
        (true, _) => name.to_owned(),
        (_, true) => prefix.to_owned(),
        _ => format!("{prefix}.{name}"),
    }
}

/// Description of a layer: plain data that names its parameters, prices itself, and builds the
/// layer.
pub trait LayerSpec: Debug + Send + Sync + 'static {
    /// What it builds.
    type Layer: Layer;

    /// Its parameters, in the order in which [`Layer::params`] visits them.
    fn params(&self) -> Vec<ParamSpec> {
        Vec::new()
    }

    /// Shapes and types of the outputs for these inputs.
    ///
    /// # Errors
    /// When it cannot take such inputs: says what it expected.
    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError>;

    /// What it costs for these inputs, which `outputs` has accepted.
    fn cost(&self, inputs: &[TensorSpec]) -> Cost;

    /// Builds the layer.
    ///
    /// # Errors
    /// When the node's memory does not allow its parameters.
    fn build(&self, cx: &BuildCtx<'_>) -> Result<Self::Layer, LayerError>;

    /// For a loss: over how many terms of these targets (its inputs but the first) it sums. The
    /// mean loss of a mini-batch is its sum over this count, so that ignored targets and a smaller
    /// last micro-batch are exact.
    ///
    /// # Errors
    /// When this is not a loss, or the targets do not fit.
    fn loss_terms(&self, targets: &Tensors) -> Result<f64, LayerError> {
        let _ = targets;
        Err(LayerError::Value(
            "it does not count terms; a loss implements `LayerSpec::loss_terms`".into(),
        ))
    }
}

mod sealed {
    pub trait Sealed {}
    impl<S: super::LayerSpec> Sealed for S {}
    impl Sealed for crate::frozen::Frozen {}
}

/// Any [`LayerSpec`], as a network holds it. Implemented for every description, as it is or
/// [frozen](crate::Network::freeze), and for nothing else.
pub trait AnySpec: sealed::Sealed + Debug + Send + Sync {
    /// See [`LayerSpec::params`].
    fn param_specs(&self) -> Vec<ParamSpec>;

    /// See [`LayerSpec::outputs`].
    ///
    /// # Errors
    /// The description's.
    fn output_specs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError>;

    /// See [`LayerSpec::cost`].
    fn cost_of(&self, inputs: &[TensorSpec]) -> Cost;

    /// See [`LayerSpec::build`].
    ///
    /// # Errors
    /// The description's.
    fn build_any(&self, cx: &BuildCtx<'_>) -> Result<Box<dyn AnyLayer>, LayerError>;

    /// See [`LayerSpec::loss_terms`].
    ///
    /// # Errors
    /// The description's.
    fn terms(&self, targets: &Tensors) -> Result<f64, LayerError>;

    /// What it was before it was frozen, if it is.
    fn thawed(&self) -> Option<&dyn AnySpec> {
        None
    }
}

impl<S: LayerSpec> AnySpec for S {
    fn param_specs(&self) -> Vec<ParamSpec> {
        self.params()
    }
    fn output_specs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        self.outputs(inputs)
    }
    fn cost_of(&self, inputs: &[TensorSpec]) -> Cost {
        self.cost(inputs)
    }
    fn build_any(&self, cx: &BuildCtx<'_>) -> Result<Box<dyn AnyLayer>, LayerError> {
        Ok(Box::new(self.build(cx)?))
    }
    fn terms(&self, targets: &Tensors) -> Result<f64, LayerError> {
        self.loss_terms(targets)
    }
}
