//! One layer after another.

use super::part::{Part, instead_of_first};
use brigade_layer::{
    BuildCtx, Cost, Ctx, Layer, LayerError, LayerSpec, MAX_TENSORS, ParamAccess, ParamSpec,
    TensorSpec, Tensors,
};
use serde::{Deserialize, Serialize};

/// One layer after another: y = b(a(x)).
///
/// ```
/// use brigade_nn::{Activation, Chain, Linear};
/// let block = Chain::new("c_fc", Linear::new(8, 32), "act", Activation::GeluTanh)
///     .then("c_proj", Linear::new(32, 8));
/// ```
///
/// # Shapes
/// As the parts'. All outputs of the first are inputs of the second; with
/// [`Chain::others_pass_first`] those of the chain after its first input are, too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chain<A, B> {
    first: Part<A>,
    second: Part<B>,
    /// Whether inputs after the first go to the second layer as they are.
    #[serde(default)]
    others_pass: bool,
}

impl<A: LayerSpec, B: LayerSpec> Chain<A, B> {
    /// `first`, then `second`, with names for their parameters. An empty name adds nothing to a
    /// parameter's key.
    pub fn new(first_name: &str, first: A, second_name: &str, second: B) -> Self {
        Self {
            first: Part::new(first_name, first),
            second: Part::new(second_name, second),
            others_pass: false,
        }
    }

    /// The first layer takes the first input only, and puts out one tensor; all other inputs go
    /// past it to the second layer: y = b(a(x), ..).
    ///
    /// ```
    /// use brigade_nn::{Chain, LayerNorm, MultiHeadAttention};
    /// let cross = MultiHeadAttention::new(8, 2).memory(8);
    /// let half = Chain::new("ln", LayerNorm::new(8), "attn", cross).others_pass_first();
    /// ```
    #[must_use]
    pub fn others_pass_first(mut self) -> Self {
        self.others_pass = true;
        self
    }

    /// What the first layer takes, and what goes past it.
    fn taken<'a>(&self, inputs: &'a [TensorSpec]) -> (&'a [TensorSpec], &'a [TensorSpec]) {
        let first = if self.others_pass { 1 } else { inputs.len() };
        inputs.split_at(first.min(inputs.len()))
    }

    /// What the second layer takes, and how much of that the first one puts out.
    fn between(&self, inputs: &[TensorSpec]) -> Result<(Vec<TensorSpec>, usize), LayerError> {
        let (taken, past) = self.taken(inputs);
        let mut between = self.first.spec.outputs(taken)?;
        let found = between.len();
        if self.others_pass && found != 1 {
            return Err(LayerError::Arity { expected: 1, found });
        }
        between.extend_from_slice(past);
        Ok((between, found))
    }

    /// This chain, then another layer.
    #[must_use]
    pub fn then<C: LayerSpec>(self, name: &str, next: C) -> Chain<Self, C> {
        Chain::new("", self, name, next)
    }
}

impl<A: LayerSpec, B: LayerSpec> LayerSpec for Chain<A, B> {
    type Layer = ChainLayer<A::Layer, B::Layer>;

    fn params(&self) -> Vec<ParamSpec> {
        self.first.params().chain(self.second.params()).collect()
    }

    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        self.second.spec.outputs(&self.between(inputs)?.0)
    }

    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        let first = self.first.spec.cost(self.taken(inputs).0);
        let Ok((between, own)) = self.between(inputs) else {
            return first;
        };
        let second = self.second.spec.cost(&between);
        let bytes = |of: &[TensorSpec]| of.iter().map(TensorSpec::bytes).sum::<u64>();
        let (passed, past) = between.split_at(own);
        let past: Vec<_> = { past.iter().copied() }
            .filter(TensorSpec::differentiable)
            .collect();
        // While the second is at work forward, the first has left what it keeps and its outputs;
        // while the first is backward, what the second keeps for W and its gradients.
        let forward = first.stash_bytes + bytes(passed) + second.forward_working_bytes;
        let more = second.kept_bytes.saturating_sub(second.stash_bytes);
        let given = bytes(passed) + bytes(&past);
        let backward = more + given + first.backward_working_bytes;
        // What goes past the first is an input of both.
        let past_first = if self.others_pass { !1 } else { 0 };
        Cost {
            stashed_inputs: first.stashed_inputs | second.stashed_inputs & past_first,
            forward_working_bytes: first.forward_working_bytes.max(forward),
            backward_working_bytes: second.backward_working_bytes.max(backward),
            ..first + second
        }
    }

    fn build(&self, cx: &BuildCtx<'_>) -> Result<Self::Layer, LayerError> {
        Ok(ChainLayer {
            first: self.first.build(cx)?,
            second: self.second.build(cx)?,
            others_pass: self.others_pass,
        })
    }
}

/// The layer that [`Chain`] describes.
#[derive(Debug)]
pub struct ChainLayer<A, B> {
    first: A,
    second: B,
    others_pass: bool,
}

impl<A: Layer, B: Layer> Layer for ChainLayer<A, B> {
    type Stash = (A::Stash, B::Stash);
    type Kept = (A::Kept, B::Kept);

    fn forward(
        &mut self,
        mut inputs: Tensors,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Self::Stash), LayerError> {
        let taken = match self.others_pass {
            true => [inputs.remove(0)].into(),
            false => std::mem::take(&mut inputs),
        };
        let (between, first) = self.first.forward(taken, &mut cx.part(0))?;
        let between = instead_of_first(inputs, between)?;
        let (outputs, second) = self.second.forward(between, &mut cx.part(1))?;
        Ok((outputs, (first, second)))
    }

    fn backward_input(
        &mut self,
        gradients: Tensors,
        (first, second): Self::Stash,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Self::Kept), LayerError> {
        let passes = self.others_pass;
        let wants = |input| input == 0 || !passes || cx.wants_gradient(input);
        let wants: [bool; MAX_TENSORS] = std::array::from_fn(wants);
        let (mut between, second) = {
            let mut second_cx = cx.part(1).wanting(wants);
            (self.second).backward_input(gradients, second, &mut second_cx)?
        };
        let taken = match passes {
            true => [between.remove(0)].into(),
            false => std::mem::take(&mut between),
        };
        let (gradients, first) = self.first.backward_input(taken, first, &mut cx.part(0))?;
        Ok((instead_of_first(between, gradients)?, (first, second)))
    }

    fn backward_weight(
        &mut self,
        (first, second): Self::Kept,
        cx: &mut Ctx<'_>,
    ) -> Result<(), LayerError> {
        self.second.backward_weight(second, &mut cx.part(1))?;
        self.first.backward_weight(first, &mut cx.part(0))
    }

    fn commit(&mut self, cx: &mut Ctx<'_>) -> Result<(), LayerError> {
        self.first.commit(&mut cx.part(0))?;
        self.second.commit(&mut cx.part(1))
    }

    fn params(&mut self, visit: &mut dyn FnMut(&mut dyn ParamAccess)) {
        self.first.params(visit);
        self.second.params(visit);
    }
}
