//! Activation functions.

use crate::kernels::elementwise::{Function, GeluErf, GeluTanh, Relu, Silu};
use crate::kernels::gated::Gate;
use crate::shapes::{element_work, one_input};
use brigade_layer::{
    BuildCtx, Cost, Ctx, Layer, LayerError, LayerSpec, Tensor, TensorSpec, Tensors,
};
use serde::{Deserialize, Serialize};

/// A function of every element.
///
/// # Shapes
/// Any; y has the shape of x.
///
/// # Source
/// Hendrycks, Gimpel: "Gaussian error linear units (GELUs)", 2016.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Activation {
    /// y = x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, as GPT-2 has it.
    #[default]
    GeluTanh,
    /// y = x Phi(x), with Phi the normal distribution.
    GeluErf,
    /// y = max(x, 0). Its slope at 0 is 0.
    Relu,
    /// y = x / (1 + e^-x).
    Silu,
}

impl Activation {
    pub(crate) fn function(self) -> Function {
        match self {
            Self::GeluTanh => Function::of::<GeluTanh>(),
            Self::GeluErf => Function::of::<GeluErf>(),
            Self::Relu => Function::of::<Relu>(),
            Self::Silu => Function::of::<Silu>(),
        }
    }

    /// One half of a product gated by it of the other.
    pub(crate) fn gate(self) -> Gate {
        match self {
            Self::GeluTanh => Gate::of::<GeluTanh>(),
            Self::GeluErf => Gate::of::<GeluErf>(),
            Self::Relu => Gate::of::<Relu>(),
            Self::Silu => Gate::of::<Silu>(),
        }
    }

    fn kernel(self) -> &'static str {
        match self {
            Self::GeluTanh | Self::GeluErf => "gelu",
            Self::Relu => "relu",
            Self::Silu => "silu",
        }
    }

    pub(crate) fn flops(self) -> (u64, u64) {
        match self {
            Self::Relu => (1, 2),
            Self::Silu => (20, 25),
            Self::GeluTanh => (25, 32),
            Self::GeluErf => (40, 42),
        }
    }
}

impl LayerSpec for Activation {
    type Layer = ActivationLayer;

    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        Ok(vec![one_input("activation", inputs)?])
    }

    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        let (elements, (forward, backward)) = (inputs[0].shape.elements() as u64, self.flops());
        Cost {
            forward_flops: forward * elements,
            input_flops: backward * elements,
            weight_flops: 0,
            stash_bytes: inputs[0].bytes(),
            stashed_inputs: 1,
            kept_bytes: 0,
            forward_working_bytes: inputs[0].bytes(),
            backward_working_bytes: inputs[0].bytes(),
            thread_bytes: 0,
            ..Cost::default()
        }
    }

    fn build(&self, _: &BuildCtx<'_>) -> Result<ActivationLayer, LayerError> {
        Ok(ActivationLayer(*self))
    }
}

/// The layer that [`Activation`] describes.
#[derive(Debug)]
pub struct ActivationLayer(Activation);

impl Layer for ActivationLayer {
    type Stash = Tensor;
    type Kept = ();

    fn forward(&mut self, x: Tensors, cx: &mut Ctx<'_>) -> Result<(Tensors, Tensor), LayerError> {
        let [x] = x.take()?;
        let mut y = cx.f32(x.shape())?;
        let x_data = x.f32()?;
        let work = element_work(self.0.kernel(), x_data.len(), self.0.flops().0, 2);
        cx.timed(work, |cx| {
            self.0.function().values(y.data(), x_data, cx.threads)
        });
        Ok((y.freeze().into(), x))
    }

    fn backward_input(
        &mut self,
        dy: Tensors,
        x: Tensor,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, ()), LayerError> {
        let [dy] = dy.take()?;
        if !cx.wants_gradient(0) {
            return Ok(([None].into(), ()));
        }
        let mut dx = cx.writable::<f32>(dy)?;
        let x = x.f32()?;
        let work = element_work(self.0.kernel(), x.len(), self.0.flops().1, 3);
        cx.timed(work, |cx| {
            self.0.function().slopes(dx.data(), x, cx.threads)
        });
        Ok((dx.freeze().into(), ()))
    }

    fn backward_weight(&mut self, (): (), _: &mut Ctx<'_>) -> Result<(), LayerError> {
        Ok(())
    }
}
