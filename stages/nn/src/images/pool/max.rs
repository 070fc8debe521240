//! The greatest pixel of every window.

use super::{Pooling, Window};
use crate::kernels::window::{greatest, greatest_backward};
use brigade_layer::{
    BuildCtx, Cost, Ctx, KernelWork, Layer, LayerError, LayerSpec, Shape, Tensor, TensorSpec,
    Tensors,
};
use pulp::bytemuck::{cast_slice, cast_slice_mut};
use serde::{Deserialize, Serialize};

const WHAT: &str = "max pool";
/// Windows up to so many pixels keep a byte for every number of y, larger ones four.
const BYTE: usize = 256;

/// y is the greatest number of each channel in a window, padding counted as minus infinity. The
/// gradient goes to the first of equal ones, line after line. What is not a number is the greatest.
///
/// # Shapes
/// x [rows, H, W, C], y [rows, H', W', C]; H' and W' the places of [`Window`], whose padding is at
/// most half of it.
///
/// # Source
/// As PyTorch's `MaxPool2d` without dilation. LeCun et al., "Handwritten digit recognition with a
/// back-propagation network", 1989, have the mean; Ranzato et al., 2007, the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MaxPool2d {
    /// What slides over the image.
    pub window: Window,
}

impl MaxPool2d {
    /// The greatest of each place of this window.
    pub fn new(window: Window) -> Self {
        Self { window }
    }
}

/// Shape of a tensor with the numbers of the winners: they are bytes, or not.
fn winners(pooling: &Pooling) -> Shape {
    let elements = pooling.y.shape().elements();
    match pooling.area() <= BYTE {
        true => [elements.div_ceil(4)].into(),
        false => [elements].into(),
    }
}

impl LayerSpec for MaxPool2d {
    type Layer = MaxPool2dLayer;

    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        Ok(vec![Pooling::new(WHAT, self.window, inputs)?.y.spec()])
    }

    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        let Ok(pooling) = Pooling::new(WHAT, self.window, inputs) else {
            return Cost::default();
        };
        let winners = TensorSpec::i32(winners(&pooling)).bytes();
        Cost {
            forward_flops: pooling.flops(),
            input_flops: pooling.flops(),
            stash_bytes: winners,
            forward_working_bytes: pooling.y.spec().bytes() + winners,
            backward_working_bytes: inputs[0].bytes(),
            ..Cost::default()
        }
    }

    fn build(&self, _: &BuildCtx<'_>) -> Result<MaxPool2dLayer, LayerError> {
        Ok(MaxPool2dLayer(*self))
    }
}

/// The layer that [`MaxPool2d`] describes.
#[derive(Debug)]
pub struct MaxPool2dLayer(MaxPool2d);

impl MaxPool2dLayer {
    fn pooling(&self, x: TensorSpec) -> Result<(Pooling, KernelWork), LayerError> {
        let pooling = Pooling::new(WHAT, self.0.window, &[x])?;
        let bytes = x.bytes() + pooling.y.spec().bytes();
        let work = KernelWork::new(WHAT, pooling.flops(), bytes);
        Ok((pooling, work))
    }
}

impl Layer for MaxPool2dLayer {
    /// Where in its window each number was, and the shape of x.
    type Stash = (Tensor, Shape);
    type Kept = ();

    fn forward(
        &mut self,
        x: Tensors,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Self::Stash), LayerError> {
        let [x] = x.take()?;
        let (pooling, work) = self.pooling(x.spec())?;
        let mut y = cx.f32(pooling.y.shape())?;
        let mut numbers = cx.pool().take::<i32>(winners(&pooling))?;
        let (x_data, slides, channels) = (x.f32()?, pooling.slides, pooling.x.channels);
        cx.timed(work, |cx| match pooling.area() <= BYTE {
            true => {
                let bytes = cast_slice_mut::<_, u8>(numbers.data());
                greatest((y.data(), bytes), x_data, slides, channels, cx.threads);
            }
            false => {
                let result = (y.data(), numbers.data());
                greatest(result, x_data, slides, channels, cx.threads);
            }
        });
        Ok((y.freeze().into(), (numbers.freeze(), x.shape())))
    }

    fn backward_input(
        &mut self,
        dy: Tensors,
        (numbers, x): Self::Stash,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, ()), LayerError> {
        let [dy] = dy.take()?;
        if !cx.wants_gradient(0) {
            return Ok(([None].into(), ()));
        }
        let (pooling, work) = self.pooling(TensorSpec::f32(x))?;
        let mut dx = cx.f32(x)?;
        let (dy, numbers) = (dy.f32()?, numbers.i32()?);
        let (slides, channels) = (pooling.slides, pooling.x.channels);
        cx.timed(work, |cx| match pooling.area() <= BYTE {
            true => {
                let given = (dy, cast_slice::<_, u8>(numbers));
                greatest_backward(dx.data(), given, slides, channels, cx.threads);
            }
            false => greatest_backward(dx.data(), (dy, numbers), slides, channels, cx.threads),
        });
        Ok((dx.freeze().into(), ()))
    }

    fn backward_weight(&mut self, (): (), _: &mut Ctx<'_>) -> Result<(), LayerError> {
        Ok(())
    }
}
