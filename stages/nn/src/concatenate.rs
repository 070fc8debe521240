//! Several tensors side by side: where a skip connection ends that must stay apart.

use crate::kernels::join::{Columns, put_columns, take_columns};
use crate::shapes::{element_work, several_inputs};
use brigade_layer::{
    BuildCtx, Cost, Ctx, Layer, LayerError, LayerSpec, MAX_TENSORS, Shape, Tensor, TensorSpec,
    Tensors,
};
use serde::{Deserialize, Serialize};

const WHAT: &str = "concatenate";

/// Puts two to four inputs side by side along the last axis: the channels of images.
///
/// # Shapes
/// Inputs [rows, .., A], [rows, .., B], alike but for the last axis; y [rows, .., A + B].
///
/// # Source
/// Ronneberger, Fischer, Brox: "U-Net: convolutional networks for biomedical image segmentation",
/// 2015. PyTorch has it as `cat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concatenate;

fn check(inputs: &[TensorSpec]) -> Result<Shape, LayerError> {
    let first = several_inputs(WHAT, inputs)?.shape;
    if first.rank() < 2 {
        return Err(LayerError::shape(WHAT, "[rows, .., width]", first));
    }
    let mut width = 0usize;
    for TensorSpec { shape, .. } in inputs {
        if shape.with_last(first.last()) != first {
            let expected = format!("{first} but for the last axis, as the first input's");
            return Err(LayerError::shape(WHAT, expected, *shape));
        }
        width = width.saturating_add(shape.last());
    }
    Shape::new(first.with_last(width).axes())
}

impl LayerSpec for Concatenate {
    type Layer = ConcatenateLayer;

    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        Ok(vec![TensorSpec::f32(check(inputs)?)])
    }

    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        let bytes: u64 = inputs.iter().map(TensorSpec::bytes).sum();
        Cost {
            forward_working_bytes: bytes,
            backward_working_bytes: bytes,
            ..Cost::default()
        }
    }

    fn build(&self, _: &BuildCtx<'_>) -> Result<ConcatenateLayer, LayerError> {
        Ok(ConcatenateLayer)
    }
}

/// The layer that [`Concatenate`] describes.
#[derive(Debug)]
pub struct ConcatenateLayer;

/// Where in y each input is.
fn columns(widths: impl Iterator<Item = usize> + Clone) -> impl Iterator<Item = Columns> {
    let of = widths.clone().sum();
    let mut end = 0;
    widths.map(move |width| {
        let start = end;
        end += width;
        Columns { start, width, of }
    })
}

impl Layer for ConcatenateLayer {
    /// Shapes of the inputs.
    type Stash = [Option<Shape>; MAX_TENSORS];
    type Kept = ();

    fn forward(
        &mut self,
        inputs: Tensors,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Self::Stash), LayerError> {
        let specs: Vec<_> = inputs.iter().flatten().map(Tensor::spec).collect();
        let mut y = cx.f32(check(&specs)?)?;
        let mut shapes = [None; MAX_TENSORS];
        let columns = columns(specs.iter().map(|spec| spec.shape.last()));
        for ((x, columns), shape) in inputs.iter().flatten().zip(columns).zip(&mut shapes) {
            let x_data = x.f32()?;
            cx.timed(element_work(WHAT, x_data.len(), 0, 2), |cx| {
                put_columns(y.data(), x_data, columns, cx.threads);
            });
            *shape = Some(x.shape());
        }
        Ok((y.freeze().into(), shapes))
    }

    fn backward_input(
        &mut self,
        dy: Tensors,
        shapes: Self::Stash,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, ()), LayerError> {
        let [dy] = dy.take()?;
        let dy = dy.f32()?;
        let mut gradients = Tensors::none();
        let shapes = shapes.iter().flatten();
        let columns = columns(shapes.clone().map(Shape::last));
        for (input, (shape, columns)) in shapes.zip(columns).enumerate() {
            if !cx.wants_gradient(input) {
                gradients.push(None)?;
                continue;
            }
            let mut dx = cx.f32(*shape)?;
            cx.timed(element_work(WHAT, shape.elements(), 0, 2), |cx| {
                take_columns(dx.data(), dy, columns, cx.threads);
            });
            gradients.push(Some(dx.freeze()))?;
        }
        Ok((gradients, ()))
    }

    fn backward_weight(&mut self, (): (), _: &mut Ctx<'_>) -> Result<(), LayerError> {
        Ok(())
    }
}
