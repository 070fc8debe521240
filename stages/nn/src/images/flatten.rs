//! Images as rows of numbers.

use crate::shapes::one_input;
use brigade_layer::{
    BuildCtx, Cost, Ctx, Layer, LayerError, LayerSpec, Shape, TensorSpec, Tensors,
};
use serde::{Deserialize, Serialize};

const WHAT: &str = "flatten";

/// Joins all axes but the first. Nothing is moved.
///
/// An image's numbers come in the order (height, width, channel), and PyTorch's in the order
/// (channel, height, width). So the columns of a weight \[outputs, C H W\] that it trained behind a
/// flatten must be permuted: `weight.reshape(outputs, C, H, W).permute(0, 2, 3,
/// 1).reshape(outputs, -1)`.
///
/// # Shapes
/// x [rows, ..], y [rows, product of the others].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flatten;

impl LayerSpec for Flatten {
    type Layer = FlattenLayer;

    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        let x = one_input(WHAT, inputs)?.shape;
        if x.rank() == 0 {
            return Err(LayerError::shape(WHAT, "[rows, ..]", x));
        }
        Ok(vec![TensorSpec::f32([x.rows(), x.row_elements()])])
    }

    fn cost(&self, _: &[TensorSpec]) -> Cost {
        Cost::default()
    }

    fn build(&self, _: &BuildCtx<'_>) -> Result<FlattenLayer, LayerError> {
        Ok(FlattenLayer)
    }
}

/// The layer that [`Flatten`] describes.
#[derive(Debug)]
pub struct FlattenLayer;

impl Layer for FlattenLayer {
    /// The shape of x.
    type Stash = Shape;
    type Kept = ();

    fn forward(&mut self, x: Tensors, _: &mut Ctx<'_>) -> Result<(Tensors, Shape), LayerError> {
        let [x] = x.take()?;
        let shape = x.shape();
        let y = x.reshape([shape.rows(), shape.row_elements()])?;
        Ok((y.into(), shape))
    }

    fn backward_input(
        &mut self,
        dy: Tensors,
        x: Shape,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, ()), LayerError> {
        let [dy] = dy.take()?;
        let wanted = cx.wants_gradient(0).then(|| dy.reshape(x)).transpose()?;
        Ok(([wanted].into(), ()))
    }

    fn backward_weight(&mut self, (): (), _: &mut Ctx<'_>) -> Result<(), LayerError> {
        Ok(())
    }
}
