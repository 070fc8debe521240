//! The mean of every window.

use super::{Pooling, Window};
use crate::kernels::resample::{Transposed, resample};
use crate::kernels::window::sides;
use brigade_layer::{
    BuildCtx, Cost, Ctx, KernelWork, Layer, LayerError, LayerSpec, Shape, TensorSpec, Tensors,
};
use serde::{Deserialize, Serialize};

const WHAT: &str = "average pool";

/// y is the mean of each channel over a window, padding counted as zeros.
///
/// # Shapes
/// x [rows, H, W, C], y [rows, H', W', C]; H' and W' the places of [`Window`], whose padding is at
/// most half of it.
///
/// # Source
/// As PyTorch's `AvgPool2d` (its `count_include_pad` is true).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AvgPool2d {
    /// What slides over the image.
    pub window: Window,
}

impl AvgPool2d {
    /// The mean of each place of this window.
    pub fn new(window: Window) -> Self {
        Self { window }
    }
}

impl LayerSpec for AvgPool2d {
    type Layer = AvgPool2dLayer;

    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        Ok(vec![Pooling::new(WHAT, self.window, inputs)?.y.spec()])
    }

    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        let Ok(pooling) = Pooling::new(WHAT, self.window, inputs) else {
            return Cost::default();
        };
        Cost {
            forward_flops: pooling.flops().saturating_mul(2),
            input_flops: pooling.flops().saturating_mul(2),
            forward_working_bytes: pooling.y.spec().bytes(),
            backward_working_bytes: inputs[0].bytes(),
            ..Cost::default()
        }
    }

    fn build(&self, _: &BuildCtx<'_>) -> Result<AvgPool2dLayer, LayerError> {
        Ok(AvgPool2dLayer(*self))
    }
}

/// The layer that [`AvgPool2d`] describes.
#[derive(Debug)]
pub struct AvgPool2dLayer(AvgPool2d);

impl AvgPool2dLayer {
    fn pooling(&self, x: TensorSpec) -> Result<(Pooling, KernelWork), LayerError> {
        let pooling = Pooling::new(WHAT, self.0.window, &[x])?;
        let bytes = x.bytes() + pooling.y.spec().bytes();
        let work = KernelWork::new(WHAT, pooling.flops().saturating_mul(2), bytes);
        Ok((pooling, work))
    }
}

impl Layer for AvgPool2dLayer {
    /// The shape of x.
    type Stash = Shape;
    type Kept = ();

    fn forward(&mut self, x: Tensors, cx: &mut Ctx<'_>) -> Result<(Tensors, Shape), LayerError> {
        let [x] = x.take()?;
        let (pooling, work) = self.pooling(x.spec())?;
        let mut y = cx.f32(pooling.y.shape())?;
        let x_data = x.f32()?;
        let sides = sides(pooling.slides, pooling.x.channels);
        cx.timed(work, |cx| {
            resample(y.data(), x_data, pooling.slides, sides, cx.threads);
        });
        Ok((y.freeze().into(), x.shape()))
    }

    fn backward_input(
        &mut self,
        dy: Tensors,
        x: Shape,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, ()), LayerError> {
        let [dy] = dy.take()?;
        if !cx.wants_gradient(0) {
            return Ok(([None].into(), ()));
        }
        let (pooling, work) = self.pooling(TensorSpec::f32(x))?;
        let mut dx = cx.f32(x)?;
        let dy = dy.f32()?;
        let back = pooling.slides.map(Transposed);
        let sides = sides(pooling.slides, pooling.x.channels).transposed();
        cx.timed(work, |cx| resample(dx.data(), dy, back, sides, cx.threads));
        Ok((dx.freeze().into(), ()))
    }

    fn backward_weight(&mut self, (): (), _: &mut Ctx<'_>) -> Result<(), LayerError> {
        Ok(())
    }
}
