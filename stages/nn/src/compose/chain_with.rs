//! One layer after another, and a skip into the second.

use super::part::Part;
use brigade_layer::{
    BuildCtx, Cost, Ctx, Layer, LayerError, LayerSpec, ParamAccess, ParamSpec, TensorSpec, Tensors,
};
use serde::{Deserialize, Serialize};

/// One layer after another, where the second takes one more input: y = b(a(x), z). Of a residual
/// block it is the end, with what skips the block as z.
///
/// # Shapes
/// Two inputs, x and z, and one output, as the parts'.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChainWith<A, B> {
    first: Part<A>,
    second: Part<B>,
}

impl<A: LayerSpec, B: LayerSpec> ChainWith<A, B> {
    /// `first`, then `second`, with names for their parameters. An empty name adds nothing to a
    /// parameter's key.
    pub fn new(first_name: &str, first: A, second_name: &str, second: B) -> Self {
        Self {
            first: Part::new(first_name, first),
            second: Part::new(second_name, second),
        }
    }

    /// What the second takes.
    fn between(&self, inputs: &[TensorSpec]) -> Result<[TensorSpec; 2], LayerError> {
        let [x, z] = crate::shapes::two_inputs(inputs)?;
        match *self.first.spec.outputs(&[x])? {
            [y] => Ok([y, z]),
            ref outputs => Err(LayerError::Arity {
                expected: 1,
                found: outputs.len(),
            }),
        }
    }
}

impl<A: LayerSpec, B: LayerSpec> LayerSpec for ChainWith<A, B> {
    type Layer = ChainWithLayer<A::Layer, B::Layer>;

    fn params(&self) -> Vec<ParamSpec> {
        self.first.params().chain(self.second.params()).collect()
    }

    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        self.second.spec.outputs(&self.between(inputs)?)
    }

    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        let first = self.first.spec.cost(&inputs[..1]);
        let Ok(between) = self.between(inputs) else {
            return first;
        };
        let second = self.second.spec.cost(&between);
        let [passed, skips] = between.map(|tensor| tensor.bytes());
        // As of a chain; while the first is backward, the gradient of z waits.
        let forward = first.stash_bytes + passed + second.forward_working_bytes;
        let more = second.kept_bytes.saturating_sub(second.stash_bytes);
        let backward = more + passed + skips + first.backward_working_bytes;
        Cost {
            forward_working_bytes: first.forward_working_bytes.max(forward),
            backward_working_bytes: second.backward_working_bytes.max(backward),
            ..first + second
        }
    }

    fn build(&self, cx: &BuildCtx<'_>) -> Result<Self::Layer, LayerError> {
        Ok(ChainWithLayer {
            first: self.first.build(cx)?,
            second: self.second.build(cx)?,
        })
    }
}

/// The layer that [`ChainWith`] describes.
#[derive(Debug)]
pub struct ChainWithLayer<A, B> {
    first: A,
    second: B,
}

impl<A: Layer, B: Layer> Layer for ChainWithLayer<A, B> {
    type Stash = (A::Stash, B::Stash);
    type Kept = (A::Kept, B::Kept);

    fn forward(
        &mut self,
        inputs: Tensors,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Self::Stash), LayerError> {
        let [x, z] = inputs.take()?;
        let (between, first) = self.first.forward(x.into(), &mut cx.part(0))?;
        let [between] = between.take()?;
        let (outputs, second) = (self.second).forward([between, z].into(), &mut cx.part(1))?;
        Ok((outputs, (first, second)))
    }

    fn backward_input(
        &mut self,
        gradients: Tensors,
        (first, second): Self::Stash,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Self::Kept), LayerError> {
        let [x, z] = [0, 1].map(|input| cx.wants_gradient(input));
        let mut second_cx = cx.part(1).wanting([true, z]);
        let (mut gradients, second) =
            (self.second).backward_input(gradients, second, &mut second_cx)?;
        let (between, skips) = (gradients.remove(0), gradients.remove(1));
        let mut first_cx = cx.part(0).wanting([x]);
        let (mut inputs, first) =
            (self.first).backward_input([between].into(), first, &mut first_cx)?;
        Ok(([inputs.remove(0), skips].into(), (first, second)))
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
