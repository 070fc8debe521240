//! One layer after another.

use super::part::Part;
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
/// As the parts'. All outputs of the first are inputs of the second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chain<A, B> {
    first: Part<A>,
    second: Part<B>,
}

impl<A: LayerSpec, B: LayerSpec> Chain<A, B> {
    /// `first`, then `second`, with names for their parameters. An empty name adds nothing to a
    /// parameter's key.
    pub fn new(first_name: &str, first: A, second_name: &str, second: B) -> Self {
        Self {
            first: Part::new(first_name, first),
            second: Part::new(second_name, second),
        }
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
        self.second.spec.outputs(&self.first.spec.outputs(inputs)?)
    }

    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        let first = self.first.spec.cost(inputs);
        let Ok(between) = self.first.spec.outputs(inputs) else {
            return first;
        };
        let second = self.second.spec.cost(&between);
        let passed: u64 = between.iter().map(TensorSpec::bytes).sum();
        // While the second is at work forward, the first has left what it keeps and its outputs;
        // while the first is backward, what the second keeps for W and its gradients.
        let forward = first.stash_bytes + passed + second.forward_working_bytes;
        let more = second.kept_bytes.saturating_sub(second.stash_bytes);
        let backward = more + passed + first.backward_working_bytes;
        Cost {
            forward_working_bytes: first.forward_working_bytes.max(forward),
            backward_working_bytes: second.backward_working_bytes.max(backward),
            ..first + second
        }
    }

    fn build(&self, cx: &BuildCtx<'_>) -> Result<Self::Layer, LayerError> {
        Ok(ChainLayer {
            first: self.first.build(cx)?,
            second: self.second.build(cx)?,
        })
    }
}

/// The layer that [`Chain`] describes.
#[derive(Debug)]
pub struct ChainLayer<A, B> {
    first: A,
    second: B,
}

impl<A: Layer, B: Layer> Layer for ChainLayer<A, B> {
    type Stash = (A::Stash, B::Stash);
    type Kept = (A::Kept, B::Kept);

    fn forward(
        &mut self,
        inputs: Tensors,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Self::Stash), LayerError> {
        let (between, first) = self.first.forward(inputs, &mut cx.part(0))?;
        let (outputs, second) = self.second.forward(between, &mut cx.part(1))?;
        Ok((outputs, (first, second)))
    }

    fn backward_input(
        &mut self,
        gradients: Tensors,
        (first, second): Self::Stash,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Self::Kept), LayerError> {
        let mut second_cx = cx.part(1).wanting([true; MAX_TENSORS]);
        let (between, second) = self
            .second
            .backward_input(gradients, second, &mut second_cx)?;
        let (gradients, first) = self.first.backward_input(between, first, &mut cx.part(0))?;
        Ok((gradients, (first, second)))
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
