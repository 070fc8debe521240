//! Layers: forward, backward for inputs, backward for weights.
//!
//! ```text
//!            inputs              gradients of outputs
//!              │ F                        │ I                 │ W
//!   forward ───┴──► Stash ──► backward_input ──► Kept ──► backward_weight
//!              │                          │                   │
//!           outputs              gradients of inputs     added to the parameters' gradients
//! ```
//!
//! State for backward is per micro-batch and moves by ownership: what is not moved on is freed at
//! that moment, and doing W twice, or I before F, does not compile. The engine holds it in a
//! [`Slot`] and cannot look inside.

use crate::{Ctx, LayerError, ParamAccess, Shape, Tensor, Tensors};
use std::fmt;

/// State that a layer keeps for its backward pass. It must tell which tensors it holds, so that
/// bytes are honest.
pub trait Keep: Send + 'static {
    /// Calls `visit` with every tensor held.
    fn tensors(&self, visit: &mut dyn FnMut(&Tensor));

    /// Bytes held elsewhere (another framework, another device).
    fn foreign_bytes(&self) -> u64 {
        0
    }

    /// Bytes held altogether.
    fn bytes(&self) -> u64 {
        let mut bytes = self.foreign_bytes();
        self.tensors(&mut |tensor| bytes += tensor.bytes());
        bytes
    }
}

impl Keep for () {
    fn tensors(&self, _: &mut dyn FnMut(&Tensor)) {}
}

impl Keep for Shape {
    fn tensors(&self, _: &mut dyn FnMut(&Tensor)) {}
}

impl Keep for Tensor {
    fn tensors(&self, visit: &mut dyn FnMut(&Tensor)) {
        visit(self);
    }
}

impl Keep for Tensors {
    fn tensors(&self, visit: &mut dyn FnMut(&Tensor)) {
        self.iter().flatten().for_each(visit);
    }
}

impl<K: Keep> Keep for Option<K> {
    fn tensors(&self, visit: &mut dyn FnMut(&Tensor)) {
        self.iter().for_each(|kept| kept.tensors(visit));
    }
    fn foreign_bytes(&self) -> u64 {
        self.as_ref().map_or(0, Keep::foreign_bytes)
    }
}

impl<K: Keep> Keep for Vec<K> {
    fn tensors(&self, visit: &mut dyn FnMut(&Tensor)) {
        self.iter().for_each(|kept| kept.tensors(visit));
    }
    fn foreign_bytes(&self) -> u64 {
        self.iter().map(Keep::foreign_bytes).sum()
    }
}

impl<K: Keep, const N: usize> Keep for [K; N] {
    fn tensors(&self, visit: &mut dyn FnMut(&Tensor)) {
        self.iter().for_each(|kept| kept.tensors(visit));
    }
    fn foreign_bytes(&self) -> u64 {
        self.iter().map(Keep::foreign_bytes).sum()
    }
}

macro_rules! keep_tuple {
    ($($name:ident)+) => {
        impl<$($name: Keep),+> Keep for ($($name,)+) {
            #[allow(non_snake_case)]
            fn tensors(&self, visit: &mut dyn FnMut(&Tensor)) {
                let ($($name,)+) = self;
                $($name.tensors(visit);)+
            }
            #[allow(non_snake_case)]
            fn foreign_bytes(&self) -> u64 {
                let ($($name,)+) = self;
                0 $(+ $name.foreign_bytes())+
            }
        }
    };
}
keep_tuple!(A B);
keep_tuple!(A B C);
keep_tuple!(A B C D);
keep_tuple!(A B C D E);

/// A layer of a network, with its parameters.
///
/// # Laws
/// - The same calls with the same [`Ctx`] give the same bits, whatever the number of threads.
/// - W only adds to the gradients, and what it adds does not depend on what other micro-batches did
///   in between. A layer that cannot split its backward pass computes all in `backward_input`,
///   keeps its weight gradients in `Kept`, and adds them in `backward_weight`.
/// - What the description's [`Cost`](crate::Cost) says is true.
///
/// [`conformance::check`](crate::conformance::check) tests them.
pub trait Layer: Send + 'static {
    /// What the forward pass keeps for `backward_input`.
    type Stash: Keep;
    /// What `backward_input` keeps for `backward_weight`.
    type Kept: Keep;

    /// F: outputs from inputs.
    ///
    /// # Errors
    /// When the inputs do not fit or memory does not allow it.
    fn forward(
        &mut self,
        inputs: Tensors,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Self::Stash), LayerError>;

    /// I: gradients of the inputs from gradients of the outputs. An output that nobody reads has
    /// none; so may an input whose gradient [nobody wants](Ctx::wants_gradient), or which
    /// cannot have one (ids).
    ///
    /// # Errors
    /// When the gradients do not fit or memory does not allow it.
    fn backward_input(
        &mut self,
        gradients: Tensors,
        stash: Self::Stash,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Self::Kept), LayerError>;

    /// W: adds this micro-batch's share to the parameters' gradients.
    ///
    /// # Errors
    /// When memory does not allow it.
    fn backward_weight(&mut self, kept: Self::Kept, cx: &mut Ctx<'_>) -> Result<(), LayerError>;

    /// The step ends with an update, and the layer takes over what it has gathered along it
    /// ([`Ctx::step_state`]) into parameters that are not trained, such as running statistics.
    /// Not called after a step whose numbers were refused, nor of a frozen layer.
    ///
    /// # Errors
    /// When what was gathered does not fit.
    fn commit(&mut self, cx: &mut Ctx<'_>) -> Result<(), LayerError> {
        let _ = cx;
        Ok(())
    }

    /// Calls `visit` with every parameter, in the order of the description's `params`.
    fn params(&mut self, visit: &mut dyn FnMut(&mut dyn ParamAccess)) {
        let _ = visit;
    }
}

enum State<S, K> {
    Empty,
    AfterForward(S),
    AfterInput(K),
}

trait SlotState: Send {
    fn clear(&mut self);
    fn bytes(&self) -> u64;
    fn as_any(&mut self) -> &mut dyn std::any::Any;
}

impl<S: Keep, K: Keep> SlotState for State<S, K> {
    fn clear(&mut self) {
        *self = Self::Empty;
    }
    fn bytes(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::AfterForward(stash) => stash.bytes(),
            Self::AfterInput(kept) => kept.bytes(),
        }
    }
    fn as_any(&mut self) -> &mut dyn std::any::Any {
        self
    }
}

/// State of one layer for one micro-batch, opaque to whoever holds it. Made once and used again.
pub struct Slot(Box<dyn SlotState>);

impl Slot {
    /// Frees what is held.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.0.bytes()
    }

    fn state<L: Layer + ?Sized>(&mut self) -> &mut State<L::Stash, L::Kept> {
        self.0
            .as_any()
            .downcast_mut()
            .expect("a slot is used with the layer that made it")
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({} bytes)", self.bytes())
    }
}

mod sealed {
    pub trait Sealed {}
    impl<L: super::Layer> Sealed for L {}
    impl Sealed for crate::frozen::FrozenLayer {}
}

/// Any [`Layer`], as the engine holds it. Implemented for every layer, as it is or
/// [frozen](crate::Network::freeze), and for nothing else.
pub trait AnyLayer: sealed::Sealed + Send {
    /// An empty slot for this layer.
    fn slot(&self) -> Slot;

    /// F, with the state for backward put into `slot`.
    ///
    /// # Errors
    /// The layer's.
    fn f(
        &mut self,
        inputs: Tensors,
        slot: &mut Slot,
        cx: &mut Ctx<'_>,
    ) -> Result<Tensors, LayerError>;

    /// F alone: nothing is kept.
    ///
    /// # Errors
    /// The layer's.
    fn f_only(&mut self, inputs: Tensors, cx: &mut Ctx<'_>) -> Result<Tensors, LayerError>;

    /// I, from what F left in `slot`.
    ///
    /// # Errors
    /// The layer's, or that F was not done.
    fn i(
        &mut self,
        gradients: Tensors,
        slot: &mut Slot,
        cx: &mut Ctx<'_>,
    ) -> Result<Tensors, LayerError>;

    /// W, from what I left in `slot`.
    ///
    /// # Errors
    /// The layer's, or that I was not done.
    fn w(&mut self, slot: &mut Slot, cx: &mut Ctx<'_>) -> Result<(), LayerError>;

    /// See [`Layer::commit`].
    ///
    /// # Errors
    /// The layer's.
    fn end_step(&mut self, cx: &mut Ctx<'_>) -> Result<(), LayerError>;

    /// Calls `visit` with every parameter.
    fn visit_params(&mut self, visit: &mut dyn FnMut(&mut dyn ParamAccess));
}

impl<L: Layer> AnyLayer for L {
    fn slot(&self) -> Slot {
        Slot(Box::new(State::<L::Stash, L::Kept>::Empty))
    }

    fn f(
        &mut self,
        inputs: Tensors,
        slot: &mut Slot,
        cx: &mut Ctx<'_>,
    ) -> Result<Tensors, LayerError> {
        let (outputs, stash) = self.forward(inputs, cx)?;
        *slot.state::<L>() = State::AfterForward(stash);
        Ok(outputs)
    }

    fn f_only(&mut self, inputs: Tensors, cx: &mut Ctx<'_>) -> Result<Tensors, LayerError> {
        Ok(self.forward(inputs, cx)?.0)
    }

    fn i(
        &mut self,
        gradients: Tensors,
        slot: &mut Slot,
        cx: &mut Ctx<'_>,
    ) -> Result<Tensors, LayerError> {
        let state = slot.state::<L>();
        let State::AfterForward(stash) = std::mem::replace(state, State::Empty) else {
            return Err(LayerError::Value(
                "backward for inputs without a forward pass".into(),
            ));
        };
        let (gradients, kept) = self.backward_input(gradients, stash, cx)?;
        *state = State::AfterInput(kept);
        Ok(gradients)
    }

    fn w(&mut self, slot: &mut Slot, cx: &mut Ctx<'_>) -> Result<(), LayerError> {
        let State::AfterInput(kept) = std::mem::replace(slot.state::<L>(), State::Empty) else {
            return Err(LayerError::Value(
                "backward for weights before backward for inputs".into(),
            ));
        };
        self.backward_weight(kept, cx)
    }

    fn end_step(&mut self, cx: &mut Ctx<'_>) -> Result<(), LayerError> {
        self.commit(cx)
    }

    fn visit_params(&mut self, visit: &mut dyn FnMut(&mut dyn ParamAccess)) {
        self.params(visit);
    }
}
