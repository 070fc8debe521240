//! The mean squared error.

use crate::kernels::elementwise::{scale, subtract};
use crate::kernels::reduce::sum_of_squares;
use crate::shapes::{expect, two_inputs};
use brigade_layer::{
    BuildCtx, Cost, Ctx, DType, Layer, LayerError, LayerSpec, Shape, Tensor, TensorSpec, Tensors,
};
use serde::{Deserialize, Serialize};

/// Sum of squared differences; its terms are the elements, so that the mean loss is the mean
/// square.
///
/// # Shapes
/// prediction [..], target [..] of the same shape, output \[1\].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeanSquaredError;

impl MeanSquaredError {
    fn check(prediction: Shape, target: Shape) -> Result<(), LayerError> {
        if prediction == target {
            return Ok(());
        }
        let expected = format!("{prediction}, as the prediction");
        Err(LayerError::shape(
            "target of mean squared error",
            expected,
            target,
        ))
    }
}

impl LayerSpec for MeanSquaredError {
    type Layer = MeanSquaredErrorLayer;

    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        let [prediction, target] = two_inputs(inputs)?;
        expect("prediction of mean squared error", prediction, DType::F32)?;
        expect("target of mean squared error", target, DType::F32)?;
        Self::check(prediction.shape, target.shape)?;
        Ok(vec![TensorSpec::f32([1])])
    }

    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        let elements = inputs[0].shape.elements() as u64;
        Cost {
            forward_flops: 3 * elements,
            input_flops: elements,
            weight_flops: 0,
            stash_bytes: inputs[0].bytes(),
            kept_bytes: 0,
            forward_working_bytes: inputs[0].bytes() + 4,
            backward_working_bytes: inputs[0].bytes(),
            thread_bytes: 0,
            ..Cost::default()
        }
    }

    fn build(&self, _: &BuildCtx<'_>) -> Result<MeanSquaredErrorLayer, LayerError> {
        Ok(MeanSquaredErrorLayer)
    }

    fn loss_terms(&self, targets: &Tensors) -> Result<f64, LayerError> {
        let target = targets.get(0).ok_or(LayerError::Missing { index: 0 })?;
        Ok(target.f32()?.len() as f64)
    }
}

/// The layer that [`MeanSquaredError`] describes.
#[derive(Debug)]
pub struct MeanSquaredErrorLayer;

impl Layer for MeanSquaredErrorLayer {
    /// The differences, in place of the prediction.
    type Stash = Tensor;
    type Kept = ();

    fn forward(
        &mut self,
        inputs: Tensors,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Tensor), LayerError> {
        let [prediction, target] = inputs.take()?;
        MeanSquaredError::check(prediction.shape(), target.shape())?;
        let mut differences = cx.writable::<f32>(prediction)?;
        subtract(differences.data(), target.f32()?, cx.threads);
        let mut loss = cx.f32([1])?;
        loss.data()[0] = sum_of_squares(differences.read()) as f32;
        Ok((loss.freeze().into(), differences.freeze()))
    }

    fn backward_input(
        &mut self,
        gradient: Tensors,
        differences: Tensor,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, ()), LayerError> {
        let [gradient] = gradient.take()?;
        let factor = 2.0 * gradient.f32()?[0];
        let scaled = |differences: Tensor, factor: f32| -> Result<Tensor, LayerError> {
            let mut scaled = cx.writable::<f32>(differences)?;
            scale(scaled.data(), factor, cx.threads);
            Ok(scaled.freeze())
        };
        let target = cx
            .wants_gradient(1)
            .then(|| scaled(differences.clone(), -factor));
        let prediction = cx.wants_gradient(0).then(|| scaled(differences, factor));
        Ok(([prediction.transpose()?, target.transpose()?].into(), ()))
    }

    fn backward_weight(&mut self, (): (), _: &mut Ctx<'_>) -> Result<(), LayerError> {
        Ok(())
    }
}
