//! What a layer is told with every call.

use crate::rng::mix;
use crate::timing::{KernelTimes, KernelWork};
use crate::{
    Keep, LayerError, LayerIndex, MicroBatchId, Pool, Random, Shape, StepId, Tensor, TensorMut,
    tensor::Element,
};
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::collections::BTreeMap;
use std::time::Instant;

/// Why a layer is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// Training: dropout drops, state for backward is used.
    #[default]
    Train,
    /// The forward pass of training once more, for its state only. Draws the same random numbers,
    /// and must not count anything twice (batch statistics).
    Recompute,
    /// Forward only, as trained: nothing is dropped.
    Evaluate,
    /// Forward only, one piece of a sequence after the other; state along the sequence is kept.
    Generate,
}

/// In which numbers products are computed. Everything else, sums, parameters and the optimizer's
/// state included, is in `f32` always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Precision {
    /// As good as single precision.
    #[default]
    F32,
    /// Factors are rounded to bf16 (8 significant bits); products are exact and sums in `f32`.
    Bf16,
}

/// State that a layer keeps between calls, by the part of the layer that keeps it.
#[derive(Default)]
pub struct StateSlots(BTreeMap<(MicroBatchId, u64), Box<dyn KeptState>>);

/// State of any type that tells its bytes.
trait KeptState: Keep {
    fn as_any(&mut self) -> &mut dyn Any;
}

impl<K: Keep> KeptState for K {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

impl StateSlots {
    fn get<T: Default + Keep>(&mut self, of: MicroBatchId, part: u64) -> &mut T {
        let slot = self
            .0
            .entry((of, part))
            .or_insert_with(|| Box::new(T::default()));
        if !(**slot).as_any().is::<T>() {
            *slot = Box::new(T::default());
        }
        let state = (**slot).as_any().downcast_mut();
        state.expect("the slot was just given this type")
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.0.values().map(|state| state.bytes()).sum()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// The state that one layer keeps between calls.
#[derive(Default)]
pub struct LayerState {
    /// Along a sequence: a key-value cache. Cleared when a new sequence starts.
    pub sequence: StateSlots,
    /// Along a step: batch statistics. Cleared when the step ends.
    pub step: StateSlots,
    /// How long its kernels take, while that is measured.
    pub kernels: KernelTimes,
}

/// What a layer is told with every call: why it is called, what is wanted of it, and what it may
/// use.
#[non_exhaustive]
pub struct Ctx<'a> {
    /// Why the layer is called.
    pub mode: Mode,
    /// The run's seed.
    pub seed: u64,
    /// The step.
    pub step: StepId,
    /// The micro-batch.
    pub micro_batch: MicroBatchId,
    /// The row of the mini-batch that is this micro-batch's first: random numbers are keyed by it.
    pub first_row: usize,
    /// The layer's place in the network.
    pub layer: LayerIndex,
    /// The most positions that a sequence gets to have, when generating: what is kept along it is
    /// taken for so many with its first piece, and never grows. 0 otherwise.
    pub sequence_length: usize,
    /// In which numbers products are computed.
    pub precision: Precision,
    /// How many threads the node has. The compute thread is a member of the node's own rayon pool,
    /// so that `par_iter` and `join` stay on them.
    pub threads: usize,
    pool: &'a Pool,
    state: &'a mut LayerState,
    wants: u8,
    part: u64,
}

impl<'a> Ctx<'a> {
    /// A context that trains, with everything else 0 and every input's gradient wanted.
    pub fn new(pool: &'a Pool, state: &'a mut LayerState) -> Self {
        Self {
            mode: Mode::Train,
            seed: 0,
            step: StepId::new(0),
            micro_batch: MicroBatchId::new(0),
            first_row: 0,
            layer: LayerIndex::new(0),
            sequence_length: 0,
            precision: Precision::F32,
            threads: 1,
            pool,
            state,
            wants: u8::MAX,
            part: 0,
        }
    }

    /// The node's buffers.
    pub fn pool(&self) -> &'a Pool {
        self.pool
    }

    /// A writable tensor from the node's buffers, with unspecified content.
    ///
    /// # Errors
    /// When the node's memory does not allow it.
    pub fn f32(&self, shape: impl Into<Shape>) -> Result<TensorMut, LayerError> {
        self.pool.f32(shape)
    }

    /// A writable tensor with the content of `tensor`: that very tensor when nobody else holds it,
    /// else a copy.
    ///
    /// # Errors
    /// When the node's memory does not allow it, or the elements are of another type.
    pub fn writable<T: Element>(&self, tensor: Tensor) -> Result<TensorMut<T>, LayerError> {
        self.pool.writable(tensor)
    }

    /// Whether anybody reads the gradient of input `index`. When not, `backward_input` returns
    /// `None` for it.
    pub fn wants_gradient(&self, index: usize) -> bool {
        self.wants & (1 << index) != 0
    }

    /// Whether random effects (dropout) apply.
    pub fn training(&self) -> bool {
        matches!(self.mode, Mode::Train | Mode::Recompute)
    }

    /// Random numbers of this layer in this step. A row of the micro-batch is sample `first_row +
    /// row`.
    pub fn random(&self) -> Random {
        Random::of_layer(self.seed, self.step, u64::from(self.layer.get()), self.part)
    }

    /// State along the sequences of this micro-batch, kept from one piece to the next when
    /// generating: the default at the beginning of each. Bytes that it holds are those that the
    /// description says ([`Cost::sequence_bytes`](crate::Cost::sequence_bytes)).
    pub fn sequence_state<T: Default + Keep>(&mut self) -> &mut T {
        self.state.sequence.get(self.micro_batch, self.part)
    }

    /// State along the step, kept from micro-batch to micro-batch and forgotten after
    /// [`commit`](crate::Layer::commit). Micro-batches may come in any order: what depends on it
    /// must be kept apart for each, and merged in their order. Bytes that it holds are those that
    /// the description says ([`Cost::step_bytes`](crate::Cost::step_bytes)).
    pub fn step_state<T: Default + Keep>(&mut self) -> &mut T {
        self.state.step.get(MicroBatchId::default(), self.part)
    }

    /// Does some of the layer's work, and measures how long it takes if somebody profiles the
    /// layer. One is not to be inside another: the time would count twice.
    pub fn timed<R>(&mut self, work: impl Into<KernelWork>, body: impl FnOnce(&Self) -> R) -> R {
        if !self.state.kernels.is_on() {
            return body(self);
        }
        let started = Instant::now();
        let result = body(self);
        self.state.kernels.add(work.into(), started);
        result
    }

    /// The same context with only these inputs' gradients wanted.
    #[must_use]
    pub fn wanting(mut self, wanted: impl IntoIterator<Item = bool>) -> Self {
        self.wants = wanted
            .into_iter()
            .enumerate()
            .fold(0, |mask, (index, wanted)| {
                mask | (u8::from(wanted) << index)
            });
        self
    }

    /// The context for one part of a layer that is made of several: its random numbers and states
    /// are its own.
    pub fn part(&mut self, number: u64) -> Ctx<'_> {
        Ctx {
            pool: self.pool,
            state: self.state,
            part: mix(self.part ^ mix(number + 1)),
            ..*self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default, PartialEq, Debug)]
    struct Count(u32);

    impl Keep for Count {
        fn tensors(&self, _: &mut dyn FnMut(&Tensor)) {}
        fn foreign_bytes(&self) -> u64 {
            4
        }
    }

    #[test]
    fn parts_have_random_numbers_and_states_of_their_own() {
        let (pool, mut state) = (Pool::default(), LayerState::default());
        let mut cx = Ctx::new(&pool, &mut state).wanting([true, false]);
        assert!(cx.wants_gradient(0) && !cx.wants_gradient(1));
        cx.part(0).step_state::<Count>().0 = 7;
        cx.part(1).step_state::<Count>().0 = 8;
        assert_eq!(*cx.part(0).step_state::<Count>(), Count(7));
        assert_eq!(*cx.step_state::<Count>(), Count(0));
        cx.part(0).sequence_state::<Count>().0 = 9;
        cx.micro_batch = MicroBatchId::new(1);
        assert_eq!(
            *cx.part(0).sequence_state::<Count>(),
            Count(0),
            "another sequence"
        );
        assert_ne!(
            cx.part(0).random().words(0, 0, 0),
            cx.part(1).random().words(0, 0, 0)
        );
        assert_eq!((state.step.bytes(), state.sequence.bytes()), (12, 8));
        state.step.clear();
        assert_eq!(
            *Ctx::new(&pool, &mut state).part(0).step_state::<Count>(),
            Count(0)
        );
    }

    /// A chain of forty parts, each inside the one before: all draw differently.
    #[test]
    fn parts_differ_however_deep() {
        fn keys(cx: &mut Ctx<'_>, depth: u32, all: &mut Vec<[u32; 4]>) {
            if depth > 0 {
                all.push(cx.part(1).random().words(0, 0, 0));
                keys(&mut cx.part(0), depth - 1, all);
            }
        }
        let (pool, mut state) = (Pool::default(), LayerState::default());
        let mut all = Vec::new();
        keys(&mut Ctx::new(&pool, &mut state), 40, &mut all);
        let number = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), number);
    }
}
