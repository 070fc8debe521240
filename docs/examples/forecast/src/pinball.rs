//! A loss.

use brigade::layer::{
    BuildCtx, Cost, Ctx, Layer, LayerError, LayerSpec, Tensor, TensorSpec, Tensors,
};

/// The quantile loss, also called pinball loss: the sum of q (t - y) where the target t is above
/// the prediction y, of (1 - q) (y - t) where it is below. Its minimum is at the quantile q of t.
///
/// A target that is not a number was not measured: it counts for nothing.
///
/// # Shapes
/// predictions [rows, quantiles], targets [rows, 1], output \[1\].
///
/// # Source
/// Koenker, Bassett: "Regression quantiles", Econometrica 46, 1978.
#[derive(Clone, Debug)]
pub struct Pinball {
    quantiles: Vec<f32>,
}

impl Pinball {
    /// A loss for these quantiles, each between 0 and 1.
    pub fn new(quantiles: impl Into<Vec<f32>>) -> Self {
        Self {
            quantiles: quantiles.into(),
        }
    }
}

impl LayerSpec for Pinball {
    type Layer = PinballLayer;

    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        let [y, t] = inputs else {
            return Err(LayerError::Arity {
                expected: 2,
                found: inputs.len(),
            });
        };
        let (rows, quantiles) = (y.shape.rows(), self.quantiles.len());
        for (what, found, width) in [("predictions", y, quantiles), ("targets", t, 1)] {
            let expected = TensorSpec::f32([rows, width]);
            if *found != expected {
                let what = format!("{what} of the pinball loss");
                return Err(LayerError::shape(what, expected.to_string(), found.shape));
            }
        }
        Ok(vec![TensorSpec::f32([1])])
    }

    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        let (n, bytes) = (inputs[0].shape.elements() as u64, inputs[0].bytes());
        Cost {
            forward_flops: 4 * n,
            input_flops: n,
            stash_bytes: bytes,               // the slopes
            forward_working_bytes: bytes + 4, // and the loss
            backward_working_bytes: 0,        // I works in place
            ..Cost::default()
        }
    }

    fn build(&self, _: &BuildCtx<'_>) -> Result<PinballLayer, LayerError> {
        Ok(PinballLayer {
            quantiles: self.quantiles.clone(),
        })
    }

    /// One for every quantile of every target that was measured.
    fn loss_terms(&self, targets: &Tensors) -> Result<f64, LayerError> {
        let targets = targets.get(0).ok_or(LayerError::Missing { index: 0 })?;
        let measured = targets.f32()?.iter().filter(|t| !t.is_nan()).count();
        Ok((measured * self.quantiles.len()) as f64)
    }
}

/// The layer that [`Pinball`] describes.
#[derive(Debug)]
pub struct PinballLayer {
    quantiles: Vec<f32>,
}

impl Layer for PinballLayer {
    /// The slope of every term.
    type Stash = Tensor;
    type Kept = ();

    fn forward(
        &mut self,
        inputs: Tensors,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Tensor), LayerError> {
        let [y, t] = inputs.take()?;
        let mut slopes = cx.f32(y.shape())?;
        let mut sum = 0.0;
        let rows = slopes.data().chunks_exact_mut(self.quantiles.len());
        for ((slopes, y), t) in rows.zip(y.matrix()?.rows()).zip(t.f32()?) {
            for ((slope, y), q) in slopes.iter_mut().zip(y).zip(&self.quantiles) {
                *slope = match y - t {
                    _ if t.is_nan() => 0.0,
                    above if above > 0.0 => 1.0 - q,
                    _ => -q,
                };
                if !t.is_nan() {
                    sum += f64::from(*slope) * f64::from(y - t);
                }
            }
        }
        let mut loss = cx.f32([1])?;
        loss.data()[0] = sum as f32;
        Ok((loss.freeze().into(), slopes.freeze()))
    }

    /// The gradient that comes in is 1 over all terms of the mini-batch. Nobody wants one of
    /// targets.
    fn backward_input(
        &mut self,
        gradients: Tensors,
        slopes: Tensor,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, ()), LayerError> {
        let [gradient] = gradients.take()?;
        let factor = gradient.f32()?[0];
        let mut dy = cx.writable::<f32>(slopes)?;
        dy.data().iter_mut().for_each(|slope| *slope *= factor);
        Ok(([Some(dy.freeze()), None].into(), ()))
    }

    fn backward_weight(&mut self, (): (), _: &mut Ctx<'_>) -> Result<(), LayerError> {
        Ok(())
    }
}
