//! The position-wise network of a transformer's block.

use crate::activation::Activation;
use crate::kernels::product::After;
use crate::linear::{Linear, LinearLayer};
use crate::shapes::one_input;
use brigade_layer::{
    BuildCtx, Cost, Ctx, Layer, LayerError, LayerSpec, ParamAccess, ParamSpec, Tensor, TensorSpec,
    Tensors,
};
use serde::{Deserialize, Serialize};

/// Two linear layers with an activation between them: y = c_proj(f(c_fc(x))). The activation and
/// its slope are computed while the products that they follow are still in the cache; the numbers
/// are those of a [`Chain`](crate::Chain) of the three.
///
/// # Shapes
/// x [.., D], c_fc.weight [F, D], c_fc.bias \[F\], c_proj.weight [D, F], c_proj.bias \[D\],
/// y [.., D].
///
/// # Source
/// Vaswani et al.: "Attention is all you need", 2017, section 3.3.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FeedForward {
    /// The first linear layer, `c_fc`.
    pub first: Linear,
    /// What is between them.
    pub activation: Activation,
    /// The second linear layer, `c_proj`: takes what the first one gives.
    pub second: Linear,
}

impl FeedForward {
    /// Of these parts.
    pub fn new(first: Linear, activation: Activation, second: Linear) -> Self {
        Self {
            first,
            activation,
            second,
        }
    }
}

impl LayerSpec for FeedForward {
    type Layer = FeedForwardLayer;

    fn params(&self) -> Vec<ParamSpec> {
        let first = self
            .first
            .params()
            .into_iter()
            .map(|param| param.within("c_fc"));
        let second = self
            .second
            .params()
            .into_iter()
            .map(|param| param.within("c_proj"));
        first.chain(second).collect()
    }

    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        one_input("feed-forward", inputs)?;
        self.second
            .outputs(&self.activation.outputs(&self.first.outputs(inputs)?)?)
    }

    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        let x = inputs[0];
        let hidden = TensorSpec::f32(x.shape.with_last(self.first.outputs));
        let (first, second) = (self.first.cost(inputs), self.second.cost(&[hidden]));
        let between = self.activation.cost(&[hidden]);
        let rows = x.shape.matrix().0;
        let y_bytes = TensorSpec::f32(x.shape.with_last(self.second.outputs)).bytes();
        let [first_y, first_dx, first_dw] = self.first.scratch_bytes(rows);
        let [second_y, second_dx, second_dw] = self.second.scratch_bytes(rows);
        Cost {
            stash_bytes: x.bytes() + 2 * hidden.bytes(),
            stashed_inputs: 1,
            kept_bytes: x.bytes() + 2 * hidden.bytes() + y_bytes,
            // One after the other: h and f(h) are there when y is computed.
            forward_working_bytes: 2 * hidden.bytes() + first_y.max(y_bytes + second_y),
            backward_working_bytes: (hidden.bytes() + second_dx.max(x.bytes() + first_dx))
                .max(first_dw)
                .max(second_dw),
            ..first + between + second
        }
    }

    fn build(&self, cx: &BuildCtx<'_>) -> Result<FeedForwardLayer, LayerError> {
        if self.first.outputs != self.second.inputs {
            let (given, taken) = (self.first.outputs, self.second.inputs);
            let problem = format!("its first part gives {given} numbers, its second takes {taken}");
            return Err(LayerError::spec("feed-forward", problem));
        }
        Ok(FeedForwardLayer {
            first: self.first.build(&cx.within("c_fc"))?,
            activation: self.activation,
            second: self.second.build(&cx.within("c_proj"))?,
        })
    }
}

/// The layer that [`FeedForward`] describes.
#[derive(Debug)]
pub struct FeedForwardLayer {
    first: LinearLayer,
    activation: Activation,
    second: LinearLayer,
}

impl Layer for FeedForwardLayer {
    /// x, h and f(h).
    type Stash = (Tensor, Tensor, Tensor);
    /// x, the gradient of h, f(h), and that of y.
    type Kept = (Tensor, Tensor, Tensor, Tensor);

    fn forward(
        &mut self,
        x: Tensors,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Self::Stash), LayerError> {
        let [x] = x.take()?;
        let mut activated = cx.f32(self.first.output_shape(x.shape())?)?;
        let after = After::Value {
            f: self.activation.function(),
            into: activated.matrix_mut(),
        };
        let hidden = self.first.output(&x, Some(after), cx)?;
        let activated = activated.freeze();
        let y = self.second.output(&activated, None, cx)?;
        Ok((y.into(), (x, hidden, activated)))
    }

    fn backward_input(
        &mut self,
        dy: Tensors,
        (x, hidden, activated): Self::Stash,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Self::Kept), LayerError> {
        let [dy] = dy.take()?;
        let after = After::Slope {
            f: self.activation.function(),
            of: hidden.matrix()?,
        };
        let gradient = self.second.input_gradient(&dy, Some(after), cx)?;
        drop(hidden);
        let dx = match cx.wants_gradient(0) {
            true => Some(self.first.input_gradient(&gradient, None, cx)?),
            false => None,
        };
        Ok(([dx].into(), (x, gradient, activated, dy)))
    }

    fn backward_weight(
        &mut self,
        (x, gradient, activated, dy): Self::Kept,
        cx: &mut Ctx<'_>,
    ) -> Result<(), LayerError> {
        self.second.weight_gradients(&activated, &dy, cx)?;
        drop((activated, dy));
        self.first.weight_gradients(&x, &gradient, cx)
    }

    fn params(&mut self, visit: &mut dyn FnMut(&mut dyn ParamAccess)) {
        self.first.params(visit);
        self.second.params(visit);
    }
}
