//! The mean of whole images.

use super::Images;
use crate::kernels::means::{means, means_backward};
use crate::shapes::{element_work, one_input};
use brigade_layer::{
    BuildCtx, Cost, Ctx, Layer, LayerError, LayerSpec, Shape, TensorSpec, Tensors,
};
use serde::{Deserialize, Serialize};

const WHAT: &str = "global average pool";

/// y is the mean of each channel over all pixels of an image.
///
/// # Shapes
/// x [rows, H, W, C], y [rows, C].
///
/// # Source
/// Lin, Chen, Yan: "Network in network", 2013. PyTorch has it as `AdaptiveAvgPool2d(1)` and
/// `Flatten`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GlobalAvgPool2d;

/// The images and what is made of them.
fn check(inputs: &[TensorSpec]) -> Result<(Images, TensorSpec), LayerError> {
    let x = Images::of(WHAT, one_input(WHAT, inputs)?)?;
    if x.sides.contains(&0) {
        let expected = "[rows, height, width, channels] with at least one pixel";
        return Err(LayerError::shape(WHAT, expected, x.shape()));
    }
    Ok((x, TensorSpec::f32([x.rows, x.channels])))
}

impl LayerSpec for GlobalAvgPool2d {
    type Layer = GlobalAvgPool2dLayer;

    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        Ok(vec![check(inputs)?.1])
    }

    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        let [rows, _, _, channels] = *inputs[0].shape.axes() else {
            return Cost::default();
        };
        let elements = inputs[0].shape.elements() as u64;
        Cost {
            forward_flops: elements,
            input_flops: elements,
            forward_working_bytes: TensorSpec::f32([rows, channels]).bytes(),
            backward_working_bytes: inputs[0].bytes(),
            ..Cost::default()
        }
    }

    fn build(&self, _: &BuildCtx<'_>) -> Result<GlobalAvgPool2dLayer, LayerError> {
        Ok(GlobalAvgPool2dLayer)
    }
}

/// The layer that [`GlobalAvgPool2d`] describes.
#[derive(Debug)]
pub struct GlobalAvgPool2dLayer;

impl Layer for GlobalAvgPool2dLayer {
    /// The shape of x.
    type Stash = Shape;
    type Kept = ();

    fn forward(&mut self, x: Tensors, cx: &mut Ctx<'_>) -> Result<(Tensors, Shape), LayerError> {
        let [x] = x.take()?;
        let (images, y) = check(&[x.spec()])?;
        let mut y = cx.f32(y.shape)?;
        let x_data = x.f32()?;
        cx.timed(element_work(WHAT, x_data.len(), 1, 1), |cx| {
            means(y.data(), x_data, images.channels, cx.threads);
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
        let mut dx = cx.f32(x)?;
        let dy = dy.f32()?;
        cx.timed(element_work(WHAT, x.elements(), 1, 1), |cx| {
            means_backward(dx.data(), dy, x.last(), cx.threads);
        });
        Ok((dx.freeze().into(), ()))
    }

    fn backward_weight(&mut self, (): (), _: &mut Ctx<'_>) -> Result<(), LayerError> {
        Ok(())
    }
}
